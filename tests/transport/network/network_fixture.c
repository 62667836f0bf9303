/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/transport/network/network_fixture.h"

#include "graphs/device/rings.h"
#include "graphs/device/tables.h"

#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
/* Ports of UCX live on to the end of the process (ucx_port.c). UCX keeps its endpoints in memory of
 * its own mapping, where a leak checker does not look for what they refer to. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:ucs_calloc\nleak:ucs_malloc\n";
}
#endif

const uint32_t members[RANKS] = {1, 2, 5};
uint64_t silent_us = 1000 * 1000000ull;

static void begin(void *user, const eepk_put *put)
{
    __atomic_store_n(&((rank *)user)->begun_step, put->step, __ATOMIC_RELEASE);
}

void hold(rank *r)
{
    __atomic_store_n(&r->is_held, 1, __ATOMIC_RELEASE);
    AWAIT(__atomic_load_n(&r->is_holding, __ATOMIC_ACQUIRE));
}

void let_go(rank *r)
{
    __atomic_store_n(&r->is_held, 0, __ATOMIC_RELEASE);
    AWAIT(!__atomic_load_n(&r->is_holding, __ATOMIC_ACQUIRE));
}

static void wait_while_held(rank *r)
{
    while (__atomic_load_n(&r->is_held, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&r->is_holding, 1, __ATOMIC_RELEASE);
        usleep(500);
    }
    __atomic_store_n(&r->is_holding, 0, __ATOMIC_RELEASE);
}

static void rows(void *user, uint64_t offset, const void *bytes, uint32_t num_bytes)
{
    wait_while_held(user);
    eepi_placer_host_ops.rows(((rank *)user)->window, offset, bytes, num_bytes);
}

static void *where(void *user, uint64_t offset)
{
    wait_while_held(user);
    return eepi_placer_host_ops.where(((rank *)user)->window, offset);
}

static void word(void *user, uint64_t offset, uint64_t value)
{
    eepi_placer_host_ops.word(((rank *)user)->window, offset, value);
}

static void on_lost(void *user, uint32_t seat, uint32_t generation, int kind)
{
    (void)generation;
    __atomic_store_n(&((rank *)user)->lost[seat], kind + 1, __ATOMIC_RELEASE);
}

static void on_alive(void *user, uint32_t seat, uint32_t generation)
{
    (void)seat;
    (void)generation;
    __atomic_fetch_add(&((rank *)user)->num_alive, 1, __ATOMIC_RELEASE);
}

static void on_heard(void *user, uint32_t seat, uint32_t generation)
{
    cr_assert_eq(generation, members[seat]);
    __atomic_fetch_add(&((rank *)user)->num_heard[seat], 1, __ATOMIC_RELEASE);
}

static void on_note(void *user, const char *text)
{
    (void)text;
    __atomic_fetch_add(&((rank *)user)->num_notes, 1, __ATOMIC_RELAXED);
}

void *zeroed(size_t bytes)
{
    void *memory = aligned_alloc(EEPK_LINE_BYTES,
                                 (bytes + EEPK_LINE_BYTES - 1) / EEPK_LINE_BYTES * EEPK_LINE_BYTES);

    cr_assert_not_null(memory);
    memset(memory, 0, bytes);
    return memory;
}

void move_to(rank *r, uint64_t step)
{
    const eepi_gate_stand to = {EPOCH, step, true, members[r->shape.self], members};

    cr_assert_eq(eepi_placer_move(r->placer, &to, LONG_US), EEP_OK);
}

void make_shape(int seat, eepk_shape *shape_out)
{
    const eep_config config = {.struct_bytes = sizeof config,
                               .rank = seat,
                               .num_ranks = RANKS,
                               .max_ranks = RANKS,
                               .num_layers = 1,
                               .num_experts = 8,
                               .num_slots = 3,
                               .top_k = 2,
                               .hidden = 512,
                               .num_max_tokens_per_rank = TOKENS,
                               .dtype = EEP_FP32};
    const char *why;

    cr_assert_eq(eepi_shape_make(&config, shape_out, &why), EEP_OK, "%s", why);
    shape_out->num_queues = 2 * RANKS;
    shape_out->ring_slots = 3 * eepi_ring_least_slots(shape_out);
}

eep_status try_open(rank *r, uint32_t generation, uint64_t instance)
{
    const eepi_network_config config = {.shape = &r->shape,
                                        .generation = generation,
                                        .instance = instance,
                                        .placer = r->placer,
                                        .ring = r->ring,
                                        .kernels_ring = true,
                                        .silent_us = silent_us,
                                        .listener = {on_lost, on_alive, on_heard, on_note, r}};
    char why[200];

    return eepi_network_open(&config, why, sizeof why, &r->network);
}

void open_rank_as(rank *r, int seat, uint64_t instance)
{
    const eepi_placer_ops ops = {rows, word, begin, r, where, NULL};

    memset(r, 0, sizeof *r);
    make_shape(seat, &r->shape);
    r->window = zeroed(r->shape.window_bytes);
    for (uint32_t i = 0; i < r->shape.num_queues; i++) {
        r->ring[i] = zeroed(eepk_ring_bytes(r->shape.ring_slots, eepk_slot_bytes(&r->shape)));
    }
    r->placer = eepi_placer_open(&r->shape, members[seat], &ops, r);
    cr_assert_not_null(r->placer);
    cr_assert_eq(try_open(r, members[seat], instance), EEP_OK);
    move_to(r, 1);
}

void open_rank(rank *r, int seat)
{
    open_rank_as(r, seat, INSTANCE);
}

void close_rank(rank *r)
{
    if (r->network) {
        eepi_network_close(r->network);
    }
    eepi_placer_close(r->placer);
    for (uint32_t i = 0; i < r->shape.num_queues; i++) {
        free(r->ring[i]);
    }
    free(r->window);
}

uint32_t reach(rank *r, int seat, const eepi_lane_address *address)
{
    return eepi_network_reach(r->network, (uint32_t)seat, members[seat], address, false);
}

uint32_t connect_to(rank *r, const rank *to)
{
    const eepi_lane_address address = eepi_network_address(to->network);

    return reach(r, (int)to->shape.self, &address);
}

/* ---------------------------------------------------------------- what kernels put */

uint64_t room(const rank *r, uint32_t queue)
{
    const uint64_t *limit = &((const eepk_ring_limit *)r->ring[queue])->claims;

    return __atomic_load_n(limit, __ATOMIC_ACQUIRE) - r->claimed[queue];
}

static void put(rank *r, uint32_t queue, eepk_put what, const void *bytes)
{
    const uint32_t seat = queue % RANKS;
    const uint64_t claim = r->claimed[queue]++;
    eepk_put *slot =
        eepk_ring_slot(r->ring[queue], claim, r->shape.ring_slots, eepk_slot_bytes(&r->shape));

    cr_assert_leq(r->claimed[queue],
                  __atomic_load_n(&((eepk_ring_limit *)r->ring[queue])->claims, __ATOMIC_ACQUIRE));
    what.epoch = EPOCH;
    what.source = (uint16_t)r->shape.self;
    what.target = (uint16_t)seat;
    what.source_generation = members[r->shape.self];
    what.target_generation = members[seat];
    what.phase = EEPK_PHASE_DISPATCH;
    what.ready = 0;
    *slot = what;
    if (what.bytes) {
        memcpy(slot + 1, bytes, what.bytes);
    }
    __atomic_store_n(&slot->ready, claim + 1, __ATOMIC_RELEASE);
}

void put_rows(rank *r, uint32_t queue, uint64_t step, uint32_t num)
{
    const eepk_shape *s = &r->shape;
    uint8_t row[4096];

    cr_assert(s->dispatch_row_bytes <= sizeof row);
    memset(row, (int)step, sizeof row);
    for (uint32_t i = 0; i < num; i++) {
        put(r, queue,
            (eepk_put){.kind = EEPK_PUT_ROWS,
                       .step = step,
                       .pieces = i,
                       .bytes = s->dispatch_row_bytes,
                       .offset = eepk_dispatch_row_offset(s, 0, s->self, i)},
            row);
    }
    put(r, queue,
        (eepk_put){.kind = EEPK_PUT_TAG,
                   .step = step,
                   .pieces = num,
                   .offset = eepk_phase_tag_offset(s, EEPK_PHASE_DISPATCH, 0, s->self),
                   .value = eepk_tag(EPOCH, step, 0, EEPK_PHASE_DISPATCH)},
        NULL);
    eepi_network_kick(r->network);
}

bool has_tag(rank *r, const rank *from, uint64_t step)
{
    const uint64_t *tag =
        eepk_phase_tag(&r->shape, r->window, EEPK_PHASE_DISPATCH, 0, from->shape.self);

    return __atomic_load_n(tag, __ATOMIC_ACQUIRE) == eepk_tag(EPOCH, step, 0, EEPK_PHASE_DISPATCH);
}

void check_rows(rank *r, const rank *from, uint64_t step, uint32_t num)
{
    for (uint32_t i = 0; i < num; i++) {
        const uint8_t *row = eepk_dispatch_row(&r->shape, r->window, 0, from->shape.self, i);
        cr_assert_eq(row[0], (uint8_t)step, "row %u", i);
        cr_assert_eq(memcmp(row, row + 1, r->shape.dispatch_row_bytes - 1), 0, "row %u", i);
    }
}

int lost(rank *r, int seat)
{
    return __atomic_load_n(&r->lost[seat], __ATOMIC_ACQUIRE) - 1;
}
