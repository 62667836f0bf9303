/* SPDX-License-Identifier: Apache-2.0 */
/* What the repair executor is told, and what it asks of its owner. */
#ifndef EEPI_EXECUTOR_CONFIG_H
#define EEPI_EXECUTOR_CONFIG_H

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
    int segments_per_source;         /* asked of one peer at a time; 0: EEPI_SEGMENTS_PER_SOURCE */
    uint64_t background_bytes_per_s; /* behind live traffic, at most; at least 1 */
    int32_t background_latency_percent; /* by which steps may take longer; 0: any */
    /* Tensors of one of this rank's slots. */
    const eep_tensor *(*slot)(void *user, int32_t layer, int32_t slot);
    /* Tensors of a backup in the memory of this node; NULL: there is none of that expert. */
    const eep_tensor *(*backup)(void *user, int32_t layer, int32_t expert);
    /* This rank put such a backup there itself, and no other rank of its node. NULL: it did. */
    bool (*owns_backup)(void *user, int32_t layer, int32_t expert);
    /* Where the bulk copier of a peer is asked; 0 bytes: not known. */
    size_t (*address)(void *user, int32_t seat, const void **address_out);
    /* Read `bytes` bytes of an expert from the checkpoint, from `offset` of its tensors one after
     * the other; at most EEPI_SEGMENT_BYTES a call. Any other status than EEP_OK: not to be had
     * there. NULL: there is no checkpoint. */
    eep_status (*checkpoint)(void *user, int32_t layer, int32_t expert, size_t offset, void *buffer,
                             size_t bytes);
    /* Something that whoever runs this rank should know: which copy is corrupted. NULL: nobody
     * asks. */
    void (*note)(void *user, const char *text);
    /* All slots of the view hold verified weights (EEP_OK, bytes copied), or one cannot be had. */
    void (*done)(void *user, uint64_t digest, eep_status status, uint64_t bytes, const char *why);
    void *user;
} eepi_executor_config;
#endif
