/* SPDX-License-Identifier: Apache-2.0 */
/* The stream in which a context's steps run, and the nodes that are put into it. Rank thread. */
#ifndef EEPI_CAPTURE_H
#define EEPI_CAPTURE_H

#include "eep/eep.h"
#include "graphs/kernels/kernels.h"
#include "graphs/kernels/table_layout.h"

#include <stdbool.h>

struct eepi_capture;

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_capture_open(eep_context *context);
void eepi_capture_close(eep_context *context);
/* The stream that steps are replayed in; NULL: none is known. */
eep_stream *eepi_step_stream_of(const eep_context *context);
/* Replay steps in that stream from now on; NULL: in none. The stream is held until another one
 * takes its place. EEP_ERR_STATE, with a text: another context uses it. */
EEP_MUST_CHECK eep_status eepi_set_stream(eep_context *context, const char *call,
                                          eep_stream *stream);
/* The running step's nodes were put into its stream one by one. */
bool eepi_step_is_loose(const eep_context *context);
/* A step was captured by other means than libeep's, which sees no replay of it. */
bool eepi_step_is_by_others(const eep_context *context);
/* eepi_check_own; and EEP_ERR_STATE, with a text, while this thread or anybody captures the step's
 * stream. */
EEP_MUST_CHECK eep_status eepi_refuse_in_capture(eep_context *context, const char *call);
/* This thread captures a stream; for calls that are not the rank thread's alone. */
bool eepi_capture_is_by_this_thread(const eep_context *context);
/* EEP_ERR_STATE, with a text, if a step was begun in a stream and not finished; it is dropped. */
EEP_MUST_CHECK eep_status eepi_check_sequence(eep_context *context, const char *call);

/* Digest of the order in which the chains' halves come in steps of that shape (rule P5); 0: no
 * whole step of it was put yet. */
uint64_t eepi_capture_order(const eep_context *context, int32_t shape);

/* The chain's last dispatch that was put gives physical ids: for texts. */
bool eepi_capture_has_physical_ids(const eep_context *context, int32_t chain);

/* Called before and behind each node that libeep puts into a stream, with the node's arguments; may
 * put nodes of its own there. */
typedef eep_status (*eepi_at_node)(void *user, eep_stream *stream, eepi_kernel_id id,
                                   const void *args, bool is_behind);
/* What the kernels of that context's nodes begin with. */
const eepk_world *eepi_capture_world(const eep_context *context);
/* From now on `at_node` is called at every node that is put. So a laboratory can put nodes of its
 * own between those of one eep_dispatch, or of one eep_combine. To be called before the capture;
 * NULL ends it. */
void eepi_capture_watch(eep_context *context, eepi_at_node at_node, void *user);

#define EEPI_NO_STREAM_TEXT                                                                        \
    "it is not known in which stream steps run: capture the step's graph (eep_step_latch), or "    \
    "name the stream with eep_step_stream if nothing is captured"
#endif
