/* SPDX-License-Identifier: Apache-2.0 */
/* What a context tells its log about changes of the view: one line for each at EEP_LOG_INFO, and
 * the steps that lead there at EEP_LOG_DEBUG. Service thread; nothing here is on the step path. */
#include "membership/service/tell.h"

#include "membership/context/context.h"
#include "membership/context/event.h"
#include "membership/context/log.h"
#include "membership/service/peers.h"
#include "repair/planner/planner.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LINE_BYTES = 800,  /* of a change; eepi_log puts its prefix before it */
    SEATS_BYTES = 250, /* of each list of seats; the rest is counted */
    WAIT_SAID_US = 2000000,
};

/* What the log was told of a seat. */
typedef struct peer_told {
    eepi_view_seat seat; /* of the last document that was told */
    int32_t cause;       /* 1 + the eep_fault_kind it is expelled for; 0: none is known; */
    bool ended;          /* and then its process ended, or was killed */
    uint64_t silent_ms;  /* its heart has not beaten for so long by then; 0: that is not known */
    uint32_t report_generation;
    uint64_t report_epoch;               /* newest report */
    uint64_t acks[EEPI_ACK_FLIPPED + 1]; /* digests, by kind */
} peer_told;

/* What the log was told of the views. */
struct eepi_told {
    uint64_t digest;      /* of the last document; 0: none */
    uint64_t without_us;  /* since when this rank has no view to serve under; 0: it has one, or did
                           * not ask for one */
    uint64_t pause_us;    /* how long it had none, until the last install; 0: that was told */
    uint64_t bytes;       /* of weights that it has copied since */
    bool had_view, first; /* first: pause_us is the time from eep_join on */
    bool drain_waits;     /* that this rank cannot leave, since it asked to */
    bool wait_said;       /* which ranks it waits for since it stopped for a fault */
    peer_told peers[];    /* [max_ranks] */
};

eep_status eepi_told_open(eep_context *context)
{
    const size_t seats = (size_t)context->config.max_ranks;

    context->told = calloc(1, sizeof *context->told + seats * sizeof(peer_told));
    return context->told ? EEP_OK : EEP_ERR_NO_MEMORY;
}

void eepi_told_close(eep_context *context)
{
    free(context->told);
}

bool eepi_told_had_view(const eep_context *context)
{
    return context->told->had_view;
}

void eepi_tell_copied(eep_context *context, uint64_t bytes)
{
    context->told->bytes += bytes;
}

static const char WAITED[] = "was let in after";

typedef struct text {
    char bytes[LINE_BYTES];
    size_t used;
} text;

__attribute__((format(printf, 2, 3))) static void add(text *t, const char *format, ...)
{
    va_list arguments;
    int n;

    va_start(arguments, format);
    n = vsnprintf(t->bytes + t->used, sizeof t->bytes - t->used, format, arguments);
    va_end(arguments);
    if (n > 0) {
        t->used += (size_t)n;
    }
    if (t->used >= sizeof t->bytes) {
        t->used = sizeof t->bytes - 1;
    }
}

static const char *phase_name(unsigned phase)
{
    return phase == EEPI_VIEW_REPAIRING ? "repairing" : "serving";
}

/* The silence is measured now, since the window of one that has left may be unmapped later. */
static void note_cause(eep_context *context, const eepi_suspect *suspect)
{
    const eepk_window_header *header =
        eepi_peer_header(context, suspect->seat, suspect->generation);
    peer_told *told = &context->told->peers[suspect->seat];
    const uint64_t now_ns = eepi_now_ns();
    uint64_t beat_ns = header ? __atomic_load_n(&header->heartbeat_ns, __ATOMIC_ACQUIRE) : 0;

    told->cause = suspect->kind + 1;
    told->silent_ms = beat_ns && beat_ns < now_ns ? (now_ns - beat_ns) / 1000000u : 0;
}

void eepi_tell_suspected(eep_context *context, const eepi_suspect *suspect)
{
    if (suspect->kind != EEP_FAULT_EXIT) {
        note_cause(context, suspect);
    }
    eepi_log(context, EEP_LOG_DEBUG, "suspects rank %d (generation %u): %s", suspect->seat,
             suspect->generation, eep_fault_kind_name((eep_fault_kind)suspect->kind));
}

/* What stopped another rank may be all that this one hears of it before the process ends. */
void eepi_tell_wedge(eep_context *context, const eepi_wedge *wedge)
{
    const eepi_view *view = eepi_core_view(context->core);
    const eepi_suspect *cause = &wedge->cause;

    if (!view || wedge->epoch < view->epoch ||
        !eepi_view_has(view, wedge->seat, wedge->generation)) {
        return;
    }
    if (cause->kind > EEP_FAULT_EXIT && eepi_view_has(view, cause->seat, cause->generation) &&
        context->told->peers[cause->seat].cause == 0) {
        note_cause(context, cause);
    }
    eepi_log(context, EEP_LOG_DEBUG, "hears that rank %d (generation %u) has stopped in epoch %llu",
             wedge->seat, wedge->generation, (unsigned long long)wedge->epoch);
}

/* A process that is killed for what it is suspected of ends: the suspicion is the cause. */
void eepi_tell_cause(eep_context *context, const eepi_suspect *suspect)
{
    peer_told *told = &context->told->peers[suspect->seat];

    if (suspect->kind == EEP_FAULT_EXIT && told->cause != 0) {
        told->ended = true;
    } else if (told->cause != suspect->kind + 1) { /* else its window may be unmapped by now */
        note_cause(context, suspect);
    }
}

static void add_cause(text *t, const peer_told *told, unsigned view_cause)
{
    switch (told->cause - 1) {
    case EEP_FAULT_EXIT:
        add(t, "process ended");
        break;
    case EEP_FAULT_RESET:
        add(t, "connection reset");
        break;
    case EEP_FAULT_DEVICE:
        add(t, "device failed");
        break;
    case EEP_FAULT_SILENT:
        add(t, told->silent_ms ? "silent for %llu ms" : "silent",
            (unsigned long long)told->silent_ms);
        break;
    case EEP_FAULT_DEADLINE:
        add(t,
            told->silent_ms ? "missed deadlines, last heartbeat %llu ms before"
                            : "missed deadlines",
            (unsigned long long)told->silent_ms);
        break;
    case EEP_FAULT_BAD_ANSWER:
        add(t, "answered wrongly");
        break;
    case EEP_FAULT_EXPELLED:
        add(t, "expelled by request");
        break;
    case EEP_FAULT_GROUP:
        add(t, "its group lost a rank");
        break;
    default:
        add(t, view_cause == EEPI_VIEW_PLANNED ? "retired" : "left out");
        break;
    }
}

typedef enum change { STAYS, LEFT, JOINED, RETIRES, FREED } change;

/* What became of a seat since the last document that was told. */
static change change_of(const eepi_view *view, int seat, const eepi_view_seat *before)
{
    const eepi_view_seat *now = eepi_view_seat_at(view, seat);
    const bool was = before->state == EEP_SEAT_ACTIVE || before->state == EEP_SEAT_RETIRING;
    const bool is = eepi_view_is_member(view, seat);

    if (is && (!was || now->generation != before->generation)) {
        return JOINED;
    }
    if (was && !is) {
        return LEFT;
    }
    if (is && now->state == EEP_SEAT_RETIRING && before->state != EEP_SEAT_RETIRING) {
        return RETIRES;
    }
    return before->state == EEP_SEAT_QUARANTINED && now->state == EEP_SEAT_VACANT ? FREED : STAYS;
}

static void add_seats(text *t, const eep_context *context, const eepi_view *view, change wanted)
{
    static const char *const heads[] = {
        [LEFT] = "left", [JOINED] = "joined", [RETIRES] = "retires", [FREED] = "seat is free"};
    size_t from = t->used;
    int num = 0, unnamed = 0;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const peer_told *told = &context->told->peers[seat];
        if (change_of(view, seat, &told->seat) != wanted) {
            continue;
        }
        if (t->used - from > SEATS_BYTES) {
            unnamed++;
            continue;
        }
        if (num++ == 0) {
            add(t, "; %s:",
                context->told->digest == 0 && wanted == JOINED ? "members" : heads[wanted]);
        }
        add(t, "%s rank %d (generation %u", num > 1 ? "," : "", seat,
            wanted == JOINED ? eepi_view_seat_at(view, seat)->generation : told->seat.generation);
        if (wanted == LEFT) {
            add(t, ": ");
            add_cause(t, told, view->cause);
            if (told->ended) {
                add(t, ", process ended");
            }
        }
        add(t, ")");
    }
    if (unnamed) {
        add(t, " and %d more", unnamed);
    }
}

/* What is to be filled, and from where. */
static void add_fills(text *t, const eepi_view *view, eep_context *context, int fills)
{
    eepi_core_fills moved;

    eepi_core_measure_fills(context->core, &moved);
    add(t, "; slots to fill: %d, %d of them here", fills,
        eepi_plan_fills(view, context->config.rank, NULL, 0));
    add(t,
        " (%d from own backups, %d from other ranks, %d from the file; the busiest link takes "
        "%.3f ms",
        moved.num_own, moved.num_remote, moved.num_file, (double)moved.longest_us / 1e3);
    if (moved.least_us) {
        add(t, ", no plan less than %.3f ms", (double)moved.least_us / 1e3);
    }
    add(t, ")");
}

/* What the change cost here. */
static void add_cost(text *t, struct eepi_told *told, const eepi_view *view, eep_context *context)
{
    int fills = eepi_plan_fills(view, -1, NULL, 0);

    if (fills) {
        add_fills(t, view, context, fills);
    }
    if (told->bytes && view->phase == EEPI_VIEW_SERVING) {
        add(t, "; weights copied here: %llu bytes", (unsigned long long)told->bytes);
    }
    if (told->pause_us) {
        add(t, "; this rank %s %.1f ms", told->first ? WAITED : "was without a view for",
            (double)told->pause_us / 1e3);
    } else if (told->without_us) {
        add(t, "; this rank %s for %.1f ms so far",
            told->had_view ? "is without a view" : "waits to be let in",
            (double)(eepi_now_us() - told->without_us) / 1e3);
    }
    if (view->phase == EEPI_VIEW_SERVING) { /* while a repair goes on its bytes add up */
        told->bytes = 0;
    }
    told->pause_us = 0;
}

void eepi_tell_known(eep_context *context)
{
    const eepi_view *view = eepi_core_view(context->core);

    if (view) {
        __atomic_store_n(&context->known_epoch, view->epoch, __ATOMIC_RELEASE);
    }
}

void eepi_tell_view(eep_context *context)
{
    static const char *const causes[] = {"?", "the first view", "after a fault", "after repair",
                                         "as planned"};
    const eepi_view *view = eepi_core_view(context->core);
    struct eepi_told *told = context->told;
    text t = {.used = 0};

    if (!view || view->digest == told->digest) {
        return;
    }
    add(&t, "epoch %llu: ", (unsigned long long)view->epoch);
    if (eepi_view_num_active(view) == 0) {
        add(&t, "the instance has ended");
    } else {
        add(&t, "%s with %d ranks, %s", phase_name(view->phase), eepi_view_num_active(view),
            causes[view->cause <= EEPI_VIEW_PLANNED ? view->cause : 0]);
    }
    for (change wanted = LEFT; wanted <= FREED; wanted++) {
        add_seats(&t, context, view, wanted);
    }
    add(&t, "; proposed by rank %d", view->proposer);
    add_cost(&t, told, view, context);
    eepi_log(context, EEP_LOG_INFO, "%s", t.bytes);
    told->digest = view->digest;
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        context->told->peers[seat].seat = *eepi_view_seat_at(view, seat);
        context->told->peers[seat].cause = 0;
        context->told->peers[seat].ended = false;
    }
}

/* The first layer and expert that no rank which stays holds or fills. False: there is none. */
static bool find_unique(const eepi_view *view, int *layer_out, int *expert_out)
{
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        for (int expert = 0; expert < view->shape.num_experts; expert++) {
            int num = 0;
            for (int seat = 0; seat < view->shape.max_ranks && num == 0; seat++) {
                for (int slot = 0; slot < view->shape.num_slots; slot++) {
                    const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
                    num += eepi_view_seat_at(view, seat)->state == EEP_SEAT_ACTIVE &&
                           s->expert == expert;
                }
            }
            *layer_out = layer;
            *expert_out = expert;
            if (num == 0) {
                return true;
            }
        }
    }
    return false;
}

/* All members want out, and the instance does not end, since somebody is on the way in. */
static void tell_awaited(eep_context *context, const eepi_view *view)
{
    int coming = eepi_core_awaited_joiner(context->core);

    if (coming < 0) {
        return;
    }
    context->told->drain_waits = true;
    eepi_log(context, EEP_LOG_WARN,
             "cannot leave (eep_drain) yet: no other rank stays, and rank %d (generation %u) has "
             "opened and not called eep_join: let it join or end its process, or end the instance "
             "without it (eep_instance_end)",
             coming, eepi_peer_record(context, coming)->member.generation);
    eepi_event(context, EEP_EVENT_DRAIN_WAITS, context->config.rank, context->generation,
               view->epoch, 0);
}

void eepi_tell_drain(eep_context *context)
{
    const eepi_view *view = eepi_core_view(context->core);
    const int32_t seat = context->config.rank;
    int staying = 0, layer, expert, lacks;

    if (!view || !eepi_view_has(view, seat, context->generation) ||
        eepi_view_seat_at(view, seat)->state != EEP_SEAT_RETIRING) {
        context->told->drain_waits = false;
        return;
    }
    for (int other = 0; other < view->shape.max_ranks; other++) {
        staying += eepi_view_seat_at(view, other)->state == EEP_SEAT_ACTIVE;
    }
    if (staying == 0 && !context->told->drain_waits) {
        tell_awaited(context, view);
    }
    lacks = view->shape.num_experts - staying * view->shape.num_slots;
    if (context->told->drain_waits || staying == 0 ||
        (lacks <= 0 && context->config.background_bytes_per_s > 0) ||
        !find_unique(view, &layer, &expert)) {
        return;
    }
    context->told->drain_waits = true;
    if (lacks > 0) {
        eepi_log(context, EEP_LOG_WARN,
                 "cannot leave (eep_drain) yet: layer %d: expert %d has no other place: the %d "
                 "ranks that stay lack %d slots per layer: let another rank join, or end the "
                 "instance (eep_instance_end)",
                 layer, expert, staying, lacks);
    } else {
        eepi_log(context, EEP_LOG_WARN,
                 "cannot leave (eep_drain) yet: layer %d: expert %d is nowhere else, and nothing "
                 "is moved while background_bytes_per_s is 0",
                 layer, expert);
    }
    eepi_event(context, EEP_EVENT_DRAIN_WAITS, seat, context->generation, view->epoch,
               lacks > 0 ? (uint64_t)lacks : 0);
}

void eepi_tell_without_view(eep_context *context)
{
    if (context->told->without_us == 0) {
        context->told->without_us = eepi_now_us();
    }
}

void eepi_tell_wait(eep_context *context)
{
    char why[EEPI_CORE_WHY_BYTES];

    if (!eepi_core_is_wedged(context->core)) {
        context->told->wait_said = false;
        return;
    }
    if (context->told->wait_said || context->told->without_us == 0 ||
        eepi_now_us() - context->told->without_us < WAIT_SAID_US) {
        return;
    }
    context->told->wait_said = true;
    eepi_core_say_wait(context->core, why, sizeof why);
    if (why[0]) {
        eepi_log(context, EEP_LOG_WARN,
                 "no view for %d ms: %s; who is not heard of within drain_bound_us (%llu ms) of "
                 "the fault is left out",
                 (int)(WAIT_SAID_US / 1000), why,
                 (unsigned long long)(context->config.drain_bound_us / 1000u));
    }
}

void eepi_tell_installed(eep_context *context, const eepi_view *view)
{
    struct eepi_told *told = context->told;

    if (told->without_us) {
        told->pause_us = eepi_now_us() - told->without_us;
    }
    told->without_us = 0;
    told->first = !told->had_view;
    told->had_view = true;
    eepi_log(context, EEP_LOG_DEBUG, "installed epoch %llu", (unsigned long long)view->epoch);
    if (told->digest == view->digest) { /* the line about it was written before */
        eepi_log(context, EEP_LOG_INFO, "epoch %llu is live here: this rank %s %.1f ms",
                 (unsigned long long)view->epoch, told->first ? WAITED : "was without a view for",
                 (double)told->pause_us / 1e3);
        told->pause_us = 0;
    }
}

void eepi_tell_promise(eep_context *context, const eepi_report *report)
{
    eepi_log(
        context, EEP_LOG_DEBUG,
        "wedged: promises not to serve epoch %llu again; highest step %llu, suspected ranks: %d",
        (unsigned long long)report->epoch, (unsigned long long)report->highest_step,
        report->num_suspects);
}

/* Reports and acknowledgements are republished to a store that may have forgotten them: each is
 * told once. */
void eepi_tell_report(eep_context *context, const eepi_report *report)
{
    peer_told *told = &context->told->peers[report->seat];

    if (report->seat == context->config.rank ||
        (told->report_generation == report->generation && told->report_epoch >= report->epoch)) {
        return;
    }
    told->report_generation = report->generation;
    told->report_epoch = report->epoch;
    eepi_log(context, EEP_LOG_DEBUG,
             "hears the report of rank %d (generation %u) on epoch %llu: highest step %llu, "
             "suspected ranks: %d",
             report->seat, report->generation, (unsigned long long)report->epoch,
             (unsigned long long)report->highest_step, report->num_suspects);
}

void eepi_tell_ack(eep_context *context, const eepi_ack *ack)
{
    static const char *const kinds[] = {
        [EEPI_ACK_STAGED] = "staged", [EEPI_ACK_FILLED] = "filled", [EEPI_ACK_FLIPPED] = "flipped"};
    uint64_t *told = &context->told->peers[ack->seat].acks[ack->kind];

    if (*told == ack->digest) {
        return;
    }
    *told = ack->digest;
    if (ack->seat == context->config.rank) {
        eepi_log(context, EEP_LOG_DEBUG, "acknowledges epoch %llu: %s",
                 (unsigned long long)ack->epoch, kinds[ack->kind]);
    } else {
        eepi_log(context, EEP_LOG_DEBUG,
                 "hears that rank %d (generation %u) acknowledges epoch %llu: %s", ack->seat,
                 ack->generation, (unsigned long long)ack->epoch, kinds[ack->kind]);
    }
}

void eepi_tell_proposal(eep_context *context, const eepi_view *view)
{
    eepi_log(context, EEP_LOG_DEBUG, "proposes epoch %llu (%s)", (unsigned long long)view->epoch,
             phase_name(view->phase));
}

void eepi_tell_proposed(eep_context *context, bool won, uint64_t epoch, unsigned phase)
{
    eepi_log(context, EEP_LOG_DEBUG,
             won ? "committed epoch %llu (%s)"
                 : "proposed epoch %llu (%s) in vain: the register had another document by then",
             (unsigned long long)epoch, phase_name(phase));
}
