/* SPDX-License-Identifier: Apache-2.0 */
/* Properties of background repair on any document: coverage is never lost, protection never gets
 * worse, planning ends, and what is at rest stays at rest. */
#include "tests/lib/background_fixture.h"

#include <string.h>

enum { MOST_SEATS = 40, MOST_EXPERTS = 48, SEEDS_OF_PART = 1000000 };

/* EEP_TEST_CASES of each part, or as many as every check has time for. */
static uint64_t last_case(uint64_t first)
{
    const char *text = getenv("EEP_TEST_CASES");

    if (getenv("EEP_TEST_SEED")) {
        return first;
    }
    return first + (text ? strtoull(text, NULL, 0) : 375) - 1;
}

typedef struct fixture {
    eepi_view *view;
    uint32_t loads[MOST_EXPERTS];
    bool has_loads;
    eepi_background *background;
    eepi_background_limits limits;
} fixture;

static eepi_view *new_broken(uint64_t *random)
{
    const int seats = 1 + below(random, MOST_SEATS), experts = 1 + below(random, MOST_EXPERTS);
    const int most = 2 + 3 * experts / seats;
    eepi_view_shape shape = {seats, 1 + below(random, 2), experts, 1 + below(random, most), 0, 0};
    eepi_view *view;

    shape.ranks_per_node = below(random, 2) ? 1 + below(random, seats) : 0;
    shape.spread = below(random, 4) == 0 ? below(random, seats) : 0;
    view = new_view_of(shape);
    for (int seat = 0; seat < seats; seat++) {
        static const uint8_t states[] = {EEP_SEAT_VACANT, EEP_SEAT_RETIRING, EEP_SEAT_QUARANTINED};
        set_seat(view, seat, below(random, 6) ? EEP_SEAT_ACTIVE : states[below(random, 3)]);
    }
    return view;
}

/* Slots by chance; then each expert without a live replica takes a slot that can be spared. False:
 * there are too few. */
static bool cover(eepi_view *view, int layer, uint64_t *random)
{
    const eepi_view_shape *shape = &view->shape;
    const int empty_of_8 = below(random, 4), all = shape->max_ranks * shape->num_slots;
    const int few = 1 + below(random, shape->num_experts);

    for (int i = 0; i < all; i++) {
        const int seat = i / shape->num_slots;
        if (eepi_view_is_member(view, seat) && below(random, 8) >= empty_of_8) {
            set_expert(view, layer, seat, i % shape->num_slots,
                       below(random, below(random, 2) ? few : shape->num_experts));
            eepi_view_slot_at(view, layer, seat, i % shape->num_slots)->share =
                (uint16_t)(below(random, 3) ? 0 : below(random, 65536));
        }
    }
    for (int expert = 0; expert < shape->num_experts; expert++) {
        const int from = below(random, all);
        for (int i = 0; i < all && num_live(view, layer, expert) == 0; i++) {
            const int at = (from + i) % all, seat = at / shape->num_slots;
            const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, at % shape->num_slots);
            if (eepi_view_is_member(view, seat) &&
                (s->state == EEPI_SLOT_EMPTY || num_live(view, layer, s->expert) > 1)) {
                set_expert(view, layer, seat, at % shape->num_slots, expert);
            }
        }
        if (num_live(view, layer, expert) == 0) {
            return false;
        }
        for (int seat = 0; seat < shape->max_ranks; seat++) {
            eepi_view_set_backup(view, seat, layer, expert,
                                 eepi_view_is_member(view, seat) && below(random, 8) == 0);
        }
    }
    return true;
}

static bool set_up(fixture *f, uint64_t *random)
{
    const int kind = below(random, 4);

    f->view = new_broken(random);
    for (int layer = 0; layer < f->view->shape.num_layers; layer++) {
        if (!cover(f->view, layer, random)) {
            free(f->view);
            return false;
        }
    }
    f->has_loads = kind > 0;
    for (int expert = 0; expert < f->view->shape.num_experts; expert++) {
        const uint32_t flat = (uint32_t)below(random, 1000);
        f->loads[expert] = kind == 1 ? flat : kind == 2 ? flat * flat * flat : 1u << flat % 32;
    }
    f->limits = eepi_background_defaults;
    f->limits.max_fills = 1 + below(random, 20);
    f->limits.max_of_seat = 2 + below(random, 8);
    f->limits.max_exposed = 1 + below(random, 10);
    f->background = eepi_background_new(&f->view->shape);
    cr_assert_not_null(f->background);
    return true;
}

static int plan(fixture *f, eepi_background *with, eepi_view *view, int layer)
{
    eepi_background_begin(with, view, NULL, 0);
    return eepi_background_layer(with, layer, f->has_loads ? f->loads : NULL, &f->limits);
}

static bool is_source(const eepi_view *view, int layer, const eepi_view_slot *slot)
{
    return eepi_view_is_member(view, slot->source) &&
           (eepi_view_has_backup(view, slot->source, layer, slot->expert) ||
            num_on_seat(view, layer, slot->source, slot->expert) > 0);
}

/* Only slots of staying seats change, each to an expert that its seat lacks, with a source that has
 * it still (R1). Returns how many. */
static int check_fills(const eepi_view *before, const eepi_view *view, int layer, uint64_t seed)
{
    const eepi_view_shape *shape = &view->shape;
    eepi_view *same = copy_of(view);
    int fills = 0;

    for (int i = 0; i < shape->max_ranks * shape->num_slots; i++) {
        const int seat = i / shape->num_slots, k = i % shape->num_slots;
        const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, k);
        const eepi_view_slot *was = eepi_view_slot_at(before, layer, seat, k);
        if (memcmp(s, was, sizeof *s) == 0) {
            continue;
        }
        fills++;
        *eepi_view_slot_at(same, layer, seat, k) = *was;
        cr_assert(s->state == EEPI_SLOT_FILLING && is_staying(view, seat), REPLAY, SEED(seed));
        cr_assert(is_source(view, layer, s), "R1: no source; " REPLAY, SEED(seed));
        for (int other = 0; other < shape->num_slots; other++) {
            const eepi_view_slot *o = eepi_view_slot_at(view, layer, seat, other);
            cr_assert(other == k || o->state == EEPI_SLOT_EMPTY || o->expert != s->expert,
                      "twice on a seat; " REPLAY, SEED(seed));
        }
    }
    cr_assert_eq(memcmp(same, before, before->bytes), 0, REPLAY, SEED(seed));
    free(same);
    return fills;
}

typedef struct worth {
    int bare, lacking, single, near;
} worth;

static worth worth_of(const fixture *f, const eepi_view *view, int layer)
{
    const int experts = view->shape.num_experts, staying = num_staying(view);
    uint64_t total = 0;
    int64_t target;
    worth w = {0};

    for (int expert = 0; expert < experts; expert++) {
        total += f->has_loads ? f->loads[expert] : 0;
    }
    const bool known = total > 0;
    total = known ? total : (uint64_t)experts;
    target = staying ? (int64_t)(total << 16) / staying / 1000 * f->limits.target_permille : 0;
    for (int expert = 0; expert < experts; expert++) {
        const eepi_protection p = protection_of(view, layer, expert);
        const int64_t load = (int64_t)(known ? f->loads[expert] : 1) << 16;
        const int64_t most = target / 100 * 70;
        int64_t needs = load > most && most > 0 ? (load + most - 1) / most : 1;
        needs = needs > staying ? staying : needs < 1 ? 1 : needs;
        for (int seat = 0; seat < view->shape.max_ranks; seat++) {
            needs -= is_staying(view, seat) && is_to_have(view, layer, seat, expert);
        }
        w.lacking += needs > 0 && staying > 0 ? (int)needs : 0;
        w.bare += p == EEPI_BARE;
        w.single += p == EEPI_SINGLE;
        w.near += p == EEPI_NEAR;
    }
    return w;
}

/* < 0: better. */
static int compare(worth a, worth b)
{
    const int differences[] = {a.bare - b.bare, a.lacking - b.lacking, a.single - b.single,
                               a.near - b.near};

    for (size_t i = 0; i < sizeof differences / sizeof differences[0]; i++) {
        if (differences[i] != 0) {
            return differences[i];
        }
    }
    return 0;
}

static void check_round(fixture *f, const eepi_view *before, int layer, int fills, uint64_t seed)
{
    const worth was = worth_of(f, before, layer), is = worth_of(f, f->view, layer);
    const eepi_background_state state = eepi_background_state_of(f->background);
    int exposed = 0;

    cr_assert_leq(fills, f->limits.max_fills, REPLAY, SEED(seed));
    cr_assert_eq(check_fills(before, f->view, layer, seed), fills, REPLAY, SEED(seed));
    for (int seat = 0; seat < f->view->shape.max_ranks; seat++) {
        int of_seat = 0;
        for (int k = 0; k < f->view->shape.num_slots; k++) {
            of_seat += eepi_view_slot_at(f->view, layer, seat, k)->state == EEPI_SLOT_FILLING;
        }
        cr_assert_leq(of_seat, f->limits.max_of_seat, REPLAY, SEED(seed));
    }
    for (int expert = 0; expert < f->view->shape.num_experts; expert++) {
        const int live = num_live(f->view, layer, expert);
        cr_assert_geq(live, 1, "S7: expert %d is lost; " REPLAY, expert, SEED(seed));
        exposed += live == 1 && num_live(before, layer, expert) > 1;
    }
    cr_assert_leq(exposed, f->limits.max_exposed + 1, REPLAY, SEED(seed));
    cr_assert_leq(compare(is, was), 0, "%d/%d/%d/%d after %d/%d/%d/%d; " REPLAY, is.bare,
                  is.lacking, is.single, is.near, was.bare, was.lacking, was.single, was.near,
                  SEED(seed));
    cr_assert(state.bare == is.bare && state.lacking == is.lacking && state.single == is.single &&
                  state.near == is.near,
              "counts; " REPLAY, SEED(seed));
}

/* Rounds until nothing moves; each is judged. */
static int run_layer(fixture *f, int layer, uint64_t seed)
{
    int total = 0, fills = 1;

    for (int round = 0; fills > 0; round++) {
        eepi_view *before = copy_of(f->view);
        fills = plan(f, f->background, f->view, layer);
        check_round(f, before, layer, fills, seed);
        if (round == 0 && seed % 4 == 0) { /* the same again, from memory that knows nothing */
            eepi_background *fresh = eepi_background_new(&f->view->shape);
            cr_assert_eq(plan(f, fresh, before, layer), fills, REPLAY, SEED(seed));
            cr_assert_eq(memcmp(before, f->view, before->bytes), 0, REPLAY, SEED(seed));
            eepi_background_free(fresh);
        }
        (void)eepi_plan_filled(f->view, -1);
        free(before);
        total += fills;
        cr_assert_lt(round, 2000, "it never comes to rest; " REPLAY, SEED(seed));
    }
    return total;
}

/* Nothing is bare where there are slots for all. Returns whether an expert has one replica although
 * there are slots for two of each, and nothing is known of loads: three or more slots would have to
 * change hands for it at once. */
static bool check_rest(const fixture *f, int layer, uint64_t seed)
{
    const eepi_view_shape *shape = &f->view->shape;
    const int staying = num_staying(f->view), slots = staying * shape->num_slots;
    const worth w = worth_of(f, f->view, layer);

    cr_assert(w.bare == 0 || slots < shape->num_experts, "%d bare; " REPLAY, w.bare, SEED(seed));
    return !f->has_loads && staying > 1 && shape->num_slots < shape->num_experts &&
           slots >= 2 * shape->num_experts && w.single > 0;
}

static void run_cases(int part)
{
    const uint64_t first =
        first_seed() + (getenv("EEP_TEST_SEED") ? 0 : (uint64_t)part * SEEDS_OF_PART);
    uint64_t fills = 0, short_of = 0;

    for (uint64_t seed = first, last = last_case(first); seed <= last; seed++) {
        uint64_t random = seed;
        fixture f = {0};
        if (!set_up(&f, &random)) {
            continue;
        }
        for (int layer = 0; layer < f.view->shape.num_layers; layer++) {
            fills += (uint64_t)run_layer(&f, layer, seed);
            short_of += check_rest(&f, layer, seed);
        }
        eepi_background_free(f.background);
        free(f.view);
    }
    cr_assert_leq(short_of, (last_case(first) - first) / 1000, "%llu layers",
                  (unsigned long long)short_of);
    cr_assert(fills > 1000 || getenv("EEP_TEST_SEED"), "%llu fills", (unsigned long long)fills);
}

Test(background_properties, S7_any_document_gets_better_and_comes_to_rest)
{
    run_cases(0);
}

Test(background_properties, any_other_document_does)
{
    run_cases(1);
}

Test(background_properties, any_third_document_does)
{
    run_cases(2);
}

Test(background_properties, any_fourth_document_does)
{
    run_cases(3);
}
