/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/bench/mpi/mpi_network.h"

#include "transport/proxy/network.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { MOVE_BOUND_US = 10000000, SILENT_US = 60000000 };

typedef struct network {
    eepi_network *network;
    eepi_placer *placer;
    uint32_t generation[BENCH_MAX_RANKS], queue[BENCH_MAX_RANKS];
} network;

static void plan(eepk_shape *shape)
{
    char why[200];

    if (eepi_network_plan(true, shape, why, sizeof why) != EEP_OK || shape->num_queues == 0) {
        bench_fatal("no network: %s", shape->num_queues ? why : "EEP_NETWORK is off");
    }
}

static void on_lost(void *user, uint32_t seat, uint32_t generation, int kind)
{
    (void)user;
    bench_fatal("rank %u (generation %u) is lost: fault %d", seat, generation, kind);
}

static void on_alive(void *user, uint32_t seat, uint32_t generation)
{
    (void)user;
    (void)seat;
    (void)generation;
}

static void on_heard(void *user, uint32_t seat, uint32_t generation)
{
    (void)user;
    (void)seat;
    (void)generation;
}

static void on_note(void *user, const char *text)
{
    (void)user;
    (void)text;
}

/* Each process's address, and a way to each. */
static void meet(bench_rank *r, network *n)
{
    const eepi_lane_address own = eepi_network_address(n->network);
    eepi_lane_address all[BENCH_MAX_RANKS];

    MPI_Allgather(&own, sizeof own, MPI_BYTE, all, sizeof own, MPI_BYTE, MPI_COMM_WORLD);
    for (uint32_t seat = 0; seat < r->shape.max_ranks; seat++) {
        n->queue[seat] = seat == r->shape.self
                             ? EEPI_NO_QUEUE
                             : eepi_network_reach(n->network, seat, 1, &all[seat], false);
    }
}

static void *open_network(bench_rank *r)
{
    const eepk_shape *s = &r->shape;
    uint8_t **ring = calloc(s->num_queues, sizeof *ring);
    network *n = calloc(1, sizeof *n);
    eepi_network_config config = {.shape = s,
                                  .generation = 1,
                                  .instance = r->world->setup.seed + (uint64_t)r->world->setup.fp8,
                                  .ring = ring,
                                  .kernels_ring = true,
                                  .silent_us = SILENT_US,
                                  .listener = {on_lost, on_alive, on_heard, on_note, NULL}};
    char why[200] = "out of memory";

    if (!ring || !n) {
        bench_fatal("out of memory");
    }
    for (uint32_t i = 0; i < s->num_queues; i++) {
        ring[i] = eepi_tables_ring(r->tables, i);
    }
    for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
        n->generation[seat] = 1;
    }
    n->placer = eepi_placer_open(s, 1, &eepi_placer_host_ops, r->window);
    config.placer = n->placer;
    if (!n->placer || eepi_network_open(&config, why, sizeof why, &n->network) != EEP_OK) {
        bench_fatal("no network: %s", why);
    }
    free(ring);
    meet(r, n);
    return n;
}

static void name_peers(const bench_rank *r, uint8_t *image)
{
    const network *n = r->network;
    eepk_bank_header *header = (eepk_bank_header *)image;
    eepk_peer *peers = (eepk_peer *)(image + r->shape.bank_off_peer);

    for (uint32_t seat = 0; seat < r->shape.max_ranks; seat++) {
        if (n->queue[seat] != EEPI_NO_QUEUE) {
            peers[seat] = (eepk_peer){.kind = EEPK_PEER_PROXY, .queue = n->queue[seat]};
            header->num_proxies++;
        }
    }
}

static void begin_step(bench_rank *r)
{
    network *n = r->network;
    const eepi_gate_stand to = {r->epoch, r->step, true, 1, n->generation};

    if (eepi_placer_move(n->placer, &to, MOVE_BOUND_US) != EEP_OK) {
        bench_fatal("rank %d's gate does not move", r->index);
    }
}

/* Nobody's connection ends while another one still wants it: that one would be lost. */
static void close_network(bench_rank *r)
{
    const uint32_t nobody[BENCH_MAX_RANKS] = {0};
    network *n = r->network;

    MPI_Barrier(MPI_COMM_WORLD);
    eepi_network_keep(n->network, nobody);
    MPI_Barrier(MPI_COMM_WORLD);
    eepi_network_close(n->network);
    eepi_placer_close(n->placer);
    free(n);
}

const bench_network mpi_network = {plan, open_network, name_peers, begin_step, close_network};
