/* SPDX-License-Identifier: Apache-2.0 */
/* A view as the bytes of a table bank: who holds which expert, and where windows are. */
#include "membership/context/bank_image.h"

#include "repair/split.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

static_assert((int)EEPI_VIEW_COLOURS == (int)EEPK_COLOURS, "a view names one that there is");

/* Replicas of a layer in order of expert, then seat, then slot, with their shares: the same on
 * every rank. */
static void list_replicas(const eepk_shape *s, const eepi_view *view, uint8_t *image,
                          uint32_t layer)
{
    uint32_t *first =
        (uint32_t *)(image + s->bank_off_first) + (uint64_t)layer * (s->num_experts + 1);
    eepk_replica *replica = (eepk_replica *)(image + s->bank_off_replica) +
                            (uint64_t)layer * s->max_ranks * s->num_slots;

    memset(first, 0, (s->num_experts + 1) * sizeof(*first));
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
            for (uint32_t slot = 0; slot < s->num_slots; slot++) {
                const eepi_view_slot *at =
                    eepi_view_slot_at(view, (int)layer, (int)seat, (int)slot);
                if (!eepi_view_is_member(view, (int)seat) || at->state != EEPI_SLOT_HOLDS) {
                    continue;
                }
                if (pass == 0) {
                    first[at->expert + 1]++;
                } else {
                    replica[first[at->expert]++] =
                        (eepk_replica){(uint16_t)seat, (uint16_t)slot, at->share, 0};
                }
            }
        }
        if (pass == 0) {
            for (uint32_t e = 0; e < s->num_experts; e++) {
                first[e + 1] += first[e];
            }
        } else { /* filling moved each begin to its end: shift back */
            memmove(first + 1, first, s->num_experts * sizeof(*first));
            first[0] = 0;
        }
    }
}

/* Every slot, by physical id, and the word that names the whole (rule P12). Who is in the view, and
 * what is replicated where, is in it; epochs, generations and shares are not: ids that were made
 * under the same map are the same. */
static void place_slots(const eepk_shape *s, const eepi_view *view, uint8_t *image)
{
    uint16_t *experts = (uint16_t *)(image + s->bank_off_slot_expert);
    const size_t num = (size_t)s->num_layers * s->max_ranks * s->num_slots;
    uint64_t word;

    for (uint32_t layer = 0; layer < s->num_layers; layer++) {
        for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
            for (uint32_t slot = 0; slot < s->num_slots; slot++) {
                const eepi_view_slot *at =
                    eepi_view_slot_at(view, (int)layer, (int)seat, (int)slot);
                const bool holds =
                    eepi_view_is_member(view, (int)seat) && at->state == EEPI_SLOT_HOLDS;
                experts[((size_t)layer * s->max_ranks + seat) * s->num_slots + slot] =
                    holds ? at->expert : (uint16_t)EEPK_NO_EXPERT_HERE;
            }
        }
    }
    word = XXH64(experts, num * sizeof *experts, 0);
    ((eepk_bank_header *)image)->placement = word ? word : 1;
}

/* Of the replicas those that this rank sends to, and how much. */
static void split_layer(const eepk_shape *s, const eepi_split_sources *sources, uint8_t *image,
                        uint32_t layer)
{
    uint32_t *first =
        (uint32_t *)(image + s->bank_off_first) + (uint64_t)layer * (s->num_experts + 1);
    eepk_replica *replica = (eepk_replica *)(image + s->bank_off_replica) +
                            (uint64_t)layer * s->max_ranks * s->num_slots;
    uint32_t end = 0;

    for (uint32_t expert = 0; expert < s->num_experts; expert++) {
        uint32_t begin = first[expert], num = first[expert + 1] - begin;
        first[expert] = end;
        if (num == 0) {
            continue;
        }
        num = eepi_split_expert(sources, replica + begin, num);
        memmove(replica + end, replica + begin, num * sizeof *replica);
        end += num;
    }
    first[s->num_experts] = end;
}

/* Rule R1: what is routed to holds its expert; a slot that is FILLING is never routed to. */
static void check_routes(const eepk_shape *s, const eepi_view *view, const uint8_t *image,
                         uint32_t layer)
{
    const uint32_t *first =
        (const uint32_t *)(image + s->bank_off_first) + (uint64_t)layer * (s->num_experts + 1);
    const eepk_replica *replica = (const eepk_replica *)(image + s->bank_off_replica) +
                                  (uint64_t)layer * s->max_ranks * s->num_slots;

    for (uint32_t expert = 0; expert < s->num_experts; expert++) {
        for (uint32_t i = first[expert]; i < first[expert + 1]; i++) {
            const eepi_view_slot *slot =
                eepi_view_slot_at(view, (int)layer, replica[i].seat, replica[i].slot);
            assert(slot->state == EEPI_SLOT_HOLDS && slot->expert == expert);
            assert(eepi_view_is_member(view, replica[i].seat));
        }
    }
}

/* All but the peers. */
static void fill_image(const eepk_shape *s, const eepi_view *view, uint8_t *image)
{
    eepk_bank_header *header = (eepk_bank_header *)image;
    uint32_t *generation = (uint32_t *)(image + s->bank_off_generation);
    eepi_split_sources sources;

    eepi_split_sources_fill(view, (int)s->self, &sources);
    memset(image, 0, s->bank_bytes);
    header->epoch = view->epoch;
    header->digest = view->digest;
    header->colour = view->colour;
    for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
        generation[seat] = eepi_view_seat_at(view, (int)seat)->generation;
        if (!eepi_view_is_member(view, (int)seat)) {
            continue;
        }
        header->num_active++;
        header->active[seat / 64] |= 1ull << (seat % 64);
    }
    for (uint32_t layer = 0; layer < s->num_layers; layer++) {
        list_replicas(s, view, image, layer);
        split_layer(s, &sources, image, layer);
        check_routes(s, view, image, layer);
    }
    place_slots(s, view, image);
}

static void fill_peer(const eepk_shape *s, uint8_t *image, uint32_t seat, const eepk_peer *peer)
{
    assert(peer->kind != EEPK_PEER_PROXY || (peer->address == 0 && peer->queue < s->num_queues));
    ((eepk_peer *)(image + s->bank_off_peer))[seat] = *peer;
    ((eepk_bank_header *)image)->num_proxies += peer->kind == EEPK_PEER_PROXY;
}

void eepi_bank_image(const eepk_shape *s, const eepi_view *view, void *const *windows,
                     uint8_t *image)
{
    fill_image(s, view, image);
    for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
        const eepk_peer peer = {.address = (uint64_t)(uintptr_t)windows[seat],
                                .kind = windows[seat] ? EEPK_PEER_LOCAL : EEPK_PEER_NONE};
        if (eepi_view_is_member(view, (int)seat)) {
            fill_peer(s, image, seat, &peer);
        }
    }
}

void eepi_bank_image_of(const eepk_shape *s, const eepi_view *view, const eepk_peer *peers,
                        uint8_t *image)
{
    fill_image(s, view, image);
    for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
        if (eepi_view_is_member(view, (int)seat)) {
            fill_peer(s, image, seat, &peers[seat]);
        }
    }
}
