/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks of one process with a network each. A test puts into their rings what kernels would. */
#ifndef NETWORK_FIXTURE_H
#define NETWORK_FIXTURE_H

#include "transport/network/network_state.h"

#include <criterion/criterion.h>
#include <unistd.h>

enum { RANKS = 3, TOKENS = 32, EPOCH = 3, LONG_US = 20000000, INSTANCE = 77 };
extern const uint32_t members[RANKS]; /* their generations */
extern uint64_t silent_us;            /* of ranks that are opened; longer than a test lasts */

typedef struct rank {
    eepk_shape shape;
    uint8_t *window;
    eepi_placer *placer;
    eepi_network *network;
    uint8_t *ring[2 * RANKS];
    uint64_t claimed[2 * RANKS];
    uint64_t begun_step;        /* atomic: by a begin word */
    int lost[RANKS], num_alive; /* atomic: kind + 1 */
    int num_heard[RANKS];       /* atomic */
    int num_notes;              /* of its network; read it when that is closed */
    int is_held, is_holding;    /* atomic: who places its rows waits */
} rank;

#define AWAIT(what)                                                                                \
    do {                                                                                           \
        for (int i = 0; i < 20000 && !(what); i++) {                                               \
            usleep(1000);                                                                          \
        }                                                                                          \
        cr_assert(what, "%s", #what);                                                              \
    } while (0)

/* Of RANKS seats and one layer. */
void make_shape(int seat, eepk_shape *shape_out);
/* At a line. */
void *zeroed(size_t bytes);
/* The gate lets that step in. */
void move_to(rank *r, uint64_t step);
/* With the environment's choice. */
eep_status try_open(rank *r, uint32_t generation, uint64_t instance);
void open_rank_as(rank *r, int seat, uint64_t instance);
/* Its gate stands at step 1. */
void open_rank(rank *r, int seat);
void close_rank(rank *r);
/* Returns the queue. */
uint32_t reach(rank *r, int seat, const eepi_lane_address *address);
uint32_t connect_to(rank *r, const rank *to);
/* Free slots. */
uint64_t room(const rank *r, uint32_t queue);
/* A step's dispatch: `num` rows that are full of its number, and the tag. */
void put_rows(rank *r, uint32_t queue, uint64_t step, uint32_t num);
bool has_tag(rank *r, const rank *from, uint64_t step);
/* All rows of that step lie where they belong: a tag is worth nothing without them (N4). */
void check_rows(rank *r, const rank *from, uint64_t step, uint32_t num);
/* A thread that places a row for it waits from now on: as in a process that has stopped. It returns
 * once that is so, which needs a row on its way. */
void hold(rank *r);
void let_go(rank *r);
/* What the listener was told of that seat; -1: nothing. */
int lost(rank *r, int seat);
#endif
