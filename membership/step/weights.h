/* SPDX-License-Identifier: Apache-2.0 */
/* Expert slots and host backups of a rank, for the files that tell of them, send or fill them. */
#ifndef EEPI_WEIGHTS_H
#define EEPI_WEIGHTS_H

#include "membership/core/core.h"

#include <stdbool.h>

struct eepi_weights;

/* EEP_ERR_NO_MEMORY, or what the device says. */
EEP_MUST_CHECK eep_status eepi_weights_open(eep_context *context);
void eepi_weights_close(eep_context *context);
/* Check that all slots have memory, compute their checksums. */
EEP_MUST_CHECK eep_status eepi_weights_seal(eep_context *context);
const eep_tensor *eepi_weights_slot(void *context, int32_t layer, int32_t slot);
/* NULL: there is none. */
const eep_tensor *eepi_weights_backup(void *context, int32_t layer, int32_t expert);
/* physical_to_logical follows a view. */
void eepi_weights_follow(eep_context *context, const eepi_view *view);
/* [num_layers][num_slots]: the expert in each slot, or the one to load before eep_join; -1: none.
 */
int32_t *eepi_weights_experts(const eep_context *context);
/* That backup is to be kept here. */
void eepi_weights_want_backup(eep_context *context, int32_t layer, int32_t expert);
/* Of an expert: how many tensors, and the bytes of each. */
int32_t eepi_weights_num_tensors(const eep_context *context);
const uint64_t *eepi_weights_tensor_bytes(const eep_context *context);
/* What this rank tells of itself. The arrays stay; the sizes of its tensors are told once it is
 * ready, since the rank thread writes them until then. */
eepi_member eepi_weights_member(const eep_context *context, bool is_ready, int leaving);
#endif
