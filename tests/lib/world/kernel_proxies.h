/* SPDX-License-Identifier: Apache-2.0 */
/* Peers of a kernel world that are reached through rings and a network's double (proxy_wire.h). */
#ifndef KERNEL_PROXIES_H
#define KERNEL_PROXIES_H

#include "tests/lib/world/kernel_world.h"
#include "tests/lib/world/proxy_wire.h"
#include "transport/proxy/bounce.h"

typedef struct kernel_proxies {
    kernel_world *world;
    proxy_wire *wire;
    bool is_proxy[KERNEL_MAX_SEATS][KERNEL_MAX_SEATS]; /* [source][target] */
    /* [source][target][generation mod 2]: a queue serves one generation of its peer */
    int lane[KERNEL_MAX_SEATS][KERNEL_MAX_SEATS][2];
    eepi_placer *placer[KERNEL_MAX_SEATS];
    eepi_bounce *bounce[KERNEL_MAX_SEATS]; /* of seat 1: rows are placed as on a GPU */
    uint32_t let_in[KERNEL_MAX_SEATS]
                   [KERNEL_MAX_SEATS]; /* of the view that a rank has switched to */
} kernel_proxies;

/* A world as of kernel_world_open, of which each pair of ranks is PROXY with a chance of `percent`.
 * Rings have `extra_slots` more than the fewest. The gates of windows follow steps by themselves.
 */
kernel_proxies *kernel_proxies_open(const moe_shape *shape, uint32_t num_blocks, int percent,
                                    uint32_t extra_slots, uint64_t seed);
/* The same with a form, or NULL. */
kernel_proxies *kernel_proxies_open_with(const moe_shape *shape, uint32_t num_blocks, int percent,
                                         uint32_t extra_slots, uint64_t seed,
                                         const kernel_form *form);
void kernel_proxies_close(kernel_proxies *proxies);
/* Hold or let go that direction (proxy_wire_hold). */
void kernel_proxies_hold(kernel_proxies *proxies, int source, int target, bool is_held,
                         bool with_words);
uint64_t kernel_proxies_count(const kernel_proxies *proxies, eepi_placed how);
#endif
