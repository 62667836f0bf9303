#include "core_cluster.h"

#include "repair/planner.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(c, condition, ...)                                                                    \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail(c, #condition, __VA_ARGS__);                                                      \
    } while (0)

enum { KEY_ACK, KEY_EXIT, KEY_MEMBER, KEY_PLAN, KEY_REPORT, NUM_KEYS };
enum { STEP_DEADLINE_US = 100000, EXPEL_US = 150000, TICK_US = 100000 };

typedef enum event_kind {
    EVENT_INPUT, /* to a core */
    EVENT_TICK,
    EVENT_RANK,    /* the rank thread looks around */
    EVENT_DRAINED, /* it has ended its step */
    EVENT_FILLED,
    EVENT_DIE,
    EVENT_PUT, /* arrives at the store */
    EVENT_CAS,
    EVENT_READ,
} event_kind;

struct cluster_event {
    uint64_t at_us, sequence, cas;
    event_kind kind;
    int process;
    eepi_input input;
};

const char *cluster_text(cluster *c)
{
    size_t used = 0;

    c->text[0] = 0;
    for (int i = 0; i < c->num_processes && used + 256 < sizeof(c->text); i++) {
        if (!c->process[i].alive)
            continue;
        c->text[used++] = '\n';
        eepi_core_print(c->process[i].core, c->text + used, 200);
        used += strlen(c->text + used);
        used += (size_t)snprintf(
            c->text + used, 56, "; runs %llu step %llu%s",
            (unsigned long long)(c->process[i].live ? c->process[i].live->epoch : 0),
            (unsigned long long)c->process[i].step, c->process[i].in_step ? "..." : "");
        if (getenv("DBG"))
            used += sprintf(c->text + used,
                            " wedged %d newer %d flip_due %d staged %p ann %p must_follow %d stuck "
                            "%lu stop %lu ok %lu ab %lu",
                            c->process[i].wedged, c->process[i].newer, c->process[i].flip_due != 0,
                            (void *)c->process[i].staged, (void *)c->process[i].announced,
                            c->process[i].must_follow, c->process[i].stuck_until_us,
                            c->process[i].stopped_until_us, c->process[i].num_ok,
                            c->process[i].num_aborted);
    }
    if (c->view && used + 256 < sizeof(c->text)) {
        c->text[used++] = '\n';
        eepi_view_print(c->view, c->text + used, 200);
    }
    return c->text;
}

__attribute__((format(printf, 3, 4))) static void fail(cluster *c, const char *what,
                                                       const char *format, ...)
{
    char why[400];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    cr_assert_fail("seed %llu (replay: EEP_TEST_SEED=%llu and this test) at %llu us: %s: %s%s",
                   (unsigned long long)c->options.seed, (unsigned long long)c->options.seed,
                   (unsigned long long)c->now_us, what, why, cluster_text(c));
}

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t cluster_random(cluster *c, uint64_t limit)
{
    uint64_t z = c->random += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % limit;
}

static void *keep(cluster *c, const void *bytes, size_t size)
{
    void *copy = malloc(size ? size : 1);

    if (c->num_kept == c->kept_capacity) {
        c->kept_capacity = c->kept_capacity ? 2 * c->kept_capacity : 256;
        c->kept = realloc(c->kept, c->kept_capacity * sizeof(*c->kept));
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
        c->events = realloc(c->events, (size_t)c->capacity * sizeof(*c->events));
        cr_assert(c->events);
    }
    for (; at > 0 && is_before(&event, &c->events[(at - 1) / 2]); at = (at - 1) / 2)
        c->events[at] = c->events[(at - 1) / 2];
    c->events[at] = event;
}

static cluster_event pop_event(cluster *c)
{
    cluster_event first = c->events[0], last = c->events[--c->num_events];
    int at = 0;

    for (;;) {
        int child = 2 * at + 1;
        if (child + 1 < c->num_events && is_before(&c->events[child + 1], &c->events[child]))
            child++;
        if (child >= c->num_events || !is_before(&c->events[child], &last))
            break;
        c->events[at] = c->events[child];
        at = child;
    }
    c->events[at] = last;
    return first;
}

static void push(cluster *c, event_kind kind, const cluster_process *p, uint64_t at_us,
                 eepi_input input)
{
    push_event(
        c, (cluster_event){at_us, ++c->sequence, p->num_cas, kind, (int)(p - c->process), input});
}

static void push_in(cluster *c, event_kind kind, const cluster_process *p, uint64_t delay_us)
{
    push(c, kind, p, c->now_us + delay_us, (eepi_input){0});
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
    if (p->alive)
        push(c, EVENT_INPUT, p, on_channel(c, &p->down_us), input);
}

static void to_store(cluster *c, cluster_process *p, event_kind kind, eepi_input input)
{
    push(c, kind, p, on_channel(c, &p->up_us), input);
}

/* ------------------------------------------------------------------ truth */

static cluster_process *process_of(cluster *c, int seat, uint32_t generation)
{
    for (int i = 0; i < c->num_processes; i++)
        if (c->process[i].seat == seat && c->process[i].generation == generation)
            return &c->process[i];
    return NULL;
}

cluster_process *cluster_at(cluster *c, int seat)
{
    cluster_process *newest = NULL;

    for (int i = 0; i < c->num_processes; i++)
        if (c->process[i].seat == seat)
            newest = &c->process[i];
    return newest;
}

static cluster_process *member(cluster *c, const eepi_view *view, int seat)
{
    return eepi_view_is_member(view, seat)
               ? process_of(c, seat, eepi_view_seat_at(view, seat)->generation)
               : NULL;
}

static int is_in(const eepi_view *view, const cluster_process *p)
{
    return eepi_view_has(view, p->seat, p->generation);
}

/* What a commit changes for a process that lived in the document before. */
static void check_commit_of(cluster *c, const eepi_view *before, const eepi_view *view,
                            cluster_process *p)
{
    int is_fault = view->cause == EEPI_VIEW_FAULT;
    uint32_t now = eepi_view_seat_at(view, p->seat)->generation;

    if (before && is_in(before, p) && !is_in(view, p)) {
        p->expelled_epoch = view->epoch;
        MUST(c, is_fault || p->leaving, "M1: rank %d expelled by a planned change", p->seat);
    }
    MUST(c, !(p->alive && p->generation < now), "M7: rank %d.%u lives, %u is let in", p->seat,
         p->generation, now);
    if (is_fault && p->alive && p->live && !is_in(view, p))
        MUST(c, p->live->combine_copy != view->combine_copy,
             "M2: rank %d.%u may still write into the copy of epoch %llu", p->seat, p->generation,
             (unsigned long long)view->epoch);
    if (is_fault && is_in(view, p))
        for (int i = 0; i < CLUSTER_STARTED_KEPT; i++)
            MUST(c, p->started[i].step < view->first_step, "M2: rank %d started step %llu", p->seat,
                 (unsigned long long)p->started[i].step);
}

/* S2, S7, R1, S12, M2 at the moment of a compare-and-swap. */
static void check_commit(cluster *c, const eepi_view *view)
{
    const eepi_view *before = view->epoch ? c->committed[view->epoch - 1] : NULL;
    const eepi_view *same = c->committed[view->epoch];
    const char *why = "";
    int fills = eepi_plan_fills(view, -1, NULL, 0), uncovered = eepi_view_num_uncovered(view, -1);

    MUST(c, eepi_view_check(view, view->bytes, &why) == EEP_OK, "%s", why);
    MUST(c, !same || same->digest == view->digest, "S2: epoch %llu has two payloads",
         (unsigned long long)view->epoch);
    if (same)
        return;
    c->committed[view->epoch] = view;
    c->num_committed++;
    MUST(c, view->epoch == 1 || (before && before->digest == view->base_digest), "M4: base");
    MUST(c, (view->phase == EEPI_VIEW_SERVING) == (fills == 0), "R1: %d FILLING", fills);
    MUST(c, fills ? view->cause == EEPI_VIEW_FAULT : uncovered == 0, "S7: %d uncovered", uncovered);
    for (int expert = 0; expert < view->shape.num_experts; expert++) {
        int is_filled = 0;
        for (int i = 0; i < view->shape.max_ranks * view->shape.num_slots; i++) {
            const eepi_view_slot *s =
                eepi_view_slot_at(view, 0, i / view->shape.num_slots, i % view->shape.num_slots);
            is_filled += s->state == EEPI_SLOT_FILLING && s->expert == expert &&
                         eepi_view_is_member(view, s->source);
        }
        MUST(c, is_filled == !eepi_view_num_replicas(view, 0, expert), "S7: expert %d", expert);
    }
    if (before) {
        MUST(c, (before->combine_copy != view->combine_copy) == (view->cause == EEPI_VIEW_FAULT),
             "M2: the combine copy toggles with each fault view and no other");
        for (int seat = 0; seat < view->shape.max_ranks; seat++)
            MUST(c,
                 eepi_view_seat_at(before, seat)->generation <=
                     eepi_view_seat_at(view, seat)->generation,
                 "S12: seat %d", seat);
    }
    for (int i = 0; i < c->num_processes; i++)
        check_commit_of(c, before, view, &c->process[i]);
}

/* S1, S2, S6: what a rank puts live. */
static void check_install(cluster *c, cluster_process *p, const eepi_view *view)
{
    const eepi_view *committed = c->committed[view->epoch];

    MUST(c, committed && committed->digest == view->digest, "S1: rank %d installs epoch %llu",
         p->seat, (unsigned long long)view->epoch);
    MUST(c, view->epoch > p->installed_epoch, "S2: rank %d", p->seat);
    MUST(c, is_in(view, p) && view->phase == EEPI_VIEW_SERVING, "S4: rank %d", p->seat);
    p->installed_epoch = view->epoch;
    for (int slot = 0; slot < view->shape.num_slots; slot++) {
        const eepi_view_slot *s = eepi_view_slot_at(view, 0, p->seat, slot);
        MUST(c, s->state != EEPI_SLOT_HOLDS || s->expert == p->experts[slot],
             "S6: rank %d slot %d holds %d, not %d", p->seat, slot, p->experts[slot], s->expert);
    }
}

/* M2, S3, S4: a promise is kept; nobody outside a view steps under it or a later one. */
static void check_step(cluster *c, const cluster_process *p)
{
    const eepi_view *newest = NULL;

    for (int i = 0; i < c->num_processes; i++)
        if (c->process[i].installed_epoch &&
            (!newest || c->process[i].installed_epoch > newest->epoch))
            newest = c->committed[c->process[i].installed_epoch];
    MUST(c, p->live->epoch > p->promised, "M2: rank %d promised not to serve %llu", p->seat,
         (unsigned long long)p->promised);
    MUST(c, is_in(newest, p) || p->live->epoch < p->expelled_epoch, "S4: rank %d.%u", p->seat,
         p->generation);
}

/* ------------------------------------------------------------------ the rank thread */

static const cluster_started *started(const cluster_process *p, uint64_t epoch, uint64_t step)
{
    for (int i = 0; i < CLUSTER_STARTED_KEPT; i++)
        if (p->started[i].epoch == epoch && p->started[i].step == step)
            return &p->started[i];
    return NULL;
}

static const cluster_started *newest_started(const cluster_process *p)
{
    static const cluster_started none;

    return p->num_started ? &p->started[(p->num_started - 1) % CLUSTER_STARTED_KEPT] : &none;
}

static void go_live(cluster *c, cluster_process *p, const eepi_view *view)
{
    check_install(c, p, view);
    p->live = view;
    p->warm = p->newer = 0;
    p->flip_due = 0;
    p->pending = p->staged = p->announced = NULL;
}

/* Rule M3, as eep_step_begin does it. */
static void take_announced(cluster *c, cluster_process *p)
{
    uint64_t digest = p->flip_due;

    if (!digest && p->newer && p->announced)
        digest = p->announced->digest;
    if (!digest)
        return;
    if (p->staged && p->staged->digest == digest) {
        go_live(c, p, p->staged);
    } else if (p->announced && p->announced->digest == digest) { /* we have left */
        MUST(c, !is_in(p->announced, p), "M3: rank %d has not staged what it switches to", p->seat);
        p->live = p->announced = NULL;
        p->flip_due = 0;
        cluster_give(c, p->seat, (eepi_input){.kind = EEPI_INPUT_FLIPPED, .digest = digest});
    }
}

static void begin_step(cluster *c, cluster_process *p)
{
    uint64_t ahead = 0;

    if (p->pending) {
        uint64_t first = p->must_follow ? 0 : p->pending->first_step;
        go_live(c, p, p->pending);
        p->jump = 0;
        p->step = p->step + 1 < first ? first - 1 : p->step;
    }
    take_announced(c, p);
    if (!p->live || p->flip_due || p->newer)
        return;
    for (int seat = 0; seat < p->live->shape.max_ranks; seat++) {
        cluster_process *q = member(c, p->live, seat);
        if (q && q != p && newest_started(q)->epoch == p->live->epoch &&
            newest_started(q)->step > ahead)
            ahead = newest_started(q)->step;
    }
    if (p->must_follow && !ahead)
        return;
    p->step++;
    p->step = p->jump > p->step ? p->jump : p->step;
    p->step = ahead > p->step ? ahead : p->step;
    p->jump = p->must_follow = 0;
    p->in_step = 1;
    p->began_us = c->now_us;
    check_step(c, p);
    p->started[p->num_started++ % CLUSTER_STARTED_KEPT] =
        (cluster_started){p->live->epoch, p->step, p->announced ? p->announced->digest : 0};
}

static void complete(cluster *c, cluster_process *p, uint64_t announced)
{
    check_step(c, p);
    p->in_step = 0;
    p->num_ok++;
    p->last_ok_us = c->now_us;
    p->flip_due = announced;
    if (!p->warm && p->live->cause == EEPI_VIEW_PLANNED)
        cluster_give(c, p->seat,
                     (eepi_input){.kind = EEPI_INPUT_FLIPPED, .digest = p->live->digest});
    p->warm = 1;
}

/* In the order of docs/PROTOCOL.md, "How a wait ends". */
static void end_step(cluster *c, cluster_process *p)
{
    uint64_t missing = 0, announced = 0, jump = 0;
    int aborted = 0;

    for (int seat = 0; seat < p->live->shape.max_ranks; seat++) {
        cluster_process *q = member(c, p->live, seat);
        const cluster_started *s = q ? started(q, p->live->epoch, p->step) : NULL;
        if (s) {
            announced |= s->announced;
        } else if (q) {
            const cluster_started *newest = newest_started(q);
            missing |= 1ull << seat;
            aborted |= q->wedged && q->alive;
            if (newest->step >= p->step && newest->epoch >= p->live->epoch) {
                p->newer |= newest->epoch > p->live->epoch;
                jump = newest->step > jump ? newest->step : jump;
            }
        }
    }
    if (!missing) {
        complete(c, p, announced);
    } else if (jump || aborted || c->now_us - p->began_us > STEP_DEADLINE_US) {
        p->in_step = 0;
        p->num_aborted++;
        p->jump = jump;
        if (!jump && !aborted) {
            uint64_t *seats = keep(c, &(uint64_t[16]){missing}, 16 * sizeof(*seats));
            cluster_give(c, p->seat,
                         (eepi_input){.kind = EEPI_INPUT_ACCUSED, .seats = seats, .step = p->step});
        }
    }
}

static void run_rank(cluster *c, cluster_process *p)
{
    push_in(c, EVENT_RANK, p, 2000 + cluster_random(c, 3000));
    if (c->now_us < p->stuck_until_us || p->over)
        return;
    if (p->in_step)
        end_step(c, p);
    else if (!p->wedged)
        begin_step(c, p);
}

static void drain(cluster *c, cluster_process *p)
{
    if (c->now_us < p->stuck_until_us) {
        if (p->stuck_until_us != CLUSTER_FOREVER)
            push(c, EVENT_DRAINED, p, p->stuck_until_us, (eepi_input){0});
        return;
    }
    if (p->in_step && p->live)
        end_step(c, p); /* the abort word may come too late to stop it */
    p->in_step = 0;
    cluster_give(c, p->seat, (eepi_input){.kind = EEPI_INPUT_DRAINED, .step = p->step});
}

/* ------------------------------------------------------------------ actions */

static void die(cluster *c, cluster_process *p)
{
    eepi_suspect dead = {p->seat, p->generation, EEP_FAULT_EXIT};

    if (!p->alive)
        return;
    p->alive = 0;
    for (int i = 0; i < c->num_processes; i++)
        if (c->process[i].alive)
            push(c, EVENT_INPUT, &c->process[i], c->now_us + 100 + cluster_random(c, 15000),
                 (eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = dead});
}

static void wedge(cluster *c, cluster_process *p)
{
    p->wedged = 1;
    p->num_wedges++;
    p->staged = p->announced = p->pending = NULL;
    p->flip_due = 0;
    push_in(c, EVENT_DRAINED, p, 100 + (p->in_step ? cluster_random(c, 10000) : 0));
}

/* Rule R1: the old content of a FILLING slot is gone from now on. */
static void fill(cluster *c, cluster_process *p, const eepi_view *view)
{
    eepi_fill fills[CLUSTER_MAX_SLOTS];
    int n = eepi_plan_fills(view, p->seat, fills, CLUSTER_MAX_SLOTS);

    for (int i = 0; i < n; i++)
        p->experts[fills[i].slot] = -1;
    p->num_fills += (uint64_t)n;
    push(c, EVENT_FILLED, p,
         c->now_us + 1000 + cluster_random(c, 20000) + (n ? p->fill_delay_us : 0),
         (eepi_input){.kind = EEPI_INPUT_FILLED, .digest = view->digest, .view = view});
}

static void filled(cluster *c, cluster_process *p, const eepi_view *view)
{
    eepi_fill fills[CLUSTER_MAX_SLOTS];
    int n = eepi_plan_fills(view, p->seat, fills, CLUSTER_MAX_SLOTS);

    if (!eepi_core_view(p->core) || eepi_core_view(p->core)->digest != view->digest)
        return; /* cancelled */
    for (int i = 0; i < n; i++)
        p->experts[fills[i].slot] = fills[i].expert;
    cluster_give(c, p->seat, (eepi_input){.kind = EEPI_INPUT_FILLED, .digest = view->digest});
}

static eepi_member record_of(const cluster_process *p)
{
    return (eepi_member){p->seat,    p->generation, 1,         (uint8_t)p->leaving,
                         p->experts, p->checksums,  &p->backup};
}

static void publish(cluster *c, cluster_process *p)
{
    eepi_member record = record_of(p);
    eepi_input input = {.kind = EEPI_INPUT_MEMBER};

    record.experts = keep(c, p->experts, sizeof(p->experts));
    record.checksums = keep(c, p->checksums, sizeof(p->checksums));
    input.member = keep(c, &record, sizeof(record));
    to_store(c, p, EVENT_PUT, input);
}

static void put_report(cluster *c, cluster_process *p, const eepi_report *report)
{
    eepi_report copy = *report;
    eepi_input input = {.kind = EEPI_INPUT_REPORT};

    MUST(c, !p->in_step, "M2: rank %d reports in a step", p->seat);
    copy.suspects = keep(c, copy.suspects, (size_t)copy.num_suspects * sizeof(*copy.suspects));
    input.report = keep(c, &copy, sizeof(copy));
    p->promised = copy.epoch;
    to_store(c, p, EVENT_PUT, input);
}

static void put_ack(cluster *c, cluster_process *p, const eepi_ack *ack)
{
    if (ack->kind == EEPI_ACK_STAGED && p->die_at_ack_us) {
        push_in(c, EVENT_DIE, p, p->die_at_ack_us);
        p->die_at_ack_us = 0;
    }
    to_store(c, p, EVENT_PUT,
             (eepi_input){.kind = EEPI_INPUT_ACK, .ack = keep(c, ack, sizeof(*ack))});
}

static void perform_view(cluster *c, cluster_process *p, const eepi_action *action)
{
    const eepi_view *view = keep(c, action->view, action->view->bytes);

    switch (action->kind) {
    case EEPI_ACTION_CAS:
        p->num_cas++;
        to_store(c, p, EVENT_CAS, (eepi_input){.view = view, .revision = action->revision});
        break;
    case EEPI_ACTION_PLAN:
        to_store(c, p, EVENT_PUT, (eepi_input){.kind = EEPI_INPUT_PLAN, .view = view});
        break;
    case EEPI_ACTION_STAGE:
        if (p->pending || p->holds_acks || p->failing_stages) {
            p->failing_stages -= p->failing_stages > 0;
            break; /* no acknowledgement: the plan lapses */
        }
        p->staged = view;
        push(c, EVENT_INPUT, p, c->now_us + 500 + cluster_random(c, 3000),
             (eepi_input){.kind = EEPI_INPUT_STAGED, .digest = view->digest});
        break;
    case EEPI_ACTION_INSTALL:
        p->must_follow = view->cause == EEPI_VIEW_PLANNED;
        p->pending = view;
        p->staged = p->announced = NULL;
        p->flip_due = 0;
        p->wedged = 0;
        break;
    case EEPI_ACTION_ANNOUNCE:
        if (!p->live || p->live->digest != view->digest)
            p->announced = view;
        break;
    case EEPI_ACTION_FILL:
        fill(c, p, view);
        break;
    default: /* EEPI_ACTION_EXPELLED */
        break;
    }
}

static void perform(cluster *c, cluster_process *p, const eepi_action *action)
{
    cluster_process *other;

    switch (action->kind) {
    case EEPI_ACTION_WEDGE:
        wedge(c, p);
        break;
    case EEPI_ACTION_REPORT:
        put_report(c, p, &action->report);
        break;
    case EEPI_ACTION_READ:
        to_store(c, p, EVENT_READ, (eepi_input){0});
        break;
    case EEPI_ACTION_ACK:
        put_ack(c, p, &action->ack);
        break;
    case EEPI_ACTION_KILL:
        p->num_kills++;
        other = process_of(c, action->suspect.seat, action->suspect.generation);
        push_in(c, EVENT_DIE, other, 200 + cluster_random(c, 3000));
        break;
    case EEPI_ACTION_EXIT:
        to_store(c, p, EVENT_PUT,
                 (eepi_input){.kind = EEPI_INPUT_EXIT, .suspect = action->suspect});
        break;
    case EEPI_ACTION_MEMBER:
        p->leaving = 1;
        publish(c, p);
        break;
    case EEPI_ACTION_UNCOVERED:
        c->num_uncovered++;
        p->over = 1;
        break;
    case EEPI_ACTION_EVICTED:
    case EEPI_ACTION_DRAINED: /* the engine ends its process */
        p->over = 1;
        push_in(c, EVENT_DIE, p, 1000 + cluster_random(c, 20000));
        break;
    case EEPI_ACTION_CANCEL:
    case EEPI_ACTION_REFUSED:
    case EEPI_ACTION_SUSPECTED:
        break;
    default:
        perform_view(c, p, action);
        break;
    }
}

static void give(cluster *c, cluster_process *p, eepi_input input)
{
    eepi_action actions[EEPI_CORE_MAX_ACTIONS];
    const eepi_action *from;
    uint64_t wake;
    int n;

    if (!p->alive)
        return;
    input.now_us = c->now_us;
    from = eepi_core_handle(p->core, &input, &n);
    memcpy(actions, from, (size_t)n * sizeof(*actions));
    for (int i = 0; i < n; i++)
        perform(c, p, &actions[i]);
    wake = eepi_core_wake_us(p->core);
    if (wake != UINT64_MAX && (p->wake_us <= c->now_us || wake < p->wake_us)) {
        p->wake_us = wake > c->now_us ? wake : c->now_us + 1;
        push(c, EVENT_TICK, p, p->wake_us, (eepi_input){.revision = 1});
    }
}

void cluster_give(cluster *c, int seat, eepi_input input)
{
    give(c, cluster_at(c, seat), input);
}

/* ------------------------------------------------------------------ the store */

static eepi_input view_input(const cluster *c)
{
    return (eepi_input){.kind = c->revision ? EEPI_INPUT_VIEW : EEPI_INPUT_VIEW_MISSING,
                        .view = c->view,
                        .revision = c->revision};
}

static void tell_all(cluster *c, eepi_input input)
{
    for (int i = 0; i < c->num_processes; i++)
        tell(c, &c->process[i], input);
}

static void put(cluster *c, const eepi_input *input)
{
    int max_ranks = c->options.max_ranks;

    switch (input->kind) {
    case EEPI_INPUT_ACK:
        c->keys[KEY_ACK * max_ranks + input->ack->seat] = *input;
        break;
    case EEPI_INPUT_EXIT:
        c->keys[KEY_EXIT * max_ranks + input->suspect.seat] = *input;
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
        check_commit(c, event->input.view);
        c->view = event->input.view;
        c->revision = ++c->next_revision;
        tell_all(c, view_input(c)); /* watchers hear of it before the writer gets its answer */
    }
    if (disturbance == 3)
        die(c, p);
    if (!disturbance && fits)
        reply = (eepi_input){.kind = EEPI_INPUT_CAS_DONE, .won = 1, .revision = c->revision};
    else if (!disturbance)
        reply = view_input(c);
    reply.step = event->cas; /* only the newest one's answer is given to the core */
    tell(c, p, reply);
}

void cluster_restart_store(cluster *c)
{
    memset(c->keys, 0, (size_t)(NUM_KEYS * c->options.max_ranks) * sizeof(*c->keys));
    c->revision = 0;
    c->view = NULL;
    for (int i = 0; i < c->num_processes; i++) {
        if (!c->process[i].alive)
            continue;
        publish(c, &c->process[i]);
        to_store(c, &c->process[i], EVENT_READ, (eepi_input){0});
    }
}

/* ------------------------------------------------------------------ life */

static void subscribe(cluster *c, cluster_process *p)
{
    for (int i = 0; i < NUM_KEYS * c->options.max_ranks; i++)
        if (c->keys[i].kind != EEPI_INPUT_TICK)
            tell(c, p, c->keys[i]);
    if (c->revision)
        tell(c, p, view_input(c));
}

static void load(cluster *c, cluster_process *p)
{
    eepi_view *first = eepi_view_new(&c->config.shape);

    if (c->view) {
        eepi_plan_seat(c->view, p->seat, p->experts);
    } else {
        for (int seat = 0; seat < c->options.num_ranks; seat++)
            *eepi_view_seat_at(first, seat) = (eepi_view_seat){1, EEP_SEAT_ACTIVE, {0}};
        cr_assert_eq(eepi_plan_initial(first), EEP_OK);
        for (int slot = 0; slot < first->shape.num_slots; slot++) {
            const eepi_view_slot *s = eepi_view_slot_at(first, 0, p->seat, slot);
            p->experts[slot] = s->state == EEPI_SLOT_HOLDS ? s->expert : -1;
        }
    }
    for (int slot = 0; slot < c->options.num_slots; slot++)
        p->checksums[slot] = 0x1000u + (uint64_t)p->experts[slot];
    free(first);
}

int cluster_start(cluster *c, int seat)
{
    const cluster_process *last = cluster_at(c, seat);
    cluster_process *p = &c->process[c->num_processes];

    cr_assert_lt(c->num_processes, CLUSTER_MAX_PROCESSES);
    *p = (cluster_process){.seat = seat, .generation = last ? last->generation + 1 : 1, .alive = 1};
    p->backup = c->options.backups ? (1ull << c->options.num_experts) - 1 : 0;
    load(c, p);
    c->config.seat = seat;
    c->config.generation = p->generation;
    cr_assert_eq(eepi_core_open(&c->config, &p->core), EEP_OK);
    subscribe(c, p);
    publish(c, p);
    push_in(c, EVENT_RANK, p, cluster_random(c, 3000));
    push_in(c, EVENT_TICK, p, TICK_US);
    return c->num_processes++;
}

cluster *cluster_open(const cluster_options *options)
{
    cluster *c = calloc(1, sizeof(*c));

    cr_assert(c && options->num_slots <= CLUSTER_MAX_SLOTS && options->num_experts < 64 &&
              options->max_ranks <= CLUSTER_MAX_SEATS);
    c->options = *options;
    c->random = options->seed;
    c->now_us = 1000000;
    c->keys = calloc((size_t)(NUM_KEYS * options->max_ranks), sizeof(*c->keys));
    c->config = (eepi_core_config){
        .num_ranks = options->num_ranks,
        .propose_delay_us = 20000,
        .drain_bound_us = 150000,
        .stage_bound_us = 300000,
        .strike_window_steps = 1000,
        .kill_fence = !options->no_kill_fence,
        .shape = {options->max_ranks, 1, options->num_experts, options->num_slots},
    };
    for (int seat = 0; seat < options->num_ranks; seat++)
        cluster_start(c, seat);
    return c;
}

void cluster_close(cluster *c)
{
    for (int i = 0; i < c->num_processes; i++)
        eepi_core_close(c->process[i].core);
    for (size_t i = 0; i < c->num_kept; i++)
        free(c->kept[i]);
    free(c->kept);
    free(c->events);
    free(c->keys);
    free(c);
}

void cluster_crash(cluster *c, int seat)
{
    die(c, cluster_at(c, seat));
}

void cluster_crash_process(cluster *c, int process)
{
    die(c, &c->process[process]);
}

void cluster_delay_store(cluster *c, int seat, uint64_t by_us)
{
    cluster_at(c, seat)->down_us = c->now_us + by_us;
}

void cluster_evidence(cluster *c, int observer, int seat, int kind)
{
    const cluster_process *p = cluster_at(c, seat);

    cluster_give(c, observer,
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
        if (q == p || at >= until)
            continue;
        push(c, EVENT_INPUT, q, at, (eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = silent});
        push(c, EVENT_INPUT, q, until + cluster_random(c, 20000),
             (eepi_input){.kind = EEPI_INPUT_ALIVE, .suspect = silent});
    }
}

void cluster_leave(cluster *c, int seat)
{
    cluster_give(c, seat, (eepi_input){.kind = EEPI_INPUT_LEAVE});
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
    } else if (event->kind == EVENT_CAS) {
        cas(c, event);
    } else if (event->kind == EVENT_READ) {
        tell(c, p, view_input(c));
    } else if (event->kind == EVENT_DIE) {
        die(c, p);
    } else if (p->alive && c->now_us < p->stopped_until_us) {
        event->at_us = p->stopped_until_us; /* keeps its sequence number, and so the order */
        if (p->stopped_until_us != CLUSTER_FOREVER)
            push_event(c, *event);
    } else if (p->alive) {
        if (event->kind == EVENT_INPUT && !is_late_answer(p, &event->input))
            give(c, p, event->input);
        else if (event->kind == EVENT_INPUT)
            return;
        else if (event->kind == EVENT_RANK)
            run_rank(c, p);
        else if (event->kind == EVENT_DRAINED)
            drain(c, p);
        else if (event->kind == EVENT_FILLED)
            filled(c, p, event->input.view);
        else {
            if (!event->input.revision) /* the regular one; others were asked for */
                push_in(c, EVENT_TICK, p, TICK_US);
            give(c, p, (eepi_input){.kind = EEPI_INPUT_TICK});
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

int cluster_is_serving(cluster *c)
{
    int serving = 0;

    if (!c->view || c->view->phase != EEPI_VIEW_SERVING)
        return 0;
    for (int seat = 0; seat < c->view->shape.max_ranks; seat++) {
        cluster_process *p = member(c, c->view, seat);
        if (!p)
            continue;
        if (!p->alive || p->wedged || !p->live || p->live->digest != c->view->digest || !p->warm ||
            c->now_us - p->last_ok_us > 200000)
            return 0;
        serving++;
    }
    return serving > 0;
}
