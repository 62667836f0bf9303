/* SPDX-License-Identifier: Apache-2.0 */
/* The repair executor: fills this rank's FILLING slots, one view at a time (rule R1).
 *
 * A slot is written by its owner alone. In a pause bytes land in the slot itself where the CPU can
 * write it: nobody is routed to a FILLING slot. Else they land in staging buffers that only this
 * rank owns, and go into the slot after the checksum of the whole expert. Sources, in this order:
 * what the slot holds already from an earlier, voided plan (checked again); a backup in the
 * memory of the own node; the peer that the view names and the other members that have the expert,
 * several at once; the checkpoint; the checkpoints of other members, one after the other.
 *
 * An expert is gathered in segments. A source that fails gives its outstanding segments to the
 * others, and what has arrived is kept. Where the checksum of bytes from several sources is wrong,
 * the expert is gathered again from one source after the other, so that a corrupted copy is named
 * and never blocks a good one.
 *
 * A REPAIRING view is filled as fast as can be, four slots at a time. Behind live traffic (a
 * SERVING view) it is one segment at a time, at most at the rate that the configuration sets, and
 * more slowly where steps take longer for it. Driven by the service thread; no call does more than
 * a few megabytes of work, or waits. */
#ifndef EEPI_EXECUTOR_H
#define EEPI_EXECUTOR_H

#include "repair/executor/executor_config.h"
#include "repair/executor/sources.h"

/* Allocates the staging buffers. */
EEP_MUST_CHECK eep_status eepi_executor_open(const eepi_executor_config *config,
                                             eepi_executor **executor_out);
void eepi_executor_close(eepi_executor *executor);
/* Begin to fill this rank's FILLING slots of a view; an earlier view's work must have been
 * cancelled. `done` is called exactly once unless it is cancelled, at once if there is nothing
 * to fill. `bytes` are those that crossed a link or came from a backup or the checkpoint. */
void eepi_executor_start(eepi_executor *executor, eepi_bulk *bulk, const eepi_view *view,
                         uint64_t now_us);
/* Bytes of a transfer that it started have arrived (from the bulk's land function). */
void eepi_executor_landed(eepi_executor *executor, uint64_t transfer, uint64_t offset,
                          const void *data, uint64_t bytes);
/* A transfer that it started has ended (from the bulk's done function). */
void eepi_executor_fetched(eepi_executor *executor, eepi_bulk *bulk, uint64_t transfer,
                           eep_status status);
/* Go on: a bounded piece of work. Behind live traffic slots are written here only. */
void eepi_executor_tick(eepi_executor *executor, eepi_bulk *bulk, uint64_t now_us);
/* A step of this rank that took so long has ended OK. */
void eepi_executor_step(eepi_executor *executor, uint32_t took_us, uint64_t now_us);
/* When to tick at the latest; UINT64_MAX: not needed. */
uint64_t eepi_executor_wake_us(const eepi_executor *executor);
/* Slots of a view are being filled. */
bool eepi_executor_is_filling(const eepi_executor *executor);
/* The view that is being filled is a SERVING one: steps may run meanwhile. */
bool eepi_executor_is_behind_traffic(const eepi_executor *executor);
/* Forget what is going on; no `done`. The caller then cancels the transfers in the bulk, before the
 * next start: their buffers are used again. */
void eepi_executor_cancel(eepi_executor *executor);
/* The checkpoint file of this rank has failed as a source since it was opened: cut off, unreadable,
 * or with bytes of another checksum. */
bool eepi_executor_file_is_bad(const eepi_executor *executor);
/* What it has done since it was opened, until it is closed. */
const eepi_mix *eepi_executor_mix(const eepi_executor *executor);
#endif
