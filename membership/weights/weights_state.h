/* SPDX-License-Identifier: Apache-2.0 */
/* The expert slots and host backups of a rank. The rank thread writes until eep_join. From then on
 * the executor writes slots, and the service thread notes what they hold. */
#ifndef EEPI_WEIGHTS_STATE_H
#define EEPI_WEIGHTS_STATE_H

#include "eep/eep.h"

struct eepi_weights {
    int32_t num_tensors; /* of an expert; 0: none was given yet */
    uint64_t tensor_bytes[EEP_MAX_TENSORS];
    eep_tensor *slots;            /* [num_layers][num_slots][EEP_MAX_TENSORS] */
    eep_tensor *backups;          /* the same of experts: where the last one read lies */
    int32_t *experts;             /* [num_layers][num_slots] */
    int32_t *physical_to_logical; /* the same, device memory */
    uint64_t *checksums;          /* [num_layers][num_slots] */
    uint64_t *backup_bits;   /* [num_layers][words]: those that its node has, as far as it saw */
    uint64_t *backup_wanted; /* the same: those that it is meant to put there */
    uint64_t
        *backup_sums; /* [num_layers][num_experts], by the view found, or its own; 0: unknown */
    uint64_t *backup_claims; /* [num_layers] of backup_bits */
    void **owned;            /* slots that eep_slot_alloc allocated */
    int32_t num_owned;
    struct eepi_backups *node;  /* the backups of its node; NULL: this instance keeps none */
    struct eepi_places *places; /* where experts lie in a checkpoint; NULL: none was named */
    void *given;                /* the tensors in slots, by address; given_memory.c */
};

/* weights.c. The caller's tensors have the number and sizes of the first ones that were given; */
EEP_MUST_CHECK eep_status eepi_weights_check_sizes(eep_context *context, const char *call,
                                                   const eep_tensor *tensors, int32_t n);
/* and each has data. */
EEP_MUST_CHECK eep_status eepi_weights_check_data(eep_context *context, const char *call,
                                                  const eep_tensor *tensors, int32_t n);
/* The first that was given fixes the sizes of all. */
void eepi_weights_fix_sizes(eep_context *context, const eep_tensor *tensors, int32_t n);
#endif
