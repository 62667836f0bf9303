/* SPDX-License-Identifier: Apache-2.0 */
/* The repair executor: fills this rank's FILLING slots, one view at a time (rule R1).
 *
 * Bytes land in staging buffers that only this rank owns; a slot is written by its owner alone,
 * after the checksum. Sources: what the slot holds already from an earlier, voided plan (checked
 * again), the rank's own host backup (local reuse), else the peer that the view names, then any
 * other member that has the expert, as a backup or in a slot. A REPAIRING view is filled as fast as
 * can be; behind live traffic (a SERVING view) one fetch at a time, at most at the rate that the
 * configuration sets. Driven by the service thread; nothing here waits. */
#ifndef EEPI_EXECUTOR_H
#define EEPI_EXECUTOR_H

#include "eep/eep.h"
#include "membership/view/view.h"
#include "transport/bulk/bulk.h"

typedef struct eepi_executor eepi_executor;

typedef struct eepi_executor_config {
    eep_device *device;
    int32_t seat;
    int32_t num_tensors;
    size_t tensor_bytes[EEP_MAX_TENSORS];
    int32_t num_layers, num_slots; /* of this rank */
    uint64_t fetch_timeout_us;
    uint64_t background_bytes_per_s; /* behind live traffic; at least 1 */
    /* Tensors of one of this rank's slots. */
    const eep_tensor *(*slot)(void *user, int32_t layer, int32_t slot);
    /* Tensors of one of this rank's host backups; NULL: it has none of that expert. */
    const eep_tensor *(*backup)(void *user, int32_t layer, int32_t expert);
    /* Where the bulk copier of a peer is asked; 0 bytes: not known. */
    size_t (*address)(void *user, int32_t seat, const void **address_out);
    /* All slots of the view hold verified weights (EEP_OK, bytes copied), or one cannot be had. */
    void (*done)(void *user, uint64_t digest, eep_status status, uint64_t bytes, const char *why);
    void *user;
} eepi_executor_config;

/* Allocates the staging buffers. */
EEP_MUST_CHECK eep_status eepi_executor_open(const eepi_executor_config *config,
                                             eepi_executor **executor_out);
void eepi_executor_close(eepi_executor *executor);
/* Begin to fill this rank's FILLING slots of a view; an earlier view's work must have been
 * cancelled. `done` is called exactly once unless it is cancelled, at once if there is nothing
 * to fill. `bytes` are those that crossed a link or came from a backup. */
void eepi_executor_start(eepi_executor *executor, eepi_bulk *bulk, const eepi_view *view,
                         uint64_t now_us);
/* A transfer that it started has ended (from the bulk's done function). */
void eepi_executor_fetched(eepi_executor *executor, eepi_bulk *bulk, uint64_t transfer,
                           eep_status status);
/* Go on with what was held back for the rate's sake. */
void eepi_executor_tick(eepi_executor *executor, eepi_bulk *bulk, uint64_t now_us);
/* When to tick at the latest; UINT64_MAX: not needed. */
uint64_t eepi_executor_wake_us(const eepi_executor *executor);
/* Forget what is going on; no `done`. The caller then cancels the transfers in the bulk, before the
 * next start: their buffers are used again. */
void eepi_executor_cancel(eepi_executor *executor);
#endif
