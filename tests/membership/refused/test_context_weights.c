/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that cannot be right: memory that overlaps, sizes that differ, slots that are freed. The
 * suite is that of test_context_misuse.c. */
#include "tests/lib/context_fixture.h"

#include <stdio.h>
#include <string.h>

/* Two slots in the same bytes would overwrite each other's weights. */
Test(context_misuse, slots_that_overlap_are_refused)
{
    enum { BYTES = WORLD_HIDDEN * sizeof(float) };
    world w;
    void *memory;

    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_device_alloc(r->device, EEP_MEMORY_PINNED, 4 * BYTES, &memory), EEP_OK);
    uint8_t *bytes = memory;
    eep_tensor first[WORLD_TENSORS] = {{bytes, BYTES}, {bytes + BYTES, BYTES}};
    eep_tensor second[WORLD_TENSORS] = {{bytes + 2 * BYTES, BYTES}, {bytes + 2 * BYTES - 4, BYTES}};
    cr_assert_eq(eep_slot_set(r->context, 0, 1, first, WORLD_TENSORS), EEP_OK);
    cr_expect_eq(eep_slot_set(r->context, 0, 1, first, WORLD_TENSORS), EEP_OK, "the same again");
    cr_expect_eq(eep_slot_set(r->context, 1, 2, second, WORLD_TENSORS), EEP_ERR_INVALID);
    cr_expect(strstr(eep_last_error(r->context), "layer 1 slot 2") &&
                  strstr(eep_last_error(r->context), "layer 0 slot 1"),
              "%s", eep_last_error(r->context));
    first[0].bytes = BYTES / 2;
    cr_expect_eq(eep_slot_set(r->context, 0, 1, first, WORLD_TENSORS), EEP_ERR_INVALID);
    cr_expect(strstr(eep_last_error(r->context), "eep_slot_set: tensor 0 has 32 bytes, and 64"),
              "%s", eep_last_error(r->context));
    eep_device_free(r->device, EEP_MEMORY_PINNED, memory);
    world_close(&w);
}

static void expect_overlap(rank *r, eep_status status, const char *here, const char *there)
{
    cr_expect_eq(status, EEP_ERR_INVALID, "%s with %s", here, there);
    cr_expect(strstr(eep_last_error(r->context), here) && strstr(eep_last_error(r->context), there),
              "%s", eep_last_error(r->context));
}

/* No byte is given twice: not within a slot or a backup, and not by both. */
Test(context_misuse, tensors_that_overlap_are_refused_in_slots)
{
    enum { BYTES = 64, LESS = BYTES - 1 };
    static _Alignas(16) uint8_t at[8 * BYTES];
    const eep_tensor one[2] = {{at, BYTES}, {at + LESS, BYTES}};
    const eep_tensor slot[2] = {{at, BYTES}, {at + BYTES, BYTES}};
    const eep_tensor other[2] = {{at + 4 * BYTES, BYTES}, {at + 2 * BYTES, BYTES}};
    const eep_tensor beside[2] = {{at + 6 * BYTES, BYTES}, {at + 5 * BYTES, BYTES}};
    const eep_tensor both[2] = {{at + 3 * BYTES, BYTES}, {at + BYTES + LESS, BYTES}};
    const eep_tensor far_away[2] = {{at + 7 * BYTES, BYTES}, {(void *)(UINTPTR_MAX - 8), BYTES}};
    const eep_tensor none[2] = {{at, BYTES}, {at + BYTES, 0}};
    world w;

    world_open(&w, 1, 1);
    rank *r = &w.ranks[0];
    cr_assert_eq(eep_device_open("host", 0, &w.config.device), EEP_OK);
    w.config.rank = 0;
    w.config.num_experts = WORLD_SLOTS;
    cr_assert_eq(eep_open(&w.config, r->error, sizeof r->error, &r->context), EEP_OK, "%s",
                 r->error);
    eep_context *c = r->context;
    expect_overlap(r, eep_slot_set(c, 0, 0, one, 2), "tensor 1 of layer 0 slot 0", "tensor 0 of");
    expect_overlap(r, eep_slot_set(c, 0, 0, none, 2), "eep_slot_set: tensor 1 has 0 bytes", "");
    /* nothing that was refused counts, its sizes neither */
    cr_expect_eq(eep_slot_set(c, 0, 0, slot, 2), EEP_OK, "%s", eep_last_error(c));
    cr_expect_eq(eep_slot_set(c, 1, 1, other, 2), EEP_OK, "%s", eep_last_error(c));
    expect_overlap(r, eep_slot_set(c, 1, 0, other, 2), "tensor 0 of layer 1 slot 0",
                   "tensor 0 of layer 1 slot 1");
    expect_overlap(r, eep_slot_set(c, 0, 1, both, 2), "tensor 1 of layer 0 slot 1",
                   "layer 0 slot 0");
    expect_overlap(r, eep_slot_set(c, 0, 1, far_away, 2), "address space", "eep_slot_set");
    /* a refusal changed nothing; what a place has may be given to it again, or to another then */
    cr_expect_eq(eep_slot_set(c, 1, 1, other, 2), EEP_OK, "%s", eep_last_error(c));
    cr_expect_eq(eep_slot_set(c, 1, 1, beside, 2), EEP_OK, "%s", eep_last_error(c));
    cr_expect_eq(eep_slot_set(c, 1, 0, other, 2), EEP_OK, "%s", eep_last_error(c));
    /* a backup is copied: what it was copied from is its caller's */
    cr_expect_eq(eep_backup_set(c, 0, 0, other, 2), EEP_OK, "%s", eep_last_error(c));
    cr_expect_eq(eep_backup_set(c, 0, 1, one, 2), EEP_OK, "%s", eep_last_error(c));
    eep_close(c);
    r->context = NULL;
    eep_device_close(w.config.device);
    world_close(&w);
}

Test(context_misuse, backups_are_refused_where_none_are_kept)
{
    static uint8_t at[2][64];
    eep_tensor tensors[2] = {{at[0], 64}, {at[1], 64}};
    world w;

    world_open(&w, 1, 1);
    rank *r = &w.ranks[0];
    cr_assert_eq(eep_device_open("host", 0, &w.config.device), EEP_OK);
    w.config.rank = 0;
    w.config.num_experts = WORLD_SLOTS;
    w.config.backup_copies = 0;
    cr_assert_eq(eep_open(&w.config, r->error, sizeof r->error, &r->context), EEP_OK, "%s",
                 r->error);
    for (int32_t expert = 0; expert < WORLD_SLOTS; expert++) {
        cr_expect_eq(eep_backup_wanted(r->context, 0, expert), 0);
    }
    cr_expect_eq(eep_backup_set(r->context, 0, 0, tensors, 2), EEP_ERR_STATE);
    cr_expect_eq(eep_backup_alloc(r->context, 0, 0, tensors, 2), EEP_ERR_STATE);
    cr_expect_not_null(strstr(eep_last_error(r->context), "backup_copies is 0"));
    cr_expect_eq(tensors[0].data, at[0], "what fails writes nothing");
    eep_close(r->context);
    r->context = NULL;
    eep_device_close(w.config.device);
    world_close(&w);
}

/* Tensor sizes are compared before a rank is in the view, not when a repair meets them: also where
 * no expert is held twice, so that no checksum differs. */
Test(context_misuse, other_tensor_sizes_are_refused_at_the_join)
{
    static const char theirs[] = "rank 1 has tensors of 72 + 64 bytes per expert, and rank 0 of "
                                 "64 + 64: give all ranks the same";
    world w;
    rank *first, *second;
    world_open(&w, 2, 2);
    first = &w.ranks[0];
    second = &w.ranks[1];
    w.config.num_experts = 2 * WORLD_SLOTS;
    second->longer = 8;
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", first->error);
    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", second->error);
    rank_run(first);
    rank_run(second);
    WORLD_WAIT(&w, first->join_status != EEP_OK && second->join_status != EEP_OK);
    cr_expect_eq(first->join_status, EEP_ERR_UNCOVERED, "%s", eep_strerror(first->join_status));
    /* it may find that out by itself and propose nothing, before it hears that it is refused */
    cr_expect(second->join_status == EEP_ERR_CHECKSUM || second->join_status == EEP_ERR_UNCOVERED,
              "%s", eep_strerror(second->join_status));
    cr_expect(strstr(first->text, theirs), "%s", first->text);
    cr_expect(strstr(second->text, theirs), "%s", second->text);
    world_close(&w);
}

Test(context_misuse, a_late_joiner_with_other_tensor_sizes_is_told_why)
{
    world w;
    rank *late;
    world_open(&w, 1, 2);
    w.config.num_experts = WORLD_SLOTS;
    world_start(&w);
    late = &w.ranks[1];
    late->longer = 8;
    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", late->error);
    rank_run(late);
    WORLD_WAIT(&w, late->join_status != EEP_OK);
    cr_expect_eq(late->join_status, EEP_ERR_CHECKSUM, "%s", eep_strerror(late->join_status));
    cr_expect(strstr(late->text, "rank 1 has tensors of 72 + 64 bytes"), "%s", late->text);
    world_check_right(&w);
    world_close(&w);
}

/* Slots' memory that is freed too early stays until eep_close: nobody else gets it meanwhile. */
Test(context_misuse, memory_of_a_slot_that_is_freed_stays_until_the_close)
{
    enum { BYTES = 4096 };
    eep_context *context;
    eep_tensor tensors[2][2] = {{{NULL, BYTES}, {NULL, BYTES}}, {{NULL, BYTES}, {NULL, BYTES}}};
    eep_stream *stream;
    void *other[24];
    world w;

    world_open(&w, 1, 1);
    cr_assert_eq(eep_device_open("host", 0, &w.config.device), EEP_OK);
    eep_device *device = w.config.device;
    w.config.rank = 0;
    w.config.num_layers = 1;
    w.config.num_experts = w.config.num_slots = w.config.top_k = 2;
    cr_assert_eq(eep_open(&w.config, NULL, 0, &context), EEP_OK, "%s", eep_error_text());
    for (int i = 0; i < 2; i++) { /* ours, and the context's */
        cr_assert_eq(eep_device_alloc(device, EEP_MEMORY_DEVICE, BYTES, &tensors[0][i].data),
                     EEP_OK);
    }
    cr_assert_eq(eep_slot_set(context, 0, 0, tensors[0], 2), EEP_OK);
    cr_assert_eq(eep_slot_alloc(context, 0, 1, tensors[1], 2), EEP_OK);
    for (int i = 0; i < 4; i++) {
        memset(tensors[i / 2][i % 2].data, 7, BYTES);
        eep_device_free(device, EEP_MEMORY_DEVICE, tensors[i / 2][i % 2].data);
    }
    for (int i = 0; i < 16; i++) {
        cr_assert_eq(eep_device_alloc(device, EEP_MEMORY_DEVICE, BYTES, &other[i]), EEP_OK);
        for (int k = 0; k < 4; k++) {
            cr_expect_neq(other[i], tensors[k / 2][k % 2].data, "given again");
        }
    }
    for (int i = 0; i < 4; i++) {
        cr_expect_eq(*(uint8_t *)tensors[i / 2][i % 2].data, 7);
    }
    for (int i = 0; i < 2;
         i++) { /* and nobody's that gets its address later goes with the context */
        tensors[1][i].data = other[i];
    }
    cr_assert_eq(eep_slot_set(context, 0, 1, tensors[1], 2), EEP_OK);
    for (int i = 16; i < 24; i++) {
        cr_assert_eq(eep_device_alloc(device, EEP_MEMORY_DEVICE, BYTES, &other[i]), EEP_OK);
    }
    cr_assert_eq(eep_stream_open(device, &stream), EEP_OK);
    cr_assert_eq(eep_step_stream(context, stream), EEP_OK);
    cr_expect_eq(eep_join(context), EEP_OK, "%s", eep_last_error(context));
    eep_close(context);
    for (int i = 0; i < 24; i++) {
        eep_device_free(device, EEP_MEMORY_DEVICE, other[i]);
    }
    cr_expect_null(strstr(eep_error_text(), "eep_device_free"), "%s", eep_error_text());
    eep_device_free(device, EEP_MEMORY_DEVICE, other[3]); /* twice */
    cr_expect(strstr(eep_error_text(), "eep_device_free: nothing of this device begins at"), "%s",
              eep_error_text());
    eep_stream_close(stream);
    eep_device_close(device);
    world_close(&w);
}
