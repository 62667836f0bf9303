/* SPDX-License-Identifier: Apache-2.0 */
/* Small collectives of host memory: the control messages of an engine (who has work, which shape
 * comes next, a seed). Broadcast, allgather, barrier and allreduce over the members of the view.
 *
 * Epoch. A collective has a number, which counts up from 1 in the instance, and runs under one
 * epoch of the view. The contributors are the members of that epoch. Seats are never renumbered: a
 * vacant seat contributes nothing. Every member makes the same calls in the same order.
 *
 * All or nothing. EEP_OK means: every rank to which that number ends EEP_OK under that epoch has
 * the same bytes and the same contributors. A fault ends the number with EEP_ERR_ABORTED for every
 * rank that waits for it, unless it ended for one of them: then it ends EEP_OK for all (rule P13).
 * After EEP_ERR_ABORTED the same call is made again; it has the same number, and the next epoch.
 * A rank that had not called yet just calls. A change of members that was planned ends nothing: a
 * number that has not ended goes over to the new members, inside of the call.
 *
 * Buffers. What a call receives is written if it returns EEP_OK, and else not at all. What it sends
 * is copied inside of the call.
 *
 * Time. Each call waits at most `timeout_us`, and never more than a day. After EEP_ERR_TIMEOUT the
 * number is under way still, with what was given: the same call, with the same arguments, goes on
 * waiting, and another one is EEP_ERR_STATE. So a call with timeout 0 gives a contribution without
 * waiting, and a later one asks for the result.
 *
 * Threads. Any one thread at a time, also while the rank thread is in a step or in any other call;
 * another thread in one of these calls is EEP_ERR_STATE. So a rank without work contributes from a
 * control thread, and holds nobody up. eep_close ends a call that waits: EEP_ERR_STATE. In log and
 * event callbacks and in kernels: EEP_ERR_STATE. The text of a failure is eep_error_text.
 *
 * Before eep_join has returned EEP_OK (or EEP_ERR_UNCOVERED) a rank's collectives concern itself
 * alone: they end at once, with the number and the epoch 0. From then on it takes part with the
 * next number that the others have not begun without it. A rank waits for a joiner from the moment
 * in which its eep_snapshot_get has the epoch of the joiner's view; until then the earlier members
 * may end numbers without it.
 *
 * Capture. What these calls do is no part of a graph: EEP_ERR_STATE while the calling thread, or
 * this context, captures a stream.
 *
 * Statuses of all of them: EEP_ERR_INVALID an argument; EEP_ERR_PROTOCOL the members' calls of that
 * number differ (kind, root, bytes, type, operation), and EEP_ERR_NOT_FOUND the root is no member:
 * both are the same on all members, and the number has ended; EEP_ERR_TIMEOUT; EEP_ERR_ABORTED;
 * EEP_ERR_EVICTED, EEP_ERR_DRAINED this process is out of the view; EEP_ERR_NO_MEMORY,
 * EEP_ERR_SYSTEM before anything was given; EEP_ERR_CHECKSUM the number has ended, and what a
 * member gave to it was damaged in memory before this rank could take it. If this rank's service is
 * over for a failure of its own, they end with the status of eep_step_begin: EEP_ERR_SYSTEM where
 * it cannot make or map the window memory that the agreed view names. Cost: one copy in, one copy
 * out of each contribution and its checksum, and at most one sleep. Between hosts each contribution
 * goes to each member once, and a number ends one message later, when all members have said that
 * they hold all of it. */
#ifndef EEP_COLLECTIVES_H
#define EEP_COLLECTIVES_H

#include <stddef.h>
#include <stdint.h>

#include "eep/eep.h"
#include "eep/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    EEP_COLLECTIVE_MAX_BYTES = 1 << 20, /* most that one rank contributes to one collective */
};

/* How a collective went. Written whenever the call got so far that its arguments were accepted. */
typedef struct eep_collective_result {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    eep_status status;     /* what the call returned */
    uint64_t epoch;        /* of the view under which it ran; 0: of none */
    uint64_t number;       /* 0: it concerned this rank alone, or had none yet */
    /* EEP_OK: bit (seat % 64) of word (seat / 64) for each rank that contributed; else 0 */
    uint64_t contributors[EEP_MAX_RANKS / 64];
} eep_collective_result;

typedef enum eep_reduce_type {
    EEP_REDUCE_INT32 = 0,
    EEP_REDUCE_INT64 = 1,
    EEP_REDUCE_FP32 = 2,
    EEP_REDUCE_FP64 = 3
} eep_reduce_type;

/* Element by element, in the order of the seats: all members get the same bits. Sums of integers
 * wrap. Of a NaN and a number MIN and MAX take the number. AND and OR are of bits, and for integers
 * only. */
typedef enum eep_reduce_op {
    EEP_REDUCE_SUM = 0,
    EEP_REDUCE_MIN = 1,
    EEP_REDUCE_MAX = 2,
    EEP_REDUCE_AND = 3,
    EEP_REDUCE_OR = 4
} eep_reduce_op;

/* Ends EEP_OK when all members have called it. `result_out` may be NULL, here and below. */
EEP_API EEP_MUST_CHECK eep_status eep_collective_barrier(eep_context *context, uint64_t timeout_us,
                                                         eep_collective_result *result_out);
/* buffer [bytes] of the rank in seat `root` goes to all members: sent there, received elsewhere.
 * `bytes` (0 to EEP_COLLECTIVE_MAX_BYTES) is the same on all of them. */
EEP_API EEP_MUST_CHECK eep_status eep_collective_broadcast(eep_context *context, int32_t root,
                                                           void *buffer, size_t bytes,
                                                           uint64_t timeout_us,
                                                           eep_collective_result *result_out);
/* What each member sends goes to all: receive [max_ranks, stride_bytes] has that of seat s from
 * byte s * stride_bytes on. `stride_bytes` (at most EEP_COLLECTIVE_MAX_BYTES) is the same on all
 * members; `bytes` is this rank's own, 0 to stride_bytes. bytes_out [max_ranks] says how many bytes
 * each seat sent, 0 for vacant seats; it may be NULL. Bytes of `receive` behind what a seat sent
 * stay as they were. `send` may lie in `receive`. */
EEP_API EEP_MUST_CHECK eep_status eep_collective_allgather(eep_context *context, const void *send,
                                                           size_t bytes, void *receive,
                                                           size_t stride_bytes, uint64_t *bytes_out,
                                                           uint64_t timeout_us,
                                                           eep_collective_result *result_out);
/* receive [count] is the reduction of send [count] of all members; both may be the same memory.
 * Count, type and operation are the same on all members; `count` elements have at most
 * EEP_COLLECTIVE_MAX_BYTES. */
EEP_API EEP_MUST_CHECK eep_status eep_collective_allreduce(eep_context *context, const void *send,
                                                           void *receive, size_t count,
                                                           eep_reduce_type type, eep_reduce_op op,
                                                           uint64_t timeout_us,
                                                           eep_collective_result *result_out);

#ifdef __cplusplus
}
#endif
#endif
