/* SPDX-License-Identifier: Apache-2.0 */
/* The view document: layout, digest, the check of foreign bytes, questions against brute force. */
#include "membership/view/view_order.h"
#include "experiments/base/random.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLAY     "seed %llu (replay: EEP_TEST_SEED=%llu and this test)"
#define SEED(seed) (unsigned long long)(seed), (unsigned long long)(seed)

static int below(uint64_t *state, int limit)
{
    return (int)(random_next(state) % (uint64_t)limit);
}

static uint64_t first_seed(void)
{
    const char *text = getenv("EEP_TEST_SEED");

    return text ? strtoull(text, NULL, 0) : 20260511;
}

/* A valid document with every kind of content; shape by chance. */
static eepi_view *random_view(uint64_t *random)
{
    static const uint8_t states[] = {EEP_SEAT_VACANT, EEP_SEAT_ACTIVE, EEP_SEAT_ACTIVE,
                                     EEP_SEAT_RETIRING, EEP_SEAT_QUARANTINED};
    const eepi_view_shape shape = {1 + below(random, 6), 1 + below(random, 3),
                                   1 + below(random, 80), 1 + below(random, 9)};
    eepi_view *view = eepi_view_new(&shape);

    cr_assert_not_null(view);
    for (int seat = 0; seat < shape.max_ranks; seat++) {
        eepi_view_seat *s = eepi_view_seat_at(view, seat);
        s->state = states[below(random, 5)];
        s->generation = s->state == EEP_SEAT_VACANT ? (uint32_t)below(random, 2) : 3;
        for (int layer = 0; layer < shape.num_layers; layer++) {
            for (int expert = 0; expert < shape.num_experts; expert++) {
                eepi_view_set_backup(view, seat, layer, expert, below(random, 2));
            }
            for (int slot = 0; slot < shape.num_slots; slot++) {
                eepi_view_slot *t = eepi_view_slot_at(view, layer, seat, slot);
                t->state = (uint8_t)below(random, 3);
                if (t->state != EEPI_SLOT_EMPTY) {
                    t->expert = (uint16_t)below(random, shape.num_experts);
                }
                if (t->state == EEPI_SLOT_FILLING) {
                    const int source = below(random, shape.max_ranks);
                    t->source =
                        (uint16_t)(below(random, 3) ? source : eepi_source_file_of(source, seat));
                }
            }
        }
    }
    view->epoch = random_next(random) >> 2;
    eepi_view_seal(view);
    return view;
}

/* Touch all that a reader of a checked document may touch; the sum keeps the reads alive. */
static uint64_t walk(const eepi_view *view)
{
    const eepi_view_shape *s = &view->shape;
    char text[200];
    uint64_t sum =
        (uint64_t)eepi_view_num_active(view) + (uint64_t)eepi_view_num_uncovered(view, -1);

    eepi_view_print(view, text, sizeof text);
    for (int layer = 0; layer < s->num_layers; layer++) {
        for (int expert = 0; expert < s->num_experts; expert++) {
            sum += *eepi_view_checksum_at(view, layer, expert) +
                   (uint64_t)eepi_view_num_replicas(view, layer, expert);
        }
        for (int seat = 0; seat < s->max_ranks; seat++) {
            sum += eepi_view_seat_at(view, seat)->generation;
            for (int expert = 0; expert < s->num_experts; expert++) {
                sum += eepi_view_has_backup(view, seat, layer, expert);
            }
            for (int slot = 0; slot < s->num_slots; slot++) {
                const eepi_view_slot *t = eepi_view_slot_at(view, layer, seat, slot);
                cr_assert(t->state == EEPI_SLOT_EMPTY || t->expert < s->num_experts);
                cr_assert(t->state != EEPI_SLOT_FILLING ||
                          eepi_source_seat(t->source, seat) < s->max_ranks);
                sum += t->expert;
            }
        }
    }
    return sum;
}

Test(view, a_new_document_is_empty_and_passes_the_check_once_sealed)
{
    const eepi_view_shape shape = {3, 2, 65, 4, .ranks_per_node = 2}; /* two nodes */
    const char *why = NULL;
    eepi_view *view = eepi_view_new(&shape);

    cr_assert_not_null(view);
    cr_assert_eq(view->bytes, eepi_view_bytes(&shape));
    cr_assert_eq(view->bytes, 120 + 3 * 16 + 2 * 3 * 4 * 8 + 2 * 65 * 8 + 2 * 2 * 2 * 8 +
                                  8 /* pins of 24 slots */ + 24 * 2);
    cr_assert_eq(view->epoch, 0);
    cr_assert_eq(eepi_view_num_active(view), 0);
    cr_assert_eq(eepi_view_num_uncovered(view, -1), 130);
    cr_assert_eq(eepi_view_check(view, view->bytes, &why), EEP_ERR_PROTOCOL, "not sealed");
    cr_assert_str_eq(why, "the view's digest is wrong");
    eepi_view_seal(view);
    cr_assert_eq(eepi_view_check(view, view->bytes, &why), EEP_OK);
    eepi_view *copy = eepi_view_copy(view);
    cr_assert_not_null(copy);
    cr_assert_arr_eq(copy, view, view->bytes);
    free(copy);
    free(view);
}

Test(view, shapes_out_of_bounds_have_no_size)
{
    const eepi_view_shape largest = {EEP_MAX_RANKS, EEP_MAX_LAYERS, EEP_MAX_EXPERTS,
                                     EEP_MAX_EXPERTS};
    const int32_t too_small[] = {0, -1, INT32_MIN};

    cr_assert_gt(eepi_view_bytes(&largest), 0);
    for (int field = 0; field < 4; field++) {
        for (int i = 0; i < 5; i++) {
            int32_t values[4] = {2, 2, 2, 2};
            const int32_t limits[4] = {EEP_MAX_RANKS, EEP_MAX_LAYERS, EEP_MAX_EXPERTS,
                                       EEP_MAX_EXPERTS};
            values[field] = i < 3 ? too_small[i] : i == 3 ? limits[field] + 1 : INT32_MAX;
            const eepi_view_shape bad = {values[0], values[1], values[2], values[3]};
            cr_assert_eq(eepi_view_bytes(&bad), 0, "field %d value %d", field, values[field]);
            cr_assert_null(eepi_view_new(&bad));
        }
    }
}

/* Each cell gets a value of its own; none overwrites another, the header or the end. */
Test(view, the_sections_do_not_overlap)
{
    const eepi_view_shape shape = {3, 2, 65, 4, .ranks_per_node = 1};
    eepi_view *view = eepi_view_new(&shape);
    uint64_t value = 1;

    cr_assert_not_null(view);
    const eepi_view header = *view;
    for (int pass = 0; pass < 2; pass++, value = 1) {
        for (int seat = 0; seat < 3; seat++, value++) {
            uint32_t *cell = &eepi_view_seat_at(view, seat)->generation;
            if (pass == 0) {
                *cell = (uint32_t)value;
            }
            cr_assert_eq(*cell, value);
        }
        for (int layer = 0; layer < 2; layer++) {
            for (int i = 0; i < 12; i++, value++) {
                uint16_t *cell = &eepi_view_slot_at(view, layer, i / 4, i % 4)->expert;
                if (pass == 0) {
                    *cell = (uint16_t)value;
                }
                cr_assert_eq(*cell, value);
            }
            for (int expert = 0; expert < 65; expert++, value++) {
                uint64_t *cell = eepi_view_checksum_at(view, layer, expert);
                if (pass == 0) {
                    *cell = value;
                }
                cr_assert_eq(*cell, value);
            }
            for (int i = 0; i < 3 * 65; i++, value++) {
                if (pass == 0) {
                    eepi_view_set_backup(view, i / 65, layer, i % 65, value % 3 == 0);
                }
                cr_assert_eq(eepi_view_has_backup(view, i / 65, layer, i % 65), value % 3 == 0);
            }
        }
    }
    cr_assert_arr_eq(view, &header, sizeof header);
    eepi_view_set_backup(view, 2, 1, 63, true);
    eepi_view_set_backup(view, 2, 1, 63, false);
    cr_assert_not(eepi_view_has_backup(view, 2, 1, 63));
    free(view);
}

static eepi_view *with_nodes(void)
{
    const eepi_view_shape shape = {5, 1, 70, 1, .ranks_per_node = 2}; /* nodes of 2, 2 and 1 */
    eepi_view *view = eepi_view_new(&shape);

    cr_assert_not_null(view);
    for (int seat = 0; seat < 5; seat++) {
        *eepi_view_seat_at(view, seat) =
            (eepi_view_seat){.generation = 1, .state = EEP_SEAT_ACTIVE};
    }
    for (int expert = 0; expert < 70; expert++) {
        *eepi_view_checksum_at(view, 0, expert) = 1000u + (uint64_t)expert;
    }
    return view;
}

Test(view, a_backup_is_of_all_seats_of_a_node_until_the_last_has_gone)
{
    eepi_view *view = with_nodes();

    eepi_view_set_backup(view, 3, 0, 69, true);
    for (int seat = 0; seat < 5; seat++) {
        cr_expect_eq(eepi_view_has_backup(view, seat, 0, 69), seat == 2 || seat == 3);
    }
    eepi_view_seat_at(view, 3)->state = EEP_SEAT_QUARANTINED;
    eepi_view_drop_gone_backups(view);
    cr_expect(eepi_view_has_backup(view, 2, 0, 69), "seat 2 can read it still");
    cr_expect(eepi_view_backups_are_sound(view));
    eepi_view_seat_at(view, 2)->state = EEP_SEAT_VACANT;
    cr_expect_not(eepi_view_backups_are_sound(view));
    eepi_view_drop_gone_backups(view);
    cr_expect_not(eepi_view_has_backup(view, 2, 0, 69));
    cr_expect(eepi_view_backups_are_sound(view));
    free(view);
}

Test(view, N24_a_claim_counts_with_the_checksums_of_the_document_alone)
{
    eepi_view *view = with_nodes();
    const uint64_t bits[2] = {UINT64_C(1) << 3, UINT64_C(1) << (69 - 64)}, none[2] = {0, 0};
    uint64_t sums[70];

    for (int expert = 0; expert < 70; expert++) {
        sums[expert] = 1000u + (uint64_t)expert;
    }
    cr_expect(eepi_view_claim_counts(view, 0, bits, eepi_view_claim_digest(bits, sums, 70)));
    sums[69]++;
    cr_expect_not(eepi_view_claim_counts(view, 0, bits, eepi_view_claim_digest(bits, sums, 70)));
    *eepi_view_checksum_at(view, 0, 69) = sums[69] = 0;
    cr_expect_not(eepi_view_claim_counts(view, 0, bits, eepi_view_claim_digest(bits, sums, 70)),
                  "an unknown checksum is nobody's");
    cr_expect_eq(eepi_view_claim_digest(none, sums, 70), 0);
    cr_expect(eepi_view_claim_counts(view, 0, none, 0));
    eepi_view_add_backups(view, 0, 0, bits);
    cr_expect(eepi_view_has_backup(view, 1, 0, 3) && eepi_view_has_backup(view, 1, 0, 69));
    cr_expect_not(eepi_view_has_backup(view, 1, 0, 4) || eepi_view_has_backup(view, 2, 0, 3));
    eepi_view_clear_backups(view, 1);
    cr_expect_not(eepi_view_has_backup(view, 0, 0, 3));
    free(view);
}

Test(view, S1_any_changed_byte_changes_the_digest)
{
    uint64_t random = first_seed();
    eepi_view *view = random_view(&random);
    unsigned char *bytes = (unsigned char *)view;
    const size_t size = view->bytes;
    const char *why = NULL;

    for (size_t i = 0; i < size; i++) {
        const unsigned char flip = (unsigned char)(1u << (i % 8));
        bytes[i] ^= flip;
        cr_assert_eq(eepi_view_check(view, size, &why), EEP_ERR_PROTOCOL, "byte %zu", i);
        bytes[i] ^= flip;
    }
    cr_assert_eq(eepi_view_check(view, size, &why), EEP_OK, "%s", why);
    free(view);
}

Test(view, the_check_says_what_is_wrong)
{
    static const char *const expected[] = {
        "not a view document",
        "a view document of another version",
        "the view's length field is wrong",
        "the view's shape is out of bounds or does not fit its length",
        "the view's phase is unknown",
        "the view's cause is unknown",
        "the view's colour is out of range",
        "the view's proposer is no seat",
        "a seat's state is unknown",
        "a seat is taken by no generation",
        "a seat's former processes reach a colour that there is not",
        "a slot's state is unknown",
        "a slot's expert is out of range",
        "a slot's expert is out of range",
        "a slot's source is no seat",
        "a slot's padding is not zero",
        "a backup of an expert out of range",
        "a planned view is never REPAIRING",
        "the view's epoch, first step or collective is out of range",
        "the view's epoch, first step or collective is out of range",
        "a seat's flags are unknown, or do not fit its state",
        "a seat's flags are unknown, or do not fit its state",
        "a wish's expert is out of range",
        "a slot without a wish is pinned",
        "a slot out of range is pinned",
        "the number of the view's order is out of range",
    };
    const eepi_view_shape shape = {2, 1, 5, 2};

    for (int i = 0; i < (int)(sizeof expected / sizeof expected[0]); i++) {
        eepi_view *view = eepi_view_new(&shape);
        cr_assert_not_null(view);
        const size_t size = view->bytes;
        eepi_view_seat *seat = eepi_view_seat_at(view, 1);
        eepi_view_slot *slot = eepi_view_slot_at(view, 0, 1, 1);
        uint64_t *pinned = eepi_view_wishes(view), *last_word = pinned - 1;
        uint16_t *wish = (uint16_t *)(pinned + 1);
        const char *why = "";
        view->magic ^= i == 0;
        view->version += i == 1;
        view->shape.num_slots += i == 3;
        view->phase = i == 4 ? 3 : i == 17 ? EEPI_VIEW_REPAIRING : view->phase;
        view->cause = i == 5 ? 0 : i == 17 ? EEPI_VIEW_PLANNED : view->cause;
        view->epoch = i == 18 ? EEPI_VIEW_MAX_NUMBER + 1 : view->epoch;
        view->first_step = i == 19 ? UINT64_MAX : view->first_step;
        view->colour = i == 6 ? EEPI_VIEW_COLOURS : 0;
        view->proposer = i == 7 ? 2 : 1;
        seat->state = i == 8              ? EEP_SEAT_JOINING
                      : i == 9 || i == 21 ? EEP_SEAT_ACTIVE
                                          : EEP_SEAT_VACANT;
        seat->generation = i == 21;
        seat->flags = i == 20 ? EEPI_SEAT_HAS_CHECKPOINT : i == 21 ? 4 : 0;
        seat->former = i == 10 ? 1u << EEPI_VIEW_COLOURS : 0;
        slot->state = (uint8_t)(i == 11 ? 3 : i == 12 ? EEPI_SLOT_HOLDS : i == 14 ? 2 : 0);
        slot->expert = (uint16_t)(i == 12 ? 5 : i == 13 || i == 14 ? 0 : EEPI_NO_EXPERT);
        slot->pad = i == 15;
        *last_word |= i == 16 ? 1u << 5 : 0;
        wish[3] = i == 22 ? 5 : EEPI_NO_EXPERT;
        *pinned = i == 23 ? 1u << 2 : i == 24 ? 1u << 4 : 0;
        view->order_digest = i == 25;
        eepi_view_seal(view);
        view->bytes += i == 2;
        cr_assert_eq(eepi_view_check(view, size, &why), EEP_ERR_PROTOCOL, "case %d", i);
        cr_assert_str_eq(why, expected[i], "case %d: %s", i, why);
        free(view);
    }
}

/* Mutations with a right digest reach the checks behind it; what passes them must be safe to
 * read. The blob lies in memory of exactly its size, so that a sanitizer sees one byte too far. */
Test(view, no_bytes_from_outside_lead_a_reader_out_of_bounds)
{
    enum { ROUNDS = 20000 };
    uint64_t passed = 0, sum = 0;

    for (uint64_t seed = first_seed(), end = seed + ROUNDS; seed < end; seed++) {
        uint64_t random = seed;
        eepi_view *valid = random_view(&random);
        const size_t whole = valid->bytes;
        size_t size = below(&random, 4) ? whole : (size_t)below(&random, (int)whole + 64);
        unsigned char *bytes = calloc(1, size + (size == 0));
        const char *why = NULL;
        cr_assert_not_null(bytes);
        memcpy(bytes, valid, size < whole ? size : whole);
        const int area = below(&random, 2) ? (int)sizeof(eepi_view) : (int)size;
        for (int n = below(&random, 4); n > 0 && area > 0; n--) {
            bytes[below(&random, area) % (int)(size ? size : 1)] =
                (unsigned char)(below(&random, 3) ? below(&random, 4) : (int)random_next(&random));
        }
        eepi_view *view = (eepi_view *)(void *)bytes;
        if (size >= sizeof *view) {
            if (below(&random, 4)) {
                view->bytes = size;
            }
            if (view->bytes == size) {
                eepi_view_seal(view);
            }
        }
        const eep_status status = eepi_view_check(bytes, size, &why);
        cr_assert(status == EEP_OK || (status == EEP_ERR_PROTOCOL && why), REPLAY, SEED(seed));
        if (status == EEP_OK) {
            passed++;
            sum += walk(view);
        }
        free(bytes);
        free(valid);
    }
    cr_assert_gt(passed, ROUNDS / 10, "too few mutations get through to say anything");
    cr_assert_neq(sum, 0);
}

Test(view, garbage_and_misaligned_bytes_are_refused)
{
    static _Alignas(8) unsigned char bytes[512];
    uint64_t random = first_seed();
    const char *why = NULL;

    cr_assert_eq(eepi_view_check(bytes, 0, &why), EEP_ERR_PROTOCOL);
    cr_assert_str_eq(why, "shorter than a view's header");
    cr_assert_eq(eepi_view_check(bytes + 1, 200, &why), EEP_ERR_PROTOCOL);
    cr_assert_str_eq(why, "not aligned to 8 bytes");
    for (int round = 0; round < 2000; round++) {
        for (size_t i = 0; i < sizeof bytes; i++) {
            bytes[i] = (unsigned char)random_next(&random);
        }
        const size_t size = (size_t)below(&random, sizeof bytes + 1);
        cr_assert_eq(eepi_view_check(bytes, size, &why), EEP_ERR_PROTOCOL);
    }
}

Test(view, questions_agree_with_brute_force)
{
    for (uint64_t seed = first_seed(), end = seed + 500; seed < end; seed++) {
        uint64_t random = seed;
        eepi_view *view = random_view(&random);
        const eepi_view_shape *s = &view->shape;
        int all_uncovered = 0;
        for (int layer = 0; layer < s->num_layers; layer++) {
            int uncovered = 0;
            for (int expert = 0; expert < s->num_experts; expert++) {
                int replicas = 0;
                for (int i = 0; i < s->max_ranks * s->num_slots; i++) {
                    const eepi_view_slot *t =
                        eepi_view_slot_at(view, layer, i / s->num_slots, i % s->num_slots);
                    const int state = eepi_view_seat_at(view, i / s->num_slots)->state;
                    replicas += (state == EEP_SEAT_ACTIVE || state == EEP_SEAT_RETIRING) &&
                                t->state == EEPI_SLOT_HOLDS && t->expert == expert;
                }
                cr_assert_eq(eepi_view_num_replicas(view, layer, expert), replicas, REPLAY,
                             SEED(seed));
                uncovered += replicas == 0;
            }
            cr_assert_eq(eepi_view_num_uncovered(view, layer), uncovered, REPLAY, SEED(seed));
            all_uncovered += uncovered;
        }
        cr_assert_eq(eepi_view_num_uncovered(view, -1), all_uncovered, REPLAY, SEED(seed));
        free(view);
    }
}

Test(view, S12_a_member_is_a_seat_with_its_generation)
{
    const eepi_view_shape shape = {4, 1, 4, 1};
    eepi_view *view = eepi_view_new(&shape);
    char text[200], small[16];

    cr_assert_not_null(view);
    view->epoch = 7;
    view->cause = EEPI_VIEW_FAULT;
    *eepi_view_seat_at(view, 0) = (eepi_view_seat){.generation = 1, .state = EEP_SEAT_ACTIVE};
    *eepi_view_seat_at(view, 1) = (eepi_view_seat){.generation = 4, .state = EEP_SEAT_RETIRING};
    *eepi_view_seat_at(view, 2) = (eepi_view_seat){.generation = 2, .state = EEP_SEAT_QUARANTINED};
    cr_assert(eepi_view_is_member(view, 0) && eepi_view_is_member(view, 1));
    cr_assert_not(eepi_view_is_member(view, 2) || eepi_view_is_member(view, 3));
    cr_assert(eepi_view_has(view, 1, 4));
    cr_assert_not(eepi_view_has(view, 1, 3), "the predecessor");
    cr_assert_not(eepi_view_has(view, 1, 5), "a successor that is not in yet");
    cr_assert_not(eepi_view_has(view, 2, 2), "expelled");
    cr_assert_eq(eepi_view_num_active(view), 2);
    eepi_view_print(view, text, sizeof text);
    cr_assert_str_eq(text, "epoch 7 SERVING fault: 0.1 1.4(retiring) -2.2(quarantined)");
    eepi_view_print(view, small, sizeof small);
    cr_assert_str_eq(small, "epoch 7 SERVING");
    free(view);
}

/* A file is the source of a slot that is being filled, under one name. */
Test(view, a_source_that_is_a_file_names_its_reader)
{
    static const struct {
        uint8_t state;
        uint16_t source;
        bool is_good;
    } cases[] = {{EEPI_SLOT_FILLING, EEPI_SOURCE_FILE, true},
                 {EEPI_SLOT_FILLING, EEPI_SOURCE_FILE_OF, true},
                 {EEPI_SLOT_FILLING, EEPI_SOURCE_FILE_OF + 1, false}, /* that is EEPI_SOURCE_FILE */
                 {EEPI_SLOT_FILLING, EEPI_SOURCE_FILE_OF + 2, false}, /* no seat */
                 {EEPI_SLOT_HOLDS, EEPI_SOURCE_FILE, false},
                 {EEPI_SLOT_HOLDS, EEPI_SOURCE_FILE_OF, false}};
    const eepi_view_shape shape = {2, 1, 5, 2};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        eepi_view *view = eepi_view_new(&shape);
        const char *why = "";
        cr_assert_not_null(view);
        *eepi_view_slot_at(view, 0, 1, 1) =
            (eepi_view_slot){.expert = 0, .source = cases[i].source, .state = cases[i].state};
        eepi_view_seal(view);
        cr_expect_eq(eepi_view_check(view, view->bytes, &why) == EEP_OK, cases[i].is_good,
                     "case %zu: %s", i, why);
        cr_expect_str_eq(why, cases[i].is_good ? "" : "a slot's source is no seat");
        free(view);
    }
    cr_expect_eq(eepi_source_seat(EEPI_SOURCE_FILE, 1), 1);
    cr_expect_eq(eepi_source_seat(EEPI_SOURCE_FILE_OF, 1), 0);
    cr_expect_eq(eepi_source_seat(0, 1), 0);
    cr_expect_not(eepi_source_is_file(0) || eepi_source_is_file(EEPI_NO_SEAT));
}
