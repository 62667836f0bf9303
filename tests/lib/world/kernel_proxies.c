/* SPDX-License-Identifier: Apache-2.0 */
/* Rings, placers and gates of a kernel world's ranks. */
#include "tests/lib/world/kernel_proxies.h"

#include "tests/lib/check_or_abort.h"
#include "graphs/device/rings.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOVE_BOUND_US = 20000000 };

static uint32_t queue_of(const kernel_proxies *p, int target, uint32_t generation)
{
    return (uint32_t)target + generation % 2 * (uint32_t)p->world->shape.max_ranks;
}

static void move_gate(kernel_proxies *p, int seat, uint64_t epoch, uint64_t step, bool lets_in)
{
    const eepi_gate_stand to = {epoch, step, lets_in, p->let_in[seat][seat], p->let_in[seat]};

    CHECK(eepi_placer_move(p->placer[seat], &to, MOVE_BOUND_US) == EEP_OK);
}

static void place_at(kernel_proxies *p, int seat, void *window)
{
    if (p->bounce[seat]) {
        eepi_bounce_set_window(p->bounce[seat], window);
    } else {
        eepi_placer_set_user(p->placer[seat], window);
    }
}

static void choose_peers(void *user, int seat, const eepi_view *view, eepk_peer *peers)
{
    kernel_proxies *p = user;

    for (int target = 0; target < p->world->shape.max_ranks; target++) {
        const uint32_t generation = eepi_view_seat_at(view, target)->generation;
        p->let_in[seat][target] = eepi_view_is_member(view, target) ? generation : 0;
        if (p->is_proxy[seat][target]) {
            peers[target] =
                (eepk_peer){.kind = EEPK_PEER_PROXY, .queue = queue_of(p, target, generation)};
        }
    }
    move_gate(p, seat, view->epoch, 0, false); /* what that view sends waits from now on */
    place_at(p, seat, p->world->rank[seat].window);
}

static void before_step(void *user, int seat, uint64_t epoch, uint64_t step)
{
    move_gate(user, seat, epoch, step, true);
}

/* Rule N1: nothing of a step that was aborted here is placed any more. */
static void behind_step(void *user, int seat, uint64_t epoch, const eepk_status *status)
{
    if (status->result != EEPK_STEP_OK) {
        move_gate(user, seat, epoch, status->done_step, false);
    }
}

static void add_lanes(kernel_proxies *p, int source)
{
    const eepk_shape *s = &p->world->layout;

    for (int target = 0; target < p->world->shape.max_ranks; target++) {
        for (uint32_t generation = 0; generation < 2 && p->is_proxy[source][target]; generation++) {
            uint8_t *ring =
                eepi_tables_ring(p->world->rank[source].tables, queue_of(p, target, generation));
            p->lane[source][target][generation] =
                proxy_wire_add(p->wire, ring, s->ring_slots, eepk_slot_bytes(s), (uint32_t)source,
                               (uint32_t)target, p->placer[target]);
        }
    }
}

static void open_placers(kernel_proxies *p)
{
    for (int seat = 0; seat < p->world->shape.max_ranks; seat++) {
        eepk_shape own = p->world->layout;
        own.self = (uint32_t)seat;
        if (seat == 1) {
            CHECK(eepi_bounce_open(p->world->device, own.window_bytes, &p->bounce[seat]) == EEP_OK);
        }
        p->placer[seat] = eepi_placer_open(
            &own, 1, p->bounce[seat] ? &eepi_placer_bounce_ops : &eepi_placer_host_ops,
            p->bounce[seat]);
        CHECK(p->placer[seat]);
        place_at(p, seat, p->world->rank[seat].window);
    }
}

kernel_proxies *kernel_proxies_open(const moe_shape *shape, uint32_t num_blocks, int percent,
                                    uint32_t extra_slots, uint64_t seed)
{
    return kernel_proxies_open_with(shape, num_blocks, percent, extra_slots, seed, NULL);
}

kernel_proxies *kernel_proxies_open_with(const moe_shape *shape, uint32_t num_blocks, int percent,
                                         uint32_t extra_slots, uint64_t seed,
                                         const kernel_form *form)
{
    kernel_proxies *p = calloc(1, sizeof *p);

    CHECK(p);
    p->world = kernel_world_open_with(shape, num_blocks, 2 * (uint32_t)shape->max_ranks,
                                      extra_slots, form);
    p->world->hooks = (kernel_hooks){p, choose_peers, before_step, behind_step};
    p->wire = proxy_wire_open(seed);
    open_placers(p);
    for (int source = 0; source < shape->max_ranks; source++) {
        for (int target = 0; target < shape->max_ranks; target++) {
            p->is_proxy[source][target] = source != target && kernel_below(&seed, 100) < percent;
        }
        add_lanes(p, source);
    }
    proxy_wire_start(p->wire);
    return p;
}

void kernel_proxies_close(kernel_proxies *p)
{
    proxy_wire_close(p->wire);
    for (int seat = 0; seat < p->world->shape.max_ranks; seat++) {
        eepi_placer_close(p->placer[seat]);
        eepi_bounce_close(p->bounce[seat]);
    }
    kernel_world_close(p->world);
    free(p);
}

void kernel_proxies_hold(kernel_proxies *p, int source, int target, bool is_held, bool with_words)
{
    for (int generation = 0; generation < 2; generation++) {
        proxy_wire_hold(p->wire, p->lane[source][target][generation], is_held, with_words);
    }
}

uint64_t kernel_proxies_count(const kernel_proxies *p, eepi_placed how)
{
    uint64_t n = 0;

    for (int seat = 0; seat < p->world->shape.max_ranks; seat++) {
        n += eepi_placer_count(p->placer[seat], how);
    }
    return n;
}
