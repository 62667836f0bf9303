/* SPDX-License-Identifier: Apache-2.0 */
/* What eep_open and eep_join refuse: bad configurations, taken seats, differing weights. Each names
 * its cause, and a running instance loses nothing. */
#include "tests/lib/context_fixture.h"

#include <stddef.h>
#include <string.h>

TestSuite(context_refused, .timeout = 100);

typedef struct mistake {
    size_t offset, bytes;
    int64_t value;
    const char *field;
} mistake;
#define MISTAKE(field, value)                                                                      \
    {                                                                                              \
        offsetof(eep_config, field), sizeof(((eep_config *)0)->field), value, #field               \
    }

static const mistake mistakes[] = {
    MISTAKE(struct_bytes, 8),
    MISTAKE(struct_bytes, 0),
    MISTAKE(rank, -1),
    MISTAKE(rank, 2),
    MISTAKE(num_ranks, 0),
    MISTAKE(num_ranks, -3),
    MISTAKE(num_ranks, 3),
    MISTAKE(max_ranks, -1),
    MISTAKE(max_ranks, EEP_MAX_RANKS + 1),
    MISTAKE(store_path, 0),
    MISTAKE(device, 0),
    MISTAKE(num_layers, 0),
    MISTAKE(num_layers, EEP_MAX_LAYERS + 1),
    MISTAKE(num_experts, 0),
    MISTAKE(num_experts, EEP_MAX_EXPERTS + 1),
    MISTAKE(num_slots, 0),
    MISTAKE(num_slots, 65535),
    MISTAKE(top_k, 0),
    MISTAKE(top_k, WORLD_EXPERTS + 1),
    MISTAKE(top_k, EEP_MAX_TOPK + 1),
    MISTAKE(hidden, 0),
    MISTAKE(hidden, -16),
    MISTAKE(num_max_tokens_per_rank, 0),
    MISTAKE(num_max_tokens_per_rank, 65536),
    MISTAKE(dtype, 2),
    MISTAKE(fp8_dispatch, 3),
    MISTAKE(bulk, 3),
    MISTAKE(num_blocks, -1),
    MISTAKE(num_blocks, 4097),
    MISTAKE(heartbeat_period_us, 0),
    MISTAKE(heartbeat_suspect_us, 0),
    MISTAKE(step_deadline_us, 0),
    MISTAKE(step_deadline_us, INT64_MAX),
    MISTAKE(warmup_deadline_us, 0),
    MISTAKE(warmup_deadline_us, INT64_MAX),
    MISTAKE(expel_floor_us, 0),
    MISTAKE(drain_bound_us, 0),
    MISTAKE(propose_delay_us, INT64_MAX),
    MISTAKE(join_timeout_us, INT64_MAX),
};

static eep_status open_with(const eep_config *config, char *error, size_t error_bytes)
{
    eep_context *context = NULL;
    eep_status status = eep_open(config, error, error_bytes, &context);
    if (status == EEP_OK) {
        eep_close(context);
    } else {
        cr_expect_null(context, "an output was set without success");
    }
    return status;
}

Test(context_refused, a_bad_configuration_is_refused_by_field)
{
    world w;
    eep_device *device;
    char error[256];
    world_open(&w, 2, 2);
    cr_assert_eq(eep_device_open("host", 0, &device), EEP_OK);
    w.config.device = device;
    w.config.rank = 0;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        const mistake *m = &mistakes[i];
        eep_config config = w.config;
        memcpy((char *)&config + m->offset, &m->value, m->bytes);
        eep_status status = open_with(&config, error, sizeof error);
        const char *name = strcmp(m->field, "struct_bytes") == 0 ? "eep_config" : m->field;
        cr_expect_eq(status, EEP_ERR_INVALID, "%s = %lld: %s", m->field, (long long)m->value,
                     eep_strerror(status));
        cr_expect(status == EEP_OK || strstr(error, name), "%s = %lld: the text is '%s'", m->field,
                  (long long)m->value, error);
    }
    cr_expect_eq(open_with(&w.config, NULL, 0), EEP_OK, "the configuration itself is good");
    eep_device_close(device);
    world_close(&w);
}

Test(context_refused, too_few_slots_for_the_experts_are_refused)
{
    world w;
    world_open(&w, 3, 4);
    w.config.num_slots = 2;
    cr_expect_eq(rank_open(&w, 0), EEP_ERR_INVALID);
    cr_expect(strstr(w.ranks[0].error, "num_slots") && strstr(w.ranks[0].error, "8 experts"), "%s",
              w.ranks[0].error);
    world_close(&w);
}

Test(context_refused, a_store_that_does_not_answer_is_named)
{
    world w;
    world_open(&w, 1, 1);
    w.config.store_path = "/nonexistent/store";
    cr_expect_eq(rank_open(&w, 0), EEP_ERR_UNREACHABLE);
    cr_expect(strstr(w.ranks[0].error, "/nonexistent/store"), "%s", w.ranks[0].error);
    world_close(&w);
}

/* Ranks need files and a holder of their host beside a store that is elsewhere. */
Test(context_refused, a_store_without_a_place_on_this_host_is_refused)
{
    static const char *const addresses[][2] = {
        {"tcp://127.0.0.1:7000", "local=PATH"},
        {"etcd://127.0.0.1:2379", "local=PATH"},
        {"tcp://10.0.0.1:7000?local=/tmp/s", "not authenticated"},
    };
    world w;
    world_open(&w, 1, 1);
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        w.config.store_path = addresses[i][0];
        cr_expect_eq(rank_open(&w, 0), EEP_ERR_INVALID);
        cr_expect(strstr(w.ranks[0].error, addresses[i][1]), "%s", w.ranks[0].error);
    }
    world_close(&w);
}

/* Good in itself, and not what the others have. Some keep the size of a window or of its rows. */
static const mistake differences[] = {
    MISTAKE(max_ranks, 4),
    MISTAKE(num_layers, WORLD_LAYERS + 1),
    MISTAKE(num_experts, WORLD_EXPERTS - 1),
    MISTAKE(num_slots, WORLD_SLOTS + 1),
    MISTAKE(top_k, WORLD_TOPK - 1),
    MISTAKE(hidden, WORLD_HIDDEN / 2),
    MISTAKE(num_max_tokens_per_rank, WORLD_TOKENS + 1),
    MISTAKE(dtype, EEP_BF16),
    MISTAKE(fp8_dispatch, 1),
    MISTAKE(bulk, EEP_BULK_UCX),
};

Test(context_refused, a_taken_seat_and_another_shape_are_refused)
{
    world w;
    rank *second;
    world_open(&w, 2, 3);
    world_start(&w);
    second = &w.ranks[WORLD_SEATS - 1]; /* its place in the fixture, not in the instance */
    cr_assert_eq(eep_device_open("host", 0, &second->device), EEP_OK);
    eep_config config = w.config;
    config.rank = 1;
    config.device = second->device;
    cr_expect_eq(open_with(&config, second->error, sizeof second->error), EEP_ERR_SEAT_TAKEN);
    cr_expect(strstr(second->error, "holds the seat"), "%s", second->error);
    config.rank = 2;
    for (size_t i = 0; i < sizeof differences / sizeof differences[0]; i++) {
        eep_config other = config;
        memcpy((char *)&other + differences[i].offset, &differences[i].value, differences[i].bytes);
        cr_expect_eq(open_with(&other, second->error, sizeof second->error), EEP_ERR_INVALID, "%s",
                     differences[i].field);
        cr_expect(strstr(second->error, differences[i].field), "%s", second->error);
        cr_expect(strstr(second->error, " here and "), "both values: %s", second->error);
    }
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 5);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 1);
    world_check_right(&w);
    world_close(&w);
}

/* Two replicas of an expert with different bytes never get into one view. Whose weights differ from
 * those of the ranks before it is refused, and all others learn at once which rank that is. */
Test(context_refused, differing_weights_are_refused)
{
    world w;
    world_open(&w, 3, 3);
    w.config.propose_delay_us = WORLD_PATIENT_US; /* rank 0 refuses, however long it takes: */
    int32_t holders = 0, refused = 0;             /* whom it refuses would find that out itself */
    for (int32_t seat = 0; seat < 3; seat++) {
        w.ranks[seat].heavier = (float)seat;
        cr_assert_eq(rank_open(&w, seat), EEP_OK, "%s", w.ranks[seat].error);
        for (int32_t slot = 0; slot < WORLD_SLOTS; slot++) {
            holders += eep_slot_expert(w.ranks[seat].context, 1, slot) == 3;
        }
    }
    cr_assert_geq(holders, 2);
    for (int32_t seat = 0; seat < 3; seat++) {
        rank_run(&w.ranks[seat]);
    }
    for (int32_t seat = 0; seat < 3; seat++) {
        const rank *r = &w.ranks[seat];
        WORLD_WAIT(&w, r->join_status != EEP_OK);
        cr_expect(r->join_status == EEP_ERR_UNCOVERED || r->join_status == EEP_ERR_CHECKSUM, "%s",
                  eep_strerror(r->join_status));
        refused += r->join_status == EEP_ERR_CHECKSUM;
        cr_expect(strstr(r->text, "layer 1 expert 3"), "rank %d: %s", seat, r->text);
    }
    cr_expect_eq(refused, 1, "%d ranks were refused", refused);
    world_close(&w);
}

/* A process with other weights is told so, and those who serve do not notice. */
Test(context_refused, a_late_joiner_with_other_weights_is_told_why)
{
    world w;
    rank *late;
    world_open(&w, 3, 4);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    late = &w.ranks[3];
    late->heavier = 2;
    cr_assert_eq(rank_open(&w, 3), EEP_OK, "%s", late->error);
    rank_run(late);
    WORLD_WAIT(&w, late->join_status != EEP_OK);
    cr_expect_eq(late->join_status, EEP_ERR_CHECKSUM, "%s", eep_strerror(late->join_status));
    cr_expect(strstr(late->text, "layer 1 expert 3"), "%s", late->text);
    world_advance(&w, 0, 2, 5);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 2);
    world_check_right(&w);
    world_close(&w);
}
