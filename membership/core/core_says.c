/* SPDX-License-Identifier: Apache-2.0 */
/* What the core waits for, in words: for the log, and for a caller that waits. Nothing is decided
 * here. */
#include "membership/core/core_common.h"
#include "membership/core/core_turn.h"

#include <stdarg.h>
#include <stdio.h>

enum { MOST_NAMED = 8 };

typedef struct list {
    char *text;
    size_t bytes, used;
    int num;
} list;

__attribute__((format(printf, 2, 3))) static void add(list *l, const char *format, ...)
{
    va_list arguments;
    int n;

    va_start(arguments, format);
    n = vsnprintf(l->text + l->used, l->bytes - l->used, format, arguments);
    va_end(arguments);
    if (n > 0) {
        l->used += (size_t)n;
    }
    if (l->used >= l->bytes) {
        l->used = l->bytes - 1;
    }
}

/* Names the first few seats that it is called with. */
static void name(list *l, const char *before, int seat, uint32_t generation)
{
    if (l->num++ < MOST_NAMED) {
        add(l, "%s rank %d (generation %u)", l->num == 1 ? before : ",", seat, generation);
    }
}

static void end_names(list *l)
{
    if (l->num > MOST_NAMED) {
        add(l, " and %d more", l->num - MOST_NAMED);
    }
}

/* Another rank has the turn: whoever comes first of those that nobody here suspects. */
static void say_turn(const eepi_core *core, list *l)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        if (eepi_view_is_member(core->view, seat) && seat != core->config.seat &&
            eepi_core_evidence(core, seat) == NO_EVIDENCE && l->num == 0) {
            name(l, "a fault has stopped the instance, and the next view is awaited from", seat,
                 eepi_view_seat_at(core->view, seat)->generation);
        }
    }
}

/* Members that have not promised to stop, and are not suspected. */
static void say_unheard(const eepi_core *core, list *l)
{
    if (!core->listens) {
        say_turn(core, l);
        return;
    }
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        if (eepi_view_is_member(core->view, seat) && seat != core->config.seat &&
            eepi_core_evidence(core, seat) == NO_EVIDENCE && !eepi_core_has_reported(core, seat)) {
            name(l, "a fault has stopped the instance, and has not heard yet from", seat,
                 eepi_view_seat_at(core->view, seat)->generation);
        }
    }
    end_names(l);
}

/* The plan lets this rank in: whose acknowledgement it waits for. */
static void say_unacknowledged(const eepi_core *core, list *l)
{
    if (!core->listens) {
        add(l, "the view that lets it in (epoch %llu) has not been acknowledged by all",
            (unsigned long long)core->plan->epoch);
        return;
    }
    for (int seat = 0; seat < core->plan->shape.max_ranks; seat++) {
        if ((eepi_view_is_member(core->plan, seat) || eepi_view_is_member(core->view, seat)) &&
            core->peers[seat].staged_digest != core->plan->digest) {
            name(l, "the view that lets it in has not been acknowledged by", seat,
                 eepi_view_seat_at(core->plan, seat)->generation);
        }
    }
    end_names(l);
}

static void say_outside(const eepi_core *core, list *l)
{
    int own = core->config.seat;
    uint32_t before = core->config.generation - 1;
    const eepi_view_seat *seat = eepi_view_seat_at(core->view, own);
    int reach = eepi_core_stores_no_more(core, own, seat->generation) ? 0 : seat->reach;

    if (before > 0 && !eepi_core_process_has_ended(core, own, before)) {
        add(l, "the end of the process that had the seat before (generation %u) has not been seen",
            before);
    } else if (reach == core->view->colour + 1) {
        add(l,
            "the process that had the seat before (generation %u) may still store into the windows "
            "in use: the next fault view frees the seat",
            eepi_view_seat_at(core->view, own)->generation);
    } else if (eepi_core_is_given_up(core)) {
        add(l, "its members have stopped after a fault, and have not agreed on a view yet");
    } else if (core->view->phase == EEPI_VIEW_REPAIRING) {
        add(l, "its members wait for weights that a fault made them copy");
    } else if (core->has_plan && eepi_view_has(core->plan, own, core->config.generation)) {
        say_unacknowledged(core, l);
    } else {
        add(l, "its members have not planned a view with it yet");
    }
}

void eepi_core_say_wait(const eepi_core *core, char *text_out, size_t bytes)
{
    list l = {text_out, bytes, 0, 0};

    text_out[0] = '\0';
    if (!core->has_view || eepi_core_instance_has_ended(core)) {
        return;
    }
    if (!core->register_was_read) {
        add(&l, "the store has not answered");
    } else if (core->store_forgot) {
        add(&l, "the store shows less than it has answered for, so no view is committed: have its "
                "data restored, or restart all ranks on another prefix");
    } else if (core->status == CORE_WEDGED) {
        say_unheard(core, &l);
    } else if (core->status == CORE_OUTSIDE &&
               !eepi_view_is_member(core->view, core->config.seat)) {
        say_outside(core, &l);
    }
}
