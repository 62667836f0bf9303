/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank does between two steps: which view it switches to, when a step may begin and under
 * which number, and what the membership core is told of its end. */
#include "membership/stepper/stepper.h"

#include "graphs/kernels/compiler_macros.h"

#include <assert.h>
#include <string.h>

enum { EXPEL_TIMES_P9999 = 20, EXPEL_EVERY_STEPS = 1024 };

static const eepi_live none;

void eepi_stepper_init(eepi_stepper *s, const eepi_stepper_config *config)
{
    *s = (eepi_stepper){.config = *config, .expel_us = config->expel_floor_us};
}

bool eepi_stepper_take_mail(eepi_stepper *s, eepi_step_mail *mail_out)
{
    bool any = s->mail.flipped || s->mail.accused || s->mail.drained || s->mail.met_newer;

    *mail_out = s->mail;
    s->mail = (eepi_step_mail){0};
    return any;
}

eepi_live eepi_live_of(const eepi_view *view, int32_t seat, uint32_t generation,
                       const eep_seat *before)
{
    eepi_live live = {.epoch = view->epoch,
                      .digest = view->digest,
                      .first_step = view->first_step,
                      .num_active = eepi_view_num_active(view),
                      .colour = view->colour,
                      .serial = view->serial[view->colour],
                      .leaves = !eepi_view_has(view, seat, generation),
                      .planned = view->cause == EEPI_VIEW_PLANNED};

    for (int other = 0; live.planned && other < view->shape.max_ranks; other++) {
        bool was_there =
            before[other].generation == eepi_view_seat_at(view, other)->generation &&
            (before[other].state == EEP_SEAT_ACTIVE || before[other].state == EEP_SEAT_RETIRING);
        if (eepi_view_is_member(view, other) && !was_there) {
            live.joined[other / 64] |= 1ull << (other % 64);
        }
    }
    return live;
}

/* ------------------------------------------------------------------ the service thread's part */

/* Rule M2: the promise that follows this word holds from now on. */
static void say_drained(eepi_stepper *s)
{
    assert(!s->in_step && s->flipping.epoch == 0);
    s->mail.drained = true;
    s->mail.drained_step = s->step;
}

bool eepi_stepper_wedge(eepi_stepper *s)
{
    s->wedged = true;
    s->staged = none;
    s->announced = none;
    s->pending = none;
    s->flip_due = 0;
    if (!s->in_step && s->flipping.epoch == 0) {
        say_drained(s);
    }
    return s->in_step;
}

bool eepi_stepper_awaits_flip(const eepi_stepper *s)
{
    return s->pending.epoch != 0 || s->flipping.epoch != 0;
}

eepi_stage_verdict eepi_stepper_stage(eepi_stepper *s, const eepi_live *planned)
{
    if (s->staged.digest == planned->digest || s->live.digest == planned->digest) {
        return EEPI_STAGE_THERE;
    }
    if (eepi_stepper_awaits_flip(s)) {
        return EEPI_STAGE_BUSY;
    }
    s->staged = none;
    return EEPI_STAGE_GO;
}

void eepi_stepper_staged(eepi_stepper *s, const eepi_live *planned)
{
    assert(!eepi_stepper_awaits_flip(s)); /* T2: that bank was idle when it was written */
    s->staged = *planned;
}

void eepi_stepper_withdraw(eepi_stepper *s)
{
    s->staged = none;
    s->pending = none;
}

void eepi_stepper_install(eepi_stepper *s, const eepi_live *view, bool joining)
{
    s->pending = *view;
    s->must_follow = joining;
    s->staged = none;
    s->announced = none;
    s->flip_due = 0;
    s->wedged = false;
}

void eepi_stepper_announce(eepi_stepper *s, const eepi_live *view)
{
    if (s->live.digest != view->digest) { /* else peers said so in-band before the store did */
        s->announced = *view;
    }
}

/* ------------------------------------------------------------------ switching views */

/* This rank is not in the view that all others switch to now: it has left. */
static void leave(eepi_stepper *s)
{
    s->mail.flipped = true;
    s->mail.flipped_digest = s->announced.digest;
    s->mail.flipped_epoch = s->announced.epoch;
    s->live = none;
    s->announced = none;
    s->flip_due = 0;
}

/* Rule M3: all who completed the last step saw the same announcement and switch now; so does a rank
 * whose step met peers that have switched already, once it has seen the commit itself. What was
 * announced in-band was committed, so a rank need not have read the register (rule T3). */
static const eepi_live *next_live(eepi_stepper *s)
{
    uint64_t digest = s->flip_due;

    if (s->wedged) {
        return &none;
    }
    if (s->pending.epoch != 0) {
        return &s->pending;
    }
    if (digest == 0 && s->peers_are_newer) {
        digest = s->announced.digest;
    }
    if (digest == 0) {
        return &none;
    }
    if (s->staged.digest == digest) {
        return &s->staged;
    }
    if (s->announced.digest == digest && s->announced.leaves) {
        leave(s);
    }
    return &none; /* it is being staged */
}

/* Rules M3, T3: a flip in-band is to what all who completed the last step agreed on, or, where
 * peers have switched already, to what this rank has seen committed; and what it goes to is staged.
 */
static void check_flip_in_band(const eepi_stepper *s)
{
    assert(s->flip_due != 0 || s->peers_are_newer);
    assert(s->flipping.digest == (s->flip_due ? s->flip_due : s->announced.digest));
    assert(s->flipping.digest == s->staged.digest);
}

const eepi_live *eepi_stepper_flip_to(eepi_stepper *s)
{
    assert(!s->in_step && s->flipping.epoch == 0);
    s->flipping = *next_live(s);
    s->flip_is_in_band = s->pending.epoch == 0;
    if (s->flipping.epoch == 0) {
        return NULL;
    }
    assert(!s->wedged);                        /* M2: it may have promised not to serve this view */
    assert(s->flipping.epoch > s->live.epoch); /* S2: what is installed never goes back */
    if (s->flip_is_in_band) {
        check_flip_in_band(s);
    }
    return &s->flipping;
}

/* Wedged meanwhile, it is as if the wedge had come right after. */
bool eepi_stepper_flipped(eepi_stepper *s)
{
    assert(s->flipping.epoch != 0);
    s->live = s->flipping;
    s->flipping = none;
    s->warm = false;
    s->flip_due = 0;
    s->peers_are_newer = false;
    if (s->flip_is_in_band) {
        s->staged = none;
        s->announced = none;
    } else {
        s->pending = none;
        s->jump_step = 0;
        /* a joiner too: tags hold the lower bits of a step only, and are read near this one */
        if (s->step + 1 < s->live.first_step) {
            s->step = s->live.first_step - 1;
        }
    }
    if (s->wedged) {
        say_drained(s);
    }
    return s->flip_is_in_band;
}

void eepi_stepper_flip_failed(eepi_stepper *s)
{
    s->flipping = none;
    if (s->wedged) {
        say_drained(s);
    }
}

/* ------------------------------------------------------------------ steps */

uint64_t eepi_stepper_peer_step(const eepi_stepper *s, const eepk_shape *shape, uint8_t *window)
{
    uint64_t newest = 0;

    if (s->live.epoch == 0) {
        return 0;
    }
    for (uint32_t seat = 0; seat < shape->max_ranks; seat++) {
        for (uint32_t chain = 0; chain < shape->num_chains && seat != shape->self; chain++) {
            uint64_t tag = eepk_load_acquire(eepk_dispatch_tag(shape, window, chain, seat));
            uint64_t step = eepk_tag_step_near(tag, s->step);
            if (tag != 0 && eepk_tag_epoch_after(tag, s->live.epoch) == 0 &&
                eepk_tag_step_after(tag, s->step) > 0 && step > newest) {
                newest = step;
            }
        }
    }
    return newest;
}

/* What a kernel does that meets the peer's tag (rules D5, M3). A member that has completed the
 * running step has published all its tags of it, and they are on their way. */
bool eepi_stepper_hear_begin(eepi_stepper *s, uint64_t epoch, uint64_t step, uint64_t completed)
{
    const bool is_newer = epoch > s->live.epoch;

    if (s->live.epoch == 0 || epoch < s->live.epoch || step < s->step ||
        (step == s->step && !(is_newer && s->in_step)) || (s->in_step && completed >= s->step)) {
        return false;
    }
    s->peers_are_newer |= is_newer;
    s->mail.met_newer |= is_newer;
    s->jump_step = step > s->jump_step ? step : s->jump_step;
    return s->in_step;
}

uint32_t eepi_stepper_peer_shape(const eepi_stepper *s, const eepk_shape *shape, uint8_t *window)
{
    uint32_t largest = EEPI_NO_SHAPE;

    for (uint32_t seat = 0; seat < shape->max_ranks && shape->num_shapes > 1; seat++) {
        for (uint32_t chain = 0; chain < shape->num_chains && seat != shape->self; chain++) {
            uint64_t tag = eepk_load_acquire(eepk_dispatch_tag(shape, window, chain, seat));
            if (tag != 0 && eepk_tag_epoch_after(tag, s->live.epoch) == 0 &&
                eepk_tag_step_after(tag, s->step) == 0 &&
                (largest == EEPI_NO_SHAPE || eepk_tag_shape(shape, tag) > largest)) {
                largest = eepk_tag_shape(shape, tag);
            }
        }
    }
    return largest;
}

bool eepi_stepper_may_begin(const eepi_stepper *s, uint64_t peer_step)
{
    return !s->wedged && s->live.epoch != 0 && s->flip_due == 0 && !s->peers_are_newer &&
           (!s->must_follow || peer_step != 0);
}

/* A committed change of view is carried by steps: empty ones are started for it (rule M3). */
bool eepi_stepper_wants(const eepi_stepper *s, uint64_t peer_step)
{
    return eepi_stepper_may_begin(s, peer_step) &&
           (s->announced.epoch != 0 || (s->live.planned && !s->warm) || peer_step != 0);
}

eepk_launch eepi_stepper_begin(eepi_stepper *s, uint64_t peer_step, uint64_t now_us)
{
    /* M2: no step after a promise; S4: none of a rank that is outside the view */
    assert(!s->wedged && !s->in_step && s->live.epoch != 0);
    s->step++;
    if (s->jump_step > s->step) {
        s->step = s->jump_step;
    }
    if (peer_step > s->step) {
        s->step = peer_step;
    }
    assert(s->step >= s->live.first_step); /* M2: nobody has started that number before */
    s->jump_step = 0;
    s->must_follow = false;
    s->in_step = true;
    s->began_us = now_us;
    return (eepk_launch){
        .step = s->step,
        .epoch = s->live.epoch,
        .announce_digest = s->announced.epoch ? s->announced.digest : 0,
        .wait_ns = 1000u * (s->warm ? s->config.step_deadline_us : s->config.warmup_deadline_us)};
}

void eepi_stepper_hear_shape(eepi_stepper *s, uint64_t step, uint32_t shape)
{
    if (step > s->heard_step || (step == s->heard_step && shape > s->heard_shape)) {
        s->heard_step = step;
        s->heard_shape = shape;
    }
}

uint32_t eepi_stepper_take_shape(eepi_stepper *s, uint32_t wanted, uint32_t peer_shape)
{
    const bool has_heard = s->heard_step == s->step;
    uint32_t choice = peer_shape == EEPI_NO_SHAPE ? wanted : peer_shape;

    if (has_heard && (peer_shape == EEPI_NO_SHAPE || s->heard_shape > choice)) {
        choice = s->heard_shape;
    }
    assert(s->in_step);
    s->shape = s->due_step == s->step || choice < s->due_shape ? s->due_shape : choice;
    return s->shape;
}

/* Rule M5: expel_us follows the p99.99 of the steps that ended OK. */
static void observe(eepi_stepper *s, uint64_t us)
{
    uint64_t seen = 0, rest, bound, floor_us = s->config.expel_floor_us;
    int bucket = 0;

    while (bucket < EEPI_HISTOGRAM_STEPS - 1 &&
           us >= (1ull << (bucket / 2)) + (bucket % 2) * (1ull << (bucket / 2)) / 2) {
        bucket++;
    }
    s->histogram[bucket]++;
    s->typical_us = s->typical_us ? (s->typical_us * 15 + us) / 16 : us;
    if (s->steps_ok % EXPEL_EVERY_STEPS != 0) {
        return;
    }
    rest = s->steps_ok / 10000;
    for (bucket = EEPI_HISTOGRAM_STEPS - 1; bucket > 0; bucket--) {
        seen += s->histogram[bucket];
        if (seen > rest) {
            break;
        }
    }
    bound = EXPEL_TIMES_P9999 * (1ull << (bucket / 2 + 1));
    s->expel_us = bound > floor_us ? bound : floor_us;
}

static void end_ok(eepi_stepper *s, const eepk_status *status, uint64_t us)
{
    s->steps_ok++;
    if (!s->warm && s->live.planned) {
        s->mail.flipped = true;
        s->mail.flipped_digest = s->live.digest;
        s->mail.flipped_epoch = s->live.epoch;
        if (s->live.joined[status->last_seat / 64] >> (status->last_seat % 64) & 1u &&
            s->typical_us != 0 && status->longest_wait_ns / 1000u > s->typical_us) {
            s->steps_waiting_on_join++;
        }
    }
    if (s->warm) {
        s->mail.step_us[s->mail.num_steps++ % EEPI_STEP_TIMES] =
            us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
    }
    s->warm = true;
    s->due_shape =
        (uint32_t)status->wanted_shape; /* P6: all who ended this step OK have the same */
    s->due_step = s->step + 1;
    s->flip_due = status->flip_digest;
    observe(s, us);
}

static void end_aborted(eepi_stepper *s, const eepk_status *status)
{
    s->steps_aborted++;
    s->due_shape = (uint32_t)status->seen_shape; /* P6: its own, or a larger one */
    s->due_step = 0;
    if (status->result == EEPK_STEP_JUMP || status->result == EEPK_STEP_NEWER_EPOCH) {
        s->jump_step = status->jump_step;
    }
    if (status->result == EEPK_STEP_NEWER_EPOCH) {
        s->peers_are_newer = s->mail.met_newer = true;
    }
    if (!s->wedged && (status->result == EEPK_STEP_NEWER_EPOCH || (s->live.planned && !s->warm))) {
        s->steps_aborted_by_join++;
    }
    if (status->result == EEPK_STEP_DEADLINE) {
        s->mail.accused = true;
        s->mail.accused_step = s->step;
        memcpy(s->mail.accused_seats, status->suspects, sizeof s->mail.accused_seats);
    }
}

bool eepi_stepper_end(eepi_stepper *s, const eepk_status *status, uint64_t now_us)
{
    const uint64_t step = s->step;
    bool ok = status && status->result == EEPK_STEP_OK;

    s->in_step = false;
    if (ok) {
        end_ok(s, status, now_us - s->began_us);
    } else if (status) {
        end_aborted(s, status);
    }
    assert(s->step == step); /* D5: its number is never used again */
    if (s->wedged) {
        say_drained(s);
    }
    return ok;
}
