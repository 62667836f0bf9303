/* SPDX-License-Identifier: Apache-2.0 */
/* Saying and hearing what members on other hosts need to know. Threads of the network. */
#include "membership/collective/collective_words.h"

#include "membership/collective/collective_between.h"
#include "membership/collective/collective_ledger.h"
#include "membership/context/context.h"
#include "repair/checksum.h"

#include <string.h>

enum { WORDS_STATE = 1, WORDS_BYTES };

typedef struct state {
    uint32_t kind, pad;
    uint64_t version; /* of the sender's; from 1 */
    uint64_t at, ledger;
    eepi_contribution head[2]; /* [parity]; number 0: none */
} state;
static_assert(sizeof(state) == 32 + 2 * EEPI_COLLECTIVE_LINE_BYTES, "on the wire");

typedef struct piece {
    uint32_t kind, num_bytes; /* which follow */
    uint64_t number, offset;
} piece;
static_assert(sizeof(piece) == 24 && sizeof(state) <= EEPI_TALK_BYTES, "on the wire");

enum { PIECE_BYTES = EEPI_TALK_BYTES - sizeof(piece) };

/* ------------------------------------------------------------------ saying */

/* What has ended here is held by all. */
static bool is_news(const struct eepi_collectives *all, const eepi_contribution *head)
{
    return all->is_numbered && head->number > all->last;
}

static size_t say_state(const struct eepi_collectives *all, uint8_t *bytes_out)
{
    const eepi_collective_memory *memory = all->own->memory;
    state s = {
        .kind = WORDS_STATE, .version = all->version, .at = memory->at, .ledger = memory->ledger};

    for (int i = 0; i < 2; i++) {
        if (is_news(all, &memory->contribution[i])) {
            s.head[i] = memory->contribution[i];
        }
    }
    memcpy(bytes_out, &s, sizeof s);
    return sizeof s;
}

/* The next piece of that contribution; 0: it has been said. */
static size_t say_piece(const struct eepi_collectives *all, eepi_collective_mirror *mirror,
                        int parity, uint8_t *bytes_out)
{
    const eepi_contribution *head = &all->own->memory->contribution[parity];
    const uint8_t *bytes = eepi_contribution_bytes(all->own, (uint64_t)parity);
    piece p = {.kind = WORDS_BYTES, .number = head->number};
    uint64_t left;

    if (!is_news(all, head)) {
        return 0;
    }
    if (mirror->told_number[parity] != head->number ||
        mirror->told_checksum[parity] != head->head_checksum) { /* an aborted one is given anew */
        mirror->told_number[parity] = head->number;
        mirror->told_checksum[parity] = head->head_checksum;
        mirror->told_bytes[parity] = 0;
    }
    p.offset = mirror->told_bytes[parity];
    left = head->bytes - p.offset;
    p.num_bytes = (uint32_t)(left < PIECE_BYTES ? left : PIECE_BYTES);
    if (p.num_bytes == 0) {
        return 0;
    }
    memcpy(bytes_out, &p, sizeof p);
    memcpy(bytes_out + sizeof p, bytes + p.offset, p.num_bytes);
    mirror->told_bytes[parity] += p.num_bytes;
    return sizeof p + p.num_bytes;
}

static size_t say(struct eepi_collectives *all, eepi_collective_mirror *mirror, bool is_anew,
                  uint8_t *bytes_out)
{
    size_t num = 0;

    if (is_anew) {
        mirror->told_version = 0;
        memset(mirror->told_number, 0, sizeof mirror->told_number);
    }
    if (mirror->told_version < all->version) {
        mirror->told_version = all->version;
        return say_state(all, bytes_out);
    }
    for (int parity = 0; parity < 2 && num == 0; parity++) {
        num = say_piece(all, mirror, parity, bytes_out);
    }
    return num;
}

size_t eepi_collective_say(void *user, uint32_t seat, uint32_t generation, bool is_anew,
                           void *bytes_out)
{
    struct eepi_collectives *all = ((eep_context *)user)->calls.collectives;
    const eepi_collective_area *area;
    size_t num = 0;

    pthread_mutex_lock(&all->lock);
    area = all->group ? all->group->member[seat].area : NULL;
    if (area && area->generation == generation && area->mirror) {
        num = say(all, area->mirror, is_anew, bytes_out);
    }
    pthread_mutex_unlock(&all->lock);
    return num;
}

/* ------------------------------------------------------------------ hearing */

/* All of a contribution is here. Bytes first, number last, as its owner wrote it. False: these are
 * not its bytes; it is said again on the next connection. */
static bool keep(eepi_collective_area *area, int parity)
{
    eepi_contribution *coming = &area->mirror->coming[parity];
    eepi_contribution *head = &area->memory->contribution[parity];
    const uint64_t number = coming->number;

    coming->number = 0;
    if (coming->bytes > 0 && eepi_checksum_bytes(eepi_contribution_bytes(area, number),
                                                 coming->bytes) != coming->checksum) {
        return false;
    }
    *head = *coming;
    __atomic_store_n(&head->number, number, __ATOMIC_RELEASE);
    return true;
}

/* The same contribution may be said again, under a newer epoch; or another one takes its place. */
static void hear_head(eepi_collective_area *area, int parity, const eepi_contribution *said)
{
    eepi_contribution *head = &area->memory->contribution[parity];
    eepi_contribution *coming = &area->mirror->coming[parity];

    if (head->number == said->number && head->head_checksum == said->head_checksum) {
        __atomic_store_n(&head->epoch, said->epoch, __ATOMIC_RELEASE);
        return;
    }
    if (coming->number == said->number && coming->head_checksum == said->head_checksum) {
        coming->epoch = said->epoch;
        return;
    }
    __atomic_store_n(&head->number, 0, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    *coming = *said;
    area->mirror->filled[parity] = 0;
    if (said->bytes == 0) {
        (void)keep(area, parity);
    }
}

static bool hear_state(eepi_collective_area *area, int seat, const state *s)
{
    for (int i = 0; i < 2; i++) {
        const eepi_contribution *head = &s->head[i];
        if (head->number != 0 &&
            (head->number % 2 != (uint64_t)i ||
             !eepi_contribution_is_sound(head, head->number, seat, area->generation,
                                         area->memory->slot_bytes))) {
            return false;
        }
    }
    if (s->version <= area->mirror->version) {
        return true;
    }
    area->mirror->version = s->version;
    for (int i = 0; i < 2; i++) {
        if (s->head[i].number != 0) {
            hear_head(area, i, &s->head[i]);
        }
    }
    /* closed before it is at the next epoch, as its owner does it */
    __atomic_store_n(&area->memory->ledger, s->ledger, __ATOMIC_RELEASE);
    __atomic_store_n(&area->memory->at, s->at, __ATOMIC_RELEASE);
    return true;
}

/* What has come before comes again on a new connection. */
static bool hear_piece(eepi_collective_area *area, const piece *p, const uint8_t *bytes)
{
    const int parity = (int)(p->number % 2);
    const eepi_contribution *coming = &area->mirror->coming[parity];
    uint64_t *filled = &area->mirror->filled[parity];

    if (p->number == 0 || coming->number != p->number || p->offset > *filled ||
        p->offset > coming->bytes || p->num_bytes > coming->bytes - p->offset ||
        p->offset + p->num_bytes <= *filled) {
        return true;
    }
    memcpy(eepi_contribution_bytes(area, p->number) + p->offset, bytes, p->num_bytes);
    *filled = p->offset + p->num_bytes;
    return *filled < coming->bytes || keep(area, parity);
}

/* False: no rank says that. */
static bool hear(eepi_collective_area *area, int seat, const uint8_t *bytes, size_t num)
{
    uint32_t kind;
    state s;
    piece p;

    if (num < sizeof kind) {
        return false;
    }
    memcpy(&kind, bytes, sizeof kind);
    if (kind == WORDS_STATE && num == sizeof s) {
        memcpy(&s, bytes, sizeof s);
        return hear_state(area, seat, &s);
    }
    if (kind != WORDS_BYTES || num < sizeof p) {
        return false;
    }
    memcpy(&p, bytes, sizeof p);
    if (p.num_bytes != num - sizeof p) {
        return false;
    }
    return hear_piece(area, &p, bytes + sizeof p);
}

/* The mirror of that process, which may be heard before its view is known here. NULL: it shares
 * memory with this rank, a newer process has its seat, or there is no memory. */
static eepi_collective_area *mirror_of(struct eepi_collectives *all, int seat, uint32_t generation)
{
    eepi_collective_area *area = all->peers[seat];

    if (!area || area->generation < generation) {
        if (eepi_collective_area_mirror(seat, generation, &area) != EEP_OK) {
            return NULL;
        }
        eepi_collective_take_area(all, seat, area);
    }
    return area->generation == generation && area->mirror ? area : NULL;
}

bool eepi_collective_hear(void *user, uint32_t seat, uint32_t generation, const void *bytes,
                          size_t num)
{
    struct eepi_collectives *all = ((eep_context *)user)->calls.collectives;
    eepi_collective_area *area;
    bool is_well = true;

    pthread_mutex_lock(&all->lock);
    area = mirror_of(all, (int)seat, generation);
    if (area) {
        is_well = hear(area, (int)seat, bytes, num);
        eepi_collective_settle(all);
        eepi_between_promise(all);
        eepi_collective_wake(all);
    }
    pthread_mutex_unlock(&all->lock);
    return is_well;
}
