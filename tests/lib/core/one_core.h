/* SPDX-License-Identifier: Apache-2.0 */
/* One membership core, of seat 0 among four, that is fed by hand; and what it asked for. */
#ifndef TESTS_ONE_CORE_H
#define TESTS_ONE_CORE_H

#include "membership/core/core.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { RANKS = 4 };

static struct {
    eepi_core *core;
    uint64_t now_us, revision;
    /* of the last input: */
    uint64_t committed;                 /* the epoch that it asked to commit; 0: none */
    eep_seat_state third;               /* state of seat 3 there */
    int num_active;                     /* members there */
    int colour;                         /* of its windows, */
    uint32_t serial[EEPI_VIEW_COLOURS]; /* and of their memory */
    bool takes_no_report;               /* the store */
    /* of all inputs: */
    int kills, plans, drained, evicted, uncovered, reads;
    uint64_t plan_digest; /* of the last plan, */
    uint32_t plan_serial[EEPI_VIEW_COLOURS];
    char why[EEPI_CORE_WHY_BYTES];
} t;

static inline void feed(eepi_input input)
{
    const eepi_action *actions;
    bool listens = false;
    uint64_t reported = 0;
    int n;

    input.now_us = t.now_us;
    actions = eepi_core_handle(t.core, &input, &n);
    t.committed = 0;
    for (int i = 0; i < n; i++) {
        listens |= actions[i].kind == EEPI_ACTION_LISTEN;
        reported = actions[i].kind == EEPI_ACTION_REPORT ? actions[i].report.epoch : reported;
        t.kills += actions[i].kind == EEPI_ACTION_KILL;
        t.reads += actions[i].kind == EEPI_ACTION_READ;
        if (actions[i].kind == EEPI_ACTION_PLAN) {
            t.plans++;
            t.plan_digest = actions[i].view->digest;
            memcpy(t.plan_serial, actions[i].view->serial, sizeof t.plan_serial);
        }
        t.drained += actions[i].kind == EEPI_ACTION_DRAINED;
        t.evicted += actions[i].kind == EEPI_ACTION_EVICTED;
        if (actions[i].kind == EEPI_ACTION_UNCOVERED) {
            t.uncovered++;
            snprintf(t.why, sizeof t.why, "%s", actions[i].why);
        }
        if (actions[i].kind == EEPI_ACTION_CAS) {
            t.committed = actions[i].view->epoch;
            t.third = (eep_seat_state)eepi_view_seat_at(actions[i].view, 3)->state;
            t.num_active = eepi_view_num_active(actions[i].view);
            t.colour = actions[i].view->colour;
            memcpy(t.serial, actions[i].view->serial, sizeof t.serial);
        }
    }
    if (reported && !t.takes_no_report) {
        const uint64_t committed = t.committed;
        feed((eepi_input){.kind = EEPI_INPUT_REPORTED, .step = reported});
        t.committed = t.committed ? t.committed : committed;
    }
    if (listens) { /* the store had nothing to tell */
        const uint64_t committed = t.committed;
        feed((eepi_input){.kind = EEPI_INPUT_LISTENS});
        t.committed = t.committed ? t.committed : committed;
    }
}

/* What the last input asked to commit is in the register. */
static inline void win(void)
{
    cr_assert_neq(t.committed, 0, "nothing is to be committed");
    feed((eepi_input){.kind = EEPI_INPUT_CAS_DONE, .won = true, .revision = ++t.revision});
}

static inline void open_empty(const eepi_core_config *config)
{
    t.now_us = 1000;
    cr_assert_eq(eepi_core_open(config, &t.core), EEP_OK);
    feed((eepi_input){.kind = EEPI_INPUT_VIEW_MISSING});
}
#endif
