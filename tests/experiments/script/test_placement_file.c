/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a placement: what it gives to which slots, and what is refused by name. */
#include "experiments/script/placement_file.h"

#include <criterion/criterion.h>
#include <string.h>

enum { LAYERS = 2, RANKS = 3, SLOTS = 2, EXPERTS = 4 };

static const placement_shape shape = {LAYERS, RANKS, SLOTS, EXPERTS, RANKS};

static eep_status parse(const char *text, const placement_shape *of, placement_order *out,
                        char error[PLACEMENT_ERROR_BYTES])
{
    return placement_parse("order.json", text, strlen(text), of, out, error);
}

static placement_order good(const char *text)
{
    char error[PLACEMENT_ERROR_BYTES] = "";
    placement_order order = {0};
    cr_assert_eq(parse(text, &shape, &order, error), EEP_OK, "%s: %s", text, error);
    return order;
}

Test(placement_file, an_entry_gives_experts_to_the_slots_of_a_rank)
{
    placement_order order = good("{\"number\": 9007199254740992, \"about\": \"x\", \"ranks\": ["
                                 "{\"layer\": 1, \"rank\": 2, \"experts\": [3, -1]},"
                                 "{\"rank\": 0, \"experts\": [1, 2], \"pinned\": [false, true]},"
                                 "{\"rank\": 1, \"experts\": [0], \"pinned\": true}]}\n");
    static const int32_t experts[] = {1, 2, 0, -1, -1, -1, 1, 2, 0, -1, 3, -1};
    static const uint8_t pinned[] = {0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0};
    cr_assert_eq(order.number, UINT64_C(1) << 53);
    for (int i = 0; i < LAYERS * RANKS * SLOTS; i++) {
        cr_expect_eq(order.experts[i], experts[i], "slot %d", i);
        cr_expect_eq(order.pinned[i], pinned[i], "slot %d", i);
    }
    placement_free(&order);
}

Test(placement_file, an_empty_list_gives_nothing)
{
    placement_order order = good("{\"number\": 2, \"ranks\": []}");
    for (int i = 0; i < LAYERS * RANKS * SLOTS; i++) {
        cr_expect(order.experts[i] == -1 && order.pinned[i] == 0);
    }
    placement_free(&order);
}

#define ENTRY(text) "{\"number\": 1, \"ranks\": [{" text "}]}"

Test(placement_file, what_is_wrong_is_named)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "order.json: line 1 is no JSON"},
        {"{\"number\": 1,\n \"ranks\": [}", "line 2 is no JSON"},
        {"{\"number\": 1, \"ranks\": []} x", "line 1 is no JSON"},
        {"[1]", "[1] is no object with number, about and ranks"},
        {"{\"number\": 1, \"ranks\": [], \"pins\": 1}", "unknown key 'pins'; allowed are number"},
        {"{\"number\": 1, \"ranks\": [], \"number\": 2}", "the key 'number' stands twice"},
        {"{\"ranks\": []}", "'number' is missing"},
        {"{\"number\": 0, \"ranks\": []}", "number 0: whole numbers from 1 to 2^53"},
        {"{\"number\": 1.5, \"ranks\": []}", "number 1.5"},
        {"{\"number\": \"1\", \"ranks\": []}", "number \"1\""},
        {"{\"number\": 1}", "'ranks' is missing, or no list"},
        {ENTRY("\"experts\": [1]"), "ranks[0]: 'rank' is missing"},
        {ENTRY("\"rank\": 3, \"experts\": [1]"), "rank 3: the ranks are 0 to 2"},
        {ENTRY("\"rank\": 0, \"layer\": 2, \"experts\": [1]"), "layer 2: the layers are 0 to 1"},
        {ENTRY("\"rank\": 0"), "'experts' is missing, or no list"},
        {ENTRY("\"rank\": 0, \"slot\": 1"), "unknown key 'slot'; allowed are layer, rank"},
        {ENTRY("\"rank\": 0, \"experts\": [1, 2, 3]"),
         "3 experts are too many: a rank has 2 slots"},
        {ENTRY("\"rank\": 0, \"experts\": [1, 4]"), "slot 1: expert 4 is unknown: they are 0 to 3"},
        {ENTRY("\"rank\": 0, \"experts\": [-2]"), "slot 0: expert -2 is unknown"},
        {ENTRY("\"rank\": 0, \"experts\": [1, -1], \"pinned\": [true, true]"),
         "slot 1 is pinned and has no expert"},
        {ENTRY("\"rank\": 0, \"experts\": [1, 2], \"pinned\": [true]"), "a list of 2 of them"},
        {ENTRY("\"rank\": 0, \"experts\": [1], \"pinned\": [1]"), "neither true nor false"},
        {"{\"number\": 1, \"ranks\": [{\"rank\": 0, \"experts\": [1]},"
         "{\"rank\": 0, \"layer\": 1, \"experts\": [1]}]}",
         "ranks[1]: rank 0 has an entry for layer 1 already"},
        {"{\"number\": 1, \"ranks\": [{\"rank\": 0, \"layer\": 1, \"experts\": [0, 2]},"
         "{\"rank\": 1, \"layer\": 1, \"experts\": [0, 2]},"
         "{\"rank\": 2, \"layer\": 1, \"experts\": [0]}]}",
         "order.json: layer 1: expert 1 is left without a slot: 2 experts are given none, and 1 "
         "slots of 3 ranks are free"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char error[PLACEMENT_ERROR_BYTES] = "";
        placement_order order;
        cr_expect_eq(parse(bad[i].text, &shape, &order, error), EEP_ERR_INVALID, "%s", bad[i].text);
        cr_expect(strstr(error, bad[i].says), "%s: '%s' lacks '%s'", bad[i].text, error,
                  bad[i].says);
    }
}

/* A first view has fewer ranks than there are seats: what only a free seat would hold has no slot.
 */
Test(placement_file, experts_are_counted_over_the_members)
{
    char error[PLACEMENT_ERROR_BYTES] = "";
    placement_order order;
    placement_shape two = shape;
    const char *text = ENTRY("\"rank\": 2, \"experts\": [0, 1]");
    cr_assert_eq(parse(text, &shape, &order, error), EEP_OK, "%s", error);
    placement_free(&order);
    two.num_members = 2;
    cr_assert_eq(parse(text, &two, &order, error), EEP_OK, "%s", error);
    placement_free(&order);
    text = "{\"number\": 1, \"ranks\": [{\"rank\": 0, \"experts\": [2, 3]},"
           "{\"rank\": 1, \"experts\": [2, 3]}]}";
    cr_assert_eq(parse(text, &shape, &order, error), EEP_OK, "%s", error);
    placement_free(&order);
    cr_assert_eq(parse(text, &two, &order, error), EEP_ERR_INVALID);
    cr_expect(strstr(error, "expert 0 is left without a slot"), "%s", error);
}

Test(placement_file, one_that_cannot_be_read_is_named)
{
    char error[PLACEMENT_ERROR_BYTES] = "";
    placement_order order;
    cr_assert_eq(placement_load("/nowhere/order.json", &shape, &order, error), EEP_ERR_SYSTEM);
    cr_expect(strstr(error, "/nowhere/order.json: No such file"), "%s", error);
}
