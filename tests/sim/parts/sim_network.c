/* SPDX-License-Identifier: Apache-2.0 */
/* A network as bad as the rules allow (transport/proxy/network.h): in a third of the histories some
 * ranks reach some others by it alone. Messages are late, come in bursts, in any order that rule N3
 * leaves open, and twice. One lane may stand still for longer than a step waits, while all others
 * go on. A lane dies with its process, but what it has sent goes on, perhaps for seconds: then it
 * meets other views, and other processes in the seat that it was sent to. */
#include "tests/sim/sim.h"

#include "experiments/base/random.h"
#include "graphs/device/rings.h"
#include "transport/proxy/network.h"
#include "transport/proxy/ring_lane.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    SPOILED = 0xa5,
    PLACERS = 2,
    MAX_QUEUES = 2 * SIM_MAX_SEATS,
    LONG_LATE_US = 2000000,
};

typedef struct lane lane;

typedef enum flight_state { FLIGHT_TAKEN, FLIGHT_SENT, FLIGHT_PLACING, FLIGHT_OVER } flight_state;

typedef struct flight { /* a message under way, in its lane's order */
    struct flight *next, *next_arrived;
    lane *lane;
    eepi_network *to; /* where it has arrived */
    eepi_lane_message message;
    uint8_t *bytes; /* the network's own, once it has read the slot */
    flight_state state;
    int is_double;
} flight;

/* Lives as long as the world: what was sent goes on behind the end of its process. */
struct lane {
    eepi_network *network; /* its source's */
    eepi_ring_lane *lane;
    flight *first, *last;
    uint64_t rests_until_us; /* then all of it comes in a burst */
    uint64_t held_until_us;  /* what was sent does not arrive */
    uint64_t blocked_us;     /* since when `first` is the first */
    int holds_words;         /* those beside the slots neither */
    sim_ring_room *room;
};

/* A process of another host, as its beats come (rule N11). */
typedef struct far_peer {
    uint32_t generation; /* 0: none */
    int is_heard, is_silent;
    uint64_t heard_us;
} far_peer;

struct eepi_network {
    eepi_network_listener listener;
    uint64_t silent_us, listened_us;
    far_peer far[SIM_MAX_SEATS];
    int has_far;
    sim_process *process;
    eepk_shape shape;
    uint32_t generation;
    eepi_placer *placer;
    lane lanes[MAX_QUEUES];
    flight *first_arrived, *last_arrived;
    pthread_t taker, placers[PLACERS];
    sim_fiber *placing[PLACERS]; /* inside eepi_placer_place; NULL: not now */
    int num_placers;
    struct talker *talker;
    int stops; /* closed: its rings may be gone */
    eepi_network *next;
};

static uint64_t drawn_of(uint64_t what)
{
    uint64_t state = sim->options.seed ^ 0x70726f7879 ^ what << 32;

    (void)random_next(&state);
    return random_next(&state);
}

/* ------------------------------------------------------------------ who is PROXY */

/* Its lanes live as long as the world. */
void eepi_network_keep(eepi_network *network, const uint32_t *generation)
{
    for (uint32_t seat = 0; seat < network->shape.max_ranks; seat++) {
        far_peer *far = &network->far[seat];
        if (far->generation != 0 && generation[seat] > far->generation) {
            *far = (far_peer){0};
        }
    }
}

/* Of the pairs of a history all, or half. */
uint32_t eepi_network_reach(eepi_network *network, uint32_t seat, uint32_t generation,
                            const eepi_lane_address *address, bool is_near)
{
    const int all = drawn_of(1) % 4 == 0 || !is_near;
    const uint32_t self = network->shape.self;

    (void)address;
    if (!is_near && generation > network->far[seat].generation) {
        network->far[seat] = (far_peer){.generation = generation, .heard_us = sim->now_us};
        network->has_far = 1;
        sim_wake(&network->taker, 1);
    }
    if (sim->num_hosts && is_near) {
        return EEPI_NO_QUEUE;
    }
    if (!all && drawn_of(2 + self * SIM_MAX_SEATS + seat) % 2 == 0) {
        return EEPI_NO_QUEUE;
    }
    return seat + generation % 2 * network->shape.max_ranks;
}

/* ------------------------------------------------------------------ the wire */

static int is_gone(const eepi_network *network)
{
    return network->stops || !network->process->alive;
}

static int is_under_way(const flight *f)
{
    return !f->is_double && f->state != FLIGHT_OVER &&
           !(f->state == FLIGHT_PLACING && is_gone(f->to));
}

/* Rule N3: nothing overtakes a word but words beside the slots, which overtake all. What comes a
 * second time may come whenever it likes. */
static int may_go(const flight *f)
{
    const flight *before = f->lane->first;

    for (; before != f && f->message.claim != EEPI_LANE_NO_CLAIM; before = before->next) {
        if (is_under_way(before) && before->message.put.kind != EEPK_PUT_ROWS) {
            return 0;
        }
    }
    return 1;
}

static void forget_those_over(lane *l)
{
    while (l->first && l->first->state == FLIGHT_OVER) {
        flight *f = l->first;
        l->first = f->next;
        l->blocked_us = sim->now_us;
        l->last = l->first ? l->last : NULL;
        free(f->bytes);
        free(f);
    }
}

uint64_t eepi_network_blocked_us(const eepi_network *network, uint32_t queue)
{
    return network->lanes[queue].first ? sim->now_us - network->lanes[queue].blocked_us : 0;
}

static void append(lane *l, flight *f)
{
    f->lane = l;
    if (l->last) {
        l->last->next = f;
    } else {
        l->first = f;
        l->blocked_us = sim->now_us;
    }
    l->last = f;
}

/* The process that a message is for; perhaps, if that one is gone, the one that has its address by
 * now (rule N2). NULL: nobody. */
static eepi_network *receiver_of(const eepk_put *put)
{
    eepi_network *other = NULL;

    for (eepi_network *n = sim->networks; n; n = n->next) {
        if (is_gone(n) || n->shape.self != put->target) {
            continue;
        }
        if (n->generation == put->target_generation) {
            return n;
        }
        other = other ? other : n;
    }
    return sim_random(2) ? other : NULL;
}

/* A view without the source is known where the message comes: that network may refuse it. */
static int is_forbidden(const lane *l, const eepi_network *to)
{
    const eep_context *context = to->process->rank.context;
    const uint64_t expelled = l->network->process->expelled_epoch;

    return context && expelled && to->process->epoch >= expelled && sim_random(2);
}

static int is_held(const lane *l, const flight *f)
{
    const sim_process *to =
        sim_process_of((int)f->message.put.target, f->message.put.target_generation);

    if (to && sim_hosts_are_cut(l->network->process->host, to->host)) {
        return 1; /* it is sent again until it arrives */
    }
    return sim->now_us < l->held_until_us &&
           (l->holds_words || f->message.claim != EEPI_LANE_NO_CLAIM || f->is_double);
}

static void arrive(void *user, uint64_t number)
{
    flight *f = user;
    lane *l = f->lane;
    const sim_process *source = l->network->process;
    eepi_network *to;

    (void)number;
    if (is_held(l, f)) {
        const uint64_t left_us =
            l->held_until_us > sim->now_us ? l->held_until_us - sim->now_us : sim_random(40000);
        sim_after(left_us + sim_random(200), arrive, f, 0);
        return;
    }
    if ((!source->alive || source->expelled_epoch) && sim_network_is_bad() && sim_random(4)) {
        sim->late_messages++;
        sim_after(sim_delay(1000, LONG_LATE_US), arrive, f, 0);
        return;
    }
    if (!may_go(f)) {
        sim_after(sim_delay(20, 300), arrive, f, 0);
        return;
    }
    to = receiver_of(&f->message.put);
    if (!to || is_forbidden(l, to)) {
        f->state = FLIGHT_OVER;
        forget_those_over(l);
        return;
    }
    f->state = FLIGHT_PLACING;
    f->to = to;
    f->next_arrived = NULL;
    if (to->last_arrived) {
        to->last_arrived->next_arrived = f;
    } else {
        to->first_arrived = f;
    }
    to->last_arrived = f;
    sim_wake(&to->first_arrived, 1);
}

static uint64_t travel_us(void)
{
    const uint64_t most = !sim_network_is_bad() ? 2000 : sim_random(200) ? 4000 : 60000;

    return sim_delay(5, most);
}

/* The same once more, from memory of the network's own. */
static void double_it(lane *l, const flight *f)
{
    flight *again = calloc(1, sizeof *again);

    again->message = f->message;
    again->message.claim = EEPI_LANE_NO_CLAIM;
    again->is_double = 1;
    again->state = FLIGHT_SENT;
    if (f->bytes) {
        again->bytes = malloc(f->message.put.bytes);
        memcpy(again->bytes, f->bytes, f->message.put.bytes);
    }
    append(l, again);
    sim_after(travel_us() + sim_random(3) * travel_us(), arrive, again, 0);
}

/* The network card has read the slot, which is given back a while later. */
static void complete(void *user, uint64_t claim)
{
    lane *l = user;

    if (!is_gone(l->network)) {
        sim_ring_complete(l->room, claim);
    }
}

static void send(void *user, uint64_t number)
{
    flight *f = user;
    lane *l = f->lane;
    const uint32_t bytes = f->message.put.bytes;

    (void)number;
    if (is_gone(l->network)) { /* it never left */
        f->state = FLIGHT_OVER;
        forget_those_over(l);
        return;
    }
    if (f->message.bytes) {
        f->bytes = malloc(bytes);
        memcpy(f->bytes, f->message.bytes, bytes);
        memset((void *)(uintptr_t)f->message.bytes, SPOILED, bytes);
    }
    if (f->message.claim != EEPI_LANE_NO_CLAIM) {
        sim_after(sim_random(8) ? 0 : travel_us(), complete, l, f->message.claim);
    }
    f->state = FLIGHT_SENT;
    sim_after(travel_us(), arrive, f, 0);
    if (sim_random(sim_network_is_bad() ? 10 : 100) == 0) {
        double_it(l, f);
    }
}

/* ------------------------------------------------------------------ threads of a rank */

static void take_from(lane *l)
{
    eepi_lane_message message;
    int any = 0;

    sim_ring_give_back(l->room);
    if (sim->now_us < l->rests_until_us) {
        return;
    }
    while (eepi_ring_lane_take(l->lane, &message)) {
        flight *f = calloc(1, sizeof *f);
        f->message = message;
        append(l, f);
        sim->messages++;
        sim_after(sim_random(4) ? 0 : travel_us(), send, f, 0);
        any = 1;
    }
    if (any && sim_network_is_bad() && sim_random(100) == 0) {
        l->rests_until_us = sim->now_us + sim_delay(100, 40000);
    }
}

/* Where agents tell beats a lane says no more than that its peer acknowledges nothing. */
static int is_reached(const sim_process *p, const sim_process *self)
{
    return sim->has_agents ? p->alive && sim->now_us >= p->stopped_until_us &&
                                 !sim_hosts_are_cut(p->host, self->host) &&
                                 !sim_hosts_are_cut(self->host, p->host)
                           : sim_hosts_hear(p, self->host);
}

/* Time in which this process stood still is its own (M6). */
static void listen_far(eepi_network *network)
{
    const uint64_t now = sim->now_us, gap_us = now - network->listened_us;

    network->listened_us = now;
    for (uint32_t seat = 0; seat < network->shape.max_ranks; seat++) {
        far_peer *far = &network->far[seat];
        const sim_process *p = far->generation ? sim_process_of((int)seat, far->generation) : NULL;
        if (!p) {
            continue;
        }
        if (gap_us > 3 * SIM_BEAT_US) {
            far->heard_us += gap_us;
        }
        if (is_reached(p, network->process)) {
            const int is_news = far->is_silent || (!far->is_heard && !sim->has_agents);
            far->heard_us = now;
            far->is_heard = 1;
            far->is_silent = 0;
            if (is_news) {
                network->listener.alive(network->listener.user, seat, far->generation);
            }
        } else if (now > far->heard_us + network->silent_us && !far->is_silent) {
            far->is_silent = 1;
            network->listener.lost(network->listener.user, seat, far->generation, EEP_FAULT_SILENT);
        }
    }
}

static void *take(void *argument)
{
    eepi_network *network = argument;

    while (!network->stops) {
        uint64_t next_us = SIM_NEVER;
        if (network->has_far && sim->now_us >= network->listened_us + SIM_BEAT_US) {
            listen_far(network);
        }
        if (network->has_far) {
            next_us = network->listened_us + SIM_BEAT_US;
        }
        for (uint32_t i = 0; i < network->shape.num_queues; i++) {
            take_from(&network->lanes[i]);
            if (network->lanes[i].rests_until_us > sim->now_us) {
                next_us = next_us < network->lanes[i].rests_until_us
                              ? next_us
                              : network->lanes[i].rests_until_us;
            }
        }
        (void)sim_wait(&network->taker, next_us);
    }
    return NULL;
}

/* Between its verdict and its write a thread has given back all locks. */
void sim_network_point(void)
{
    for (const eepi_network *n = sim->networks; n; n = n->next) {
        for (int i = 0; i < PLACERS && n->process == sim_self(); i++) {
            if (n->placing[i] == sim_fiber_self() && n->placing[i] && sim_network_is_bad() &&
                sim_random(300) == 0) {
                sim_sleep(sim_delay(10, 100000));
            }
        }
    }
}

/* Messages of the data plane are beats, too (N11). Not so in half of the histories: ranks step all
 * the time here, and silence would never be judged by what agents tell. */
static void hear(const eepi_network *network, const eepi_network *from)
{
    if (sim->has_agents && drawn_of(1) % 2 == 0 && from->process->host != network->process->host) {
        network->listener.heard(network->listener.user, from->shape.self, from->generation);
    }
}

static void *place(void *argument)
{
    eepi_network *network = argument;
    const int self = network->num_placers++;

    while (!network->stops) {
        flight *f = network->first_arrived;
        eepi_placed how;
        if (!f) {
            (void)sim_wait(&network->first_arrived, SIM_NEVER);
            continue;
        }
        network->first_arrived = f->next_arrived;
        if (!network->first_arrived) {
            network->last_arrived = NULL;
        }
        sim_point();
        network->placing[self] = sim_fiber_self();
        how = eepi_placer_place(network->placer, &f->message.put, f->bytes,
                                f->lane->network->generation);
        SIM_MUST(how != EEPI_PLACED_MALFORMED, "N2", "%u.%u has sent what no rank sends",
                 f->message.put.source, f->message.put.source_generation);
        sim->placed[how]++;
        network->placing[self] = NULL;
        hear(network, f->lane->network);
        f->state = FLIGHT_OVER;
        forget_those_over(f->lane);
    }
    return NULL;
}

/* Kernels tell nobody what they put: a thread looks all the time. Here it looks when they have. */
void sim_network_look(sim_process *p)
{
    for (eepi_network *n = sim->networks; n; n = n->next) {
        if (n->process == p && !n->stops) {
            sim_wake(&n->taker, 1);
        }
    }
}

int sim_network_lets_in(const sim_process *p, uint64_t epoch)
{
    for (const eepi_network *n = sim->networks; n; n = n->next) {
        if (n->process == p && !n->stops) {
            const eepi_gate_stand stand = eepi_window_gate_stand(eepi_placer_gate(n->placer));
            return stand.lets_in && stand.epoch <= epoch;
        }
    }
    return 0;
}

void eepi_network_speak(eepi_network *network, uint32_t seat, uint32_t generation)
{
    sim_talk_speak(network->talker, seat, generation);
}

void eepi_network_kick(eepi_network *network)
{
    sim_wake(&network->taker, 1);
}

static eepi_network *one_of_those_alive(void)
{
    eepi_network *chosen = NULL;
    int num = 0;

    for (eepi_network *n = sim->networks; n; n = n->next) {
        if (!is_gone(n) && sim_random((uint64_t)++num) == 0) {
            chosen = n;
        }
    }
    return chosen;
}

/* A fault of one direction between two ranks, which nobody else notices. */
void sim_network_stall(uint64_t for_us)
{
    eepi_network *from = NULL, *to = NULL;
    uint32_t queue = EEPI_NO_QUEUE;
    lane *l;

    for (int i = 0; i < 10 && queue == EEPI_NO_QUEUE; i++) {
        from = one_of_those_alive();
        to = one_of_those_alive();
        if (from && to && from != to) {
            queue = eepi_network_reach(from, to->shape.self, to->generation, NULL, true);
        }
    }
    if (queue == EEPI_NO_QUEUE) {
        return;
    }
    sim_trace("the lane from %d.%u to %d.%u stands still for %llu us", from->process->seat,
              from->generation, to->process->seat, to->generation, (unsigned long long)for_us);
    l = &from->lanes[queue];
    l->held_until_us = sim->now_us + for_us;
    l->holds_words = (int)sim_random(2);
    from->process->disturbed_us = sim->now_us + 2 * for_us;
    to->process->disturbed_us = sim->now_us + 2 * for_us;
}

/* ------------------------------------------------------------------ life */

eep_status eepi_network_open(const eepi_network_config *config, char *why, size_t why_bytes,
                             eepi_network **network_out)
{
    eepi_network *network = calloc(1, sizeof *network);
    const eepk_shape *s = config->shape;

    (void)why, (void)why_bytes;
    network->process = sim_self();
    network->shape = *s;
    network->generation = config->generation;
    network->placer = config->placer;
    network->listener = config->listener;
    network->silent_us = config->silent_us;
    network->next = sim->networks;
    sim->networks = network;
    for (uint32_t i = 0; i < s->num_queues; i++) {
        network->lanes[i].network = network;
        network->lanes[i].lane = eepi_ring_lane_open(config->ring[i], s->ring_slots,
                                                     eepk_slot_bytes(s), s->self, i % s->max_ranks);
        network->lanes[i].room = sim_ring_room_open(s, network->lanes[i].lane);
    }
    network->talker = sim_talk_open(&config->talk, s->self, config->generation);
    pthread_create(&network->taker, NULL, take, network);
    for (int i = 0; i < PLACERS; i++) {
        pthread_create(&network->placers[i], NULL, place, network);
    }
    *network_out = network;
    return EEP_OK;
}

/* What has arrived is lost with it. */
void eepi_network_close(eepi_network *network)
{
    network->stops = 1;
    sim_talk_close(network->talker);
    sim_wake(&network->taker, SIM_MAX_PROCESSES);
    sim_wake(&network->first_arrived, PLACERS);
    pthread_join(network->taker, NULL);
    for (int i = 0; i < PLACERS; i++) {
        pthread_join(network->placers[i], NULL);
    }
    for (flight *f = network->first_arrived; f; f = f->next_arrived) {
        f->state = FLIGHT_OVER;
    }
    network->first_arrived = network->last_arrived = NULL;
    for (uint32_t i = 0; i < network->shape.num_queues; i++) {
        eepi_ring_lane_close(network->lanes[i].lane);
        network->lanes[i].lane = NULL;
    }
}
