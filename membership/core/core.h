/* SPDX-License-Identifier: Apache-2.0 */
/* The membership core of one rank: a pure state machine (must 5).
 *
 * Inputs say what was observed (register, peers' records, evidence, the rank's own progress, the
 * time); actions say what to do. No clock, socket, thread, device or random number: the service
 * thread of a context (membership/service/service.c) and a simulator drive the same code. Rules in
 * the comments are those of docs/PROTOCOL.md. */
#ifndef EEPI_CORE_H
#define EEPI_CORE_H

#include "eep/shapes.h"
#include "membership/view/view.h"
#include "membership/view/wishes.h"
#include "repair/link_costs.h"

enum { EEPI_NUM_FAULT_KINDS = EEP_FAULT_GROUP + 1 };

enum { EEPI_CORE_MAX_ACTIONS = 64, EEPI_CORE_WHY_BYTES = 256 };

typedef struct eepi_core_config {
    int32_t seat;
    uint32_t generation;
    int32_t num_ranks; /* ranks of the first view: seats 0 .. num_ranks-1 */
    uint64_t propose_delay_us;
    uint64_t drain_bound_us;
    uint64_t stage_bound_us;      /* a plan that is not acknowledged by then is dropped */
    uint64_t missed_window_steps; /* a second missed deadline within so many steps counts */
    /* Rule P8: nothing of a process stores any more once its memory is gone (host memory). On a
     * device that outlives the process its end proves nothing. */
    bool end_is_proof;
    uint64_t background_delay_us; /* after a change of members, before slots are moved */
    bool background;              /* restore redundancy and balance behind live traffic */
    bool kill_fence;
    uint64_t host;       /* of this rank, as in its member record (rule N9) */
    bool beats_are_told; /* EEPI_INPUT_ALIVE comes with the first beat of another host's rank */
    bool store_keeps;    /* the store never forgets what it has answered for (rule N19) */
    eepi_view_shape shape;
} eepi_core_config;

enum eepi_leaving {
    EEPI_LEAVES = 1,        /* this rank wants out */
    EEPI_LEAVES_AS_LAST = 2 /* all are to leave: the instance ends */
};

/* What a rank tells of itself through the store; see records.h for its wire form. */
typedef struct eepi_member {
    int32_t seat;
    uint32_t generation;
    uint8_t ready;             /* weights in, graph captured: may be let in */
    uint8_t leaving;           /* asked to be let out: bits of eepi_leaving */
    const int32_t *experts;    /* [num_layers][num_slots], what its slots hold; -1: empty */
    const uint64_t *checksums; /* [num_layers][num_slots] of these weights */
    const uint64_t *backup;    /* [num_layers][words of num_experts]: host copies it can read */
    const uint64_t
        *tensor_bytes;      /* [EEP_MAX_TENSORS] of an expert, 0 behind the last; NULL: none */
    const uint32_t *rates;  /* [EEPI_NUM_RATES] of its links; NULL: unknown */
    bool has_checkpoint;    /* it can read every expert from a file */
    const uint64_t *claims; /* [num_layers] eepi_view_claim_digest of `backup`; NULL: no backups */
    uint64_t order_number, order_digest;      /* of the placement it was given before; 0: none */
    uint64_t sequence_digest[EEP_MAX_SHAPES]; /* how its chains mix in each (rule P5); 0: there is
                                               * no such shape */
    uint64_t host;                            /* where it runs, from eepi_host_id (rule N9) */
    bool follows_lapse; /* the holder before it was in no view, and its lease lapsed (rule N21) */
} eepi_member;

typedef struct eepi_suspect {
    int32_t seat;
    uint32_t generation;
    int32_t kind; /* eep_fault_kind */
} eepi_suspect;

/* A promise (rule M2): no launch, store or placement under `epoch` or an earlier one again. */
typedef struct eepi_report {
    int32_t seat;
    uint32_t generation;
    uint64_t epoch;
    uint64_t highest_step; /* started by this rank, ever */
    int32_t num_suspects;
    const eepi_suspect *suspects;
    uint64_t collective; /* the newest that has ended, as this rank knows (rule P13); */
    uint64_t held;       /* up to this one it holds all contributions for good; not below it */
} eepi_report;

/* A member has stopped under `epoch`: nobody completes a step of it any more. Told to all, once. */
typedef struct eepi_wedge {
    int32_t seat;
    uint32_t generation;
    uint64_t epoch;
    eepi_suspect cause; /* for observers; kind -1: none of its own */
} eepi_wedge;

typedef enum eepi_ack_kind {
    EEPI_ACK_STAGED = 1,  /* the planned view is in the idle bank */
    EEPI_ACK_FILLED = 2,  /* this rank's FILLING slots hold verified weights */
    EEPI_ACK_FLIPPED = 3, /* a step under this epoch ended OK here */
} eepi_ack_kind;
typedef struct eepi_ack {
    int32_t seat;
    uint32_t generation;
    int32_t kind;
    uint64_t epoch, digest;
} eepi_ack;

/* The end of a process, told to all. */
typedef enum eepi_end_kind {
    EEPI_END_PROCESS = 1, /* somebody saw its whole end */
    EEPI_END_STORES = 2,  /* its own last word: it stores nothing any more, though it may live on */
} eepi_end_kind;
typedef struct eepi_end {
    int32_t seat;
    uint32_t generation;
    int32_t kind;
} eepi_end;

typedef enum eepi_input_kind {
    EEPI_INPUT_TICK,         /* time passed; step: begun by this rank, 0: none is known */
    EEPI_INPUT_VIEW,         /* view, revision: the register as somebody read it */
    EEPI_INPUT_VIEW_MISSING, /* the register is empty */
    EEPI_INPUT_STORE_LOST,   /* what the store holds will all be told anew, if it holds it still */
    EEPI_INPUT_CAS_DONE,     /* won: the document is in, at `revision` */
    EEPI_INPUT_CAS_UNKNOWN,  /* no answer: it may or may not be in */
    EEPI_INPUT_MEMBER,       /* member */
    EEPI_INPUT_WEDGE,        /* wedge: as the store has it */
    EEPI_INPUT_REPORT,       /* report */
    EEPI_INPUT_ACK,          /* ack */
    EEPI_INPUT_PLAN,         /* view: a plan to stage */
    EEPI_INPUT_EXIT,         /* end: as somebody told it */
    EEPI_INPUT_LISTENS,      /* all reports and acknowledgements that the store has were told */
    EEPI_INPUT_REPORTED,     /* step: the store has acknowledged this rank's newest report, of that
                              * epoch */
    EEPI_INPUT_EVIDENCE,     /* suspect: seen by this rank; EEP_FAULT_EXIT: the first sign */
    EEPI_INPUT_MEMORY_GONE,  /* suspect.seat, .generation: this rank saw that the process has no
                              * memory any more: where end_is_proof that ends its stores */
    EEPI_INPUT_ENDED,        /* suspect.seat, .generation: this rank saw its whole end */
    EEPI_INPUT_ALIVE,        /* suspect.seat, .generation: a fresh heartbeat */
    EEPI_INPUT_BUSY,         /* suspect.seat, .generation: by its own word, for `step` us more */
    EEPI_INPUT_NOT_KILLED,   /* suspect.seat, .generation: EEPI_ACTION_KILL did not reach it */
    EEPI_INPUT_ACCUSED,      /* seats: missed a step's deadline here; step */
    EEPI_INPUT_BLOCKED,      /* seats: what this rank has put for them was not taken for as long as
                              * a step's deadline (rule N16); before DRAINED */
    EEPI_INPUT_DRAINED,      /* step: the highest this rank has started; none is in flight;
                              * collective: the last that has ended, no other does now; held:
                              * to which this rank holds all contributions */
    EEPI_INPUT_STAGED,       /* digest: that view is in the idle bank */
    EEPI_INPUT_FLIPPED,      /* digest: that view is live here */
    EEPI_INPUT_FILLED,       /* digest: this rank's FILLING slots of that view are filled */
    EEPI_INPUT_LEAVE,        /* the engine wants out; step: EEPI_LEAVES_AS_LAST, or 0 */
    EEPI_INPUT_LOADS,        /* loads: what plans made from now on go by */
    EEPI_INPUT_ORDER,        /* order: a rank's engine gave that placement; won: this rank's, before
                              * it asked to be let in */
} eepi_input_kind;

typedef struct eepi_input {
    eepi_input_kind kind;
    uint64_t now_us;
    uint64_t revision, step, digest, collective, held;
    const eepi_view *view;
    const eepi_member *member;
    const eepi_report *report;
    const eepi_ack *ack;
    const uint64_t *seats; /* bit set of max_ranks seats */
    /* [num_layers][num_experts] tokens of late, in any unit that is the same within a layer. NULL:
     * nothing is known, and all experts count alike. */
    const uint32_t *loads;
    const eepi_order *order;
    eepi_suspect suspect;
    eepi_wedge wedge;
    eepi_end end;
    bool won;
} eepi_input;

typedef enum eepi_action_kind {
    EEPI_ACTION_WEDGE,      /* end the running step; then feed EEPI_INPUT_DRAINED */
    EEPI_ACTION_TELL_WEDGE, /* put `wedge`, unless a newer one is there */
    EEPI_ACTION_LISTEN,   /* list and watch reports and acknowledgements; then EEPI_INPUT_LISTENS */
    EEPI_ACTION_IGNORE,   /* watch them no more */
    EEPI_ACTION_REPORT,   /* put `report` */
    EEPI_ACTION_CAS,      /* write `view` if the register's revision is `revision` */
    EEPI_ACTION_READ,     /* read the register */
    EEPI_ACTION_PLAN,     /* put `view` for staging */
    EEPI_ACTION_STAGE,    /* write `view` into the idle bank; then EEPI_INPUT_STAGED */
    EEPI_ACTION_ACK,      /* put `ack` */
    EEPI_ACTION_INSTALL,  /* `view` is live from the next step on; serving may start */
    EEPI_ACTION_ANNOUNCE, /* `view` is committed: announce it in-band */
    EEPI_ACTION_FILL,     /* fill this rank's slots of `view`; then EEPI_INPUT_FILLED */
    EEPI_ACTION_CANCEL,   /* no transfer of an epoch below `epoch` may land any more */
    EEPI_ACTION_KILL,     /* kill the process of suspect */
    EEPI_ACTION_EXIT,     /* tell the others of `end` */
    EEPI_ACTION_MEMBER,   /* put the member record again, with leaving set */
    EEPI_ACTION_EVICTED,  /* serving is over for this process */
    EEPI_ACTION_DRAINED,  /* this rank has left as it asked */
    EEPI_ACTION_UNCOVERED, /* fail closed; `why` names the experts */
    EEPI_ACTION_REFUSED,   /* suspect's process may not join; `why` says the reason */
    EEPI_ACTION_SUSPECTED, /* for observers: suspect is new */
    EEPI_ACTION_EXPELLED,  /* for observers: `view` expelled suspect */
} eepi_action_kind;

/* Pointers stay valid until the next eepi_core_handle. */
typedef struct eepi_action {
    eepi_action_kind kind;
    const eepi_view *view;
    eepi_report report;
    eepi_ack ack;
    eepi_suspect suspect;
    eepi_end end;
    eepi_wedge wedge;
    uint64_t revision, epoch;
    const char *why;
} eepi_action;

typedef struct eepi_core eepi_core;

/* All memory is taken here; EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_core_open(const eepi_core_config *config, eepi_core **core_out);
void eepi_core_close(eepi_core *core);

/* Take one input; returns the actions, to be carried out in order, and their number. */
const eepi_action *eepi_core_handle(eepi_core *core, const eepi_input *input, int *num_actions_out);
/* When to feed a TICK at the latest; UINT64_MAX: not needed. */
uint64_t eepi_core_wake_us(const eepi_core *core);

/* The newest committed document that this rank knows; NULL before the first. */
const eepi_view *eepi_core_view(const eepi_core *core);
/* The first sign of that process's end was seen, and its whole end was not yet: whoever can look
 * should, and feed EEPI_INPUT_ENDED. */
bool eepi_core_awaits_end(const eepi_core *core, int seat, uint32_t generation);
/* The instance has ended in order: the newest document has no members. */
bool eepi_core_instance_has_ended(const eepi_core *core);
/* EEPI_ACTION_KILL was asked for that process, and nothing known since speaks against it: the next
 * view is still to leave it out, or one did, and its end is waited for. */
bool eepi_core_wants_killed(const eepi_core *core, int seat, uint32_t generation);
/* Evidence of that kind weighs more (rule M5); -1, none, weighs least. */
bool eepi_core_is_stronger(int kind, int than);
/* What became of what this rank's engine said of a process (rule P11): it is in the newest view;
 * nothing is decided yet; a view has decided, and kept it (0: none has). */
typedef struct eepi_verdict {
    bool is_in, waits;
    uint64_t kept_epoch;
} eepi_verdict;
eepi_verdict eepi_core_verdict(const eepi_core *core, int seat, uint32_t generation);
/* A seat whose process lives and has taken it since the newest document was made, and has not asked
 * to be let in yet; -1: there is none. */
int eepi_core_awaited_joiner(const eepi_core *core);
/* What this rank waits for before it may serve, in words: why it is not let in, or why the members
 * have not agreed on a view. Empty: nothing is known. */
void eepi_core_say_wait(const eepi_core *core, char *text_out, size_t bytes);
/* This rank serves, and would plan the next change of view. */
bool eepi_core_plans(const eepi_core *core);
/* This rank has stopped serving because of a fault. */
bool eepi_core_is_wedged(const eepi_core *core);
/* Experts that fault views covered without a byte, as far as this rank's slots are those that count
 * (membership/view/view_reuse.h). */
uint64_t eepi_core_num_reused(const eepi_core *core);
/* What the FILLING slots of the newest view move. */
typedef struct eepi_core_fills {
    int32_t num_own, num_remote, num_file; /* from the node's backup, another rank, the file */
    uint64_t longest_us;                   /* for so long the busiest link is, by what is known */
    uint64_t least_us;                     /* no plan takes less; 0: another rank has made it */
} eepi_core_fills;
void eepi_core_measure_fills(eepi_core *core, eepi_core_fills *fills_out);
/* One line for people: "rank 3 (generation 1) WEDGED epoch 7 installed 6 suspects 2 (generation
 * 1)". */
void eepi_core_print(const eepi_core *core, char *text_out, size_t bytes);
#endif
