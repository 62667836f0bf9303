/* A rank's steps: begin, end, wait. Rank thread; see docs/PROTOCOL.md, "The step". */
#include "membership/context.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    HISTOGRAM_STEPS = 64, /* powers of sqrt 2 of a microsecond */
    EXPEL_TIMES_P9999 = 20,
    END_MARGIN_US = 1000000, /* for the engine's own kernels in the graph */
};

void eepi_rank_wake(eep_context *context)
{
    eepk_window_header *header = eepi_window_address(context->window);

    pthread_cond_broadcast(&context->changed);
    eepk_doorbell_ring(&header->doorbell);
}

static const uint64_t DAY_US = 86400000000; /* no wait is longer, whatever is asked for */

static void deadline_of(uint64_t timeout_us, struct timespec *until_out)
{
    uint64_t at = eepi_now_us() + (timeout_us < DAY_US ? timeout_us : DAY_US);

    *until_out = (struct timespec){(time_t)(at / 1000000u), (long)(at % 1000000u) * 1000};
}

static eep_status ended(eep_context *context)
{
    return eepi_fail(context, context->ended, "%s", context->why_ended);
}

/* ------------------------------------------------------------------ switching views */

/* Rules T2, T3: the flip is launched on the rank's own stream, before the step's graph. */
static eep_status flip_to(eep_context *context, const eepi_live *next)
{
    eep_status status =
        eepi_tables_flip(context->tables, context->stream, next->epoch, next->digest);

    if (status != EEP_OK) {
        context->ended = EEP_ERR_PROTOCOL;
        return eepi_fail(context, EEP_ERR_PROTOCOL,
                         "view %llu was agreed on but is not what is staged here",
                         (unsigned long long)next->epoch);
    }
    context->live = *next;
    context->warm = 0;
    return EEP_OK;
}

static eep_status take_pending(eep_context *context)
{
    eepi_live next = context->pending;
    eep_status status;

    if (next.epoch == 0 || !context->stream)
        return EEP_OK;
    status = flip_to(context, &next);
    if (status != EEP_OK)
        return status;
    context->pending = (eepi_live){0};
    context->flip_due = 0;
    context->peers_are_newer = 0;
    context->jump_step = 0;
    eepi_service_wake(context); /* the other bank is idle now: a plan may wait for it */
    if (!context->must_follow && context->step + 1 < next.first_step)
        context->step = next.first_step - 1;
    return EEP_OK;
}

/* We are not in the view that all others switch to now: we have left. */
static eep_status take_leave(eep_context *context)
{
    context->mailbox.flipped = 1;
    context->mailbox.flipped_digest = context->announced.digest;
    context->live = (eepi_live){0};
    context->announced = (eepi_live){0};
    context->flip_due = 0;
    eepi_service_wake(context);
    return EEP_OK;
}

/* Rule M3: all who completed the last step saw the same announcement and switch now; so does a rank
 * whose step met peers that have switched already, once it has seen the commit itself. What was
 * announced in-band was committed, so a rank need not have read the register (rule T3). */
static eep_status take_announced(eep_context *context)
{
    uint64_t digest = context->flip_due;
    eepi_live next = context->staged;
    eep_status status;

    if (digest == 0 && context->peers_are_newer)
        digest = context->announced.digest;
    if (digest == 0)
        return EEP_OK;
    if (next.digest != digest)
        return context->announced.digest == digest && context->announced.leaves
                   ? take_leave(context)
                   : EEP_OK; /* it is being staged */
    context->staged = (eepi_live){0};
    context->announced = (eepi_live){0};
    context->flip_due = 0;
    context->peers_are_newer = 0;
    status = flip_to(context, &next);
    if (status == EEP_OK)
        eepi_event(context, EEP_EVENT_FLIPPED, -1, 0, next.epoch, context->step + 1);
    return status;
}

/* The newest step that a peer has begun under the live view; 0: none newer than ours. */
static uint64_t newest_peer_step(const eep_context *context)
{
    uint8_t *window = eepi_window_address(context->window);
    const eepk_shape *s = &context->shape;
    uint64_t newest = 0;

    if (context->live.epoch == 0)
        return 0;
    for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
        for (uint32_t parity = 0; parity < 2 && seat != s->self; parity++) {
            uint64_t tag = eepk_load_acquire(eepk_dispatch_tag(s, window, parity, seat));
            uint64_t step = eepk_tag_step_near(tag, context->step);
            if (tag != 0 && eepk_tag_epoch_after(tag, context->live.epoch) == 0 &&
                eepk_tag_step_after(tag, context->step) > 0 && step > newest)
                newest = step;
        }
    }
    return newest;
}

/* With the lock held: may a step begin now? Flips if one is due. */
static eep_status try_begin(eep_context *context, int *may_out)
{
    eep_status status;

    *may_out = 0;
    if (context->ended != EEP_OK)
        return ended(context);
    if (context->wedged)
        return EEP_OK;
    status = take_pending(context);
    if (status == EEP_OK)
        status = take_announced(context);
    if (status != EEP_OK || context->live.epoch == 0 || context->flip_due ||
        context->peers_are_newer)
        return status;
    *may_out = !context->must_follow || newest_peer_step(context) != 0;
    return EEP_OK;
}

eep_status eep_step_begin(eep_context *context, uint64_t timeout_us, eep_step *step_out)
{
    eepk_launch *launch = eepi_tables_launch(context->tables);
    eep_status status = EEP_OK;
    struct timespec until;
    uint64_t peer_step;
    int may = 0, late = 0;

    if (!context->joined_once)
        return eepi_fail(context, EEP_ERR_STATE, "eep_step_begin before eep_join");
    if (context->in_step)
        return eepi_fail(context, EEP_ERR_STATE, "the last step was not ended: eep_step_end");
    if (!context->stream)
        return eepi_fail(context, EEP_ERR_STATE, "no graph was captured: eep_step_latch");
    deadline_of(timeout_us, &until);
    pthread_mutex_lock(&context->lock);
    for (;;) {
        status = try_begin(context, &may);
        if (status != EEP_OK || may || late)
            break;
        /* a joiner looks at its window for the peers' first step: short naps */
        if (context->must_follow && context->live.epoch != 0) {
            struct timespec soon;
            deadline_of(200, &soon);
            pthread_cond_timedwait(&context->changed, &context->lock, &soon);
            deadline_of(0, &soon);
            late = soon.tv_sec > until.tv_sec ||
                   (soon.tv_sec == until.tv_sec && soon.tv_nsec > until.tv_nsec);
        } else {
            late = pthread_cond_timedwait(&context->changed, &context->lock, &until) == ETIMEDOUT;
        }
    }
    if (status == EEP_OK && !may && context->uncovered)
        status = eepi_fail(context, EEP_ERR_UNCOVERED, "%s", context->why_ended);
    else if (status == EEP_OK && !may)
        status = eepi_fail(context, EEP_ERR_TIMEOUT, "no view to serve under yet");
    if (status == EEP_OK) {
        peer_step = newest_peer_step(context);
        context->step++;
        if (context->jump_step > context->step)
            context->step = context->jump_step;
        if (peer_step > context->step)
            context->step = peer_step;
        context->jump_step = 0;
        context->must_follow = 0;
        context->in_step = 1;
        context->step_begin_us = eepi_now_us();
        launch->step = context->step;
        launch->epoch = context->live.epoch;
        launch->announce_digest = context->announced.epoch ? context->announced.digest : 0;
        launch->wait_ns = 1000u * (context->warm ? context->config.step_deadline_us
                                                 : context->config.warmup_deadline_us);
        *step_out = (eep_step){context->step, context->live.epoch, context->live.num_active};
    }
    pthread_mutex_unlock(&context->lock);
    return status;
}

/* ------------------------------------------------------------------ the end of a step */

/* Rule M5: expel_us follows the p99.99 of the steps that ended OK. */
static void observe_step(eep_context *context, uint64_t us)
{
    uint64_t seen = 0, rest, bound = 1, floor_us = context->config.expel_floor_us;
    int bucket = 0;

    while (bucket < HISTOGRAM_STEPS - 1 &&
           us >= (1ull << (bucket / 2)) + (bucket % 2) * (1ull << (bucket / 2)) / 2)
        bucket++;
    context->step_histogram[bucket]++;
    context->step_us_ewma = context->step_us_ewma ? (context->step_us_ewma * 15 + us) / 16 : us;
    if (context->counters.steps_ok % 1024 != 0)
        return;
    rest = context->counters.steps_ok / 10000;
    for (bucket = HISTOGRAM_STEPS - 1; bucket > 0; bucket--) {
        seen += context->step_histogram[bucket];
        if (seen > rest)
            break;
    }
    bound = EXPEL_TIMES_P9999 * (1ull << (bucket / 2 + 1));
    eepi_detector_set_expel_us(context->detector, bound > floor_us ? bound : floor_us);
}

static void step_ok(eep_context *context, const eepk_status *s)
{
    uint64_t us = eepi_now_us() - context->step_begin_us;
    uint64_t typical_us = context->step_us_ewma;
    int first_of_plan = !context->warm && context->live.planned;

    context->counters.steps_ok++;
    if (first_of_plan) {
        context->mailbox.flipped = 1;
        context->mailbox.flipped_digest = context->live.digest;
        if (context->live.joined[s->last_seat / 64] >> (s->last_seat % 64) & 1u &&
            typical_us != 0 && s->longest_wait_ns / 1000u > typical_us)
            context->counters.steps_waiting_on_join++;
        eepi_service_wake(context);
    }
    context->warm = 1;
    context->flip_due = s->flip_digest;
    observe_step(context, us);
}

static eep_status step_aborted(eep_context *context, const eepk_status *s)
{
    static const char *const reasons[] = {"it did not end in time", "a peer missed the deadline",
                                          "a peer aborted it",      "the host aborted it",
                                          "peers are ahead",        "peers serve a newer view",
                                          "a peer's tag changed",   "the live bank is another"};
    uint32_t reason = s->result < sizeof(reasons) / sizeof(reasons[0]) ? s->result : 0;

    context->counters.steps_aborted++;
    if (s->result == EEPK_STEP_JUMP || s->result == EEPK_STEP_NEWER_EPOCH)
        context->jump_step = s->jump_step;
    if (s->result == EEPK_STEP_NEWER_EPOCH)
        context->peers_are_newer = 1;
    if (!context->wedged &&
        (s->result == EEPK_STEP_NEWER_EPOCH || (context->live.planned && !context->warm)))
        context->counters.steps_aborted_by_join++;
    if (s->result == EEPK_STEP_DEADLINE) {
        context->mailbox.accused = 1;
        context->mailbox.accused_step = context->step;
        memcpy(context->mailbox.accused_seats, s->suspects, sizeof(s->suspects));
        eepi_service_wake(context);
    }
    return eepi_fail(context, EEP_ERR_ABORTED, "step %llu: %s (layer %u, %s): run it again",
                     (unsigned long long)context->step, reasons[reason], s->layer,
                     s->phase == EEPK_PHASE_COMBINE ? "combine" : "dispatch");
}

static eep_status bad_input(eep_context *context, const eepk_status *s)
{
    switch (s->bad_input) {
    case EEPK_INPUT_TOKENS:
        return eepi_fail(context, EEP_ERR_BAD_STEP_INPUT, "num_tokens is %d: 0 to %d are possible",
                         s->bad_value, context->config.num_max_tokens_per_rank);
    case EEPK_INPUT_UNCOVERED:
        return eepi_fail(context, EEP_ERR_BAD_STEP_INPUT,
                         "token %u, k %u: expert %d has no replica in this view", s->bad_token,
                         s->bad_k, s->bad_value);
    default:
        return eepi_fail(context, EEP_ERR_BAD_STEP_INPUT,
                         "token %u, k %u: expert id %d is out of range or named twice (%d experts)",
                         s->bad_token, s->bad_k, s->bad_value, context->config.num_experts);
    }
}

eep_status eep_step_end(eep_context *context)
{
    const eepk_status *s = eepi_tables_status(context->tables);
    uint64_t wait_us = eepi_tables_launch(context->tables)->wait_ns / 1000u;
    uint64_t bound_us = 2 * (uint64_t)context->config.num_layers * wait_us + END_MARGIN_US;
    eep_status status;

    if (!context->in_step)
        return eepi_fail(context, EEP_ERR_STATE, "no step was begun");
    status = eep_stream_synchronize(context->stream, bound_us);
    pthread_mutex_lock(&context->lock);
    if (status == EEP_ERR_TIMEOUT) { /* it may still store: no promise before its end (rule M2) */
        status = eepi_fail(context, EEP_ERR_DEVICE, "the step's graph did not end within %llu ms",
                           (unsigned long long)(bound_us / 1000u));
        pthread_mutex_unlock(&context->lock);
        return status;
    }
    context->in_step = 0;
    if (status != EEP_OK) {
        status = eepi_fail(context, EEP_ERR_DEVICE, "the step's graph did not end: %s",
                           eep_strerror(status));
    } else if (eepk_load_acquire(&s->done_step) != context->step) {
        status = eepi_fail(context, EEP_ERR_STATE, "step %llu was begun but its graph not replayed",
                           (unsigned long long)context->step);
    } else {
        context->counters.stale_dropped += s->stale_dropped;
        if (s->result != EEPK_STEP_OK) {
            status = step_aborted(context, s);
        } else {
            step_ok(context, s);
            status = s->bad_input ? bad_input(context, s) : EEP_OK;
        }
    }
    if (context->wedged) {
        context->mailbox.drained = 1;
        context->mailbox.drained_step = context->step;
        eepi_service_wake(context);
    }
    pthread_mutex_unlock(&context->lock);
    return status;
}

/* ------------------------------------------------------------------ without work */

static int wanted(eep_context *context, eep_status *status_out)
{
    int may;

    if (context->ended != EEP_OK)
        return 1; /* let begin say so */
    if (context->wedged)
        return 0;
    *status_out = try_begin(context, &may);
    if (*status_out != EEP_OK)
        return 1;
    /* a committed change of view is carried by steps: start empty ones (rule M3) */
    return may && (context->announced.epoch != 0 || (context->live.planned && !context->warm) ||
                   newest_peer_step(context) != 0);
}

eep_status eep_step_wait(eep_context *context, uint64_t timeout_us)
{
    eepk_window_header *header = eepi_window_address(context->window);
    uint64_t until_us = eepi_now_us() + (timeout_us < DAY_US ? timeout_us : DAY_US);

    if (!context->joined_once || context->in_step)
        return eepi_fail(context, EEP_ERR_STATE, "eep_step_wait belongs between two steps");
    for (;;) {
        uint32_t seen = eepk_doorbell_read(&header->doorbell);
        eep_status status = EEP_OK;
        uint64_t now = eepi_now_us(), nap_us;
        struct timespec nap;
        int go;

        pthread_mutex_lock(&context->lock);
        go = wanted(context, &status);
        pthread_mutex_unlock(&context->lock);
        if (go)
            return status;
        if (now >= until_us)
            return EEP_ERR_TIMEOUT;
        nap_us = until_us - now;
        nap = (struct timespec){(time_t)(nap_us / 1000000u), (long)(nap_us % 1000000u) * 1000};
        __atomic_fetch_add(&header->waiters, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &header->doorbell, FUTEX_WAIT, seen, &nap, NULL, 0);
        __atomic_fetch_sub(&header->waiters, 1, __ATOMIC_SEQ_CST);
    }
}

void eep_step_abort(eep_context *context)
{
    pthread_mutex_lock(&context->lock);
    if (context->in_step)
        __atomic_store_n(eepi_tables_abort_step(context->tables), context->step, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&context->lock);
}
