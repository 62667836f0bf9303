/* SPDX-License-Identifier: Apache-2.0 */
/* Draw the faults of a round. */
#include "experiments/chaos/chaos.h"
#include "experiments/base/random.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const chaos_kind_names[NUM_CHAOS_KINDS] = {
    "kill",       "abort",         "die",         "pause",     "slow",
    "store-stop", "store-restart", "host-freeze", "host-kill", "partition",
    "one-way",    "delay",         "reset",       "nic-down",  "agent-kill"};
const char *const chaos_scope_names[NUM_CHAOS_SCOPES] = {"single", "double", "recovery", "joiner",
                                                         "relapse"};

static const double FIRST_MS = 1000;          /* after serving started */
static const double STORE_DISTANCE_MS = 1000; /* of an empty store from deaths and joins */
static const double RESOLVE_MS = 1500;        /* after a pause: time to be expelled, then killed */
static const double JOIN_ALLOWANCE_MS = 3000; /* for a join that no state can tell of */
static const double JOIN_EXPECTED_MS = 1000;  /* only for the estimate */
static const double CORRELATED_SHARE = 0.2;

/* A moment: so long after a state was seen, or (no state) after serving started. Chains of states
 * keep the faults apart whatever the machine's speed. */
typedef struct moment {
    char state[32]; /* "joined:3#2" */
    double ms;
} moment;

typedef struct drawer {
    const chaos_config *config;
    uint64_t random; /* splitmix64 state */
    chaos_round *round;
    moment settled; /* when the world has settled after what was drawn so far */
    /* How often each seat's processes will have ended and joined; meaningless for a retired seat,
     * of which nobody knows how far its killed joiner came. */
    int num_exits[CHAOS_MAX_RANKS], num_joins[CHAOS_MAX_RANKS];
    int num_retired;
    bool retired[CHAOS_MAX_RANKS]; /* it is no victim of a crash any more */
    bool taken[CHAOS_MAX_RANKS];   /* by the fault that is being drawn */
} drawer;

/* ---------------------------------------------------------------- random numbers */

static uint64_t next_random(drawer *self)
{
    return random_next(&self->random);
}

/* In [low, high). */
static double between(drawer *self, double low, double high)
{
    return low + (high - low) * (double)(next_random(self) >> 11) * 0x1p-53;
}

static int below(drawer *self, int end)
{
    return (int)(next_random(self) % (uint64_t)end);
}

/* ---------------------------------------------------------------- flags */

static moment after(moment from, double ms)
{
    from.ms += ms;
    return from;
}

static moment on_state(const char *state, int seat, int count, double ms)
{
    moment self = {.ms = ms};
    snprintf(self.state, sizeof self.state, "%s:%d#%d", state, seat, count);
    return self;
}

/* `who` with its value; for the store the value alone. */
static __attribute__((format(printf, 4, 5))) void add_flag(drawer *self, verb what, moment when,
                                                           const char *who, ...)
{
    chaos_round *round = self->round;
    chaos_flag *flag = &round->flag[round->num_flags++];
    va_list args;
    va_start(args, who);
    int used = vsnprintf(flag->text, sizeof flag->text, who, args);
    va_end(args);
    flag->verb = what;
    snprintf(flag->text + used, sizeof flag->text - (size_t)used, "@%s%s%.0fms", when.state,
             when.state[0] ? "+" : "", when.ms);
}

static chaos_fault *add_fault(drawer *self, chaos_kind kind, chaos_scope scope, int seat)
{
    chaos_fault *fault = &self->round->fault[self->round->num_faults++];
    *fault = (chaos_fault){.kind = kind, .scope = scope, .seat = seat, .factor = 1};
    return fault;
}

/* A seat into which this fault has not been injected yet; -1: there is none. */
static int draw_seat(drawer *self, bool to_crash)
{
    int fitting[CHAOS_MAX_RANKS], num = 0;
    for (int seat = 0; seat < self->config->num_ranks; seat++) {
        if (!self->taken[seat] && !(to_crash && self->retired[seat])) {
            fitting[num++] = seat;
        }
    }
    int seat = num ? fitting[below(self, num)] : -1;
    if (seat >= 0) {
        self->taken[seat] = true;
    }
    return seat;
}

/* ---------------------------------------------------------------- single faults */

static void crash(drawer *self, chaos_scope scope, int seat, moment when)
{
    static const char *const places[] = {"dispatch", "experts", "combine"};
    chaos_kind kind = (chaos_kind)(CHAOS_KILL + below(self, 3));
    /* A joiner does no steps yet. */
    kind = scope == SCOPE_JOINER && kind == CHAOS_DIE ? CHAOS_KILL : kind;
    add_fault(self, kind, scope, seat)->fate = FATE_DIES;
    if (kind == CHAOS_DIE) {
        add_flag(self, VERB_DIE, when, "%d=%s", seat, places[below(self, 3)]);
    } else {
        add_flag(self, kind == CHAOS_KILL ? VERB_KILL : VERB_ABORT, when, "%d", seat);
    }
    self->num_exits[seat]++;
}

/* A process takes the seat 50 to 800 ms after `when`, or later if its last one is still there. */
static void rejoin_after(drawer *self, int seat, moment when)
{
    double delay_ms = between(self, 50, 800);
    add_flag(self, VERB_REJOIN, after(when, delay_ms), "%d", seat);
    self->num_joins[seat]++;
    self->round->expected_ms += delay_ms + JOIN_EXPECTED_MS;
}

static void rejoin(drawer *self, int seat)
{
    rejoin_after(self, seat, on_state("exited", seat, self->num_exits[seat], 0));
}

/* The world has settled once that seat's process has joined, and `slack_ms` later. */
static void settle_on(drawer *self, int seat, double slack_ms)
{
    self->settled = on_state("joined", seat, self->num_joins[seat], slack_ms);
    self->round->expected_ms += slack_ms;
}

/* The same after something that ends by itself. */
static void settle_after(drawer *self, moment when, double ms)
{
    self->settled = after(when, ms);
    self->round->expected_ms += ms;
}

/* A rank that may be expelled is killed when it was not, so that what follows is known. */
static void resolve(drawer *self, int seat, moment when)
{
    add_flag(self, VERB_KILL, when, "%d", seat);
    self->num_exits[seat]++;
    rejoin_after(self, seat, when);
    self->round->expected_ms += RESOLVE_MS;
}

/* `alone`: no recovery runs, in which a paused rank would be left out. */
static void pause_rank(drawer *self, chaos_scope scope, moment when, bool alone)
{
    static const double times[] = {0.5, 0.9, 1.1, 3};
    int which = below(self, 4), seat = draw_seat(self, true);
    if (seat < 0) {
        return;
    }
    chaos_fault *fault = add_fault(self, CHAOS_PAUSE, scope, seat);
    fault->duration_ms = times[which] * self->config->expel_ms;
    fault->fate = !alone || which == 2 ? FATE_MAY : which == 3 ? FATE_DIES : FATE_STAYS;
    add_flag(self, VERB_STOP, when, "%d=%.0fms", seat, fault->duration_ms);
    if (fault->fate == FATE_STAYS) {
        settle_after(self, when, fault->duration_ms + 300);
    } else {
        resolve(self, seat, after(when, fault->duration_ms + RESOLVE_MS));
        settle_on(self, seat, 0);
    }
}

static void slow_rank(drawer *self, chaos_scope scope, moment when)
{
    int seat = draw_seat(self, false);
    if (seat < 0) {
        return;
    }
    chaos_fault *fault = add_fault(self, CHAOS_SLOW, scope, seat);
    fault->factor = (double)(2 + below(self, 9));
    fault->duration_ms = between(self, 500, 2000);
    add_flag(self, VERB_SLOW, when, "%d=%.0f/%.0fms", seat, fault->factor, fault->duration_ms);
    settle_after(self, when, fault->duration_ms);
}

/* ---------------------------------------------------------------- faults that go together */

/* The fault comes to a second rank; the world has settled once both are over. */
static void second_fault(drawer *self, chaos_scope scope, moment when)
{
    int kind = below(self, 20);
    int seat = kind < 12 ? draw_seat(self, true) : -1;
    if (kind >= 17) {
        moment settled = self->settled;
        slow_rank(self, scope, when);
        self->settled = after(settled, 1000); /* it ends by itself while the other one rejoins */
    } else if (kind >= 12) {
        pause_rank(self, scope, when, false);
    } else if (seat >= 0) {
        crash(self, scope, seat, when);
        rejoin(self, seat);
        settle_on(self, seat, 1000); /* the first one may join last */
    }
}

/* The process that takes the seat is killed in a random state on its way in. */
static void kill_joiner(drawer *self, int seat)
{
    static const char *const states[] = {"spawned", "opened", "ready", "staged", "committed"};
    int which = below(self, 5);
    /* A process that was only spawned prepares for a while: inject anywhere in that. */
    double delay_ms = which == 0 ? between(self, 0, 300) : between(self, 0, 5);
    crash(self, SCOPE_JOINER, seat, on_state(states[which], seat, self->num_joins[seat], delay_ms));
    rejoin(self, seat);
    self->retired[seat] = true;
    self->num_retired++;
    self->settled = on_state("exited", seat, self->num_exits[seat], 800 + JOIN_ALLOWANCE_MS);
}

static void draw_crash(drawer *self, moment when, bool correlated)
{
    int seat = draw_seat(self, true);
    if (seat < 0) {
        return;
    }
    crash(self, SCOPE_SINGLE, seat, when);
    rejoin(self, seat);
    settle_on(self, seat, 0);
    int which = correlated ? below(self, 5) : 5;
    which = which == 3 && self->num_retired == self->config->num_ranks / 2 ? 4 : which;
    switch (which) {
    case 0:
        second_fault(self, SCOPE_DOUBLE, after(when, between(self, 0, 20)));
        break;
    case 1: /* suspected, wedged, proposing */
        second_fault(self, SCOPE_RECOVERY, after(when, between(self, 20, 120)));
        break;
    case 2: /* committed: repairing, installing */
        second_fault(self, SCOPE_RECOVERY,
                     on_state("expelled", seat, self->num_exits[seat], between(self, 0, 30)));
        break;
    case 3:
        kill_joiner(self, seat);
        break;
    case 4:
        crash(self, SCOPE_RELAPSE, seat,
              on_state("joined", seat, self->num_joins[seat], between(self, 0, 50)));
        rejoin(self, seat);
        settle_on(self, seat, 0);
        break;
    default:
        break;
    }
}

/* A rank is paused or slow; in the same moment (correlated) another one dies. */
static void draw_slowness(drawer *self, moment when, bool pause, bool correlated)
{
    if (pause) {
        pause_rank(self, SCOPE_SINGLE, when, !correlated);
    } else {
        slow_rank(self, SCOPE_SINGLE, when);
    }
    int seat = correlated ? draw_seat(self, true) : -1;
    if (seat < 0) {
        return;
    }
    crash(self, SCOPE_DOUBLE, seat, after(when, between(self, 0, 20)));
    rejoin(self, seat);
    if (!pause) {
        settle_on(self, seat, 2000); /* no rank is slow for longer */
    }                                /* else the paused rank's return comes later anyway */
}

static void draw_store(drawer *self, moment when, bool correlated)
{
    double duration_ms = between(self, 200, 2000);
    bool restart = below(self, 2) == 1, race = restart && self->config->store_race;
    moment back = after(when, duration_ms);
    if (restart) {
        when = after(when, STORE_DISTANCE_MS);
        back = after(back, STORE_DISTANCE_MS);
        add_flag(self, VERB_STORE_KILL, when, "%s", "");
        add_flag(self, VERB_STORE_START, back, "%s", "");
    } else {
        add_flag(self, VERB_STORE_STOP, when, "%.0fms", duration_ms);
    }
    add_fault(self, restart ? CHAOS_STORE_RESTART : CHAOS_STORE_STOP, SCOPE_SINGLE, -1)
        ->duration_ms = duration_ms;
    settle_after(self, back, STORE_DISTANCE_MS);
    int seat = correlated && (!restart || race) ? draw_seat(self, true) : -1;
    if (seat >= 0) {
        double ms = race ? between(self, -20, 20) : between(self, -duration_ms, 0);
        crash(self, SCOPE_DOUBLE, seat, after(back, ms));
        rejoin_after(self, seat, back); /* without a store no process can take a seat */
        settle_on(self, seat, 0);
    }
}

void chaos_draw(const chaos_config *config, chaos_round *round_out)
{
    drawer self = {.config = config, .round = round_out};
    *round_out = (chaos_round){0};
    self.random = config->seed * 0xd1342543de82ef95u + config->round;
    next_random(&self); /* so that neighbouring rounds do not share numbers */
    self.random ^= config->round << 32;
    round_out->run_seed = 1 + next_random(&self) % 1000000;
    int drawn = 12 + below(&self, 9);
    int wanted = config->num_faults ? config->num_faults : drawn;
    settle_after(&self, (moment){{0}, 0}, FIRST_MS);
    while (round_out->num_faults < wanted) {
        int percent = below(&self, 100);
        bool correlated =
            between(&self, 0, 1) < CORRELATED_SHARE && round_out->num_faults + 1 < wanted;
        double gap_ms = between(&self, 0, 500);
        moment when = after(self.settled, gap_ms);
        round_out->expected_ms += gap_ms;
        memset(self.taken, 0, sizeof self.taken);
        if (percent < 50) { /* 45 crashes, and 5 corrupted copies that the lab cannot make yet */
            draw_crash(&self, when, correlated);
        } else if (percent < 70) {
            draw_slowness(&self, when, true, correlated);
        } else if (percent < 85) {
            draw_slowness(&self, when, false, correlated);
        } else {
            draw_store(&self, when, correlated);
        }
    }
}
