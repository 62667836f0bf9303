/* SPDX-License-Identifier: Apache-2.0 */
/* The view document: its layout, sealing and checking its bytes, and questions about its seats and
 * slots. */
#include "membership/view/view.h"

#include "membership/view/wishes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL /* the streaming state lives on the stack: sealing cannot fail */
#include <xxhash.h>

enum { VIEW_VERSION = 8 };

static_assert(sizeof(eepi_view_shape) == 32, "part of the wire form");
static_assert(sizeof(eepi_view_seat) == 16 && sizeof(eepi_view_slot) == 8, "part of the wire form");
static_assert(sizeof(eepi_view) == 120, "part of the wire form");
static_assert(offsetof(eepi_view, digest) == 16 && offsetof(eepi_view, first_step) == 40 &&
                  offsetof(eepi_view, shape) == 48 && offsetof(eepi_view, phase) == 80 &&
                  offsetof(eepi_view, proposer) == 84 && offsetof(eepi_view, order_number) == 88 &&
                  offsetof(eepi_view, serial) == 104 && offsetof(eepi_view, collective) == 112,
              "part of the wire form");

/* ---------------------------------------------------------------- layout */

static size_t num_slots_total(const eepi_view_shape *shape)
{
    return (size_t)shape->num_layers * (size_t)shape->max_ranks * (size_t)shape->num_slots;
}

static size_t num_checksums(const eepi_view_shape *shape)
{
    return (size_t)shape->num_layers * (size_t)shape->num_experts;
}

static size_t backup_words(const eepi_view_shape *shape)
{
    return ((size_t)shape->num_experts + 63) / 64;
}

int eepi_view_backup_words(const eepi_view_shape *shape)
{
    return (int)backup_words(shape);
}

/* Of all layers. */
static size_t backup_words_of_node(const eepi_view_shape *shape)
{
    return (size_t)shape->num_layers * backup_words(shape);
}

static size_t seats_offset(void)
{
    return sizeof(eepi_view);
}

static size_t slots_offset(const eepi_view_shape *shape)
{
    return seats_offset() + (size_t)shape->max_ranks * sizeof(eepi_view_seat);
}

static size_t checksums_offset(const eepi_view_shape *shape)
{
    return slots_offset(shape) + num_slots_total(shape) * sizeof(eepi_view_slot);
}

static size_t backup_offset(const eepi_view_shape *shape)
{
    return checksums_offset(shape) + num_checksums(shape) * sizeof(uint64_t);
}

/* With every field at its limit the sum stays below 2^38: no overflow. */
size_t eepi_view_bytes(const eepi_view_shape *shape)
{
    if (shape->max_ranks < 1 || shape->max_ranks > EEP_MAX_RANKS || shape->num_layers < 1 ||
        shape->num_layers > EEP_MAX_LAYERS || shape->num_experts < 1 ||
        shape->num_experts > EEP_MAX_EXPERTS || shape->num_slots < 1 ||
        shape->num_slots > EEP_MAX_EXPERTS || shape->ranks_per_node < 0 ||
        shape->ranks_per_node > EEP_MAX_RANKS || shape->spread < 0 ||
        shape->spread > EEP_MAX_RANKS || shape->seats_per_group < 0 || shape->pad != 0 ||
        (shape->seats_per_group > 1 && shape->max_ranks % shape->seats_per_group != 0)) {
        return 0;
    }
    return backup_offset(shape) +
           (size_t)eepi_view_num_nodes(shape) * backup_words_of_node(shape) * sizeof(uint64_t) +
           eepi_wishes_bytes(shape);
}

int eepi_view_node_of(const eepi_view_shape *shape, int seat)
{
    return shape->ranks_per_node > 0 ? seat / shape->ranks_per_node : 0;
}

int eepi_view_num_nodes(const eepi_view_shape *shape)
{
    return eepi_view_node_of(shape, shape->max_ranks - 1) + 1;
}

/* The document is a flat blob that its owner may change and others only read; the accessors take
 * both, as strchr does. */
static void *blob_at(const eepi_view *view, size_t offset)
{
    return (unsigned char *)(uintptr_t)view + offset;
}

void *eepi_view_wishes(const eepi_view *view)
{
    const eepi_view_shape *s = &view->shape;

    return blob_at(view, eepi_view_bytes(s) - eepi_wishes_bytes(s));
}

eepi_view_seat *eepi_view_seat_at(const eepi_view *view, int seat)
{
    assert(seat >= 0 && seat < view->shape.max_ranks);
    return (eepi_view_seat *)blob_at(view, seats_offset()) + seat;
}

eepi_view_slot *eepi_view_slot_at(const eepi_view *view, int layer, int seat, int slot)
{
    const eepi_view_shape *s = &view->shape;

    assert(layer >= 0 && layer < s->num_layers && seat >= 0 && seat < s->max_ranks);
    assert(slot >= 0 && slot < s->num_slots);
    return (eepi_view_slot *)blob_at(view, slots_offset(s)) +
           ((size_t)layer * (size_t)s->max_ranks + (size_t)seat) * (size_t)s->num_slots + slot;
}

uint64_t *eepi_view_checksum_at(const eepi_view *view, int layer, int expert)
{
    const eepi_view_shape *s = &view->shape;

    assert(layer >= 0 && layer < s->num_layers && expert >= 0 && expert < s->num_experts);
    return (uint64_t *)blob_at(view, checksums_offset(s)) + (size_t)layer * (size_t)s->num_experts +
           expert;
}

void eepi_view_forget_checksums(eepi_view *view)
{
    memset(blob_at(view, checksums_offset(&view->shape)), 0,
           num_checksums(&view->shape) * sizeof(uint64_t));
}

/* The words of a node's backups in a layer. */
static uint64_t *backup_of_node(const eepi_view *view, int node, int layer)
{
    const eepi_view_shape *s = &view->shape;

    return (uint64_t *)blob_at(view, backup_offset(s)) + (size_t)node * backup_words_of_node(s) +
           (size_t)layer * backup_words(s);
}

static uint64_t *backup_at(const eepi_view *view, int seat, int layer)
{
    const eepi_view_shape *s = &view->shape;

    assert(layer >= 0 && layer < s->num_layers && seat >= 0 && seat < s->max_ranks);
    return backup_of_node(view, eepi_view_node_of(s, seat), layer);
}

bool eepi_view_has_backup(const eepi_view *view, int seat, int layer, int expert)
{
    assert(expert >= 0 && expert < view->shape.num_experts);
    return backup_at(view, seat, layer)[expert / 64] >> (expert % 64) & 1u;
}

void eepi_view_set_backup(eepi_view *view, int seat, int layer, int expert, bool has)
{
    const uint64_t bit = UINT64_C(1) << (expert % 64);
    uint64_t *words = backup_at(view, seat, layer);

    assert(expert >= 0 && expert < view->shape.num_experts);
    if (has) {
        words[expert / 64] |= bit;
    } else {
        words[expert / 64] &= ~bit;
    }
}

bool eepi_view_is_fenced(const eepi_view *view, int seat)
{
    return (eepi_view_seat_at(view, seat)->flags & EEPI_SEAT_IS_FENCED) != 0;
}

bool eepi_view_has_lapsed(const eepi_view *view)
{
    bool any = false;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const bool was_taken = eepi_view_seat_at(view, seat)->generation != 0;
        if (was_taken && !eepi_view_is_fenced(view, seat)) {
            return false;
        }
        any |= was_taken;
    }
    return any;
}

bool eepi_view_may_live_outside(const eepi_view *view, int seat, uint32_t generation)
{
    const eepi_view_seat *s = eepi_view_seat_at(view, seat);

    return s->generation == generation &&
           (s->state == EEP_SEAT_QUARANTINED || eepi_view_is_fenced(view, seat));
}

bool eepi_view_has_checkpoint(const eepi_view *view, int seat)
{
    return eepi_view_is_member(view, seat) &&
           eepi_view_seat_at(view, seat)->flags & EEPI_SEAT_HAS_CHECKPOINT;
}

uint64_t eepi_view_claim_digest(const uint64_t *bits, const uint64_t *checksums, int num_experts)
{
    XXH64_state_t state;
    bool any = false;

    XXH64_reset(&state, 0);
    for (int expert = 0; expert < num_experts; expert++) {
        const uint64_t claim[2] = {(uint64_t)expert, checksums[expert]};
        if (bits[expert / 64] >> (expert % 64) & 1u) {
            XXH64_update(&state, claim, sizeof claim);
            any = true;
        }
    }
    return any ? XXH64_digest(&state) : 0;
}

bool eepi_view_claim_counts(const eepi_view *view, int layer, const uint64_t *bits, uint64_t digest)
{
    const int num_experts = view->shape.num_experts;
    const uint64_t *checksums = eepi_view_checksum_at(view, layer, 0);

    for (int expert = 0; expert < num_experts; expert++) {
        if (bits[expert / 64] >> (expert % 64) & 1u && checksums[expert] == 0) {
            return false;
        }
    }
    return eepi_view_claim_digest(bits, checksums, num_experts) == digest;
}

void eepi_view_add_backups(eepi_view *view, int seat, int layer, const uint64_t *bits)
{
    uint64_t *words = backup_at(view, seat, layer);

    for (size_t i = 0; i < backup_words(&view->shape); i++) {
        words[i] |= bits[i];
    }
}

void eepi_view_clear_backups(eepi_view *view, int seat)
{
    memset(backup_at(view, seat, 0), 0, backup_words_of_node(&view->shape) * sizeof(uint64_t));
}

static bool has_members(const eepi_view *view, int node)
{
    const int first = node * view->shape.ranks_per_node;

    for (int seat = first; seat < view->shape.max_ranks; seat++) {
        if (eepi_view_node_of(&view->shape, seat) != node) {
            break;
        }
        if (eepi_view_is_member(view, seat)) {
            return true;
        }
    }
    return false;
}

void eepi_view_drop_gone_backups(eepi_view *view)
{
    const eepi_view_shape *s = &view->shape;

    for (int node = 0; node < eepi_view_num_nodes(s); node++) {
        if (!has_members(view, node)) {
            memset(backup_of_node(view, node, 0), 0, backup_words_of_node(s) * sizeof(uint64_t));
        }
    }
}

bool eepi_view_backups_are_sound(const eepi_view *view)
{
    const eepi_view_shape *s = &view->shape;

    for (int node = 0; node < eepi_view_num_nodes(s); node++) {
        const bool is_read = has_members(view, node);
        for (int layer = 0; layer < s->num_layers; layer++) {
            const uint64_t *words = backup_of_node(view, node, layer);
            for (int expert = 0; expert < s->num_experts; expert++) {
                if (words[expert / 64] == 0) {
                    expert |= 63; /* none of this word's */
                } else if (words[expert / 64] >> (expert % 64) & 1u &&
                           (!is_read || *eepi_view_checksum_at(view, layer, expert) == 0)) {
                    return false;
                }
            }
        }
    }
    return true;
}

/* ---------------------------------------------------------------- life */

eepi_view *eepi_view_new(const eepi_view_shape *shape)
{
    const size_t bytes = eepi_view_bytes(shape);
    eepi_view *view = bytes ? calloc(1, bytes) : NULL;

    if (!view) {
        return NULL;
    }
    view->magic = EEPI_VIEW_MAGIC;
    view->version = VIEW_VERSION;
    view->bytes = bytes;
    view->shape = *shape;
    view->phase = EEPI_VIEW_SERVING;
    view->cause = EEPI_VIEW_INITIAL;
    view->proposer = -1;
    for (int colour = 0; colour < EEPI_VIEW_COLOURS; colour++) {
        view->serial[colour] = 1;
    }
    eepi_view_slot *slots = blob_at(view, slots_offset(shape));
    for (size_t i = 0; i < num_slots_total(shape); i++) {
        slots[i] = (eepi_view_slot){.expert = EEPI_NO_EXPERT, .source = EEPI_NO_SEAT};
    }
    eepi_wishes_clear(eepi_view_wishes(view), shape);
    return view;
}

eepi_view *eepi_view_copy(const eepi_view *view)
{
    eepi_view *copy = malloc(view->bytes);

    if (copy) {
        memcpy(copy, view, view->bytes);
    }
    return copy;
}

static uint64_t digest_of(const eepi_view *view, size_t bytes)
{
    eepi_view header = *view;
    XXH64_state_t state;

    header.digest = 0;
    XXH64_reset(&state, 0);
    XXH64_update(&state, &header, sizeof header);
    XXH64_update(&state, blob_at(view, sizeof header), bytes - sizeof header);
    return XXH64_digest(&state);
}

void eepi_view_seal(eepi_view *view)
{
    view->digest = digest_of(view, view->bytes);
}

/* ---------------------------------------------------------------- check */

static const char *check_header(const eepi_view *view, size_t size)
{
    if (size < sizeof *view) {
        return "shorter than a view's header";
    }
    if ((uintptr_t)view % _Alignof(eepi_view) != 0) {
        return "not aligned to 8 bytes";
    }
    if (view->magic != EEPI_VIEW_MAGIC) {
        return "not a view document";
    }
    if (view->version != VIEW_VERSION) {
        return "a view document of another version";
    }
    if (view->bytes != size) {
        return "the view's length field is wrong";
    }
    if (eepi_view_bytes(&view->shape) != size) {
        return "the view's shape is out of bounds or does not fit its length";
    }
    if (view->digest != digest_of(view, size)) {
        return "the view's digest is wrong";
    }
    if (view->phase != EEPI_VIEW_SERVING && view->phase != EEPI_VIEW_REPAIRING) {
        return "the view's phase is unknown";
    }
    if (view->cause < EEPI_VIEW_INITIAL || view->cause > EEPI_VIEW_PLANNED) {
        return "the view's cause is unknown";
    }
    if (view->phase == EEPI_VIEW_REPAIRING && view->cause == EEPI_VIEW_PLANNED) {
        return "a planned view is never REPAIRING";
    }
    if (view->epoch > EEPI_VIEW_MAX_NUMBER || view->first_step > EEPI_VIEW_MAX_NUMBER ||
        view->collective > EEPI_VIEW_MAX_NUMBER) {
        return "the view's epoch, first step or collective is out of range";
    }
    if (view->pad0 != 0) {
        return "the view's padding is not zero";
    }
    if (view->proposer < -1 || view->proposer >= view->shape.max_ranks) {
        return "the view's proposer is no seat";
    }
    if (view->order_number > EEPI_VIEW_MAX_NUMBER ||
        (view->order_number == 0 && view->order_digest != 0)) {
        return "the number of the view's order is out of range";
    }
    return NULL;
}

static const char *check_seats(const eepi_view *view)
{
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const eepi_view_seat *s = eepi_view_seat_at(view, seat);
        if (s->state > EEP_SEAT_QUARANTINED || s->state == EEP_SEAT_JOINING) {
            return "a seat's state is unknown";
        }
        if (s->state != EEP_SEAT_VACANT && s->generation == 0) {
            return "a seat is taken by no generation";
        }
        if ((s->flags & ~(EEPI_SEAT_HAS_CHECKPOINT | EEPI_SEAT_IS_FENCED)) != 0 ||
            (s->flags & EEPI_SEAT_HAS_CHECKPOINT && !eepi_view_is_member(view, seat)) ||
            (s->flags & EEPI_SEAT_IS_FENCED && s->state != EEP_SEAT_VACANT)) {
            return "a seat's flags are unknown, or do not fit its state";
        }
    }
    return eepi_view_check_colours(view, eepi_view_seat_at(view, 0));
}

static const char *check_slots(const eepi_view *view)
{
    const eepi_view_slot *slots = blob_at(view, slots_offset(&view->shape));

    for (size_t i = 0; i < num_slots_total(&view->shape); i++) {
        const eepi_view_slot *s = &slots[i];
        const bool is_expert = s->expert < view->shape.num_experts;
        const int seat = (int)(i / (size_t)view->shape.num_slots) % view->shape.max_ranks;
        if (s->state > EEPI_SLOT_FILLING) {
            return "a slot's state is unknown";
        }
        if (s->state == EEPI_SLOT_EMPTY ? s->expert != EEPI_NO_EXPERT : !is_expert) {
            return "a slot's expert is out of range";
        }
        const bool is_filling = s->state == EEPI_SLOT_FILLING;
        if ((!eepi_source_is_sane(s->source, seat, view->shape.max_ranks) ||
             (eepi_source_is_file(s->source) && !is_filling)) &&
            (is_filling || s->source != EEPI_NO_SEAT)) {
            return "a slot's source is no seat";
        }
        if (s->pad != 0) {
            return "a slot's padding is not zero";
        }
        if (s->share != 0 && s->state != EEPI_SLOT_HOLDS) {
            return "a slot that holds nothing has a share";
        }
    }
    return NULL;
}

static const char *check_backups(const eepi_view *view)
{
    const int used_bits = view->shape.num_experts % 64;
    const size_t last = backup_words(&view->shape) - 1;

    for (int node = 0; used_bits && node < eepi_view_num_nodes(&view->shape); node++) {
        for (int layer = 0; layer < view->shape.num_layers; layer++) {
            if (backup_of_node(view, node, layer)[last] >> used_bits) {
                return "a backup of an expert out of range";
            }
        }
    }
    return NULL;
}

eep_status eepi_view_check(const void *bytes, size_t size, const char **why_out)
{
    const char *why = check_header(bytes, size);

    if (!why) {
        why = check_seats(bytes);
    }
    if (!why) {
        why = check_slots(bytes);
    }
    if (!why) {
        why = check_backups(bytes);
    }
    if (!why) {
        why = eepi_wishes_check(eepi_view_wishes(bytes), &((const eepi_view *)bytes)->shape);
    }
    if (why && why_out) {
        *why_out = why;
    }
    return why ? EEP_ERR_PROTOCOL : EEP_OK;
}

/* ---------------------------------------------------------------- questions */

bool eepi_view_is_member(const eepi_view *view, int seat)
{
    const uint8_t state = eepi_view_seat_at(view, seat)->state;

    return state == EEP_SEAT_ACTIVE || state == EEP_SEAT_RETIRING;
}

bool eepi_view_has(const eepi_view *view, int seat, uint32_t generation)
{
    return eepi_view_is_member(view, seat) &&
           eepi_view_seat_at(view, seat)->generation == generation;
}

int eepi_view_num_active(const eepi_view *view)
{
    int count = 0;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        count += eepi_view_is_member(view, seat);
    }
    return count;
}

static int num_uncovered_in(const eepi_view *view, int layer)
{
    uint64_t seen[(EEP_MAX_EXPERTS + 63) / 64] = {0};
    int uncovered = view->shape.num_experts;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        if (!eepi_view_is_member(view, seat)) {
            continue;
        }
        for (int slot = 0; slot < view->shape.num_slots; slot++) {
            const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
            const uint64_t bit = UINT64_C(1) << (s->expert % 64);
            if (s->state != EEPI_SLOT_HOLDS || (seen[s->expert / 64] & bit)) {
                continue;
            }
            seen[s->expert / 64] |= bit;
            uncovered--;
        }
    }
    return uncovered;
}

int eepi_view_num_uncovered(const eepi_view *view, int layer)
{
    int uncovered = 0;

    if (layer >= 0) {
        return num_uncovered_in(view, layer);
    }
    for (layer = 0; layer < view->shape.num_layers; layer++) {
        uncovered += num_uncovered_in(view, layer);
    }
    return uncovered;
}

bool eepi_view_holds(const eepi_view *view, int layer, int seat, int expert)
{
    const eepi_view_slot *slots = eepi_view_slot_at(view, layer, seat, 0);

    for (int slot = 0; slot < view->shape.num_slots; slot++) {
        if (slots[slot].state == EEPI_SLOT_HOLDS && slots[slot].expert == expert) {
            return true;
        }
    }
    return false;
}

int eepi_view_num_replicas(const eepi_view *view, int layer, int expert)
{
    int count = 0;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        if (!eepi_view_is_member(view, seat)) {
            continue;
        }
        for (int slot = 0; slot < view->shape.num_slots; slot++) {
            const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
            count += s->state == EEPI_SLOT_HOLDS && s->expert == expert;
        }
    }
    return count;
}
