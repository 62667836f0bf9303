/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster: events in virtual time, the simulated store, and the life of processes. */
#include "tests/lib/core/core_cluster_parts.h"

#include "repair/placement.h"
#include "experiments/base/random.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_ACK, KEY_EXIT, KEY_MEMBER, KEY_PLAN, KEY_REPORT, NUM_KEYS };

const char *cluster_text(cluster *c)
{
    size_t used = 0;

    c->text[0] = 0;
    for (int i = 0; i < c->num_processes && used + 256 < sizeof c->text; i++) {
        if (!c->process[i].alive) {
            continue;
        }
        c->text[used++] = '\n';
        eepi_core_print(c->process[i].core, c->text + used, 200);
        used += strlen(c->text + used);
        used += (size_t)snprintf(
            c->text + used, 56, "; runs %llu step %llu%s",
            (unsigned long long)(c->process[i].live ? c->process[i].live->epoch : 0),
            (unsigned long long)c->process[i].stepper.step,
            c->process[i].stepper.in_step ? "..." : "");
    }
    if (c->view && used + 256 < sizeof c->text) {
        c->text[used++] = '\n';
        eepi_view_print(c->view, c->text + used, 200);
    }
    return c->text;
}

void cluster_fail(cluster *c, const char *what, const char *format, ...)
{
    char why[400];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    cr_assert_fail("seed %llu (replay: EEP_TEST_SEED=%llu and this test) at %llu us: %s: %s%s",
                   (unsigned long long)c->options.seed, (unsigned long long)c->options.seed,
                   (unsigned long long)c->now_us, what, why, cluster_text(c));
}

uint64_t cluster_random(cluster *c, uint64_t limit)
{
    return random_next(&c->random) % limit;
}

void *cluster_keep(cluster *c, const void *bytes, size_t size)
{
    void *copy = malloc(size ? size : 1);

    if (c->num_kept == c->kept_capacity) {
        c->kept_capacity = c->kept_capacity ? 2 * c->kept_capacity : 256;
        c->kept = realloc(c->kept, c->kept_capacity * sizeof *c->kept);
    }
    cr_assert(copy && c->kept);
    c->kept[c->num_kept++] = copy;
    return memcpy(copy, bytes, size);
}

/* ------------------------------------------------------------------ events */

static int is_before(const cluster_event *a, const cluster_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

static void push_event(cluster *c, cluster_event event)
{
    int at = c->num_events++;

    if (c->num_events > c->capacity) {
        c->capacity = c->capacity ? 2 * c->capacity : 256;
        c->events = realloc(c->events, (size_t)c->capacity * sizeof *c->events);
        cr_assert(c->events);
    }
    for (; at > 0 && is_before(&event, &c->events[(at - 1) / 2]); at = (at - 1) / 2) {
        c->events[at] = c->events[(at - 1) / 2];
    }
    c->events[at] = event;
}

static cluster_event pop_event(cluster *c)
{
    cluster_event first = c->events[0], last = c->events[--c->num_events];
    int at = 0;

    for (;;) {
        int child = 2 * at + 1;
        if (child + 1 < c->num_events && is_before(&c->events[child + 1], &c->events[child])) {
            child++;
        }
        if (child >= c->num_events || !is_before(&c->events[child], &last)) {
            break;
        }
        c->events[at] = c->events[child];
        at = child;
    }
    c->events[at] = last;
    return first;
}

void cluster_push(cluster *c, event_kind kind, const cluster_process *p, uint64_t at_us,
                  eepi_input input)
{
    push_event(
        c, (cluster_event){at_us, ++c->sequence, p->num_cas, kind, (int)(p - c->process), input});
}

void cluster_push_in(cluster *c, event_kind kind, const cluster_process *p, uint64_t delay_us)
{
    cluster_push(c, kind, p, c->now_us + delay_us, (eepi_input){0});
}

/* A connection keeps the order, both ways. */
static uint64_t on_channel(cluster *c, uint64_t *newest_us)
{
    uint64_t at = c->now_us + 50 + cluster_random(c, cluster_random(c, 20) ? 1500 : 15000);

    *newest_us = at > *newest_us ? at : *newest_us;
    return *newest_us;
}

static void tell(cluster *c, cluster_process *p, eepi_input input)
{
    if (p->alive) {
        cluster_push(c, EVENT_INPUT, p, on_channel(c, &p->down_us), input);
    }
}

void cluster_to_store(cluster *c, cluster_process *p, event_kind kind, eepi_input input)
{
    cluster_push(c, kind, p, on_channel(c, &p->up_us), input);
}

/* ------------------------------------------------------------------ processes */

cluster_process *cluster_process_of(cluster *c, int seat, uint32_t generation)
{
    for (int i = 0; i < c->num_processes; i++) {
        if (c->process[i].seat == seat && c->process[i].generation == generation) {
            return &c->process[i];
        }
    }
    return NULL;
}

cluster_process *cluster_at(cluster *c, int seat)
{
    cluster_process *newest = NULL;

    for (int i = 0; i < c->num_processes; i++) {
        if (c->process[i].seat == seat) {
            newest = &c->process[i];
        }
    }
    return newest;
}

cluster_process *cluster_member(cluster *c, const eepi_view *view, int seat)
{
    return eepi_view_is_member(view, seat)
               ? cluster_process_of(c, seat, eepi_view_seat_at(view, seat)->generation)
               : NULL;
}

bool cluster_read_is_bad(cluster *c, const eepi_view *view, int seat)
{
    cluster_process *reader = cluster_member(c, view, seat);

    if (reader && reader->alive && !reader->file_is_bad && c->options.bad_reads > 0) {
        c->options.bad_reads--;
        reader->file_is_bad = 1;
        cluster_publish(c, reader);
    }
    return reader && reader->file_is_bad;
}

void cluster_die(cluster *c, cluster_process *p)
{
    eepi_suspect dead = {p->seat, p->generation, EEP_FAULT_EXIT};

    if (!p->alive) {
        return;
    }
    p->alive = 0;
    for (int i = 0; i < c->num_processes; i++) {
        if (c->process[i].alive) {
            const uint64_t rings_us = c->now_us + 100 + cluster_random(c, 15000);
            if (cluster_random(c, 2)) { /* its bell, and its memory lasts for a while */
                cluster_push(c, EVENT_INPUT, &c->process[i], rings_us,
                             (eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = dead});
            }
            cluster_push(c, EVENT_INPUT, &c->process[i], rings_us + cluster_random(c, 30000),
                         (eepi_input){.kind = EEPI_INPUT_MEMORY_GONE, .suspect = dead});
        }
    }
}

/* ------------------------------------------------------------------ the store */

static eepi_input view_input(const cluster *c)
{
    return (eepi_input){.kind = c->revision ? EEPI_INPUT_VIEW : EEPI_INPUT_VIEW_MISSING,
                        .view = c->view,
                        .revision = c->revision};
}

static bool is_for_listeners(const eepi_input *input)
{
    return input->kind == EEPI_INPUT_ACK || input->kind == EEPI_INPUT_REPORT;
}

static void tell_all(cluster *c, eepi_input input)
{
    for (int i = 0; i < c->num_processes; i++) {
        if (!is_for_listeners(&input) || c->process[i].listens) {
            tell(c, &c->process[i], input);
        }
    }
}

static eepi_input wedge_input(const cluster *c)
{
    return (eepi_input){.kind = EEPI_INPUT_WEDGE, .wedge = c->wedge, .revision = c->wedge_revision};
}

static void put_wedge(cluster *c, const cluster_event *event)
{
    if (event->input.revision != c->wedge_revision) {
        tell(c, &c->process[event->process], wedge_input(c));
        return;
    }
    c->wedge = event->input.wedge;
    c->wedge_revision = ++c->next_revision;
    tell_all(c, wedge_input(c));
}

static void listen(cluster *c, cluster_process *p, bool listens)
{
    p->listens = listens;
    for (int i = 0; listens && i < NUM_KEYS * c->options.max_ranks; i++) {
        if (is_for_listeners(&c->keys[i])) {
            tell(c, p, c->keys[i]);
        }
    }
    if (listens) {
        tell(c, p, (eepi_input){.kind = EEPI_INPUT_LISTENS});
    }
}

static void put(cluster *c, const eepi_input *input)
{
    int max_ranks = c->options.max_ranks;

    switch (input->kind) {
    case EEPI_INPUT_ACK:
        c->keys[KEY_ACK * max_ranks + input->ack->seat] = *input;
        break;
    case EEPI_INPUT_EXIT:
        c->keys[KEY_EXIT * max_ranks + input->end.seat] = *input;
        break;
    case EEPI_INPUT_MEMBER:
        c->keys[KEY_MEMBER * max_ranks + input->member->seat] = *input;
        break;
    case EEPI_INPUT_PLAN:
        c->keys[KEY_PLAN * max_ranks] = *input;
        break;
    default:
        c->keys[KEY_REPORT * max_ranks + input->report->seat] = *input;
        break;
    }
    tell_all(c, *input);
}

static void cas(cluster *c, const cluster_event *event)
{
    cluster_process *p = &c->process[event->process];
    int fits = event->input.revision == c->revision, disturbance = 0;
    eepi_input reply = {.kind = EEPI_INPUT_CAS_UNKNOWN};

    if (event->input.view->epoch == c->disturbed_epoch && fits) {
        disturbance = c->disturbance;
        c->disturbed_epoch = 0;
    } else if ((int)cluster_random(c, 100) < c->options.unknown_of_100) {
        disturbance = 1 + (int)cluster_random(c, 2);
    }
    if (fits && disturbance != 1) {
        cluster_check_commit(c, event->input.view);
        c->view = event->input.view;
        c->revision = ++c->next_revision;
        tell_all(c, view_input(c)); /* watchers hear of it before the writer gets its answer */
    }
    if (disturbance == 3) {
        cluster_die(c, p);
    }
    if (!disturbance && fits) {
        reply = (eepi_input){.kind = EEPI_INPUT_CAS_DONE, .won = 1, .revision = c->revision};
    } else if (!disturbance) {
        reply = view_input(c);
    }
    reply.step = event->cas; /* only the newest one's answer is given to the core */
    tell(c, p, reply);
}

void cluster_restart_store(cluster *c)
{
    memset(c->keys, 0, (size_t)(NUM_KEYS * c->options.max_ranks) * sizeof *c->keys);
    c->revision = c->wedge_revision = 0;
    c->wedge = (eepi_wedge){0};
    c->view = NULL;
    for (int i = 0; i < c->num_processes; i++) {
        cluster_process *p = &c->process[i];
        if (!p->alive) {
            continue;
        }
        cluster_push(c, EVENT_INPUT, p, c->now_us, (eepi_input){.kind = EEPI_INPUT_STORE_LOST});
        p->wedge_revision = 0;
        if (p->listens) {
            cluster_to_store(c, p, EVENT_LISTEN, (eepi_input){0});
        }
        cluster_to_store(c, p, EVENT_READ, (eepi_input){0});
        cluster_publish(c, p);
        if (p->told_wedge.epoch != 0) {
            cluster_tell_wedge(c, p);
        }
    }
}

/* ------------------------------------------------------------------ life */

static void subscribe(cluster *c, cluster_process *p)
{
    for (int i = 0; i < NUM_KEYS * c->options.max_ranks; i++) {
        if (c->keys[i].kind != EEPI_INPUT_TICK && !is_for_listeners(&c->keys[i])) {
            tell(c, p, c->keys[i]);
        }
    }
    if (c->wedge_revision) {
        tell(c, p, wedge_input(c));
    }
    tell(c, p, view_input(c));
}

static uint64_t sum_of(int expert)
{
    return 0x1000u + (uint64_t)expert;
}

static void load(cluster *c, cluster_process *p)
{
    eepi_view *first = eepi_view_new(&c->config.shape);

    int anybody = 0;

    for (int seat = 0; c->view && seat < c->options.max_ranks; seat++) {
        const cluster_process *q = cluster_member(c, c->view, seat);
        anybody |= q && q->alive;
    }
    if (anybody) {
        eepi_plan_table *table = eepi_plan_table_new(&c->view->shape);
        cr_assert_not_null(table);
        eepi_plan_seat(c->view, table, NULL, p->seat, p->seat, p->experts);
        eepi_plan_table_free(table);
    } else {
        for (int seat = 0; seat < c->options.num_ranks; seat++) {
            *eepi_view_seat_at(first, seat) =
                (eepi_view_seat){.generation = 1, .state = EEP_SEAT_ACTIVE};
        }
        cr_assert_eq(eepi_plan_initial(first), EEP_OK);
        for (int slot = 0; slot < first->shape.num_slots; slot++) {
            const eepi_view_slot *s = eepi_view_slot_at(first, 0, p->seat, slot);
            p->experts[slot] = s->state == EEPI_SLOT_HOLDS ? s->expert : -1;
        }
    }
    for (int slot = 0; slot < c->options.num_slots; slot++) {
        p->checksums[slot] = sum_of(p->experts[slot]);
    }
    free(first);
}

/* It can read those of all experts. */
static void claim_backups(const cluster *c, cluster_process *p)
{
    uint64_t sums[64];

    for (int expert = 0; expert < 64; expert++) {
        sums[expert] = sum_of(expert);
    }
    p->backup = c->options.backups ? (1ull << c->options.num_experts) - 1 : 0;
    p->claim = eepi_view_claim_digest(&p->backup, sums, c->options.num_experts);
}

int cluster_start(cluster *c, int seat)
{
    const cluster_process *last = cluster_at(c, seat);
    cluster_process *p = &c->process[c->num_processes];

    cr_assert_lt(c->num_processes, CLUSTER_MAX_PROCESSES);
    *p = (cluster_process){.seat = seat, .generation = last ? last->generation + 1 : 1, .alive = 1};
    eepi_stepper_init(&p->stepper,
                      &(eepi_stepper_config){STEP_DEADLINE_US, STEP_DEADLINE_US, EXPEL_US});
    claim_backups(c, p);
    load(c, p);
    c->config.seat = seat;
    c->config.generation = p->generation;
    cr_assert_eq(eepi_core_open(&c->config, &p->core), EEP_OK);
    subscribe(c, p);
    if (last && !last->alive) { /* M7: its end is observed before the seat is taken */
        cluster_to_store(c, p, EVENT_PUT,
                         (eepi_input){.kind = EEPI_INPUT_EXIT,
                                      .end = {seat, last->generation, EEPI_END_PROCESS}});
    }
    cluster_publish(c, p);
    cluster_push_in(c, EVENT_RANK, p, cluster_random(c, 3000));
    cluster_push_in(c, EVENT_TICK, p, TICK_US);
    return c->num_processes++;
}

cluster *cluster_open(const cluster_options *options)
{
    cluster *c = calloc(1, sizeof *c);

    cr_assert(c && options->num_slots <= CLUSTER_MAX_SLOTS && options->num_experts < 64 &&
              options->max_ranks <= CLUSTER_MAX_SEATS);
    c->options = *options;
    c->random = options->seed;
    c->now_us = 1000000;
    c->keys = calloc((size_t)(NUM_KEYS * options->max_ranks), sizeof *c->keys);
    c->config = (eepi_core_config){
        .num_ranks = options->num_ranks,
        .propose_delay_us = 20000,
        .drain_bound_us = 150000,
        .stage_bound_us = 300000,
        .missed_window_steps = 1000,
        .background = options->background,
        .background_delay_us = 50000,
        .kill_fence = !options->no_kill_fence,
        .end_is_proof = true,
        .shape = {options->max_ranks, 1, options->num_experts, options->num_slots,
                  .seats_per_group = options->seats_per_group},
    };
    for (int seat = 0; seat < options->num_ranks; seat++) {
        cluster_start(c, seat);
    }
    return c;
}

void cluster_close(cluster *c)
{
    for (int i = 0; i < c->num_processes; i++) {
        eepi_core_close(c->process[i].core);
    }
    for (size_t i = 0; i < c->num_kept; i++) {
        free(c->kept[i]);
    }
    free(c->kept);
    free(c->events);
    free(c->keys);
    free(c);
}

void cluster_crash(cluster *c, int seat)
{
    cluster_die(c, cluster_at(c, seat));
}

void cluster_crash_process(cluster *c, int process)
{
    cluster_die(c, &c->process[process]);
}

void cluster_delay_store(cluster *c, int seat, uint64_t by_us)
{
    cluster_at(c, seat)->down_us = c->now_us + by_us;
}

void cluster_evidence(cluster *c, int observer, int seat, int kind)
{
    const cluster_process *p = cluster_at(c, seat);

    cluster_feed(c, observer,
                 (eepi_input){.kind = kind < 0 ? EEPI_INPUT_ALIVE : EEPI_INPUT_EVIDENCE,
                              .suspect = {seat, p->generation, kind}});
}

void cluster_stop(cluster *c, int seat, uint64_t for_us)
{
    cluster_process *p = cluster_at(c, seat);
    eepi_suspect silent = {seat, p->generation, EEP_FAULT_SILENT};
    uint64_t noticed = c->now_us + EXPEL_US, until = c->now_us + for_us;

    p->stopped_until_us = until;
    for (int i = 0; i < c->num_processes; i++) {
        cluster_process *q = &c->process[i];
        uint64_t at = noticed + cluster_random(c, 20000);
        if (q == p || at >= until) {
            continue;
        }
        cluster_push(c, EVENT_INPUT, q, at,
                     (eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = silent});
        cluster_push(c, EVENT_INPUT, q, until + cluster_random(c, 20000),
                     (eepi_input){.kind = EEPI_INPUT_ALIVE, .suspect = silent});
    }
}

void cluster_leave(cluster *c, int seat)
{
    cluster_feed(c, seat, (eepi_input){.kind = EEPI_INPUT_LEAVE});
}

/* Of the answers to compare-and-swaps a core gets only the newest one's, as the service thread
 * does it. */
static int is_late_answer(const cluster_process *p, const eepi_input *input)
{
    int is_answer = input->kind == EEPI_INPUT_CAS_DONE || input->kind == EEPI_INPUT_CAS_UNKNOWN ||
                    input->kind == EEPI_INPUT_VIEW || input->kind == EEPI_INPUT_VIEW_MISSING;

    return is_answer && input->step && input->step != p->num_cas;
}

static void handle(cluster *c, cluster_event *event)
{
    cluster_process *p = &c->process[event->process];

    if (event->kind == EVENT_PUT) {
        put(c, &event->input);
        if (event->input.kind == EEPI_INPUT_REPORT) {
            tell(c, p,
                 (eepi_input){.kind = EEPI_INPUT_REPORTED, .step = event->input.report->epoch});
        }
    } else if (event->kind == EVENT_CAS) {
        cas(c, event);
    } else if (event->kind == EVENT_READ) {
        tell(c, p, view_input(c));
    } else if (event->kind == EVENT_WEDGE) {
        put_wedge(c, event);
    } else if (event->kind == EVENT_LISTEN || event->kind == EVENT_IGNORE) {
        listen(c, p, event->kind == EVENT_LISTEN);
    } else if (event->kind == EVENT_DIE) {
        cluster_die(c, p);
    } else if (p->alive && c->now_us < p->stopped_until_us) {
        event->at_us = p->stopped_until_us; /* keeps its sequence number, and so the order */
        if (p->stopped_until_us != CLUSTER_FOREVER) {
            push_event(c, *event);
        }
    } else if (p->alive) {
        if (event->kind == EVENT_INPUT && !is_late_answer(p, &event->input)) {
            cluster_feed_to(c, p, event->input);
        } else if (event->kind == EVENT_INPUT) {
            return;
        } else if (event->kind == EVENT_RANK) {
            cluster_run_rank(c, p);
        } else if (event->kind == EVENT_DRAINED) {
            cluster_drain(c, p);
        } else if (event->kind == EVENT_FILLED) {
            cluster_filled(c, p, event->input.view);
        } else {
            if (!event->input.revision) { /* the regular one; others were asked for */
                cluster_push_in(c, EVENT_TICK, p, TICK_US);
            }
            cluster_feed_to(c, p, (eepi_input){.kind = EEPI_INPUT_TICK});
        }
    }
}

int cluster_until(cluster *c, int (*is_true)(cluster *), uint64_t bound_us)
{
    uint64_t until = c->now_us + bound_us;

    while (!is_true || !is_true(c)) {
        cluster_event event;
        if (!c->num_events || c->events[0].at_us > until) {
            c->now_us = until;
            return 0;
        }
        event = pop_event(c);
        c->now_us = event.at_us > c->now_us ? event.at_us : c->now_us;
        handle(c, &event);
    }
    return 1;
}

void cluster_run(cluster *c, uint64_t for_us)
{
    (void)cluster_until(c, NULL, for_us);
}
