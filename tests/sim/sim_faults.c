/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong, and when: all from the seed. Each seed uses some kinds of faults only (swarm
 * testing), for a while; then the world heals and must converge. */
#include "tests/sim/sim.h"

#include <string.h>

enum { FAULTS_US = 2000000, SUPERVISE_US = 100000, STORM_OF = 5 };

const char *const sim_kind_names[SIM_NUM_KINDS] = {
    "crash",     "stop",       "freeze",  "slow", "restart", "leave",   "delay",  "break",
    "partition", "outage",     "amnesia", "race", "skew",    "corrupt", "zombie", "requeue",
    "stuck",     "unkillable", "late",    "end",  "port",    "file",    "bell",   "word",
    "group",     "proxy",      "memory",  "keep", "hosts",   "agent"};

static sim_process *alive_one(void)
{
    sim_process *chosen = NULL;
    int n = 0;

    for (int i = 0; i < sim->num_processes; i++) {
        if (sim->process[i]->alive && sim_random((uint64_t)++n) == 0) {
            chosen = sim->process[i];
        }
    }
    return chosen;
}

static int seat_is_taken(int seat)
{
    for (int i = 0; i < sim->num_processes; i++) {
        if (sim->process[i]->seat == seat && sim->process[i]->alive) {
            return 1;
        }
    }
    return 0;
}

static uint64_t some_time(void)
{
    static const uint64_t lengths_us[] = {30000, 120000, 300000, 450000, 900000};

    return sim_delay(5000, lengths_us[sim_random(5)]);
}

/* A group is let in as a whole: whoever starts a rank starts its mates. */
static void start_mates(int seat)
{
    const int seats = sim->shape.seats_per_group, first = seats ? seat - seat % seats : 0;

    for (int mate = first; mate < first + seats; mate++) {
        if (!seat_is_taken(mate)) {
            sim_rank_start(mate);
        }
    }
}

static void restart_one(void)
{
    int seat = (int)sim_random((uint64_t)sim->shape.max_ranks);

    if (sim_random(6) == 0) { /* perhaps a living process has it: then it is refused (M7) */
        sim_rank_start(seat);
        return;
    }
    for (int i = 0; i < sim->shape.max_ranks; i++, seat = (seat + 1) % sim->shape.max_ranks) {
        if (!seat_is_taken(seat)) {
            sim_rank_start(seat);
            start_mates(seat);
            return;
        }
    }
}

static void leave_one(sim_process *p)
{
    const int seats = sim->shape.seats_per_group ? sim->shape.seats_per_group : 1;
    int others = 0;

    for (int i = 0; i < sim->num_processes; i++) {
        const sim_process *q = sim->process[i];
        others += q->seat / seats != p->seat / seats && q->alive && q->rank.joined && !q->leaving &&
                  !q->over;
    }
    if (others >= 2 && p->rank.joined && !p->over) {
        sim_trace("%d.%u is asked to leave", p->seat, p->generation);
        p->leaving = 1;
    }
}

static void disturb(sim_process *p, sim_kind kind)
{
    uint64_t for_us = some_time();

    sim_trace("fault: %s of %d.%u (%llu us)", sim_kind_names[kind], p->seat, p->generation,
              (unsigned long long)for_us);
    p->disturbed_us = sim->now_us + 2 * for_us;
    switch (kind) {
    case SIM_CRASH:
        sim_process_kill(p, "crash");
        break;
    case SIM_STOP:
        sim_process_stop(p, for_us);
        break;
    case SIM_FREEZE:
        p->freeze_in = 1 + (int)sim_random(60);
        p->freeze_us = for_us;
        break;
    case SIM_SLOW:
        p->slow_us = p->slow_us ? 0 : sim_delay(200, 8000);
        break;
    case SIM_LEAVE:
        leave_one(p);
        break;
    case SIM_STUCK:
        p->stuck_us = for_us;
        break;
    case SIM_DELAY:
        sim_store_delay(p, for_us / 3);
        break;
    case SIM_BREAK:
        sim_store_break(p);
        break;
    case SIM_PARTITION:
        p->cut_until_us = sim->now_us + for_us * 2;
        sim_store_break(p);
        break;
    default:
        break;
    }
}

/* It costs nobody his place: no process counts as disturbed for it. */
static void next_port(void *user, uint64_t number)
{
    sim_process *p = alive_one();

    if (sim->now_us >= sim->heal_us) {
        return;
    }
    if (p) {
        sim->faults++;
        sim_check_fault();
        number = sim_random(SIM_PORTS);
        sim_port_set(p, (int)number, !p->port_is_down[number]);
    }
    sim_after(sim_delay(1000, 300000), next_port, user, number);
}

/* A lane stands still, mostly for longer than a step waits. */
static void next_stall(void *user, uint64_t number)
{
    if (sim->now_us >= sim->heal_us) {
        return;
    }
    sim->faults++;
    sim_check_fault();
    sim_network_stall(some_time());
    sim_after(sim_delay(20000, 600000), next_stall, user, number);
}

/* ------------------------------------------------------------------ joiners only (L4) */

static int is_joiner(const sim_process *p)
{
    return p->alive && !p->over && p->num_ok == 0;
}

static sim_process *one_of(int (*is_meant)(const sim_process *))
{
    sim_process *chosen = NULL;
    int n = 0;

    for (int i = 0; i < sim->num_processes; i++) {
        if (is_meant(sim->process[i]) && sim_random((uint64_t)++n) == 0) {
            chosen = sim->process[i];
        }
    }
    return chosen;
}

static int may_go(const sim_process *p)
{
    return p->alive && !p->over && !p->leaving && p->num_ok > 0;
}

/* Processes come into free seats and die, hang or freeze on the way; where no seat is free, some
 * leave. */
static void joiner_fault(void)
{
    static const sim_kind kinds[] = {SIM_CRASH, SIM_STOP, SIM_FREEZE};
    sim_process *joiner = one_of(is_joiner), *member = one_of(may_go);
    int free_seats = 0;

    if (sim->survivors_from_us == 0) {
        if (joiner) { /* of the first ranks */
            return;
        }
        sim->survivors_from_us = sim->now_us;
    }
    for (int seat = 0; seat < sim->shape.max_ranks; seat++) {
        free_seats += !seat_is_taken(seat);
    }
    if (joiner && sim_random(4)) {
        sim->faults++;
        disturb(joiner, kinds[sim_random(3)]);
    } else if (free_seats > 0) {
        restart_one();
    } else if (member && !joiner) {
        leave_one(member);
    }
}

static void fault(void)
{
    sim_kind kind = (sim_kind)sim_random(SIM_DRAWN_KINDS);
    sim_process *p = alive_one();
    uint64_t left_us = sim->heal_us - sim->now_us, for_us = some_time();

    if (sim->joiners_only) {
        joiner_fault();
        return;
    }
    for (int i = 0; i < SIM_DRAWN_KINDS && !(sim->kinds >> kind & 1u); i++) {
        kind = (sim_kind)((kind + 1) % SIM_DRAWN_KINDS);
    }
    if (!(sim->kinds >> kind & 1u) || kind == SIM_RACE) { /* that one comes with commits */
        return;
    }
    sim->faults++;
    sim_check_fault();
    for_us = for_us < left_us ? for_us : left_us;
    if (kind == SIM_RESTART) {
        restart_one();
    } else if (kind == SIM_OUTAGE) {
        sim_store_outage(for_us, (int)sim_random(2), 0);
    } else if (kind == SIM_AMNESIA) {
        sim_store_outage(for_us / 4, 1, 1);
    } else if (p) {
        disturb(p, kind);
    }
}

static void next_fault(void *user, uint64_t number)
{
    int n = sim_random(STORM_OF) == 0 ? 2 + (int)sim_random(3) : 1; /* some come together */

    (void)user;
    (void)number;
    if (sim->now_us >= sim->heal_us) {
        return;
    }
    while (n-- > 0) {
        fault();
    }
    sim_after(sim_delay(20000, 500000), next_fault, NULL, 0);
}

/* A seat that the instance grew into, whose process has ended with the only copy of an expert: no
 * view can leave it out, and none of the others can bring what it had. */
static bool is_missed(int seat)
{
    return sim->in_register && eepi_view_num_active(sim->in_register) > 0 &&
           eepi_view_is_member(sim->in_register, seat) && sim->shape.backup_copies == 0;
}

static void supervise(void *user, uint64_t number)
{
    (void)user;
    (void)number;
    for (int seat = 0; seat < sim->shape.max_ranks; seat++) {
        if (!seat_is_taken(seat) && (seat < sim->shape.num_ranks || is_missed(seat))) {
            sim_rank_start(seat);
        }
        if (seat_is_taken(seat)) {
            start_mates(seat);
        }
    }
    sim_after(SUPERVISE_US, supervise, NULL, 0);
}

void sim_heal(void)
{
    sim_trace("healed");
    sim->healed = 1;
    sim_hosts_heal();
    sim->joiners_only = 0;
    sim->num_old_requests = sim->num_requests;
    sim->corrupt_of_1000 = 0;
    sim->kinds &= ~(1u << SIM_DELAY | 1u << SIM_REQUEUE);
    for (int i = 0; i < sim->num_processes; i++) {
        sim_process *p = sim->process[i];
        if (p->slow_us) {
            p->disturbed_us = sim->now_us;
        }
        p->slow_us = 0;
        p->freeze_in = 0;
        p->cut_until_us = 0;
        for (int port = 0; port < SIM_PORTS; port++) {
            sim_port_set(p, port, 0);
        }
    }
    supervise(NULL, 0);
}

/* ------------------------------------------------------------------ ends in order (M8) */

static void begin_again(void *user, uint64_t number)
{
    (void)user;
    (void)number;
    for (int seat = 0; seat < sim->shape.num_ranks && !sim->healed; seat++) {
        if (!seat_is_taken(seat) && sim_random(8)) {
            sim_rank_start(seat);
        }
    }
}

/* Some have not heard of it yet; of the first seats few, since no other instance begins before
 * those seats are free. Some come while others still close. */
void sim_begin_again(uint64_t epoch)
{
    for (int i = 0; i < sim->num_processes && !sim->healed; i++) {
        sim_process *p = sim->process[i];
        if (p->alive && p->released_epoch == epoch &&
            sim_random(p->seat < sim->shape.num_ranks ? 32 : 2) == 0) {
            disturb(p, SIM_STOP);
        }
    }
    for (int wave = 0; wave < 4; wave++) {
        sim_after(sim_delay(100, 600000), begin_again, NULL, 0);
    }
}

static void end_instance(void *user, uint64_t number);

static int may_ask(const sim_process *p)
{
    return p->alive && p->rank.joined && !p->over;
}

/* Somebody has loaded for the instance that runs, and comes too late for it. */
static void end_beside_a_joiner(void *user, uint64_t number)
{
    restart_one();
    sim_after(sim_random(10000), end_instance, user, number);
}

/* One asks for the end of all, or all who serve ask to leave, perhaps a while apart. */
static void end_instance(void *user, uint64_t number)
{
    void (*const next)(void *, uint64_t) = sim_random(2) ? end_instance : end_beside_a_joiner;
    sim_process *one = one_of(may_ask);
    const int by_one = (int)sim_random(2);

    (void)user;
    if (sim->now_us >= sim->heal_us || !one) {
        return;
    }
    sim_trace("%s", by_one ? "one asks for the end of the instance" : "all are asked to leave");
    one->ends_instance |= by_one;
    for (int i = 0; i < sim->num_processes && !by_one; i++) {
        if (may_ask(sim->process[i]) && sim_random(50)) {
            sim->process[i]->leaving = 1;
        }
    }
    if (number > 0) {
        sim_after(sim_delay(1000, 1000000), next, NULL, number - 1);
    }
}

/* ------------------------------------------------------------------ kinds that are not drawn */

/* By the seed alone, in one of so many histories: the others stay what they are. Asked for by name:
 * in all of them. */
static int has_kind(sim_kind kind, uint64_t factor, uint64_t one_of)
{
    const uint32_t all = (1u << SIM_NUM_KINDS) - 1;

    if (!(sim->options.kinds >> kind & 1u)) {
        return 0;
    }
    return sim->options.kinds != all ||
           (sim->options.seed * factor) / (UINT64_MAX / one_of + 1) == 0;
}

/* Whole groups: fewer ranks in the first view, and as many seats as there is room for. */
static void draw_groups(sim_shape *s)
{
    const int seats = s->num_ranks >= 6 && sim->options.seed % 3 == 0 ? 3 : 2;

    s->seats_per_group = seats;
    s->num_ranks = s->num_ranks < 2 * seats ? 2 * seats : s->num_ranks / seats * seats;
    s->max_ranks = (s->max_ranks + seats - 1) / seats * seats;
    s->max_ranks = s->max_ranks < s->num_ranks ? s->num_ranks : s->max_ranks;
    if (s->max_ranks > SIM_MAX_SEATS) {
        s->max_ranks = SIM_MAX_SEATS / seats * seats;
    }
    if (s->num_slots * s->num_ranks < s->num_experts) {
        s->num_slots = (s->num_experts + s->num_ranks - 1) / s->num_ranks;
    }
}

/* In half of them hosts and ends of processes are all that fails: then more can be said of who
 * goes.
 */
static void draw_hosts(void)
{
    const uint32_t alone = 1u << SIM_CRASH | 1u << SIM_RESTART | 1u << SIM_OUTAGE |
                           1u << SIM_BREAK | 1u << SIM_FILE | 1u << SIM_BELL;

    sim->hosts_only = sim_random(2) == 0;
    if (sim->hosts_only) {
        sim->kinds &= alone;
    }
    sim->kinds |= 1u << SIM_HOSTS | 1u << SIM_PROXY;
    sim->has_agents = has_kind(SIM_AGENT, 0x27d4eb2f165667c5u, 2);
    sim_hosts_open();
}

static void draw_shape(sim_shape *s)
{
    s->num_ranks = sim->options.num_ranks ? sim->options.num_ranks : 3 + (int)sim_random(6);
    s->max_ranks = s->num_ranks + (int)sim_random(3);
    s->max_ranks = s->max_ranks < SIM_MAX_SEATS ? s->max_ranks : SIM_MAX_SEATS;
    s->num_layers = 1 + (int)sim_random(SIM_LAYERS);
    s->num_experts = 4 + (int)sim_random(SIM_EXPERTS - 4);
    s->num_slots = (s->num_experts + s->num_ranks - 1) / s->num_ranks + (int)sim_random(3);
    s->num_slots = s->num_slots < SIM_SLOTS ? s->num_slots : SIM_SLOTS;
    s->ranks_per_node = sim_random(2) ? 1 + (int)sim_random((uint64_t)s->num_ranks) : 0;
    s->backup_copies = sim_random(12) ? 1 + (int)sim_random(2) : 0;
}

/* Not together with what a store that keeps all cannot do. */
static void draw_store_and_hosts(void)
{
    if (has_kind(SIM_KEEP, 0xc2b2ae3d27d4eb4fu, 8)) {
        sim->kinds |= 1u << SIM_KEEP;
        sim->store_keeps = true;
    }
    if (has_kind(SIM_HOSTS, 0x165667b19e3779f9u, 4)) {
        draw_hosts();
    }
    if (sim->store_keeps) {
        sim->kinds &= ~(1u << SIM_AMNESIA | 1u << SIM_RACE);
    }
}

void sim_faults_open(void)
{
    sim_shape *s = &sim->shape;
    uint64_t first_epoch = 1, first_step = 1;

    draw_shape(s);
    sim->joiners_only = sim_random(8) == 0 && (sim->options.kinds >> SIM_RESTART & 1u);
    for (int kind = 0; kind < SIM_DRAWN_KINDS && !sim->joiners_only; kind++) {
        if (sim_random(2) && (sim->options.kinds >> kind & 1u)) {
            sim->kinds |= 1u << kind;
        }
    }
    if (has_kind(SIM_LATE, 0x9e3779b97f4a7c15u, 4)) {
        sim->kinds |= 1u << SIM_LATE;
    }
    if (!sim->joiners_only && has_kind(SIM_END, 0xbf58476d1ce4e5b9u, 8)) {
        sim->kinds |= 1u << SIM_END;
    }
    if (has_kind(SIM_PORT, 0x94d049bb133111ebu, 4)) {
        sim->kinds |= 1u << SIM_PORT;
        sim_after(sim_random(FAULTS_US), next_port, NULL, 0);
    }
    if (has_kind(SIM_BELL, 0xa0761d6478bd642fu, 4)) {
        sim->kinds |= 1u << SIM_BELL;
    }
    if (!sim->joiners_only && has_kind(SIM_MEMORY, 0x9fb21c651e98df25u, 4)) {
        sim->kinds |= 1u << SIM_MEMORY;
    }
    if (has_kind(SIM_FILE, 0xd6e8feb86659fd93u, 4)) {
        sim->kinds |= 1u << SIM_FILE;
    }
    if (!sim->joiners_only && has_kind(SIM_WORD, 0xe7037ed1a0b428dbu, 4)) {
        sim->kinds |= 1u << SIM_WORD;
    }
    if (has_kind(SIM_GROUP, 0x8ebc6af09c88c6e3u, 4)) {
        sim->kinds |= 1u << SIM_GROUP;
        draw_groups(s);
    }
    if (has_kind(SIM_PROXY, 0x2545f4914f6cdd1du, 3)) {
        sim->kinds |= 1u << SIM_PROXY;
        if (!sim->joiners_only) {
            sim_after(sim_random(FAULTS_US), next_stall, NULL, 0);
        }
    }
    draw_store_and_hosts();
    sim->step_us = 8000 + sim_random(32000);
    sim->corrupt_of_1000 = sim->kinds >> SIM_CORRUPT & 1u ? 200 : 0;
    sim->point_of_1000 = (int)sim_random(3) * 4;
    sim->heal_us = sim->now_us + 500000 + FAULTS_US;
    if (sim_random(8) == 0) { /* S13: truncated steps and epochs wrap in this history */
        first_epoch = (1u << 20) - 3;
        first_step = (1ull << 34) - (1ull << 32) - 20;
    }
    sim_store_open(first_epoch, first_step);
    sim_agents_open();
    for (int seat = 0; seat < s->num_ranks; seat++) {
        sim_rank_start(seat);
    }
    sim_after(100000 + sim_random(600000), next_fault, NULL, 0);
    if (sim->kinds >> SIM_END & 1u) {
        sim_after(50000 + sim_random(FAULTS_US), end_instance, NULL, sim_random(4));
    }
}
