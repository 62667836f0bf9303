/* SPDX-License-Identifier: Apache-2.0 */
/* The token sink: where a token becomes emitted (rule M9). It holds, per request, who may emit its
 * next position; anything else is refused and counted, so that no fault, zombie or re-queue can
 * emit a token twice. Whoever shows tokens to clients has the sink: the front, or each front its
 * own. Not thread-safe: one thread owns a sink. NULL: EEP_ERR_INVALID, 0 from the last three. */
#ifndef EEP_SINK_H
#define EEP_SINK_H

#include <stdint.h>

#include "eep/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct eep_sink eep_sink;

/* A sink for requests 0 .. max_requests-1. */
EEP_API EEP_MUST_CHECK eep_status eep_sink_open(uint32_t max_requests, eep_sink **sink_out);
EEP_API void eep_sink_close(eep_sink *sink);
/* Let (seat, generation) emit the request's next positions. Called before the request is handed to
 * that rank, so whatever an earlier owner still sends is refused. The next position stays. */
EEP_API EEP_MUST_CHECK eep_status eep_sink_assign(eep_sink *sink, uint32_t request, int32_t seat,
                                                  uint32_t generation);
/* Nobody may emit for the request (its owner is gone and no other is chosen yet, or it ended). */
EEP_API EEP_MUST_CHECK eep_status eep_sink_revoke(eep_sink *sink, uint32_t request);
/* This use of the request's number is over: the next one, with another incarnation, begins at
 * position 0 and has no owner yet. Tokens of the use that is over are refused for ever, from
 * whatever rank. */
EEP_API EEP_MUST_CHECK eep_status eep_sink_release(eep_sink *sink, uint32_t request);
/* How often the request's number was released; 0 for a foreign number. The front hands it to the
 * rank with the request, and the rank sends it back with each token. */
EEP_API uint32_t eep_sink_incarnation(const eep_sink *sink, uint32_t request);
/* EEP_OK: the token at `position` (0, 1, ... counted from the first emitted one) is emitted and
 * may be shown to the client. Else it is dropped and counted: EEP_ERR_NOT_OWNER: another rank, or
 * nobody, may emit, or the number is in another use; EEP_ERR_DUPLICATE: the position was emitted
 * already; EEP_ERR_AHEAD: an earlier position was not. eep_error_text has the numbers. */
EEP_API EEP_MUST_CHECK eep_status eep_sink_offer(eep_sink *sink, uint32_t request,
                                                 uint32_t incarnation, int32_t seat,
                                                 uint32_t generation, uint32_t position);
EEP_API uint32_t eep_sink_next_position(const eep_sink *sink, uint32_t request);
EEP_API uint64_t eep_sink_refused(const eep_sink *sink);

#ifdef __cplusplus
}
#endif
#endif
