/* SPDX-License-Identifier: Apache-2.0 */
/* What a context keeps of the nodes that were put into its streams. */
#ifndef EEPI_CAPTURE_STATE_H
#define EEPI_CAPTURE_STATE_H

#include "graphs/kernels/kernel_args.h"
#include "membership/context/sequence.h"
#include "membership/step/capture.h"

struct eepi_capture {
    eep_stream *stream;
    struct eepi_owner *owner; /* of that stream, and of graphs that hold our steps */
    eepi_sequence sequence;   /* what was put of a step */
    eepi_at_node at_node;     /* NULL: nobody watches */
    void *at_node_user;
    eepk_dispatch_node_args dispatch[EEPK_MAX_CHAINS]; /* of the chain's last send */
    eepk_combine_node_args combine[EEPK_MAX_CHAINS];
};

/* Put the first node of a step of that shape, for the public function `call`; the stream was
 * checked. */
EEP_MUST_CHECK eep_status eepi_capture_latch(eep_context *context, const char *call, int32_t shape,
                                             eep_stream *stream);
/* The grid of nodes that copy rows. */
uint32_t eepi_capture_blocks(const eep_context *context);
/* eepi_check_own; EEP_ERR_STATE, with a text: the stream was closed. */
EEP_MUST_CHECK eep_status eepi_capture_check_stream(eep_context *context, const char *call,
                                                    const eep_stream *stream);
/* EEP_ERR_STATE, with a text: it is not the part's turn. */
EEP_MUST_CHECK eep_status eepi_capture_check_order(eep_context *context,
                                                   const eepi_sequence_part *part,
                                                   eep_stream *stream);
/* The part was put with that status, which is returned. */
EEP_MUST_CHECK eep_status eepi_capture_note_order(eep_context *context,
                                                  const eepi_sequence_part *part,
                                                  eep_stream *stream, eep_status status);
/* Put one node. A failure breaks the sequence, and has a text. */
EEP_MUST_CHECK eep_status eepi_capture_put(eep_context *context, eep_stream *stream,
                                           eepi_kernel_id id, uint32_t blocks, uint32_t threads,
                                           const void *args, size_t bytes);
#endif
