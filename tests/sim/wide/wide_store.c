/* SPDX-License-Identifier: Apache-2.0 */
/* The store of the wide simulation, which counts messages, and what must hold when it commits. */
#include "tests/sim/wide/wide_parts.h"

enum {
    HEAD_BYTES = 48 + 16, /* of a message, with its key */
    MEMBER_BYTES = 600,   /* of a record with few slots */
};

/* Bytes of the value that a message carries. */
static size_t value_bytes(const eepi_input *input)
{
    switch (input->kind) {
    case EEPI_INPUT_REPORT:
        return sizeof(eepi_report) + (size_t)input->report->num_suspects * sizeof(eepi_suspect);
    case EEPI_INPUT_ACK:
        return sizeof(eepi_ack);
    case EEPI_INPUT_EXIT:
        return sizeof(eepi_end);
    case EEPI_INPUT_WEDGE:
        return sizeof(eepi_wedge);
    case EEPI_INPUT_VIEW:
    case EEPI_INPUT_PLAN:
        return input->view->bytes;
    case EEPI_INPUT_MEMBER:
        return MEMBER_BYTES;
    default:
        return 0;
    }
}

static void count(wide_world *w, const eepi_input *input)
{
    if (w->cost.num_kills == 0) {
        return; /* before the first fault */
    }
    if (input->kind == EEPI_INPUT_VIEW || input->kind == EEPI_INPUT_PLAN) {
        w->cost.documents++;
        w->cost.document_bytes += HEAD_BYTES + input->view->bytes;
    } else {
        w->cost.messages++;
        w->cost.bytes += HEAD_BYTES + value_bytes(input);
    }
}

/* A connection keeps the order, both ways. */
static uint64_t on_channel(wide_world *w, uint64_t *newest_us, uint64_t costs_until_us)
{
    const bool is_slow = !w->options.plain && wide_draw(w, 200) == 0;
    const uint64_t at =
        (costs_until_us ? costs_until_us : w->now_us + 50) + wide_draw(w, is_slow ? 15000 : 500);

    *newest_us = at > *newest_us ? at : *newest_us;
    return *newest_us;
}

void wide_ask(wide_world *w, int rank, eepi_input input)
{
    const uint64_t until_us = w->options.num_hosts ? wide_up_us(w, &input, value_bytes(&input)) : 0;

    count(w, &input);
    wide_push(w, WIDE_REQUEST, rank, on_channel(w, &w->rank[rank].up_us, until_us), input);
}

static void tell(wide_world *w, int rank, eepi_input input)
{
    if (w->rank[rank].alive) {
        const uint64_t until_us =
            w->options.num_hosts ? wide_down_us(w, &input, value_bytes(&input)) : 0;
        count(w, &input);
        wide_push(w, WIDE_INPUT, rank, on_channel(w, &w->rank[rank].down_us, until_us), input);
    }
}

/* The answer to a request that says nothing else: it is counted, and nobody acts on it. */
static void answer(wide_world *w, int rank)
{
    tell(w, rank, (eepi_input){.kind = EEPI_INPUT_TICK});
}

static void tell_all(wide_world *w, eepi_input input)
{
    const bool for_listeners = input.kind == EEPI_INPUT_REPORT || input.kind == EEPI_INPUT_ACK;

    for (int rank = 0; rank < w->num_ranks; rank++) {
        if (!for_listeners || w->rank[rank].listens) {
            tell(w, rank, input);
        }
    }
}

static eepi_input view_input(const wide_world *w)
{
    return (eepi_input){.kind = EEPI_INPUT_VIEW, .view = w->view, .revision = w->revision};
}

static eepi_input wedge_input(const wide_world *w)
{
    return (eepi_input){.kind = EEPI_INPUT_WEDGE, .wedge = w->wedge, .revision = w->wedge_revision};
}

/* M2: those who stay have promised, and begin above all their steps. Nobody healthy is left out. */
static void check_commit(wide_world *w, const eepi_view *view)
{
    for (int rank = 0; rank < w->num_ranks; rank++) {
        const wide_rank *r = &w->rank[rank];
        const bool was = eepi_view_is_member(w->view, rank), is = eepi_view_is_member(view, rank);
        if (was && !is && !r->is_faulty) {
            wide_fail(w, "L2", "rank %d is healthy and left out of epoch %llu", rank,
                      (unsigned long long)view->epoch);
        }
        if (is && r->alive && r->promised != w->view->epoch && view->cause == EEPI_VIEW_FAULT) {
            wide_fail(w, "M2", "rank %d is in epoch %llu without its promise", rank,
                      (unsigned long long)view->epoch);
        }
        if (is && r->alive && r->highest_step >= view->first_step &&
            view->cause == EEPI_VIEW_FAULT) {
            wide_fail(w, "M2", "rank %d has begun step %llu, the first step of epoch %llu is %llu",
                      rank, (unsigned long long)r->highest_step, (unsigned long long)view->epoch,
                      (unsigned long long)view->first_step);
        }
    }
}

static void swap_view(wide_world *w, const wide_event *event)
{
    const eepi_view *view = event->input.view;
    eepi_input reply = {.kind = EEPI_INPUT_CAS_DONE, .won = true};

    if (event->input.revision != w->revision) {
        reply = view_input(w);
    } else {
        check_commit(w, view);
        w->cost.num_views++;
        w->view = view;
        reply.revision = w->revision = ++w->next_revision;
        tell_all(w, view_input(w));
        if (w->die_at_cas-- == 0) {
            wide_die(w, event->rank);
        }
    }
    reply.step = event->cas; /* only the newest one's answer is given to the core */
    tell(w, event->rank, reply);
}

static void swap_wedge(wide_world *w, const wide_event *event)
{
    if (event->input.revision != w->wedge_revision) {
        tell(w, event->rank, wedge_input(w));
        return;
    }
    w->wedge = event->input.wedge;
    w->wedge_revision = ++w->next_revision;
    tell_all(w, wedge_input(w));
    answer(w, event->rank);
}

static void put(wide_world *w, const wide_event *event)
{
    if (event->input.kind == EEPI_INPUT_REPORT) {
        w->reports[event->rank] = event->input;
    } else if (event->input.kind == EEPI_INPUT_ACK) {
        w->acks[event->rank] = event->input;
    }
    tell_all(w, event->input);
    if (event->input.kind == EEPI_INPUT_REPORT) {
        tell(w, event->rank,
             (eepi_input){.kind = EEPI_INPUT_REPORTED, .step = event->input.report->epoch});
    } else {
        answer(w, event->rank);
    }
}

/* `won`: from now on; else no more. */
static void listen(wide_world *w, const wide_event *event)
{
    wide_rank *r = &w->rank[event->rank];

    r->listens = event->input.won;
    for (int rank = 0; r->listens && rank < w->num_ranks; rank++) {
        if (w->reports[rank].kind == EEPI_INPUT_REPORT) {
            tell(w, event->rank, w->reports[rank]);
        }
        if (w->acks[rank].kind == EEPI_INPUT_ACK) {
            tell(w, event->rank, w->acks[rank]);
        }
    }
    if (r->listens) {
        tell(w, event->rank, (eepi_input){.kind = EEPI_INPUT_LISTENS});
    } else {
        answer(w, event->rank);
    }
}

void wide_serve(wide_world *w, const wide_event *event)
{
    switch (event->input.kind) {
    case EEPI_INPUT_VIEW:
        swap_view(w, event);
        break;
    case EEPI_INPUT_VIEW_MISSING: /* a read */
        tell(w, event->rank, view_input(w));
        break;
    case EEPI_INPUT_WEDGE:
        swap_wedge(w, event);
        break;
    case EEPI_INPUT_LISTENS:
        listen(w, event);
        break;
    default:
        put(w, event);
        break;
    }
}
