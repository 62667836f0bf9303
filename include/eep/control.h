/* SPDX-License-Identifier: Apache-2.0 */
/* The control path of an engine: evidence against a rank, a descriptor for event loops, and what a
 * rank will need before there is one.
 *
 * Evidence is no decision (rule P11). A call says what this engine saw, or what its operator wants.
 * The members then agree on a view, and only a committed view changes who serves: every query
 * (eep_snapshot_get, eep_watch_next) shows that view, and no rank ever masks another by itself. */
#ifndef EEP_CONTROL_H
#define EEP_CONTROL_H

#include <stdint.h>

#include "eep/eep.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- evidence */

/* "I saw this of the process (seat, generation)": EEP_FAULT_RESET, its endpoint was reset;
 * EEP_FAULT_DEVICE, its device reported an error; EEP_FAULT_BAD_ANSWER, it answered wrongly. Of
 * this rank itself (its own seat and generation) EEP_FAULT_DEVICE: the engine cannot compute any
 * more. All members stop stepping; the next fault view leaves the accused out, unless a rank that
 * is left out itself is its only accuser, or experts would be lost with a rank that still answers.
 * Of two ranks that accuse each other one stays: that with fewer accusers, else the lower seat. The
 * view settles it: what it kept may be reported again. So a report costs a pause, and is for what
 * the engine has seen, never for a guess.
 * Returns at once: EEP_OK, the evidence is noted; eep_fault_next and views tell what came of it.
 * EEP_ERR_NOT_FOUND: that process is not in the newest view, so the evidence is void (it may be out
 * already). EEP_ERR_INVALID: a seat out of range, or a kind that libeep sees for itself.
 * EEP_ERR_STATE: no view yet; this rank is the only member; or its own seat with another kind than
 * EEP_FAULT_DEVICE. EEP_ERR_EVICTED, EEP_ERR_DRAINED, or another status with which eep_step_begin
 * ends (EEP_ERR_SYSTEM): this rank's service is over. Any thread. */
EEP_API EEP_MUST_CHECK eep_status eep_fault_report(eep_context *context, int32_t seat,
                                                   uint32_t generation, eep_fault_kind kind);

/* What a view has decided about a process. */
typedef struct eep_verdict {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    int32_t is_out;      /* 1: it is in no view any more; 0: a view kept it, or none decided yet */
    uint64_t epoch;      /* of the newest view that this rank knows */
    uint64_t kept_epoch; /* of the view that kept it; 0: none did */
} eep_verdict;

/* Leave a process out (an operator's wish, or the mask call of an engine): evidence of the kind
 * EEP_FAULT_EXPELLED, weighed as that of eep_fault_report. Then wait until a view has decided, at
 * most `timeout_us`.
 * EEP_OK: it is out: a committed view is without it. At once, if it was out before.
 * EEP_ERR_CONFLICT: a view decided and kept it (kept_epoch; the text says why that happens).
 * EEP_ERR_TIMEOUT: nothing is decided yet, the evidence stands, and the next call goes on waiting;
 * with 0 the call asks and looks once. EEP_ERR_NOT_FOUND: no view ever had that process.
 * EEP_ERR_STATE: no view yet; this rank is the only member, which cannot be expelled; or this
 * thread is in a step of the context. EEP_ERR_INVALID, EEP_ERR_EVICTED, EEP_ERR_DRAINED,
 * EEP_ERR_SYSTEM as above.
 * Of a group of seats (eep_config, seats_per_group) all are left out in the same view. Oneself: the
 * same as eep_drain, and returns at once with its status. To expel several, ask for each with 0
 * first: one view then leaves them all out.
 * With kill_fence 1 the process is killed (SIGKILL) before the view is committed, where libeep can;
 * with 0, or where it cannot, it lives: its steps end with EEP_ERR_EVICTED, what it still stores
 * reaches nobody, and its seat is EEP_SEAT_QUARANTINED until it has ended. `verdict_out` may be
 * NULL; it is filled for EEP_OK, EEP_ERR_CONFLICT and EEP_ERR_TIMEOUT. Any thread, several at once;
 * not in a callback. */
EEP_API EEP_MUST_CHECK eep_status eep_expel(eep_context *context, int32_t seat, uint32_t generation,
                                            uint64_t timeout_us, eep_verdict *verdict_out);

/* ---------------------------------------------------------------- event loops */

/* What there is to look at. */
enum {
    EEP_READY_VIEW = 1,  /* a newer view was committed: eep_snapshot_get */
    EEP_READY_FAULT = 2, /* somebody was expelled: eep_fault_next */
    EEP_READY_STEP = 4, /* a peer has begun a step, or a change of view needs one: eep_step_begin */
    EEP_READY_OVER = 8, /* this rank's service is over, or experts are lost: eep_step_begin tells */
};
/* A descriptor to poll for reading (poll, epoll, asyncio's add_reader), the same one for the life
 * of the context: readable while something happened that eep_event_drain has not taken. It is
 * libeep's: never read, written or closed by the caller; eep_close closes it. The first call makes
 * it, with a thread that looks for steps of peers; from then on each step of a peer that comes
 * while this rank runs none makes it readable once. -1: no descriptor or thread could be had
 * (eep_error_text), or `context` is NULL. Any thread; never blocks. */
EEP_API int eep_event_fd(eep_context *context);
/* What has happened since the last call: bits of EEP_READY_...; 0: nothing. The descriptor is not
 * readable any more, until something else happens. After it look at all that the bits name: events
 * that come together are told once. Any thread; never blocks. EEP_ERR_STATE: eep_event_fd was not
 * called. EEP_ERR_INVALID for NULL. */
EEP_API EEP_MUST_CHECK eep_status eep_event_drain(eep_context *context, uint32_t *ready_out);

/* ---------------------------------------------------------------- memory, without a context */

/* What one rank takes, in bytes (after DeepEP's get_low_latency_rdma_size_hint). Slots, inputs and
 * results of steps are the engine's own, and not in here. */
typedef struct eep_memory_sizes {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    uint32_t reserved;     /* 0 */
    uint64_t window_bytes; /* receive windows (eep_window_sizes_get has the parts) */
    uint64_t table_bytes;  /* device memory: tables and what kernels note from node to node */
    uint64_t device_bytes; /* device memory that eep_open takes in all: both of them */
    /* Device memory besides, for as long as a window is being replaced after a fault (rule P7):
     * leave it free. */
    uint64_t replaced_bytes;
    uint64_t pinned_bytes; /* pinned host memory, of eep_open and eep_join */
    uint64_t host_bytes;   /* other shared host memory that eep_open takes */
    /* For the engine's own buffers: rows that a dispatch can deliver (eep_rows_capacity), and bytes
     * of such rows as they are dispatched, of one chain. */
    uint64_t rows_capacity, rows_bytes;
} eep_memory_sizes;
/* Needs the shape alone: `rank` may be -1, `device` and `store_path` NULL. `expert_bytes`: of all
 * tensors of one expert of one layer, for what repairs copy through; 0: that is left out. Each
 * allocation may take up to 2 MiB more on a device that hands out whole pages. EEP_ERR_INVALID: the
 * shape is out of range, and the text names the field. Any thread. */
EEP_API EEP_MUST_CHECK eep_status eep_memory_sizes_get(const eep_config *config,
                                                       uint64_t expert_bytes,
                                                       eep_memory_sizes *sizes_out);

#ifdef __cplusplus
}
#endif
#endif
