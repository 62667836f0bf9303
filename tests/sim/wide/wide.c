/* SPDX-License-Identifier: Apache-2.0 */
/* Events in virtual time, ranks and their faults. */
#include "tests/sim/wide/wide_parts.h"

#include "experiments/base/random.h"
#include "repair/placement.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NUM_SLOTS = 2,
    MAX_KILLS = 4,
    REPLICAS = 2 * (MAX_KILLS + 2), /* of each expert: no history loses one */
    FAULTS_WITHIN_US = 30000,
    DRAIN_BOUND_US = 300000,
    SETTLE_US = 2000000, /* until the first fault */
    BOUND_US = 20000000,
    /* messages of a history, per rank and per view or fault in it */
    MESSAGES_EACH = 16,
    /* of one plain kill, per rank */
    PLAIN_MESSAGES = 7,
    PLAIN_BYTES = 700,
};

uint64_t wide_draw(wide_world *w, uint64_t limit)
{
    return random_next(&w->random) % limit;
}

uint64_t wide_seed;

void wide_fail(wide_world *w, const char *rule, const char *format, ...)
{
    va_list arguments;

    if (w->failed) {
        return;
    }
    w->failed = true;
    printf("VIOLATION %s seed %llu at %llu us: ", rule, (unsigned long long)w->options.seed,
           (unsigned long long)w->now_us);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\nreplay: eep-sim --wide --seed %llu --trace", (unsigned long long)w->options.seed);
    if (w->options.num_ranks) {
        printf(" --ranks %d", w->options.num_ranks);
    }
    printf("\n");
}

__attribute__((format(printf, 2, 3))) static void trace(const wide_world *w, const char *format,
                                                        ...)
{
    va_list arguments;

    if (!w->options.trace) {
        return;
    }
    printf("%10.3f  ", (double)w->now_us * 1e-3);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

static void *must(void *memory)
{
    if (!memory) {
        abort();
    }
    return memory;
}

void *wide_keep(wide_world *w, const void *bytes, size_t size)
{
    if (w->num_kept == w->kept_capacity) {
        w->kept_capacity = w->kept_capacity ? 2 * w->kept_capacity : 1024;
        w->kept = must(realloc(w->kept, w->kept_capacity * sizeof *w->kept));
    }
    w->kept[w->num_kept] = must(malloc(size ? size : 1));
    return size ? memcpy(w->kept[w->num_kept++], bytes, size) : w->kept[w->num_kept++];
}

/* ------------------------------------------------------------------ events */

static bool is_before(const wide_event *a, const wide_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

void wide_push(wide_world *w, wide_event_kind kind, int rank, uint64_t at_us, eepi_input input)
{
    const wide_event event = {at_us, ++w->sequence, w->rank[rank].num_cas, kind, rank, input};
    size_t at = w->num_events++;

    if (w->num_events > w->capacity) {
        w->capacity = w->capacity ? 2 * w->capacity : 4096;
        w->events = must(realloc(w->events, w->capacity * sizeof *w->events));
    }
    for (; at > 0 && is_before(&event, &w->events[(at - 1) / 2]); at = (at - 1) / 2) {
        w->events[at] = w->events[(at - 1) / 2];
    }
    w->events[at] = event;
}

static wide_event pop(wide_world *w)
{
    const wide_event first = w->events[0], last = w->events[--w->num_events];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < w->num_events && is_before(&w->events[child + 1], &w->events[child])) {
            child++;
        }
        if (child >= w->num_events || !is_before(&w->events[child], &last)) {
            break;
        }
        w->events[at] = w->events[child];
        at = child;
    }
    w->events[at] = last;
    return first;
}

/* ------------------------------------------------------------------ ranks */

void wide_die(wide_world *w, int rank)
{
    const eepi_suspect dead = {rank, 1, EEP_FAULT_EXIT};
    const int witness = (int)wide_draw(w, (uint64_t)w->num_ranks);

    if (!w->rank[rank].alive) {
        return;
    }
    w->rank[rank].alive = false;
    w->rank[rank].is_faulty = true;
    w->cost.num_kills++;
    w->last_fault_us = w->now_us;
    trace(w, "rank %d ends", rank);
    for (int other = 0; other < w->num_ranks; other++) {
        /* whoever is blind sees it in the end, as heartbeats fail */
        const bool is_blind = w->blind && other != witness && wide_draw(w, 8) != 0;
        const uint64_t after_us = is_blind ? 1000000 : 100;
        if (w->rank[other].alive) {
            wide_push(w, WIDE_INPUT, other, w->now_us + after_us + wide_draw(w, 1400),
                      (eepi_input){.kind = EEPI_INPUT_MEMORY_GONE, .suspect = dead});
        }
    }
}

/* A stopped process: the others hear no heartbeat, some of them earlier than others. */
static void freeze(wide_world *w, int rank)
{
    const eepi_suspect silent = {rank, 1, EEP_FAULT_SILENT};

    if (!w->rank[rank].alive) {
        return;
    }
    w->rank[rank].frozen = w->rank[rank].is_faulty = true;
    w->cost.num_kills++;
    w->last_fault_us = w->now_us;
    trace(w, "rank %d is stopped", rank);
    for (int other = 0; other < w->num_ranks; other++) {
        wide_push(w, WIDE_INPUT, other, w->now_us + 50000 + wide_draw(w, 50000),
                  (eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = silent});
    }
}

static void tell_wedge(wide_world *w, int rank)
{
    const wide_rank *r = &w->rank[rank];

    wide_ask(w, rank,
             (eepi_input){
                 .kind = EEPI_INPUT_WEDGE, .wedge = r->told_wedge, .revision = r->wedge_revision});
}

static void put_report(wide_world *w, int rank, const eepi_report *report)
{
    eepi_report copy = *report;

    if (!w->rank[rank].wedged) {
        wide_fail(w, "M2", "rank %d promises and serves", rank);
    }
    copy.suspects = wide_keep(w, copy.suspects, (size_t)copy.num_suspects * sizeof *copy.suspects);
    w->rank[rank].promised = copy.epoch;
    wide_ask(w, rank,
             (eepi_input){.kind = EEPI_INPUT_REPORT, .report = wide_keep(w, &copy, sizeof copy)});
}

static void install(wide_world *w, int rank, const eepi_view *view)
{
    wide_rank *r = &w->rank[rank];

    if (view->epoch <= r->promised) {
        wide_fail(w, "M2", "rank %d serves epoch %llu, which it has promised not to", rank,
                  (unsigned long long)view->epoch);
    }
    r->installed_epoch = view->epoch;
    r->highest_step = view->first_step + wide_draw(w, 3);
    r->wedged = false;
    trace(w, "rank %d runs epoch %llu", rank, (unsigned long long)view->epoch);
}

static void perform(wide_world *w, int rank, const eepi_action *action)
{
    wide_rank *r = &w->rank[rank];

    if (wide_perform_plan(w, rank, action)) {
        return;
    }
    switch (action->kind) {
    case EEPI_ACTION_WEDGE:
        r->wedged = true;
        wide_push(w, WIDE_DRAINED, rank,
                  w->now_us + 50 + wide_draw(w, w->options.plain ? 300 : 5000), (eepi_input){0});
        break;
    case EEPI_ACTION_TELL_WEDGE:
        trace(w, "rank %d tells that it has stopped", rank);
        r->told_wedge = action->wedge;
        tell_wedge(w, rank);
        break;
    case EEPI_ACTION_LISTEN:
    case EEPI_ACTION_IGNORE:
        trace(w, "rank %d %s", rank,
              action->kind == EEPI_ACTION_LISTEN ? "listens" : "listens no more");
        wide_ask(
            w, rank,
            (eepi_input){.kind = EEPI_INPUT_LISTENS, .won = action->kind == EEPI_ACTION_LISTEN});
        break;
    case EEPI_ACTION_REPORT:
        put_report(w, rank, &action->report);
        break;
    case EEPI_ACTION_CAS:
        trace(w, "rank %d proposes epoch %llu", rank, (unsigned long long)action->view->epoch);
        r->num_cas++;
        wide_ask(w, rank,
                 (eepi_input){.kind = EEPI_INPUT_VIEW,
                              .view = wide_keep(w, action->view, action->view->bytes),
                              .revision = action->revision});
        break;
    case EEPI_ACTION_READ:
        wide_ask(w, rank, (eepi_input){.kind = EEPI_INPUT_VIEW_MISSING});
        break;
    case EEPI_ACTION_ACK:
        wide_ask(w, rank,
                 (eepi_input){.kind = EEPI_INPUT_ACK,
                              .ack = wide_keep(w, &action->ack, sizeof action->ack)});
        break;
    case EEPI_ACTION_EXIT:
        wide_ask(w, rank, (eepi_input){.kind = EEPI_INPUT_EXIT, .end = action->end});
        break;
    case EEPI_ACTION_KILL:
        trace(w, "rank %d kills rank %d", rank, action->suspect.seat);
        wide_push(w, WIDE_DIE, action->suspect.seat, w->now_us + 200 + wide_draw(w, 2000),
                  (eepi_input){0});
        break;
    case EEPI_ACTION_INSTALL:
        install(w, rank, action->view);
        break;
    case EEPI_ACTION_UNCOVERED:
        trace(w, "rank %d: %s", rank, action->why); /* until it sees an end that it is blind to */
        break;
    case EEPI_ACTION_EVICTED:
        if (!r->is_faulty) {
            wide_fail(w, "L2", "rank %d is healthy and evicted", rank);
        }
        r->alive = false;
        break;
    default:
        break;
    }
}

static void feed(wide_world *w, int rank, eepi_input input)
{
    wide_rank *r = &w->rank[rank];
    eepi_action actions[EEPI_CORE_MAX_ACTIONS];
    const eepi_view *view;
    uint64_t wake_us;
    int n;

    input.now_us = w->now_us;
    const eepi_action *from = eepi_core_handle(r->core, &input, &n);
    memcpy(actions, from, (size_t)n * sizeof *actions);
    for (int i = 0; i < n; i++) {
        perform(w, rank, &actions[i]);
    }
    view = eepi_core_view(r->core);
    if (input.kind == EEPI_INPUT_WEDGE) { /* as eepi_store_note_wedge does it */
        r->wedge_revision = input.revision;
        if (r->told_wedge.epoch == view->epoch && input.wedge.epoch < view->epoch) {
            tell_wedge(w, rank);
        }
    }
    wake_us = eepi_core_wake_us(r->core);
    if (wake_us != UINT64_MAX && (r->wake_us <= w->now_us || wake_us < r->wake_us)) {
        r->wake_us = wake_us > w->now_us ? wake_us : w->now_us + 1;
        wide_push(w, WIDE_TICK, rank, r->wake_us, (eepi_input){0});
    }
}

/* Of the answers to compare-and-swaps a core gets only the newest one's. */
static bool is_late_answer(const wide_rank *r, const eepi_input *input)
{
    return (input->kind == EEPI_INPUT_CAS_DONE || input->kind == EEPI_INPUT_VIEW) &&
           input->step != 0 && input->step != r->num_cas;
}

static void handle(wide_world *w, const wide_event *event)
{
    wide_rank *r = &w->rank[event->rank];

    if (event->kind == WIDE_REQUEST) {
        wide_serve(w, event);
    } else if (event->kind == WIDE_DIE) {
        wide_die(w, event->rank);
    } else if (event->kind == WIDE_FREEZE) {
        freeze(w, event->rank);
    } else if (r->alive && !r->frozen) {
        eepi_input input = event->input;
        if (event->kind == WIDE_DRAINED) {
            input = (eepi_input){.kind = EEPI_INPUT_DRAINED, .step = r->highest_step};
        } else if (event->kind == WIDE_TICK) {
            input = (eepi_input){.kind = EEPI_INPUT_TICK};
        }
        if (input.kind == EEPI_INPUT_FLIPPED) {
            r->installed_epoch = w->view->epoch;
        }
        if (!is_late_answer(r, &input)) {
            feed(w, event->rank, input);
        }
    }
}

/* All who live and are not stopped run the newest view, and nobody else is in it. */
static bool has_converged(const wide_world *w)
{
    for (int rank = 0; rank < w->num_ranks; rank++) {
        const wide_rank *r = &w->rank[rank];
        const bool runs = r->alive && !r->frozen;
        if (runs != eepi_view_is_member(w->view, rank) ||
            (runs && (r->wedged || r->installed_epoch != w->view->epoch))) {
            return false;
        }
    }
    return true;
}

/* Until `until_us`, or until all agree, when that is asked for. */
static bool run(wide_world *w, uint64_t until_us, bool to_agreement)
{
    while (!w->failed && w->num_events > 0 && w->events[0].at_us <= until_us) {
        const wide_event event = pop(w);
        w->now_us = event.at_us;
        handle(w, &event);
        if (to_agreement && event.kind == WIDE_INPUT &&
            (event.input.kind == EEPI_INPUT_VIEW || event.input.kind == EEPI_INPUT_FLIPPED) &&
            w->now_us > w->last_fault_us && has_converged(w)) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ a history */

static void open_ranks(wide_world *w)
{
    const int num_experts = w->num_ranks * NUM_SLOTS / REPLICAS;
    eepi_core_config config = {
        .num_ranks = w->num_ranks,
        .propose_delay_us = 20000,
        /* all reports are written one after the other */
        .drain_bound_us = w->options.num_hosts ? 10 * DRAIN_BOUND_US : DRAIN_BOUND_US,
        .stage_bound_us = 300000,
        .missed_window_steps = 1000,
        .kill_fence = true,
        .end_is_proof = true,
        .store_keeps = w->options.num_hosts > 0,
        .shape = {w->num_ranks, 1, num_experts > 0 ? num_experts : 1, NUM_SLOTS,
                  .ranks_per_node =
                      w->options.num_hosts
                          ? (w->num_ranks + w->options.num_hosts - 1) / w->options.num_hosts
                      : wide_draw(w, 2) && !w->options.plain ? 8
                                                             : 0},
    };
    eepi_view *first = must(eepi_view_new(&config.shape));

    const bool has_joiner = w->options.num_hosts && w->options.event == WIDE_EVENT_JOIN;

    for (int rank = 0; rank < w->num_ranks - has_joiner; rank++) {
        *eepi_view_seat_at(first, rank) = (eepi_view_seat){
            .generation = 1, .state = EEP_SEAT_ACTIVE, .host = wide_host_of(w, rank)};
    }
    if (eepi_plan_initial(first) != EEP_OK) {
        abort();
    }
    first->epoch = first->first_step = 1;
    first->phase = EEPI_VIEW_SERVING;
    first->cause = EEPI_VIEW_INITIAL;
    eepi_view_seal(first);
    w->view = wide_keep(w, first, first->bytes);
    w->revision = ++w->next_revision;
    free(first);
    for (int rank = 0; rank < w->num_ranks; rank++) {
        config.seat = rank;
        config.generation = 1;
        config.host = wide_host_of(w, rank);
        w->rank[rank].alive = !(has_joiner && rank == w->num_ranks - 1);
        if (eepi_core_open(&config, &w->rank[rank].core) != EEP_OK) {
            abort();
        }
        wide_push(w, WIDE_INPUT, rank, w->now_us + wide_draw(w, 1000),
                  (eepi_input){.kind = EEPI_INPUT_VIEW, .view = w->view, .revision = w->revision});
    }
}

/* Kills, sometimes of the first in turn or of the proposer at the moment of its commit; sometimes
 * a process is stopped instead. */
static void draw_faults(wide_world *w)
{
    int kills = 1 + (int)wide_draw(w, MAX_KILLS);

    w->blind = wide_draw(w, 4) == 0;
    w->die_at_cas = wide_draw(w, 4) == 0 ? (int)wide_draw(w, 2) : -1;
    if (w->die_at_cas >= 0 && kills > MAX_KILLS - 1) {
        kills--;
    }
    while (kills > w->num_ranks - 2) {
        kills--;
    }
    for (int i = 0; i < kills; i++) {
        const int rank = wide_draw(w, 3) == 0 ? i : (int)wide_draw(w, (uint64_t)w->num_ranks);
        wide_push(w, wide_draw(w, 4) == 0 ? WIDE_FREEZE : WIDE_DIE, rank,
                  w->now_us + wide_draw(w, FAULTS_WITHIN_US), (eepi_input){0});
    }
}

static void check_cost(wide_world *w)
{
    const uint64_t each = (uint64_t)(w->cost.num_views + w->cost.num_kills);
    const uint64_t n = (uint64_t)w->num_ranks;
    const uint64_t most = w->options.plain ? n * PLAIN_MESSAGES : n * MESSAGES_EACH * each;

    if (w->options.plain && w->cost.bytes > n * PLAIN_BYTES) {
        wide_fail(w, "N22", "%llu bytes of %d ranks for one kill, at most %d each",
                  (unsigned long long)w->cost.bytes, w->num_ranks, PLAIN_BYTES);
    }
    if (w->cost.messages > most) {
        wide_fail(w, "N22", "%llu messages of %d ranks for %d faults and %d views, at most %llu",
                  (unsigned long long)w->cost.messages, w->num_ranks, w->cost.num_kills,
                  w->cost.num_views, (unsigned long long)most);
    }
}

static int draw_ranks(wide_world *w)
{
    static const int most[] = {8, 16, 32, 64, 128, 1024};
    const int limit = most[wide_draw(w, 40) == 0 ? 5 : wide_draw(w, 5)];

    return 4 + (int)wide_draw(w, (uint64_t)limit - 3);
}

bool wide_run(const wide_options *options, wide_cost *cost_out)
{
    wide_world *w = must(calloc(1, sizeof *w));
    bool failed;

    wide_seed = options->seed;
    w->options = *options;
    w->random = options->seed;
    w->now_us = 1000000;
    w->die_at_cas = -1;
    w->num_ranks = options->num_ranks ? options->num_ranks : draw_ranks(w);
    w->cost.num_ranks = w->num_ranks;
    open_ranks(w);
    (void)run(w, w->now_us + SETTLE_US, false);
    w->now_us += SETTLE_US;
    if (options->num_hosts) {
        wide_strike(w);
    } else if (options->plain) {
        wide_push(w, WIDE_DIE, w->num_ranks / 2, w->now_us, (eepi_input){0});
    } else {
        draw_faults(w);
    }
    (void)run(w, w->now_us + FAULTS_WITHIN_US, options->plain);
    if (!w->failed && !has_converged(w) && !run(w, w->now_us + BOUND_US, true)) {
        wide_fail(w, "L1", "not all of %d ranks run epoch %llu after %d ms", w->num_ranks,
                  (unsigned long long)w->view->epoch, BOUND_US / 1000);
    }
    w->cost.agreed_us = w->now_us - w->last_fault_us;
    (void)run(w, w->now_us + SETTLE_US, false); /* what it still costs afterwards */
    if (!options->num_hosts) {
        check_cost(w);
    }
    *cost_out = w->cost;
    failed = w->failed;
    for (int rank = 0; rank < w->num_ranks; rank++) {
        eepi_core_close(w->rank[rank].core);
    }
    for (size_t i = 0; i < w->num_kept; i++) {
        free(w->kept[i]);
    }
    free(w->kept);
    free(w->events);
    free(w);
    return !failed;
}
