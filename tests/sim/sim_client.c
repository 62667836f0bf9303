/* SPDX-License-Identifier: Apache-2.0 */
/* The client: requests whose tokens depend on all that came before, the sink that emits them, and
 * the front that gives them to ranks and takes them back. */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

enum { TICK_US = 20000, STALE_US = 500000 };

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int32_t sim_route(uint64_t state, int layer, int k)
{
    uint64_t n = (uint64_t)sim->shape.num_experts, z = mix(state * 31 + (uint64_t)layer + 1);
    uint64_t first = z % n;

    return (int32_t)(k == 0 ? first : (first + 1 + (z >> 32) % (n - 1)) % n);
}

uint64_t sim_token(uint64_t state)
{
    float out[SIM_HIDDEN];

    sim_expected(state, out);
    return (uint64_t)out[3] * 1000 + (uint64_t)out[0];
}

uint64_t sim_next_state(uint64_t state, uint64_t token)
{
    return mix(state * 1000003u + token + 1);
}

/* ------------------------------------------------------------------ emitting */

typedef struct offer {
    sim_process *process;
    uint64_t epoch, token;
    int32_t request;
    uint32_t position;
} offer;

/* S4, S10, M9: what the sink takes is what a fault-free run would have given, in order. */
static void take_offer(void *user, uint64_t number)
{
    offer *o = user;
    sim_request *r = &sim->request[o->request];
    eep_status status = eep_sink_offer(sim->sink, (uint32_t)o->request, 0, o->process->seat,
                                       o->process->generation, o->position);

    (void)number;
    if (status == EEP_OK) {
        uint64_t expected = sim_token(r->state);
        SIM_MUST(o->position == r->accepted, "M9", "request %d position %u after %u", o->request,
                 o->position, r->accepted);
        SIM_MUST(o->token == expected, "S10", "request %d position %u: token %llu, not %llu",
                 o->request, o->position, (unsigned long long)o->token,
                 (unsigned long long)expected);
        SIM_MUST(o->process->expelled_epoch == 0 || o->epoch < o->process->expelled_epoch, "S4",
                 "%d.%u emits under %llu, is out since %llu", o->process->seat,
                 o->process->generation, (unsigned long long)o->epoch,
                 (unsigned long long)o->process->expelled_epoch);
        SIM_MUST(r->owner == o->process->index, "M9", "request %d is another's", o->request);
        r->state = sim_next_state(r->state, o->token);
        r->accepted++;
        r->progress_us = sim->now_us;
        sim->tokens++;
    }
    free(o);
}

void sim_client_offer(sim_process *p, uint64_t epoch, int32_t request, uint32_t position,
                      uint64_t token, uint64_t delay_us)
{
    offer *o = malloc(sizeof *o);

    if (!o) {
        abort();
    }
    *o = (offer){p, epoch, token, request, position};
    sim_after(delay_us, take_offer, o, 0);
}

/* ------------------------------------------------------------------ giving and taking back */

typedef struct handing {
    sim_process *process;
    sim_work work;
    int take_back;
} handing;

static void hand(void *user, uint64_t number)
{
    handing *h = user;
    sim_rank *r = &h->process->rank;
    int at = 0;

    (void)number;
    while (at < r->num_work && r->work[at].request != h->work.request) {
        at++;
    }
    if (h->take_back) {
        if (at < r->num_work) {
            memmove(r->work + at, r->work + at + 1,
                    (size_t)(--r->num_work - at) * sizeof r->work[0]);
        }
    } else {
        SIM_MUST(at < SIM_MAX_WORK, "simulator", "%d requests in one rank's hands", at);
        if (at == r->num_work) {
            r->num_work++;
        }
        r->work[at] = h->work;
    }
    free(h);
}

static void send_work(sim_process *p, int32_t request, int take_back, uint64_t delay_us)
{
    handing *h = malloc(sizeof *h);

    if (!h) {
        abort();
    }
    *h = (handing){
        p, {request, sim->request[request].accepted, sim->request[request].state}, take_back};
    sim_after(delay_us, hand, h, 0);
}

static int may_serve(const sim_process *p)
{
    return p->alive && p->rank.joined && !p->leaving && !p->over;
}

static sim_process *choose_rank(int32_t not_this)
{
    sim_process *chosen = NULL;
    int n = 0;

    for (int i = 0; i < sim->num_processes; i++) {
        sim_process *p = sim->process[i];
        if (may_serve(p) && i != not_this && sim_random((uint64_t)++n) == 0) {
            chosen = p;
        }
    }
    if (!chosen && not_this >= 0 && may_serve(sim->process[not_this])) {
        chosen = sim->process[not_this];
    }
    return chosen;
}

/* The owner is changed before the request is queued again (M9). */
static void assign(int32_t request)
{
    sim_request *r = &sim->request[request];
    sim_process *before = r->owner >= 0 ? sim->process[r->owner] : NULL;
    sim_process *next = choose_rank(r->owner);

    r->progress_us = sim->now_us;
    if (!next) {
        r->owner = -1;
        (void)!eep_sink_revoke(sim->sink, (uint32_t)request);
        return;
    }
    r->owner = next->index;
    if (eep_sink_assign(sim->sink, (uint32_t)request, next->seat, next->generation) != EEP_OK) {
        abort();
    }
    if (before && before != next && before->alive) {
        send_work(before, request, 1, sim_delay(50, 5000));
    }
    send_work(next, request, 0, sim_delay(50, 2000));
}

static int is_complete(const sim_request *r)
{
    return r->accepted == r->length;
}

static void new_request(void)
{
    sim_request *r = &sim->request[sim->num_requests];

    if (sim->num_requests == SIM_MAX_REQUESTS) {
        return;
    }
    r->length = 4 + (uint32_t)sim_random(20);
    r->prompt = r->state = mix(sim->options.seed * 1000 + (uint64_t)sim->num_requests);
    r->owner = -1;
    assign(sim->num_requests++);
}

static void tick(void *user, uint64_t number)
{
    int open = 0;

    (void)user;
    (void)number;
    for (int32_t i = 0; i < sim->num_requests; i++) {
        sim_request *r = &sim->request[i];
        if (is_complete(r)) {
            continue;
        }
        open++;
        if (r->owner < 0 || !may_serve(sim->process[r->owner]) ||
            sim->now_us - r->progress_us > STALE_US ||
            (!sim->healed && sim->kinds >> SIM_REQUEUE & 1u && sim_random(100) == 0)) {
            assign(i);
        }
    }
    while (open < 2 * sim->shape.num_ranks && sim->num_requests < SIM_MAX_REQUESTS) {
        new_request();
        open++;
    }
    sim_after(TICK_US, tick, NULL, 0);
}

/* S10: those that were asked for before the world healed; more come, so that all ranks step. */
int sim_client_is_done(void)
{
    for (int i = 0; i < sim->num_old_requests; i++) {
        if (!is_complete(&sim->request[i])) {
            return 0;
        }
    }
    return 1;
}

/* Ranks that wait for their leave take none, perhaps most of them for ever (R2). Newer requests
 * take turns with these. */
uint64_t sim_client_needs_us(void)
{
    uint64_t tokens = 0, ranks = 0;

    for (int i = 0; i < sim->num_old_requests; i++) {
        tokens += sim->request[i].length - sim->request[i].accepted;
    }
    for (int i = 0; i < sim->num_processes; i++) {
        ranks += (uint64_t)may_serve(sim->process[i]);
    }
    return 2 * (tokens / ((ranks ? ranks : 1) * (uint64_t)sim_most_tokens(0)) + 1) *
           sim_longest_step_us();
}

void sim_client_open(void)
{
    if (eep_sink_open(SIM_MAX_REQUESTS, &sim->sink) != EEP_OK) {
        abort();
    }
    sim_after(TICK_US, tick, NULL, 0);
}
