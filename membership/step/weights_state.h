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
    eep_tensor *backups;          /* [num_layers][num_experts][EEP_MAX_TENSORS] */
    int32_t *experts;             /* [num_layers][num_slots] */
    int32_t *physical_to_logical; /* the same, device memory */
    uint64_t *checksums;          /* [num_layers][num_slots] */
    uint64_t *backup_bits;        /* [num_layers][words]: those it has */
    uint64_t *backup_wanted;      /* the same: those it is meant to have */
    void **owned;                 /* slots that eep_slot_alloc allocated */
    int32_t num_owned;
    struct eepi_places *places; /* where experts lie in a checkpoint; NULL: none was named */
    void *given;                /* the tensors in slots and backups, by address; given_memory.c */
};
#endif
