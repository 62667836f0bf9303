/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a membership core: what is known of each seat, and what this rank has done. The
 * files of the core change it; nobody else sees it. */
#ifndef EEPI_CORE_STATE_H
#define EEPI_CORE_STATE_H

#include "graphs/kernels/table_layout.h"
#include "membership/core/core.h"
#include "repair/background/background.h"
#include "repair/placement/shares.h"
#include "repair/planner/plan_table.h"

typedef enum core_status {
    CORE_OUTSIDE, /* not in the view yet */
    CORE_SERVING, /* installed some view; steps may run */
    CORE_WEDGED,  /* stopped: no step until a fault view is installed */
    CORE_LEAVING, /* out of the committed view by its own wish; helps until all have flipped */
    CORE_OVER,    /* evicted, drained, or the instance failed closed */
} core_status;
enum { CORE_NUM_STATUSES = CORE_OVER + 1 };

enum { NO_EVIDENCE = -1, NOBODY = -1, CORE_ROOM_KEPT = 16 };

/* What is known of a seat. */
typedef struct core_peer {
    /* its process's record */
    uint32_t generation; /* 0: no record */
    uint64_t host;       /* where it runs, by its record */
    uint8_t ready, leaving;
    bool has_checkpoint, follows_lapse;
    uint64_t plan_after_us; /* a joiner that let a plan lapse is not planned for before */
    int32_t *experts;
    uint64_t *checksums, *backup, *claims;
    uint64_t *counted;      /* those of `backup` whose claims count (rule N24) */
    bool claims_are_judged; /* by the checksums of a view: `counted` is of this record */
    uint64_t tensor_bytes[EEP_MAX_TENSORS];   /* 0 behind the last */
    uint64_t order_number, order_digest;      /* that it was given before it asked to be let in */
    uint64_t sequence_digest[EEP_MAX_SHAPES]; /* how its chains mix in each (rule P5) */
    /* evidence, void once (seat, generation) is not in the view (rule M5) */
    int32_t evidence;
    uint32_t evidence_generation;
    int32_t evidence_by; /* the seat that said so */
    uint32_t beats;      /* that generation was heard at least once (other hosts alone) */
    uint32_t unheard;    /* that generation runs on another host, and this rank does not hear it */
    /* Rule P11: words of engines and operators, of the kinds of eepi_core_is_word. */
    int32_t said;             /* this rank's own, against that generation; NO_EVIDENCE: none */
    uint32_t said_generation; /* also of what was kept */
    uint64_t said_epoch;      /* the newest view that this rank stopped under with it */
    uint64_t kept_epoch;      /* a view has decided on it, and kept that process; 0: none has */
    int32_t heard;            /* the strongest that a member's report has under that view */
    uint32_t heard_generation;
    uint64_t heard_epoch;
    uint64_t report_words[EEPK_SEAT_WORDS]; /* whom its newest report names by word */
    /* Rule P8: the end of a process and the end of its stores are two facts. Each is of that
     * generation and all older ones; 0: none is known. */
    uint32_t exited;        /* the first sign of its end was seen: it takes no further part */
    uint32_t ended;         /* its whole end was seen */
    uint64_t tell_end_us;   /* when this rank tells of it, unless it has heard it; 0: it need not */
    uint32_t stores_ended;  /* it is proved that nothing of it stores any more */
    uint32_t last_word;     /* of that generation alone: it said so itself */
    uint64_t busy_until_us; /* by its own word; of that generation: */
    uint32_t busy_generation;
    uint64_t killed_us;             /* when this rank asked for the kill of: */
    uint32_t killed_generation;     /* 0: none */
    uint32_t expelled_generation;   /* which this rank saw a fault view leave out; 0: none */
    uint32_t unkillable_generation; /* no kill reaches it from here; 0: none is known */
    uint64_t missed_step;           /* the last step whose deadline it missed; 0: none */
    uint32_t missed_generation;     /* it was that process */
    uint64_t left_epoch;            /* planned view that let it go; 0: none */
    /* the newest epoch under which it said that it has stopped */
    uint32_t wedge_generation;
    uint64_t wedge_epoch;
    eepi_suspect told;   /* what a wedge named as its cause: this seat; generation 0: none did */
    uint64_t told_epoch; /* the newest view that this was said under */
    /* its newest report */
    uint32_t report_generation;
    uint64_t report_epoch, report_step, report_collective, report_held;
    uint64_t report_accused[EEPK_SEAT_WORDS]; /* whom it accuses of missed deadlines */
    uint64_t report_unheard[EEPK_SEAT_WORDS]; /* whom of other hosts it does not hear (N10), */
    uint64_t report_resets[EEPK_SEAT_WORDS];  /* those of them by its engine's word */
    /* its newest acknowledgements */
    uint64_t staged_digest, filled_digest, flipped_digest;
} core_peer;

struct eepi_core {
    eepi_core_config config;
    core_status status; /* eepi_core_set_status */
    uint64_t now_us, wake_us;
    uint64_t own_step; /* that this rank had begun by the last tick */

    eepi_view *view;        /* newest committed document known, */
    uint64_t revision;      /* and its revision in the register */
    bool register_was_read; /* on this connection to the store */
    /* The store was lost after this rank had acknowledged or promised something. That may have
     * become a document which this rank does not know, and which the store forgot. The epoch of
     * such a document is not used again. */
    int in_doubt;         /* how often since the newest document that this rank knows */
    uint64_t tried_epoch; /* newest one that this rank has proposed or staged */
    bool has_view, was_member, register_lags;
    uint64_t installed_epoch, announced_digest;

    eepi_view *plan; /* staged or to be staged: on top of `view`, where has_plan */
    bool has_plan, stage_asked;
    uint64_t staged_digest; /* in the idle bank, and not acknowledged yet; 0: none */
    uint64_t plan_us;
    /* rule P7: when the idle colour was first seen to need other memory; 0: it does not */
    uint64_t tainted_us;
    uint64_t blocked_us;   /* since when a process waits for a seat that is blocked; 0: none does */
    uint64_t sought_epoch; /* this rank stops under that view, for another colour */
    uint64_t renew_after_us, renew_pause_us; /* the last plan for that lapsed */

    /* background repair */
    uint64_t fill_digest;         /* FILLING slots of that document were asked for */
    uint64_t fill_us;             /* when that document was seen */
    uint64_t background_after_us; /* nothing is moved before */
    int32_t examined_layers;      /* of this pass over the layers */
    int32_t pass_fills;           /* that it has planned */
    int32_t round_fills;          /* of one round at most */
    eepi_background *background;  /* its memory */

    /* placements that engines ordered, and their wishes; number 0: none */
    eepi_order heard_order, first_order; /* the best that was heard; this rank's for a first view */
    void *heard_wishes, *first_wishes;
    uint64_t settled_digest; /* nothing in that document's wishes is to be settled */

    eepi_view *draft;       /* this rank's own, on its way into the register */
    eepi_plan_table *table; /* the planner's */
    uint64_t plan_bound_ns; /* no plan would have taken less than this rank's last one */
    eepi_links *links;      /* what the links of each rank carry, as their records say */
    uint64_t num_reused;    /* eepi_core_num_reused */
    bool cas_in_flight;

    bool drained, uncovered;
    uint8_t leaving;                         /* bits of eepi_leaving */
    uint64_t highest_step, collective, held; /* as this rank reports them */
    uint64_t wedged_us, reported_epoch, reported_suspects;
    uint64_t news_us; /* since when the suspects are others than those reported; 0: they are not */
    uint64_t acknowledged_epoch; /* the store has this rank's report of that epoch (N14) */
    uint64_t listened_epoch;     /* the reports under that one were listed once */
    uint64_t reread_epoch;       /* the reports were asked for again before a kill (N13), */
    bool was_reread;             /* and were told */
    uint64_t drain_from_us;      /* the others' drain bound counts from here */
    uint64_t told_wedge;         /* newest epoch of which this rank told that it has stopped */
    bool listen_asked, listens;  /* rule N22: reports and acknowledgements reach this rank */
    int num_said;                /* words of this rank's engine that no view has decided on */
    uint64_t heard_epoch;        /* newest one under which a report had one */
    uint64_t spared_epoch;       /* no word counts under that view: experts would be lost (P11) */
    uint64_t suspected_epoch; /* newest one under which a member reported this rank as a suspect */
    /* rule N10, under the newest view: */
    uint64_t pairs_epoch;                  /* newest one whose reports accuse a pair of hosts */
    uint64_t own_unheard[EEPK_SEAT_WORDS]; /* whom of other hosts this rank does not hear */
    uint64_t unheard[EEPK_SEAT_WORDS];     /* whom any member does not hear */
    uint64_t cut[EEPK_SEAT_WORDS];         /* who is left out for it */
    uint64_t behind_us;      /* when the register was seen behind; 0: it is not (N19) */
    bool store_forgot;       /* rule N19: it shows less than it has answered for */
    uint64_t flipped_digest; /* what this rank runs, perhaps before the register told */
    uint64_t ready_us;       /* when all ranks of the first view were seen ready */

    uint32_t *loads;               /* [num_layers][num_experts], where has_loads: eepi_core_loads */
    bool has_loads, loads_are_new; /* no view was made with them, nor found not to be worth it */
    eepi_shares *shares;           /* memory for one layer: */
    int32_t *slot_experts;         /* [max_ranks][num_slots] */
    uint16_t *slot_shares;

    core_peer *peers;
    eepi_suspect *suspects; /* scratch of a report */
    eepi_action actions[EEPI_CORE_MAX_ACTIONS];
    int num_actions;
    eepi_action dropped;
    char why[EEPI_CORE_WHY_BYTES];
};

static inline size_t eepi_core_num_loads(const eepi_view_shape *shape)
{
    return (size_t)shape->num_layers * (size_t)shape->num_experts;
}
/* Words of a backup bit set over all layers. */
static inline size_t eepi_core_backup_words(const eepi_view_shape *shape)
{
    return (size_t)shape->num_layers * (((size_t)shape->num_experts + 63) / 64);
}
#endif
