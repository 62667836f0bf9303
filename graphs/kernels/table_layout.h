/* SPDX-License-Identifier: Apache-2.0 */
/* Layouts that host and device share: tags, control, banks, windows. Fixed-width, no pointers to
 * host-only memory; what lies at a fixed address for a context's life is what graphs may hold.
 *
 * A rank's window (peer-writable receive memory) exists once per colour: a view names the colour
 * that its steps use (rule P7). Each is one region:
 *
 *   +0                 eepk_window_header        identity, heartbeat, doorbell
 *   off_dispatch_tag   line[C][max_ranks]        [chain][source seat], 128 bytes each
 *   off_combine_tag    line[C][max_ranks]
 *   off_abort          line[max_ranks]           (epoch, step, shape) that the source aborted
 *   off_header         header[C][max_ranks]      eepk_source_header + uint32 counts[num_slots]
 *   off_list           entry[C][max_ranks][T][K] where each (token, k) goes in this rank
 *   off_dispatch       row[C][max_ranks][T]      a token once per destination rank
 *   off_combine        row[C][T][K]              home-indexed: written by whoever computed it
 *
 * T is the most tokens of a chunk, over all shapes (eep/shapes.h).
 *
 * A chain is one micro-batch of a step: dispatch and combine of each layer, in order. All that it
 * writes is its own (rule P4), and is there once: a source stores a chain's next dispatch after it
 * has this rank's combine tag, and its next combine after this rank's next dispatch tag. */
#ifndef EEPK_TABLE_LAYOUT_H
#define EEPK_TABLE_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EEPK_LINE_BYTES = 128,
    EEPK_SEAT_WORDS = 16, /* bits for EEP_MAX_RANKS seats */
    EEPK_NO_SLOT = 0xffff,
    EEPK_ROUTE_WARPS = 32, /* most warps of the route node */
    EEPK_MAX_CHAINS = 2,
    EEPK_WINDOW_MAGIC = 0x45455057,
    EEPK_COLOURS = 2,       /* of windows: the present view's, and the next fault view's */
    EEPK_MEMORIES_KEPT = 3, /* of one colour: in use, in the newest document, to come */
};

/* ------------------------------------------------------------------ tags (rules D1, P6)
 * 63      44 43        14 13        2 1    0
 * | epoch  |  step       | exchange | phase |   truncated; compared for equality, and serially
 * The exchange's bits number those of all shapes (eepk_exchange_number), so a tag names shape,
 * layer, chunk and chain.
 *
 * Abort words: a source gave up that step, and knows that a rank has begun it with that shape.
 * 63      44 43                 3 2      0
 * | epoch  |  step               | 1 + shape | */
enum {
    EEPK_TAG_EPOCH_BITS = 20,
    EEPK_TAG_STEP_BITS = 30,
    EEPK_TAG_STEP_AT = 14,
    EEPK_TAG_EXCHANGE_BITS = 12,
    EEPK_ABORT_STEP_BITS = 41,
    EEPK_ABORT_STEP_AT = 3,
    EEPK_PHASE_DISPATCH = 1,
    EEPK_PHASE_COMBINE = 2,
    EEPK_MAX_SHAPES = 4,
};
/* Which exchange of a step. */
typedef struct eepk_exchange_at {
    uint32_t layer, chain, phase, chunk;
} eepk_exchange_at;

#if defined(__CUDACC__)
#define EEPK_LAYOUT_FN __host__ __device__ __forceinline__ static
#else
#define EEPK_LAYOUT_FN static inline
#endif

EEPK_LAYOUT_FN uint64_t eepk_tag(uint64_t epoch, uint64_t step, uint32_t exchange, uint32_t phase)
{
    return epoch << 44 | (step & ((1ull << EEPK_TAG_STEP_BITS) - 1)) << EEPK_TAG_STEP_AT |
           (uint64_t)(exchange & ((1u << EEPK_TAG_EXCHANGE_BITS) - 1u)) << 2 | phase;
}
EEPK_LAYOUT_FN uint32_t eepk_tag_exchange(uint64_t tag)
{
    return (uint32_t)(tag >> 2) & ((1u << EEPK_TAG_EXCHANGE_BITS) - 1u);
}
/* a - b for truncated step numbers: negative, zero or positive, right across a wrap. */
EEPK_LAYOUT_FN int64_t eepk_tag_step_after(uint64_t tag, uint64_t step)
{
    return (int64_t)(((tag >> EEPK_TAG_STEP_AT) - step) << (64 - EEPK_TAG_STEP_BITS)) >>
           (64 - EEPK_TAG_STEP_BITS);
}
/* Of abort words; eepk_tag_epoch_after is for both. Never 0. */
EEPK_LAYOUT_FN uint64_t eepk_abort_word_of(uint64_t epoch, uint64_t step, uint32_t shape)
{
    return epoch << 44 | (step & ((1ull << EEPK_ABORT_STEP_BITS) - 1)) << EEPK_ABORT_STEP_AT |
           (1u + shape);
}
EEPK_LAYOUT_FN int64_t eepk_abort_step_after(uint64_t word, uint64_t step)
{
    return (int64_t)(((word >> EEPK_ABORT_STEP_AT) - step) << (64 - EEPK_ABORT_STEP_BITS)) >>
           (64 - EEPK_ABORT_STEP_BITS);
}
EEPK_LAYOUT_FN uint32_t eepk_abort_shape(uint64_t word)
{
    return ((uint32_t)word & ((1u << EEPK_ABORT_STEP_AT) - 1u)) - 1u;
}
EEPK_LAYOUT_FN int64_t eepk_tag_epoch_after(uint64_t tag, uint64_t epoch)
{
    return (int64_t)(((tag >> 44) - epoch) << (64 - EEPK_TAG_EPOCH_BITS)) >>
           (64 - EEPK_TAG_EPOCH_BITS);
}
/* The full step number that a tag near `step` stands for. */
EEPK_LAYOUT_FN uint64_t eepk_tag_step_near(uint64_t tag, uint64_t step)
{
    return step + (uint64_t)eepk_tag_step_after(tag, step);
}

/* ------------------------------------------------------------------ window */
typedef struct eepk_line {
    uint64_t word;
    uint64_t pad[15];
} eepk_line;
static_assert(sizeof(eepk_line) == EEPK_LINE_BYTES, "a tag has its line to itself");

/* A robust futex that the kernel marks, and of which it wakes a waiter, when its owner ends. */
typedef struct eepk_bell_word {
    uint32_t futex, unused;
} eepk_bell_word;
enum { EEPK_BELL_WORDS = 8, EEPK_WINDOW_VERSION = 4 };

typedef struct eepk_window_header {
    uint32_t magic, version;
    uint32_t seat, generation;
    uint64_t bytes;
    /* host side: serial << 32 | descriptor + 1 of each memory that the owner has; 0: none */
    uint64_t memory[EEPK_COLOURS][EEPK_MEMORIES_KEPT];
    int32_t collective_fd; /* host side: the owner's descriptor of its memory for collectives */
    uint32_t pad0[13];
    uint64_t heartbeat_ns; /* CLOCK_MONOTONIC of the owner's last beat */
    uint64_t beats;
    uint64_t busy_until_ns; /* CLOCK_MONOTONIC: the owner said that it does not answer until then */
    uint64_t warning;       /* by a peer that is about to kill the owner: eepi_warning_of */
    uint64_t warning_heard; /* the owner's thread has logged that one */
    uint64_t pad1[3];
    eepk_bell_word bell[EEPK_BELL_WORDS]; /* rings when the owner's process begins to end: bell.h */
    uint32_t doorbell;                    /* host backend: rung after tags were published */
    uint32_t waiters;
    uint64_t pad2[15];
} eepk_window_header;
static_assert(sizeof(eepk_window_header) == 3 * EEPK_LINE_BYTES, "three lines");
static_assert(offsetof(eepk_window_header, heartbeat_ns) == 128, "own line");
static_assert(offsetof(eepk_window_header, doorbell) == 256, "own line");
static_assert(offsetof(eepk_window_header, waiters) == 260, "host_wait.c finds it there");

typedef struct eepk_source_header {
    uint64_t flip_digest; /* layer 0: digest of the committed view this source knows of (rule M3) */
    uint32_t num_tokens;
    uint32_t wanted_shape; /* first exchange: of steps from the next one on (rule P6) */
} eepk_source_header;      /* followed by uint32_t counts[num_slots] */

typedef struct eepk_list_entry {
    uint16_t slot; /* EEPK_NO_SLOT: this (token, k) does not come here */
    uint16_t ordinal;
} eepk_list_entry;

/* A shape that a step may have (eep/shapes.h). All have the same layout: no shape moves anything.
 */
typedef struct eepk_step_shape {
    uint32_t chunk_tokens, num_chunks;
    uint32_t first_exchange; /* its exchanges are numbered from there on */
    uint32_t pad;
} eepk_step_shape;

/* Sizes and offsets; constants of a context. */
typedef struct eepk_shape {
    uint32_t max_ranks, num_layers, num_experts, num_slots;
    uint32_t top_k, hidden, num_max_tokens, dtype; /* tokens: of a chunk; dtype: eep_dtype */
    uint32_t row_bytes, header_bytes;
    uint32_t dispatch_row_bytes; /* in windows: row_bytes; with FP8 the values, then the scales */
    uint32_t num_scales;         /* per row, one for EEP_FP8_GROUP channels; 0: no FP8 */
    uint32_t num_chains, num_shapes;
    uint32_t scale_powers; /* scales are powers of two */
    uint32_t pad;
    eepk_step_shape shapes[EEPK_MAX_SHAPES];
    uint64_t off_dispatch_tag, off_combine_tag, off_abort, off_header, off_list;
    uint64_t off_dispatch, off_combine, window_bytes;
    uint64_t bank_off_generation, bank_off_peer, bank_off_first, bank_off_replica;
    uint64_t bank_off_slot_expert, bank_bytes;
    uint32_t rows_capacity, self;
    uint32_t num_queues, ring_slots; /* rings of this rank (ring_layout.h), and slots of each */
} eepk_shape;

/* ------------------------------------------------------------------ banks (rules T1-T4)
 *   eepk_bank_header
 *   uint32_t generation[max_ranks]
 *   eepk_peer peer[max_ranks]                          how each member's window of the view's
 *                                                      colour is reached, the own one too
 *   uint32_t first[num_layers][num_experts + 1]        replicas of e: first[e] .. first[e+1]
 *   eepk_replica replica[num_layers][max_ranks * num_slots]
 *   uint16_t slot_expert[num_layers][max_ranks * num_slots]   what each slot holds, by physical id:
 *                                                      a logical expert, or EEPK_NO_EXPERT_HERE
 * The replicas are this rank's own: what is near is preferred as far as shares allow it. */
typedef struct eepk_bank_header {
    uint64_t epoch, digest;
    uint32_t colour, num_active; /* colour: of the windows that it names */
    uint64_t active[EEPK_SEAT_WORDS];
    uint32_t num_proxies, pad; /* members of kind EEPK_PEER_PROXY */
    uint64_t placement;        /* names all of slot_expert (rule P12); never 0 */
} eepk_bank_header;
enum { EEPK_NO_EXPERT_HERE = 0xffff }; /* the slot is empty, being filled, or of no member */
/* How this rank's kernels reach a peer's window (must 11). Only graphs/kernels/peer_puts.h looks
 * into it. */
enum {
    EEPK_PEER_NONE = 0, /* not at all: no member, or this rank has not mapped it */
    EEPK_PEER_LOCAL,    /* by stores to an address here */
    EEPK_PEER_PROXY,    /* by a ring that a host thread empties */
};
typedef struct eepk_peer {
    uint64_t address;     /* LOCAL: of its window here, else 0 */
    uint64_t key;         /* what a network interface asks for beside an address; else 0 */
    uint32_t kind, queue; /* queue: PROXY: which of this rank's rings */
} eepk_peer;
enum { EEPK_PEER_WORDS = sizeof(eepk_peer) / sizeof(uint64_t) };
static_assert(sizeof(eepk_peer) % sizeof(uint64_t) == 0, "addresses lie whole words apart");
/* Where this rank sends an expert's tokens. Of 65536 parts of them, `from` go to the replicas
 * before this one, so the first one's is 0. A replica that gets none of this rank's is not listed.
 */
typedef struct eepk_replica {
    uint16_t seat, slot, from, pad;
} eepk_replica;
static_assert(sizeof(eepk_replica) == 8, "one load");

/* ------------------------------------------------------------------ control */

/* How a step ended on the device. */
enum {
    EEPK_STEP_OK = 0,
    EEPK_STEP_DEADLINE,    /* suspects: peers whose tag did not come */
    EEPK_STEP_PEER_ABORT,  /* a peer aborted this step */
    EEPK_STEP_HOST_ABORT,  /* abort_step reached this step */
    EEPK_STEP_JUMP,        /* a peer is at a higher step */
    EEPK_STEP_NEWER_EPOCH, /* a peer serves a newer view */
    EEPK_STEP_STALE,       /* a tag changed under a read, or a list broke its bounds */
    EEPK_STEP_WRONG_BANK,  /* the live bank is not of the epoch the host expects (rule T3) */
    EEPK_STEP_PART,        /* what ran is not all chains' and layers' nodes, in order */
    EEPK_STEP_AGAIN,       /* a step with this number has run already (rule D5) */
    EEPK_STEP_NO_ROOM,     /* a ring has no room for what an exchange sends (rule N5) */
    EEPK_STEP_SHAPE,       /* a peer runs this step with another shape (rule P6) */
    EEPK_STEP_OTHER_GRAPH, /* the graph that was replayed is of another shape than the step */
};
enum { /* bad_input */
       EEPK_INPUT_OK = 0,
       EEPK_INPUT_TOPK = 1,      /* expert id out of range: token, k, value */
       EEPK_INPUT_TOKENS = 2,    /* num_tokens out of range: value */
       EEPK_INPUT_UNCOVERED = 3, /* the expert has no replica: token, k, value */
       EEPK_INPUT_TWICE = 4,     /* the token named the expert before: token, k, value */
       EEPK_INPUT_PLACEMENT = 5, /* ids of another placement than the bank's: bad_placement (P12) */
       EEPK_INPUT_NO_SEAT = 6,   /* a physical id of a seat that is not active: token, k, value */
       EEPK_INPUT_NO_EXPERT = 7, /* a physical id of a slot that holds none: token, k, value */
       EEPK_INPUT_BITS = 3
};

/* Written by the host before a replay, read by the latch node only. Pinned memory. */
typedef struct eepk_launch {
    uint64_t step, epoch;
    uint64_t announce_digest; /* committed planned view to announce in layer 0; 0: none */
    uint64_t wait_ns;         /* longest wait of one exchange */
    uint64_t wants_loads;     /* 1: each layer's loads go out to pinned memory in this step */
    uint64_t shape;           /* of this step */
    uint64_t wanted_shape;    /* of later ones, as far as this rank is concerned */
} eepk_launch;

/* Written by the last node, `done_step` last, with release (partner: host acquire). Pinned. */
typedef struct eepk_status {
    uint64_t done_step;
    uint32_t result;       /* EEPK_STEP_* */
    uint32_t layer, phase; /* where it ended */
    uint32_t bad_input, bad_token, bad_k;
    int32_t bad_value;
    uint32_t bad_layer;
    uint64_t num_bad;   /* tokens of that layer that are bad, however often each is */
    uint32_t last_seat; /* whom the longest wait was for */
    uint64_t longest_wait_ns;
    uint64_t jump_step;   /* JUMP, NEWER_EPOCH: the peer's step */
    uint64_t flip_digest; /* OR of what all members announced */
    uint64_t stale_dropped;
    uint64_t suspects[EEPK_SEAT_WORDS];
    uint64_t began_step; /* stored by the first node at once */
    uint32_t num_nodes;  /* halves that ran in order: EEPK_NODES_PER_LAYER per layer and chain */
    uint32_t chain;      /* where it ended, beside layer and phase */
    uint32_t bad_chain, bad_chunk;
    uint64_t bad_placement; /* what the ids were made under */
    uint32_t chunk;         /* where it ended, beside layer, phase and chain */
    uint32_t max_tokens;    /* of a chunk of this step */
    uint64_t seen_shape;    /* the largest with which a rank has begun this step */
    uint64_t wanted_shape;  /* the largest that a member wants */
} eepk_status;

/* The halves of a chain's layer, in their order. */
enum {
    EEPK_NODE_DISPATCH_SEND,
    EEPK_NODE_DISPATCH_RECEIVE,
    EEPK_NODE_COMBINE_SEND,
    EEPK_NODE_COMBINE_RECEIVE,
    EEPK_NODES_PER_LAYER,
};
/* Where a chain is in the running step. */
typedef struct eepk_chain_state {
    uint32_t num_nodes;  /* halves that ran in order */
    uint32_t blocks_out; /* blocks of the running send that have stored all they store */
    uint64_t placed;     /* rows that unpack placed in this layer: all, or a list was torn */
} eepk_chain_state;

/* The running step, device memory; written by the latch, by exchanges, and raised by re-checks. */
typedef struct eepk_latch {
    uint64_t step, epoch, announce_digest, wait_ns, wants_loads;
    uint32_t shape, wanted_shape; /* rule P6 */
    uint32_t bank;
    uint32_t aborted; /* sticky for the rest of the step (rules D3, P3) */
    eepk_chain_state chain[EEPK_MAX_CHAINS];
    uint64_t completed;    /* the last step that ended well here; words say so (rule N3) */
    uint64_t longest_wait; /* ns << 10 | for whom: one word, since each lane waits by itself */
    eepk_status status;    /* collected here, copied out by the finish node */
} eepk_latch;

typedef struct eepk_control {
    uint32_t live_bank; /* the flip: one word */
    uint32_t pad;
    uint64_t flip_refused; /* flips whose bank did not match (rule T3) */
    eepk_latch latch;
} eepk_control;

typedef struct eepk_route {
    uint16_t seat, slot, ordinal;
    uint16_t pad;
} eepk_route;
typedef struct eepk_origin {
    uint16_t seat, token, k;
    uint16_t stamp; /* eepk_stamp of the dispatch that wrote it */
} eepk_origin;

/* What one seat's tag lines held at this rank's last look at them (rule D6). Device memory, not
 * peer-writable. All zero before the first look: no view has epoch 0. */
typedef struct eepk_seen {
    uint64_t epoch;                   /* under which that look was */
    uint64_t tag[2][EEPK_MAX_CHAINS]; /* [EEPK_PHASE_* - 1][chain] */
} eepk_seen;

/* What a chain keeps from node to node (rule P4). Device memory. */
typedef struct eepk_scratch {
    eepk_route *route;        /* [T][K] */
    uint32_t *send_count;     /* [max_ranks][num_slots] */
    uint32_t *share_begin;    /* [max_ranks * num_slots] */
    uint32_t *expert_count;   /* [EEPK_ROUTE_WARPS][most of num_experts, max_ranks * num_slots] */
    uint64_t *first_bad;      /* [1] */
    uint32_t *receive_count;  /* [max_ranks][num_slots]: the copy of rule D2 */
    uint32_t *receive_base;   /* [max_ranks][num_slots]: first packed row */
    uint32_t *receive_tokens; /* [max_ranks] */
    eepk_origin *origin;      /* [rows_capacity] */
    /* row_forms.h: rows as if no place between them were free, and where they are */
    int32_t *dense_begin;   /* [num_slots + 1] */
    uint32_t *slot_shift;   /* [num_slots] */
    uint32_t *own_position; /* [num_slots] the first of this rank's own rows */
    int32_t *ids;           /* [T][K] ids that came as int64 */
} eepk_scratch;

/* All addresses of a context that kernels use, itself in device memory. They are fixed for its
 * life, but for the window: a flip sets it to that of the bank. */
typedef struct eepk_world {
    eepk_shape shape;
    eepk_control *control;
    uint8_t *bank[2];
    const eepk_launch *launch;
    const uint64_t *abort_step;
    eepk_status *status;
    uint8_t *window; /* own, of the live bank's colour */
    eepk_scratch scratch[EEPK_MAX_CHAINS];
    eepk_seen *seen;      /* [max_ranks] */
    uint64_t *waiting_ns; /* [max_ranks] when each came in the running wait; all ones: not yet */
    uint64_t *waited_ns;  /* [max_ranks] for each source, ever */
    uint64_t *waited_out; /* the same, pinned */
    uint64_t *loads;      /* [num_layers][num_experts] tokens of this rank for each expert, ever */
    uint64_t *loads_out;  /* the same, pinned: eepk_launch.wants_loads */
    struct eepk_queue *queue; /* [num_queues], device memory */
    int32_t *active_mask;     /* [max_ranks] 1: active in the bank of the latch */
} eepk_world;

/* A token's experts are distinct, so it has at most this many rows on one rank. */
EEPK_LAYOUT_FN uint32_t eepk_rows_per_token(const eepk_shape *s)
{
    return s->top_k < s->num_slots ? s->top_k : s->num_slots;
}
/* A chain's layer goes in chunks, one after the other: which of the chain's turns it is. */
EEPK_LAYOUT_FN uint32_t eepk_turn(const eepk_shape *s, uint32_t shape, eepk_exchange_at at)
{
    return at.layer * s->shapes[shape].num_chunks + at.chunk;
}
/* As tags and stamps name it, whatever the phase. */
EEPK_LAYOUT_FN uint32_t eepk_exchange_number(const eepk_shape *s, uint32_t shape,
                                             eepk_exchange_at at)
{
    return s->shapes[shape].first_exchange + eepk_turn(s, shape, at) * s->num_chains + at.chain;
}
EEPK_LAYOUT_FN uint32_t eepk_num_exchanges(const eepk_shape *s)
{
    const eepk_step_shape *last = &s->shapes[s->num_shapes - 1];

    return last->first_exchange + last->num_chunks * s->num_layers * s->num_chains;
}
EEPK_LAYOUT_FN uint64_t eepk_tag_at(const eepk_shape *s, uint64_t epoch, uint64_t step,
                                    uint32_t shape, eepk_exchange_at at)
{
    return eepk_tag(epoch, step, eepk_exchange_number(s, shape, at), at.phase);
}
/* The shape of the step that a tag is of. */
EEPK_LAYOUT_FN uint32_t eepk_tag_shape(const eepk_shape *s, uint64_t tag)
{
    uint32_t shape = s->num_shapes - 1;

    while (shape > 0 && eepk_tag_exchange(tag) < s->shapes[shape].first_exchange) {
        shape--;
    }
    return shape;
}
/* Tells what one dispatch wrote into scratch from what earlier ones left there. */
EEPK_LAYOUT_FN uint16_t eepk_stamp(const eepk_shape *s, uint64_t step, uint32_t shape,
                                   eepk_exchange_at at)
{
    return (uint16_t)(step * eepk_num_exchanges(s) + eepk_exchange_number(s, shape, at));
}
EEPK_LAYOUT_FN uint64_t *eepk_dispatch_tag(const eepk_shape *s, uint8_t *window, uint32_t chain,
                                           uint32_t source)
{
    return (uint64_t *)(window + s->off_dispatch_tag +
                        ((uint64_t)chain * s->max_ranks + source) * EEPK_LINE_BYTES);
}
EEPK_LAYOUT_FN uint64_t *eepk_combine_tag(const eepk_shape *s, uint8_t *window, uint32_t chain,
                                          uint32_t source)
{
    return (uint64_t *)(window + s->off_combine_tag +
                        ((uint64_t)chain * s->max_ranks + source) * EEPK_LINE_BYTES);
}
EEPK_LAYOUT_FN uint64_t eepk_phase_tag_offset(const eepk_shape *s, uint32_t phase, uint32_t chain,
                                              uint32_t source)
{
    return (phase == EEPK_PHASE_DISPATCH ? s->off_dispatch_tag : s->off_combine_tag) +
           ((uint64_t)chain * s->max_ranks + source) * EEPK_LINE_BYTES;
}
EEPK_LAYOUT_FN uint64_t *eepk_phase_tag(const eepk_shape *s, uint8_t *window, uint32_t phase,
                                        uint32_t chain, uint32_t source)
{
    return phase == EEPK_PHASE_DISPATCH ? eepk_dispatch_tag(s, window, chain, source)
                                        : eepk_combine_tag(s, window, chain, source);
}
EEPK_LAYOUT_FN uint64_t eepk_abort_offset(const eepk_shape *s, uint32_t source)
{
    return s->off_abort + (uint64_t)source * EEPK_LINE_BYTES;
}
EEPK_LAYOUT_FN uint64_t *eepk_abort_word(const eepk_shape *s, uint8_t *window, uint32_t source)
{
    return (uint64_t *)(window + eepk_abort_offset(s, source));
}
EEPK_LAYOUT_FN uint64_t eepk_header_offset(const eepk_shape *s, uint32_t chain, uint32_t source)
{
    return s->off_header + ((uint64_t)chain * s->max_ranks + source) * s->header_bytes;
}
EEPK_LAYOUT_FN eepk_source_header *eepk_header(const eepk_shape *s, uint8_t *window, uint32_t chain,
                                               uint32_t source)
{
    return (eepk_source_header *)(window + eepk_header_offset(s, chain, source));
}
EEPK_LAYOUT_FN uint64_t eepk_list_offset(const eepk_shape *s, uint32_t chain, uint32_t source,
                                         uint32_t token)
{
    return s->off_list + (((uint64_t)chain * s->max_ranks + source) * s->num_max_tokens + token) *
                             s->top_k * sizeof(eepk_list_entry);
}
EEPK_LAYOUT_FN eepk_list_entry *eepk_list(const eepk_shape *s, uint8_t *window, uint32_t chain,
                                          uint32_t source, uint32_t token)
{
    return (eepk_list_entry *)(window + eepk_list_offset(s, chain, source, token));
}
EEPK_LAYOUT_FN uint64_t eepk_dispatch_row_offset(const eepk_shape *s, uint32_t chain,
                                                 uint32_t source, uint32_t token)
{
    return s->off_dispatch +
           (((uint64_t)chain * s->max_ranks + source) * s->num_max_tokens + token) *
               s->dispatch_row_bytes;
}
EEPK_LAYOUT_FN uint8_t *eepk_dispatch_row(const eepk_shape *s, uint8_t *window, uint32_t chain,
                                          uint32_t source, uint32_t token)
{
    return window + eepk_dispatch_row_offset(s, chain, source, token);
}
/* The scales of a row that was quantised, behind its values. */
EEPK_LAYOUT_FN uint32_t eepk_scales_at(const eepk_shape *s)
{
    return (s->hidden + 15u) / 16u * 16u;
}
EEPK_LAYOUT_FN float *eepk_row_scales(const eepk_shape *s, uint8_t *row)
{
    return (float *)(row + eepk_scales_at(s));
}
EEPK_LAYOUT_FN uint64_t eepk_combine_row_offset(const eepk_shape *s, uint32_t chain, uint32_t token,
                                                uint32_t k)
{
    return s->off_combine +
           (((uint64_t)chain * s->num_max_tokens + token) * s->top_k + k) * s->row_bytes;
}
EEPK_LAYOUT_FN uint8_t *eepk_combine_row(const eepk_shape *s, uint8_t *window, uint32_t chain,
                                         uint32_t token, uint32_t k)
{
    return window + eepk_combine_row_offset(s, chain, token, k);
}
EEPK_LAYOUT_FN const eepk_peer *eepk_peers(const eepk_shape *s, const uint8_t *bank)
{
    return (const eepk_peer *)(bank + s->bank_off_peer);
}
/* Addresses here of all seats' windows, EEPK_PEER_WORDS apart: [max_ranks]. */
EEPK_LAYOUT_FN const uint64_t *eepk_windows(const eepk_shape *s, const uint8_t *bank)
{
    return &eepk_peers(s, bank)->address;
}
/* This rank's own window, of the view's colour. */
EEPK_LAYOUT_FN uint8_t *eepk_own_window(const eepk_shape *s, const uint8_t *bank)
{
    return (uint8_t *)(uintptr_t)eepk_peers(s, bank)[s->self].address;
}
EEPK_LAYOUT_FN const uint32_t *eepk_replica_first(const eepk_shape *s, const uint8_t *bank,
                                                  uint32_t layer)
{
    return (const uint32_t *)(bank + s->bank_off_first) + (uint64_t)layer * (s->num_experts + 1);
}
EEPK_LAYOUT_FN const eepk_replica *eepk_replicas(const eepk_shape *s, const uint8_t *bank,
                                                 uint32_t layer)
{
    return (const eepk_replica *)(bank + s->bank_off_replica) +
           (uint64_t)layer * s->max_ranks * s->num_slots;
}
/* What each slot of the layer holds, by physical id (seat * num_slots + slot). */
EEPK_LAYOUT_FN const uint16_t *eepk_slot_experts(const eepk_shape *s, const uint8_t *bank,
                                                 uint32_t layer)
{
    return (const uint16_t *)(bank + s->bank_off_slot_expert) +
           (uint64_t)layer * s->max_ranks * s->num_slots;
}
EEPK_LAYOUT_FN int eepk_is_active(const uint8_t *bank, uint32_t seat)
{
    return (int)(((const eepk_bank_header *)bank)->active[seat / 64] >> (seat % 64) & 1u);
}
#endif
