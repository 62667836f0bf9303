/* SPDX-License-Identifier: Apache-2.0 */
/* libeep: elastic expert parallelism. One eep_context is one rank; a process may hold many.
 *
 * A rank's life:  eep_open -> eep_slot_set for what eep_slot_expert asks for, eep_backup_set for
 *   what eep_backup_wanted asks for
 *   -> capture a step graph with eep_step_latch, eep_dispatch, eep_combine, eep_step_finish
 *   -> eep_join -> { eep_step_begin, replay the graph, eep_step_end } ... -> eep_close.
 *
 * Threads: a context is used by one thread at a time (the rank thread), except where a function
 * says "any thread"; calls that begin, end or wait for a step, or join, are EEP_ERR_STATE
 * while another thread is in one of them, and no thread is cancelled inside. libeep runs a
 * heartbeat and a service thread of its own per context. A signal handler may call eep_busy,
 * eep_rank and eep_generation, and nothing else ("any thread" is no handler: eep_step_abort takes a
 * lock). NULL: arguments may be NULL where their function says so. Else NULL is EEP_ERR_INVALID,
 * with a text (eep_error_text) that names call and argument; functions that return no status answer
 * 0, -1 (a number of something), NULL or "". Closing NULL does nothing. A process that forked after
 * it opened something gets EEP_ERR_STATE from every call on it in the child, and closing does
 * nothing there. Order of closing: a device, and a stream, may be closed before what uses it; it
 * goes when that goes. Shapes are row-major. No function waits without a bound. Source of the
 * mechanisms: the paper (arXiv 2605.10670) where named, docs/PROTOCOL.md otherwise. */
#ifndef EEP_EEP_H
#define EEP_EEP_H

#include <stddef.h>
#include <stdint.h>

#include "eep/device.h"
#include "eep/experts.h"
#include "eep/forms.h"
#include "eep/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    EEP_MAX_RANKS = 1024,    /* most rank slots of an instance */
    EEP_MAX_LAYERS = 255,    /* of all chains together */
    EEP_MAX_TOPK = 32,       /* most experts per token */
    EEP_MAX_TENSORS = 8,     /* most tensors of one expert slot */
    EEP_MAX_EXPERTS = 65534, /* logical experts per layer */
};

typedef enum eep_dtype { EEP_FP32 = 0, EEP_BF16 = 1 } eep_dtype;
#define EEP_FP8_GROUP 128 /* channels with a common scale */
/* Bytes of one element; 0 for a foreign value. */
EEP_API size_t eep_dtype_bytes(eep_dtype dtype);

/* ---------------------------------------------------------------- configuration */

/* What the log says, each level with those above it. docs/INTEGRATION.md, "The log", has samples.
 * No step writes a line: a change of view writes a bounded number. */
typedef enum eep_log_level {
    EEP_LOG_NONE,
    EEP_LOG_ERROR, /* service is in danger: experts without a copy, a repair that fails */
    EEP_LOG_WARN,  /* somebody should look: this rank is about to be expelled, a limit is too low */
    EEP_LOG_INFO,  /* one line per change of view: who left and why, who joined, how long this rank
                    * was without a view; the store is lost, and is back */
    EEP_LOG_DEBUG /* the steps to it: suspected, wedged, reports heard, proposed, committed, staged,
                   * acknowledged, installed, flipped */
} eep_log_level;
/* Called from any of the context's threads. Of this header's calls on a context it may make those
 * that say "any thread" (eep_step_abort, eep_busy, eep_snapshot_get, eep_fault_next, eep_loads_get,
 * eep_loads_set, eep_waits_get, eep_placement_get, eep_placement_set), eep_rank and
 * eep_generation; the others return EEP_ERR_STATE there, and eep_close does nothing but write a
 * line. libeep waits for its return, so it does not block. `line` is one line without its end, of
 * less than 900 bytes. "rank 2 (generation 1)" is the first process in seat 2: each process that
 * takes a seat has the next generation. */
typedef void (*eep_log_fn)(void *user, eep_log_level level, const char *line);

/* What happened, as it happens; times are CLOCK_MONOTONIC nanoseconds of this machine. */
typedef enum eep_event_kind {
    EEP_EVENT_SUSPECTED,  /* seat: whom; value: eep_fault_kind */
    EEP_EVENT_WEDGED,     /* this rank stopped serving `epoch`; value: highest step started */
    EEP_EVENT_PROPOSED,   /* this rank won a compare-and-swap for `epoch`; value: phase */
    EEP_EVENT_REPAIRING,  /* a REPAIRING view was committed; value: slots to fill */
    EEP_EVENT_REPAIRED,   /* this rank filled its slots; value: bytes copied */
    EEP_EVENT_INSTALLED,  /* fault view `epoch` is live on this rank; value: first step */
    EEP_EVENT_STAGED,     /* planned view `epoch` waits in the idle bank */
    EEP_EVENT_FLIPPED,    /* planned view `epoch` is live on this rank; value: its first step */
    EEP_EVENT_READY,      /* this rank asked to be let in */
    EEP_EVENT_EVICTED,    /* this process is no longer in the view */
    EEP_EVENT_UNCOVERED,  /* experts lost all copies: the instance fails closed */
    EEP_EVENT_STORE_LOST, /* the store does not answer; serving goes on */
    EEP_EVENT_STORE_BACK,
    EEP_EVENT_REBALANCING, /* this rank fills slots behind live traffic; value: how many */
    EEP_EVENT_REBALANCED,  /* it has filled them; value: bytes copied */
    /* This rank asked to leave (eep_drain) and cannot: what only it holds has no other place;
     * value: slots per layer that the others lack; 0: background_bytes_per_s is 0, or all want out
     * and a process that has opened has not called eep_join. The log has a line. */
    EEP_EVENT_DRAIN_WAITS,
    /* An RDMA port of this rank's NICs went down, or carries less; one came back, or carries more.
     * value: MB/s that the active ones carry. Membership does not change for it. */
    EEP_EVENT_PORT_DOWN,
    EEP_EVENT_PORT_UP
} eep_event_kind;
typedef struct eep_event_info {
    uint32_t struct_bytes; /* the library's; look before a field that came later than yours */
    eep_event_kind kind;
    int32_t seat; /* whom it is about; -1: nobody in particular */
    uint32_t generation;
    uint64_t epoch; /* of the view it is about, else the newest one known; 0: none is yet */
    uint64_t value;
    uint64_t time_ns;
} eep_event_info;
/* May call what an eep_log_fn may, and must return as soon. */
typedef void (*eep_event_fn)(void *user, const eep_event_info *record);

/* What carries bulk copies of weights between ranks. */
typedef enum eep_bulk {
    EEP_BULK_AUTO, /* shared memory within a host */
    EEP_BULK_SHM,  /* shared memory, through the holder that is part of the host's agent */
    EEP_BULK_UCX   /* UCX over tcp, on bulk_interface */
} eep_bulk;

typedef struct eep_config {
    uint32_t struct_bytes; /* set by eep_config_init: the caller's sizeof(eep_config) */
    int32_t rank;      /* seat of this process, or EEP_RANK_ANY (eep/launch.h); -1: none is said */
    int32_t num_ranks; /* ranks that form the first view; 0: none is said */
    int32_t max_ranks; /* seats; 0: num_ranks. Fixed for the life of the instance */
    /* Unix socket of the store, or its address (docs/STORES.md); NULL: environment variable
     * EEP_STORE */
    const char *store_path;
    eep_device *device; /* borrowed until eep_close */

    int32_t num_layers;  /* MoE layers */
    int32_t num_experts; /* logical experts per layer */
    int32_t num_slots;   /* expert slots of this rank per layer (the same on all ranks) */
    int32_t top_k;
    int32_t hidden; /* elements per row */
    int32_t num_max_tokens_per_rank;
    eep_dtype dtype; /* of x and of the expert outputs */
    /* 1: rows are dispatched as FP8 (e4m3) with a scale per EEP_FP8_GROUP channels, a half or a
     * quarter of the bytes; expert outputs come back in `dtype`. 2: with scales that are powers of
     * two (eep_fp8_kind). The same on all ranks. */
    int32_t fp8_dispatch;

    uint64_t heartbeat_period_us;
    uint64_t heartbeat_suspect_us; /* silence after which a peer's process is looked at */
    uint64_t step_deadline_us;     /* longest wait for a peer inside a step */
    uint64_t warmup_deadline_us;   /* the same in the first step after a view change */
    uint64_t expel_floor_us;       /* least silence for which a living process is expelled */
    uint64_t drain_bound_us;       /* a survivor that has not wedged by then is left out */
    uint64_t propose_delay_us;     /* the i-th unsuspected seat proposes after i times this, and
                                    * that for each 16 members, from 32 on */
    /* Has no effect, and stays for programs that set it: no time proves that the kernels of a
     * process store no more. What they can reach is replaced instead. */
    uint64_t stores_margin_us;
    uint64_t join_timeout_us; /* longest wait of a call of eep_join; 0: it does not wait */
    /* Bytes of weights per second and rank that are copied behind live traffic to restore
     * redundancy and balance after a change of members; 0: that is left undone. */
    uint64_t background_bytes_per_s;
    /* Blocks of the nodes that copy rows, each as large as a multiprocessor's share; 0: few, so
     * that the engine keeps the device (24 of a GPU, 4 on the host). */
    int32_t num_blocks;
    int32_t kill_fence;   /* 1: a living rank is killed before it is expelled; 0: nobody is, ever */
    int32_t bind_threads; /* 1: hwloc binds this context's threads, the caller of eep_join too */

    eep_log_fn log; /* NULL: lines go to stderr, but for those that it takes only by waiting */
    eep_log_level log_level;
    eep_event_fn event; /* NULL: none */
    void *user;         /* passed to log and event */

    /* How weights come from other ranks in repairs; the same on all ranks. Shared memory opens no
     * network port; UCX trusts its network (SECURITY.md). */
    eep_bulk bulk;
    const char *bulk_interface; /* UCX: the network interface that is used; NULL: "lo" */

    /* Ranks 0 .. n-1 are on the first node, n .. 2n-1 on the next one, and so on; the last may have
     * fewer. 0: environment variable EEP_RANKS_PER_NODE, else all are on one node. The same on all
     * ranks. */
    int32_t ranks_per_node;
    /* Replicas of an expert are at least so many seats apart, where num_slots allows two replicas
     * of each: so any run of so many neighbouring seats may be lost at once. Seats are a ring. 0: a
     * quarter of the ranks on one node, a node's ranks (at most a third of all) on several. The
     * same on all ranks. */
    int32_t spread_distance;
    /* Copies of each expert in host memory, each on another node (so at most as many as there are
     * nodes), for repairs; 0: none. They outlive the ranks of their node. The same on all ranks. */
    int32_t backup_copies;
    /* Behind live traffic weights are copied so slowly that a step takes at most so many percent
     * longer, and at most at background_bytes_per_s; 0: at that rate, whatever steps take. */
    int32_t background_latency_percent;
    /* How often members tell each other the loads of their experts, for placement and shares
     * (eep_loads_get); 0: never, and all experts count alike unless eep_loads_set says otherwise.
     */
    uint64_t loads_period_us;
    /* Micro-batches of a step, 1 or 2 (0: 1): each is a chain of dispatches and combines through
     * all layers, with inputs, results and window memory of its own, so that one's rows travel
     * while the engine computes the other's. num_layers x num_chains is at most EEP_MAX_LAYERS. The
     * same on all ranks. */
    int32_t num_chains;
    /* Seats that serve together or not at all, as the ranks of one tensor parallel group do: 0 to
     * n-1 are the first group, and so on. A view takes in and leaves out whole groups. num_ranks
     * and max_ranks are multiples of it. 0 or 1: each is on its own. The same on all ranks. */
    int32_t seats_per_group;
    /* Shapes 1, 2 and so on (eep/shapes.h), beside num_max_tokens_per_rank tokens at once, which is
     * shape 0. Borrowed for the call that gets the config. The same on all ranks. */
    const struct eep_shape *shapes;      /* [num_shapes]; NULL with 0 */
    int32_t num_shapes, reserved_shapes; /* below EEP_MAX_SHAPES; 0 */
} eep_config;

/* Defaults, then EEP_STORE, EEP_BULK (auto, shm or ucx), EEP_BULK_INTERFACE, EEP_RANKS_PER_NODE,
 * and as rank and num_ranks what eep_launch_read finds (eep/launch.h), into a struct of the
 * caller's `struct_bytes`; no byte behind them is written. */
EEP_API void eep_config_init_sized(eep_config *config, size_t struct_bytes);
static inline void eep_config_init(eep_config *config)
{
    eep_config_init_sized(config, sizeof *config);
}

/* Sets of times and policies (docs/DEFAULTS.md has all values). */
typedef enum eep_profile {
    /* What eep_config_init gives: a rank may pause for half a minute, in a step or between two, its
     * process stopped or not, also beside a fault of another one. Its end is seen at once. */
    EEP_PROFILE_DEFAULT,
    /* First runs and debuggers: nobody is killed, and nobody expelled for a pause of less than an
     * hour. A fault beside such a pause is settled when it ends. */
    EEP_PROFILE_BRING_UP,
    /* Laboratories: a rank that does not answer for a second is at fault. */
    EEP_PROFILE_QUICK,
} eep_profile;
/* Set heartbeat_period_us to join_timeout_us, background_bytes_per_s, kill_fence and bind_threads
 * to what the profile says; num_blocks stays. After eep_config_init.
 * EEP_ERR_INVALID for NULL or a foreign profile. */
EEP_API EEP_MUST_CHECK eep_status eep_config_profile(eep_config *config, eep_profile profile);

/* ---------------------------------------------------------------- context */

typedef struct eep_context eep_context;

/* Connect to the store, take the seat with a new generation, map own and peers' windows and
 * allocate all tables and scratch. EEP_ERR_SEAT_TAKEN while a process holds the seat that is not
 * wholly gone (one that was killed gives its memory back first: 70 us per MB),
 * EEP_ERR_INVALID (text names the field) for a bad configuration or one that differs from the
 * instance's, EEP_ERR_UNREACHABLE without a store, EEP_ERR_SYSTEM if the seat's file beside the
 * store's socket (eep/store.h) cannot be written, EEP_ERR_UNSUPPORTED if the device cannot share
 * memory with other processes. On failure nothing is left behind but a
 * generation that is not given again, and `error_out` (may be NULL, at least 256 bytes) holds the
 * reason. */
EEP_API EEP_MUST_CHECK eep_status eep_open(const eep_config *config, char *error_out,
                                           size_t error_bytes, eep_context **context_out);
/* Leave without ceremony: peers see the end of this generation and expel it. A step in flight is
 * aborted first; if its graph does not end in time, memory it may still write is leaked. Another
 * thread may call it to end an eep_join, eep_step_begin, eep_step_wait or eep_step_end: that call
 * is EEP_ERR_STATE (its text is eep_error_text), and must be that thread's last one on the context.
 * A thread between eep_step_begin and eep_step_end has 200 ms to come to eep_step_end. A thread
 * between two steps must not call again: libeep cannot see it, and the context is gone. If a call
 * does not end within 5 s, eep_close writes a line and closes nothing: call it again later. */
EEP_API void eep_close(eep_context *context);
/* Why the last failing call on this context failed: names rank, epoch and what to do. Rank thread.
 */
EEP_API const char *eep_last_error(const eep_context *context);
EEP_API int32_t eep_rank(const eep_context *context);
EEP_API uint32_t eep_generation(const eep_context *context);

/* ---------------------------------------------------------------- weights */

typedef struct eep_tensor {
    void *data;
    size_t bytes;
} eep_tensor;

/* The logical expert that this rank's slot of the layer is to hold; -1 for an empty slot, or a
 * layer or slot that is out of range. For use between eep_open and eep_join; what it answers later
 * is of no use (eep_physical_to_logical follows the views). */
EEP_API int32_t eep_slot_expert(const eep_context *context, int32_t layer, int32_t slot);
/* The memory of a slot (device memory of the caller, borrowed until eep_close), filled with the
 * weights of eep_slot_expert. All slots have the same tensor sizes. No byte is given twice to a
 * context, neither for two tensors of a slot, nor for two slots: EEP_ERR_INVALID, and the text
 * names both. A slot that is set again has its newest memory. What eep_device_alloc gave may be
 * freed earlier, and stays until then; memory of another allocator that is freed, or unmapped,
 * before eep_close is written by the next repair all the same: libeep cannot see it. Before
 * eep_join. */
EEP_API EEP_MUST_CHECK eep_status eep_slot_set(eep_context *context, int32_t layer, int32_t slot,
                                               const eep_tensor *tensors, int32_t num_tensors);
/* The same, in memory that the context allocates: `tensors` come with bytes set and data out.
 * The caller fills them before eep_join. The memory stays until eep_close, also where the slot is
 * set again or the caller frees it. */
EEP_API EEP_MUST_CHECK eep_status eep_slot_alloc(eep_context *context, int32_t layer, int32_t slot,
                                                 eep_tensor *tensors, int32_t num_tensors);
/* 1 if this rank is meant to put a copy of the expert into its node's host memory, for repairs.
 * backup_copies nodes of the first view have each expert (rather such as hold it in no slot), and
 * the ranks of a node share what it has. A rank that comes later is asked for nothing that the
 * holder of its node has still, whichever process put it there. Doing so is advised, not required.
 * After eep_open. */
EEP_API int eep_backup_wanted(const eep_context *context, int32_t layer, int32_t expert);
/* Copy an expert, from host memory, into the memory of this rank's node, where it serves repairs of
 * any rank. Its tensors have the sizes of a slot's. That memory is shared, is sealed at eep_join,
 * and outlives this process: while the node has a rank in the view, all ranks on it can read it.
 * Before eep_join. EEP_ERR_STATE: backup_copies is 0; EEP_ERR_NO_MEMORY: the host has no memory
 * left for it; EEP_ERR_UNSUPPORTED: this kernel cannot seal memory (Linux 5.1). */
EEP_API EEP_MUST_CHECK eep_status eep_backup_set(eep_context *context, int32_t layer,
                                                 int32_t expert, const eep_tensor *tensors,
                                                 int32_t num_tensors);
/* The same without a copy: `tensors` come with bytes set and data out, at multiples of 64 bytes.
 * The caller fills them before eep_join, from which on they can only be read, until eep_close. */
EEP_API EEP_MUST_CHECK eep_status eep_backup_alloc(eep_context *context, int32_t layer,
                                                   int32_t expert, eep_tensor *tensors,
                                                   int32_t num_tensors);
/* Which expert's weights lie in a slot by the newest view that this rank knows: device-readable
 * int32 [num_layers, num_slots], -1 for empty or being filled, at an address that is fixed for the
 * context's life. It follows a planned view before the step that switches to it: for inspection,
 * never to decide which rows to compute. */
EEP_API const int32_t *eep_physical_to_logical(const eep_context *context);

/* ---------------------------------------------------------------- the step, at capture time */

/* Buffers of a dispatch; all device memory of the caller at fixed addresses. Rows (x, rows, out,
 * row_scales, packed_scales) begin at multiples of 16 bytes, here and in a combine: EEP_ERR_INVALID
 * otherwise. Fields behind row_scales choose other forms of ids, rows and scales (eep/forms.h); all
 * 0 and NULL: the forms that the fields before them name. */
typedef struct eep_dispatch_args {
    uint32_t struct_bytes;     /* sizeof(eep_dispatch_args), set by the caller */
    int32_t chain;             /* whose micro-batch it is: below num_chains */
    const void *x;             /* [num_tokens, hidden], dtype */
    const int32_t *topk_idx;   /* [num_tokens, top_k], logical experts; -1: no expert */
    const int32_t *num_tokens; /* one number, <= num_max_tokens_per_rank, read at replay */
    void *rows; /* out [eep_rows_capacity, hidden]: rows packed per local slot; in dtype, or e4m3 */
    int32_t *slot_begin; /* out [num_slots + 1]: rows of slot s are slot_begin[s] .. [s+1] */
    /* out [eep_rows_capacity, hidden / EEP_FP8_GROUP rounded up], with fp8_dispatch: value = e4m3 x
     * scale of its group; the largest of a group is 448 x scale, at least 1e-4. Else NULL. */
    float *row_scales;
    eep_row_layout layout; /* of rows, here and in this dispatch's combine */
    int32_t slot_align;    /* slots begin at multiples of so many rows, 0 (as 1) to 65536 */
    eep_scale_form scale_form;
    eep_id_kind ids;
    const int64_t *topk_idx_int64; /* in place of topk_idx, which is NULL then */
    /* EEP_IDS_PHYSICAL: one word, read at replay: eep_live_placement.placement of the placement
     * that the ids were made under. If it is not that of the step's view, the step ends with
     * EEP_ERR_BAD_STEP_INPUT on this rank (EEP_BAD_PLACEMENT, rule P12). Else NULL. */
    const uint64_t *placement;
    int32_t *packed_scales; /* out, UE8M0: in place of row_scales, which is NULL then */
    /* out [num_slots]: rows of each slot. May be NULL with packed rows and slot_align below 2, and
     * slot_begin may be NULL with padded rows. */
    int32_t *slot_counts;
    /* out [rows], as `rows` lie: the index of the row's token at its source. May be NULL. */
    int32_t *source_tokens;
    /* out [num_slots, max_ranks]: begin << 32 | count of each source's rows in the slot, from the
     * slot's first row on. May be NULL. */
    int64_t *layout_range;
    int32_t chunk;    /* which part of its layer it is: below num_chunks of the step's shape */
    int32_t reserved; /* 0 */
} eep_dispatch_args;
typedef struct eep_combine_args {
    uint32_t struct_bytes; /* sizeof(eep_combine_args), set by the caller */
    eep_dtype out_dtype;   /* of out: the sum, rounded once at the end */
    const void *rows;      /* [eep_rows_capacity, hidden]: expert outputs, laid out as dispatched */
    const float *topk_weights; /* [num_tokens, top_k] */
    const int32_t *num_tokens; /* as in dispatch */
    void *out;                 /* out [num_tokens, hidden]: sum over k in order of k, in float */
    int32_t chain;             /* as in dispatch */
    int32_t chunk;             /* as in dispatch */
} eep_combine_args;

/* Most rows that a dispatch can deliver to this rank. A form with gaps needs more places: ask
 * eep_form_sizes_get. */
EEP_API size_t eep_rows_capacity(const eep_context *context);

/* The first node of a step's graph: it latches bank, epoch, step and deadlines for all others.
 * These four functions put nodes into `stream`; capture-safe; rank thread. Order: latch, then per
 * layer 0..num_layers-1 one dispatch and one combine, then finish, all in one stream: EEP_ERR_STATE
 * for any other order (the text names what came and what was expected), and a capture that ends
 * with a part of a step is refused, as are eep_join, eep_step_begin and eep_step_end behind one.
 * Without a capture the nodes run at once, between eep_step_begin and eep_step_end; eep_step_latch
 * outside of both, where no stream is known yet, is EEP_ERR_STATE (a capture that was forgotten).
 * The capture may be the caller's own, of a stream of its own (eep_stream_adopt), with its kernels
 * around these nodes. Buffers are memory of eep_device_alloc or named with eep_memory_register:
 * EEP_ERR_INVALID otherwise, while `stream` is captured. All other calls of this header but
 * eep_step_abort and those for observation return EEP_ERR_STATE in a thread that captures. */
EEP_API EEP_MUST_CHECK eep_status eep_step_latch(eep_context *context, eep_stream *stream);
EEP_API EEP_MUST_CHECK eep_status eep_dispatch(eep_context *context, int32_t layer,
                                               eep_stream *stream, const eep_dispatch_args *args);
EEP_API EEP_MUST_CHECK eep_status eep_combine(eep_context *context, int32_t layer,
                                              eep_stream *stream, const eep_combine_args *args);
/* The same in two halves, so that the engine's kernels run between them. A send ends as soon as its
 * rows are stored; its last block tells the members, and no block waits. A receive waits for all
 * members' rows. Between them the send's buffers stay as they are: x (a rank's own rows are read
 * there), rows of the combine, slot_begin, num_tokens, topk_weights; outputs are there behind the
 * receive. Two chains between their dispatch and combine have rows and slot_begin of their own. A
 * chain's halves come in order: eep_dispatch_send, eep_dispatch_receive, eep_combine_send,
 * eep_combine_receive, of layer 0, 1 and so on; eep_dispatch and eep_combine stand for two of them.
 * How two chains mix is the caller's choice. The first whole step that is put decides it, for this
 * context and, from eep_join on, for all ranks of the instance: EEP_ERR_STATE otherwise. With two
 * chains a whole step is put before eep_join. A rank without work runs all chains with zero tokens.
 * Errors, streams, thread and capture as above. */
EEP_API EEP_MUST_CHECK eep_status eep_dispatch_send(eep_context *context, int32_t layer,
                                                    eep_stream *stream,
                                                    const eep_dispatch_args *args);
EEP_API EEP_MUST_CHECK eep_status eep_dispatch_receive(eep_context *context, int32_t layer,
                                                       int32_t chain, eep_stream *stream);
EEP_API EEP_MUST_CHECK eep_status eep_combine_send(eep_context *context, int32_t layer,
                                                   eep_stream *stream,
                                                   const eep_combine_args *args);
EEP_API EEP_MUST_CHECK eep_status eep_combine_receive(eep_context *context, int32_t layer,
                                                      int32_t chain, eep_stream *stream);
EEP_API EEP_MUST_CHECK eep_status eep_step_finish(eep_context *context, eep_stream *stream);
/* The stream in which the step's graphs are replayed from now on, where it is not the one in which
 * eep_step_latch put its node last (a caller that captures by its own means, or many graphs), and
 * for a caller that captures nothing, before eep_join. Borrowed. Between two steps, else
 * EEP_ERR_STATE; so is a stream in which another context's steps run, here and in eep_step_latch.
 * eep_graph_replay in any other stream is EEP_ERR_STATE, too. Rank thread. */
EEP_API EEP_MUST_CHECK eep_status eep_step_stream(eep_context *context, eep_stream *stream);

/* ---------------------------------------------------------------- joining and stepping */

/* Weights are in and the graph is captured: ask to be let in and wait until this rank is in the
 * committed view (the first view: until all num_ranks are there), at most join_timeout_us. With 0
 * it asks and does not wait: each further call looks once. Also computes the weights' checksums:
 * EEP_ERR_CHECKSUM if they are not the instance's, or have tensors of other sizes (the text names
 * the expert, or the sizes). Runs while healthy ranks serve; none waits for it. EEP_ERR_TIMEOUT:
 * the next call goes on waiting; the rank may be let in meanwhile; the text names who has not
 * opened, who has not called eep_join, and whose weights differ. EEP_ERR_UNCOVERED: no view can be
 * formed with the weights that are there (the text names the rank to start again with the right
 * ones); the next call waits for that. After every other status eep_join is not called again, but
 * for what it refuses before it asks (EEP_ERR_STATE, EEP_ERR_INVALID). */
EEP_API EEP_MUST_CHECK eep_status eep_join(eep_context *context);

typedef struct eep_step {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    int32_t num_active;
    uint64_t step;  /* the rendezvous number; never used again */
    uint64_t epoch; /* of the view it runs under */
} eep_step;

/* Begin a step: waits while the view is being changed (at most `timeout_us`), switches to a new
 * view if one is due, fixes the step's number. After EEP_OK the caller fills its inputs, replays
 * its graph and calls eep_step_end. EEP_ERR_TIMEOUT: still no view to serve under, try again.
 * EEP_ERR_UNCOVERED: experts have no copy left; nobody serves until a process that joins brings
 * them: try again, or give up. EEP_ERR_EVICTED, EEP_ERR_DRAINED: this rank's service is over; so it
 * is with EEP_ERR_SYSTEM if it cannot make or map the window memory that the agreed view names. */
EEP_API EEP_MUST_CHECK eep_status eep_step_begin(eep_context *context, uint64_t timeout_us,
                                                 eep_step *step_out);
/* Wait for the step's end. EEP_OK: its results are right; make them current. EEP_ERR_ABORTED: it
 * emitted nothing; keep the state from before it and compute the same positions again in the next
 * step. EEP_ERR_BAD_STEP_INPUT: as ABORTED, and the same input will fail again (eep_bad_input_get
 * says which token); peers are not disturbed. EEP_ERR_STATE: what ran was no whole step of this
 * context; the next one may begin. EEP_ERR_DEVICE: the step may still run, as in a stream that was
 * not named (eep_step_stream), and stays open; call eep_step_end again until it has ended, or
 * eep_close. Bounded by the step's deadlines. */
EEP_API EEP_MUST_CHECK eep_status eep_step_end(eep_context *context);
/* What was wrong with a step's input. */
typedef enum eep_bad_kind {
    EEP_BAD_NUM_TOKENS, /* value: num_tokens, which is below 0 or too large */
    /* value: an id that is neither -1 nor a logical expert (or physical id, where these are given);
     * one of int64 that no int32 can hold is the nearest that can */
    EEP_BAD_EXPERT_RANGE,
    /* value: an expert that this token named at a lower k already; of physical ids one whose expert
     * is that of an id at a lower k */
    EEP_BAD_EXPERT_TWICE,
    EEP_BAD_EXPERT_UNCOVERED, /* value: an expert without a replica in this view */
    /* The ids were made under another placement than the step's (rule P12); of the whole batch.
     * eep_live_placement_get has the one to make them under. */
    EEP_BAD_PLACEMENT,
    EEP_BAD_SEAT_INACTIVE, /* value: a physical id of a seat that is not active in this view */
    EEP_BAD_SLOT_EMPTY,    /* value: a physical id of a slot that is empty or being filled */
} eep_bad_kind;
EEP_API const char *eep_bad_kind_name(eep_bad_kind kind);
typedef struct eep_bad_input {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    eep_bad_kind kind;
    int32_t layer;
    int32_t token, k, value; /* topk_idx[token, k] is `value`; token and k -1: of the whole batch */
    int32_t num_bad_tokens;  /* of that layer, this one included; 0: the whole batch is bad */
    int32_t chain;           /* whose batch it is */
    uint64_t step;
    int32_t chunk;    /* whose batch it is */
    int32_t reserved; /* 0 */
} eep_bad_input;
/* The first bad token, in order of dispatches, token and k, of the last step that ended with
 * EEP_ERR_BAD_STEP_INPUT: the request to drop. EEP_ERR_NOT_FOUND: none did. Rank thread. */
EEP_API EEP_MUST_CHECK eep_status eep_bad_input_get(eep_context *context, eep_bad_input *bad_out);
/* For a rank without work: EEP_OK as soon as a peer has started a step, or a change of view needs
 * one (then run a step, with zero tokens if there are none); EEP_ERR_TIMEOUT otherwise. */
EEP_API EEP_MUST_CHECK eep_status eep_step_wait(eep_context *context, uint64_t timeout_us);
/* End the running step soon, on this rank and, through it, on its peers; membership does not
 * change. Any thread. */
EEP_API void eep_step_abort(eep_context *context);

enum { EEP_BUSY_MAX_US = 600000000 }; /* ten minutes */
/* "I am busy for `busy_us` from now": this rank compiles, collects garbage, stands in a debugger.
 * Until then peers do not suspect it for silence, accuse it of missed deadlines or kill it; at
 * most EEP_BUSY_MAX_US, and a new call replaces the old one (0: not busy any more). What they held
 * against it before is taken back. The end of its process counts at once. The price: steps that
 * wait for it end by their deadlines as ever, without a result, so nobody emits a token meanwhile;
 * a fault of another rank, a join or a leave is settled when it answers, or at the end of that
 * time. Costs a store. Any thread. */
EEP_API EEP_MUST_CHECK eep_status eep_busy(eep_context *context, uint64_t busy_us);

/* Ask to leave the view. The engine hands its requests back first, then calls this once and goes
 * on stepping until eep_step_begin returns EEP_ERR_DRAINED. That waits until the ranks that stay
 * hold what only this one holds. If they have no room for it, or background_bytes_per_s is 0, a
 * warning in the log says so, with EEP_EVENT_DRAIN_WAITS: let another rank join, end the instance
 * (eep_instance_end), or leave by eep_close, which costs those experts. The last ranks wait for a
 * process that has opened and not joined, and say so in the same way. */
EEP_API EEP_MUST_CHECK eep_status eep_drain(eep_context *context);
/* End the instance in order, for all of its ranks: they leave in one view, and eep_step_begin of
 * each returns EEP_ERR_DRAINED. The front has stopped giving requests before: a step that is in
 * flight then is aborted. When every rank has asked for eep_drain, the last ones included, that is
 * the same. An instance that lost experts (EEP_ERR_UNCOVERED) ends so as well. Before the first
 * view there is none to end: the rank that asks leaves, and no other. New processes may begin
 * another instance with the same store, with other weights or another configuration, once those of
 * this one have closed their contexts. A rank that does not answer meanwhile delays the end for all
 * until it is expelled: expel_floor_us of silence. */
EEP_API EEP_MUST_CHECK eep_status eep_instance_end(eep_context *context);

/* ---------------------------------------------------------------- observation */

typedef enum eep_seat_state {
    EEP_SEAT_VACANT,      /* nobody; a new process may take it */
    EEP_SEAT_JOINING,     /* a process prepares itself */
    EEP_SEAT_ACTIVE,      /* in the view */
    EEP_SEAT_RETIRING,    /* in the view, asked to leave */
    EEP_SEAT_QUARANTINED, /* no longer in the view (expelled, or it left with the end of the
                           * instance), its end not yet observed: nobody may take it */
} eep_seat_state;
typedef struct eep_seat {
    eep_seat_state state;
    uint32_t generation;
} eep_seat;
typedef struct eep_counters {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    uint32_t reserved;
    uint64_t steps_ok, steps_aborted;
    uint64_t stale_dropped;         /* tags or rows of another epoch, step or generation */
    uint64_t steps_aborted_by_join; /* aborted for a planned change; 0 in health */
    uint64_t steps_waiting_on_join; /* steps whose longest wait was for a rank in its first step */
    uint64_t captures_after_join;   /* graphs captured since eep_join: must stay 0 */
    uint64_t weights_bytes_in_pause;
    uint64_t window_bytes;             /* receive memory of this rank */
    uint64_t weights_bytes_background; /* copied behind live traffic */
    /* Of both, by where they came from: the memory of this rank's node, another rank (its slots, or
     * its node's memory), a checkpoint, whoever read it; and bytes of copies whose checksum was
     * wrong. */
    uint64_t weights_bytes_own_node, weights_bytes_other_rank, weights_bytes_file;
    /* Parts of the first two: from backups that this rank put there itself, and from other ranks'
     * slots, which are live replicas. */
    uint64_t weights_bytes_own_backup, weights_bytes_live_replica;
    /* Slots filled, by what most of their bytes came from: this rank's own backup, another backup
     * of its node, a slot of another rank, a backup of another node, a checkpoint. A kept one had
     * its expert already, from a plan that was given up: no byte. */
    uint64_t fills_own_backup, fills_node_backup, fills_live_replica, fills_other_backup;
    uint64_t fills_file, fills_kept;
    /* Experts that lost a replica to a fault and were covered without a byte, since this rank and
     * no lower one has them in a slot (source: the paper's local reuse). Summed over ranks, each
     * expert counts once. */
    uint64_t experts_reused;
} eep_counters;
typedef struct eep_snapshot {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    int32_t max_ranks, num_active;
    uint32_t reserved;
    uint64_t epoch;
} eep_snapshot;
/* One consistent picture: all of it belongs to the snapshot's epoch. `counters_out` and `seats_out`
 * may be NULL; `seats_out` has room for max_ranks entries. Any thread. */
EEP_API EEP_MUST_CHECK eep_status eep_snapshot_get(eep_context *context, eep_snapshot *snapshot_out,
                                                   eep_counters *counters_out, eep_seat *seats_out);
/* What a rank was suspected of, strongest evidence first (rule M5). */
typedef enum eep_fault_kind {
    EEP_FAULT_EXIT,     /* its process ended */
    EEP_FAULT_RESET,    /* its endpoint was reset */
    EEP_FAULT_DEVICE,   /* its device reported an error */
    EEP_FAULT_SILENT,   /* no heartbeat for expel_floor_us, or longer */
    EEP_FAULT_DEADLINE, /* steps waited for it past the deadline, twice */
    EEP_FAULT_LEFT_OUT, /* it did not wedge within the drain bound */
    /* What engines and operators say (eep/control.h). Against a living rank these weigh less than
     * its end and its silence, and more than missed deadlines. */
    EEP_FAULT_BAD_ANSWER, /* it answered wrongly */
    EEP_FAULT_EXPELLED,   /* eep_expel was called for it */
    EEP_FAULT_GROUP,      /* another seat of its group was expelled (seats_per_group) */
} eep_fault_kind;
EEP_API const char *eep_fault_kind_name(eep_fault_kind kind);
typedef struct eep_fault {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    int32_t seat;
    uint32_t generation;
    eep_fault_kind kind;
    uint64_t epoch;   /* of the view that expelled it */
    uint64_t time_ns; /* when this rank learned of that view */
} eep_fault;
/* The oldest expulsion not yet taken; EEP_ERR_NOT_FOUND when there is none. Any thread. */
EEP_API EEP_MUST_CHECK eep_status eep_fault_next(eep_context *context, eep_fault *fault_out);

/* Bytes of one rank's window: {dispatch, combine, tags and headers}. */
typedef struct eep_window_sizes {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    uint32_t reserved;
    uint64_t dispatch_bytes, combine_bytes, control_bytes;
} eep_window_sizes;
/* Needs the sizes alone: `rank` may be -1, `device` and `store_path` NULL. Any thread. */
EEP_API EEP_MUST_CHECK eep_status eep_window_sizes_get(const eep_config *config,
                                                       eep_window_sizes *sizes_out);

#ifdef __cplusplus
}
#endif
#endif
