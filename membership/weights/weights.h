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
/* A backup that can be read here, with the newest view's checksum as was said when it was put
 * there. NULL: there is none. Service thread. */
const eep_tensor *eepi_weights_backup(void *context, int32_t layer, int32_t expert);
/* This rank put a backup of the expert there itself. */
bool eepi_weights_owns_backup(void *context, int32_t layer, int32_t expert);
/* physical_to_logical follows a view. */
void eepi_weights_follow(eep_context *context, const eepi_view *view);
/* [num_layers][num_slots]: the expert in each slot, or the one to load before eep_join; -1: none.
 */
int32_t *eepi_weights_experts(const eep_context *context);
/* The backups of its node; NULL: this instance keeps none. After eepi_weights_meet_node, which
 * finds what the node has already: that is not wanted. EEP_ERR_NO_MEMORY, EEP_ERR_SYSTEM. */
struct eepi_backups *eepi_weights_node(const eep_context *context);
EEP_MUST_CHECK eep_status eepi_weights_meet_node(eep_context *context);
/* No thread uses them any more. */
void eepi_weights_leave_node(eep_context *context);
/* [num_layers][words]: the backups that this rank is to put into its node's memory. */
uint64_t *eepi_weights_wanted(const eep_context *context);
/* The checksums of a view of an instance that has not ended. */
void eepi_weights_know(eep_context *context, const eepi_view *view);
/* Before eep_join: what was put there is complete; waits for the holder, at most 2 s. */
EEP_MUST_CHECK eep_status eepi_weights_seal_backups(eep_context *context);
/* Claim what can be read by now, with the checksums of a view. False: nothing more. Service thread.
 */
bool eepi_weights_claim_backups(eep_context *context, const eepi_view *view);
/* Of an expert: how many tensors, and the bytes of each. */
int32_t eepi_weights_num_tensors(const eep_context *context);
const uint64_t *eepi_weights_tensor_bytes(const eep_context *context);
/* What this rank tells of itself. The arrays stay; the sizes of its tensors are told once it is
 * ready, since the rank thread writes them until then. */
eepi_member eepi_weights_member(const eep_context *context, bool is_ready, int leaving);
#endif
