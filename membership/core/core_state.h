/* What the files of the membership core share. */
#ifndef EEPI_CORE_STATE_H
#define EEPI_CORE_STATE_H

#include "graphs/kernels/table_layout.h"
#include "membership/core/core.h"
#include "repair/planner.h"

typedef enum core_status {
    CORE_OUTSIDE, /* not in the view yet */
    CORE_SERVING, /* installed some view; steps may run */
    CORE_WEDGED,  /* stopped: no step until a fault view is installed */
    CORE_LEAVING, /* out of the committed view by our own wish; helps until all have flipped */
    CORE_OVER,    /* evicted, drained, or the instance failed closed */
} core_status;

enum { NO_EVIDENCE = -1, NOBODY = -1, CORE_ROOM_KEPT = 16 };

/* What is known of a seat. */
typedef struct core_peer {
    /* its process's record */
    uint32_t generation; /* 0: no record */
    uint8_t ready, leaving;
    uint64_t plan_after_us; /* a joiner that let a plan lapse is not planned for before */
    int32_t *experts;
    uint64_t *checksums, *backup;
    uint64_t tensor_bytes[EEP_MAX_TENSORS]; /* 0 behind the last */
    /* evidence, void once (seat, generation) is not in the view (rule M5) */
    int32_t evidence;
    uint32_t evidence_generation;
    int32_t evidence_by; /* the seat that said so */
    /* Rule P8: the end of a process and the end of its stores are two facts. Each is of that
     * generation and all older ones; 0: none is known. */
    uint32_t exited; /* the first sign of its end was seen: it takes no further part */
    uint32_t gone;   /* its whole end was seen, at gone_us of our time */
    uint64_t gone_us;
    uint32_t stored;  /* its stores have ended: what they could reach is free */
    uint32_t passing; /* the oldest end whose margin runs, since passing_us; 0: none does */
    uint64_t passing_us;
    uint64_t busy_until_us; /* by its own word; of that generation: */
    uint32_t busy_generation;
    uint64_t killed_us; /* 0: not killed by us */
    uint32_t killed_generation;
    uint32_t unkillable_generation; /* no kill reaches it from here; 0: none is known */
    uint64_t strike_step;           /* first missed deadline; 0: none */
    uint32_t strike_generation;
    uint64_t left_epoch; /* planned view that let it go; 0: none */
    /* its newest report */
    uint32_t report_generation;
    uint64_t report_epoch, report_step;
    uint64_t report_accused[EEPK_SEAT_WORDS]; /* whom it accuses of missed deadlines */
    /* its newest acknowledgements */
    uint64_t staged_digest, filled_digest, flipped_digest;
} core_peer;

struct eepi_core {
    eepi_core_config config;
    core_status status;
    uint64_t now_us, wake_us;

    eepi_view *view;       /* newest committed document known, */
    uint64_t revision;     /* and its revision in the register */
    int register_was_read; /* on this connection to the store */
    /* The store was lost after we had acknowledged or promised something: it may have become a
     * document that we do not know of, and that the store forgot. Its epoch is not used again. */
    int in_doubt;         /* how often since the newest document that we know */
    uint64_t tried_epoch; /* newest one that we have proposed, or staged */
    int has_view, was_member, register_lags;
    uint64_t installed_epoch, announced_digest;

    eepi_view *plan; /* staged or to be staged: on top of `view`, where has_plan */
    int has_plan, stage_asked;
    uint64_t plan_us;

    /* background repair */
    uint64_t fill_digest;         /* FILLING slots of that document were asked for */
    uint64_t fill_us;             /* when that document was seen */
    uint64_t background_after_us; /* nothing is moved before */
    int32_t examined_layers;      /* layers below need nothing as long as the members stay */

    eepi_view *draft;       /* ours, on its way into the register */
    eepi_plan_table *table; /* the planner's */
    int cas_in_flight;

    int drained, leaving, uncovered;
    uint64_t highest_step, wedged_us, reported_epoch, reported_suspects;
    uint64_t drain_from_us;   /* the others' drain bound counts from here */
    uint64_t suspected_epoch; /* newest one under which a member reported that it suspects us */
    uint64_t flipped_digest;  /* what this rank runs, perhaps before the register told */
    uint64_t ready_us;        /* when all ranks of the first view were seen ready */

    core_peer *peers;
    eepi_suspect *suspects; /* scratch of a report */
    eepi_action actions[EEPI_CORE_MAX_ACTIONS];
    int num_actions;
    eepi_action dropped;
    char why[EEPI_CORE_WHY_BYTES];
};

/* Append an action; never NULL: the capacity is asserted. */
eepi_action *eepi_core_act(eepi_core *core, eepi_action_kind kind);
/* 1 while there is room for one action per seat more: what a round must say fits behind. */
int eepi_core_has_room(const eepi_core *core);
/* An action for observers, dropped when a round has more of them than fit. */
eepi_action *eepi_core_note(eepi_core *core, eepi_action_kind kind);
/* Ask for a TICK at `time_us` at the latest. */
void eepi_core_wake_at(eepi_core *core, uint64_t time_us);

/* That generation of the seat, or a newer one, shows the first sign of its end: it proposes, steps
 * and acknowledges no more. What its kernels may still store into is not free yet. */
int eepi_core_has_exited(const eepi_core *core, int seat, uint32_t generation);
/* Its process, or a newer one's in that seat, was seen to end wholly. */
int eepi_core_is_gone(const eepi_core *core, int seat, uint32_t generation);
/* That generation stores nothing any more, nor does an older one. This, and nothing less, frees the
 * combine copy, the seat and the quarantine (M2, M7, P8). */
int eepi_core_stores_have_ended(const eepi_core *core, int seat, uint32_t generation);
/* The steps that this rank runs need the seat: it is in the newest view, or that view let it go by
 * plan and this rank has not switched to it yet. */
int eepi_core_needs(const eepi_core *core, int seat);
/* Valid evidence against a seat that is needed, or NO_EVIDENCE. */
int eepi_core_evidence(const eepi_core *core, int seat);
/* Position of this rank among the unsuspected members in order of seat; -1: not one of them. */
int eepi_core_order(const eepi_core *core);
/* Write `draft`, sealed on top of the newest view, into the register. */
void eepi_core_commit(eepi_core *core);
/* A draft on top of the newest view: next epoch, its digest as base, quarantines that ended. */
eepi_view *eepi_core_draft(eepi_core *core, eepi_view_cause cause);
/* The epoch of a draft on top of the newest view that no other proposer gives; `left_alive`: it
 * leaves somebody out who may live on. */
uint64_t eepi_core_fresh_epoch(const eepi_core *core, int left_alive);

/* Words of a backup bit set over all layers. */
static inline size_t eepi_core_backup_words(const eepi_view_shape *shape)
{
    return (size_t)shape->num_layers * (((size_t)shape->num_experts + 63) / 64);
}

/* A seat that goes takes its host backups with it. */
void eepi_core_drop_backups(eepi_view *draft, int seat);

/* core_facts.c: take an input into account. */
void eepi_core_take(eepi_core *core, const eepi_input *input);
/* core_ends.c: a process's first sign of its end, and its whole end, as `by` said (a seat, or
 * NOBODY: the store). */
void eepi_core_take_exit(eepi_core *core, const eepi_suspect *suspect, int by);
void eepi_core_take_end(eepi_core *core, const eepi_end *end, int by);
/* The whole end of that generation and all older ones, known without being told; 1: it is new. */
int eepi_core_note_gone(eepi_core *core, int seat, uint32_t generation);
/* Say the newest end of the seat again, to a store that may have lost it. */
void eepi_core_tell_gone(eepi_core *core, int seat);
/* The margins that have passed by now. */
void eepi_core_pass_margins(eepi_core *core);
/* core_fault.c: wedge, report, propose, repair, install. */
void eepi_core_advance_fault(eepi_core *core);
/* core_plan.c: the first view; joins and leaves. */

/* A process that may be let into the draft now: ready, newer than the seat's last one, whose end
 * was observed (M7). */
int eepi_core_may_join(const eepi_core *core, const eepi_view *draft, int seat);
/* Put it in: generation, slots, backups. 0, and `why`, if its weights are not the instance's (S6).
 */
int eepi_core_admit(eepi_core *core, eepi_view *draft, int seat);
/* Every member of the draft that lives wants out and nobody wants in, or one has asked for the end
 * of all; */
int eepi_core_all_leave(const eepi_core *core, const eepi_view *draft);
/* then this makes it the last view. How many members it had. */
int eepi_core_end_instance(eepi_core *core, eepi_view *draft);
void eepi_core_advance_initial(eepi_core *core);
void eepi_core_advance_plan(eepi_core *core);
/* core_rebalance.c: our part of background repair, */
void eepi_core_advance_fills(eepi_core *core);
/* and the planner's, on a draft of the next planned view: slots that are filled hold their experts.
 * Returns how many; */
int eepi_core_promote_fills(const eepi_core *core, eepi_view *draft);
/* the fills that are left are overdue: 1, and nothing is moved for a while. */
int eepi_core_fills_are_late(eepi_core *core);
/* One round more, if it is time for one: how many slots the draft fills. */
int eepi_core_plan_round(eepi_core *core, eepi_view *draft);
#endif
