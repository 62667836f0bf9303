/* SPDX-License-Identifier: Apache-2.0 */
/* Backups in a node's memory: found again by others when the rank that put them there is gone, also
 * behind the end of a holder; never written once sealed; and no byte of a region is believed. */
#include "tests/lib/bulk_fixture.h"
#include "experiments/base/random.h"
#include "graphs/base/clock.h"
#include "membership/backup/backup_index.h"
#include "membership/backup/backup_memory.h"
#include "membership/backup/backups.h"
#include "repair/checksum.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LAYERS = 2, EXPERTS = 5, FIRST = 100, SECOND = 3000, INSTANCE = 7 };

static const eepi_view_shape shape = {.max_ranks = 4,
                                      .num_layers = LAYERS,
                                      .num_experts = EXPERTS,
                                      .num_slots = 2,
                                      .ranks_per_node = 2};
static int notes;
static char last_note[512];

static void note(void *user, const char *text)
{
    (void)user;
    notes++;
    snprintf(last_note, sizeof last_note, "%s", text);
}

static void set_up(void)
{
    make_blobs();
    use_carrier(EEP_BULK_SHM);
}

TestSuite(backups, .init = set_up, .fini = free_blobs);

static uint64_t wait_us; /* for the holder */

static eepi_backups *open_backups(uint64_t instance, int seat, uint32_t generation)
{
    const eepi_backups_config config = {.holder_path = bulk_fixture_holder_path(),
                                        .instance = instance,
                                        .seat = seat,
                                        .generation = generation,
                                        .shape = &shape,
                                        .wait_us = wait_us,
                                        .note = note};
    eepi_backups *b = NULL;

    cr_assert_eq(eepi_backups_open(&config, &b), EEP_OK);
    return b;
}

static unsigned char byte_of(int layer, int expert, size_t at)
{
    return (unsigned char)(31 * layer + 7 * expert + (int)at);
}

static uint64_t sum_of(int layer, int expert)
{
    unsigned char bytes[FIRST + SECOND];

    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = byte_of(layer, expert, i);
    }
    return eepi_checksum_bytes(bytes, sizeof bytes);
}

static void give(eepi_backups *b, int layer, int expert)
{
    eep_tensor tensors[EEP_MAX_TENSORS] = {{NULL, FIRST}, {NULL, SECOND}};
    char why[EEPI_BACKUP_WHY_BYTES];

    cr_assert_eq(eepi_backups_give(b, layer, expert, tensors, 2, why), EEP_OK);
    for (size_t i = 0; i < FIRST + SECOND; i++) {
        unsigned char *to = i < FIRST ? (unsigned char *)tensors[0].data + i
                                      : (unsigned char *)tensors[1].data + (i - FIRST);
        *to = byte_of(layer, expert, i);
    }
    cr_assert_eq((uintptr_t)tensors[1].data % EEPI_BACKUP_ALIGN, 0);
}

static void seal(eepi_backups *b)
{
    char why[EEPI_BACKUP_WHY_BYTES] = "";

    cr_assert_eq(eepi_backups_seal(b, why), EEP_OK, "%s", why);
}

static bool has(const eepi_backups *b, int layer, int expert)
{
    eep_tensor tensors[EEP_MAX_TENSORS];
    const int num = eepi_backups_find(b, layer, expert, sum_of(layer, expert), tensors);

    for (size_t i = 0; num > 0 && i < FIRST + SECOND; i++) {
        const unsigned char *at = i < FIRST ? (const unsigned char *)tensors[0].data + i
                                            : (const unsigned char *)tensors[1].data + (i - FIRST);
        cr_assert_eq(*at, byte_of(layer, expert, i));
    }
    return num > 0;
}

static eepi_view *view_of(uint32_t first, uint32_t second)
{
    eepi_view *view = eepi_view_new(&shape);

    cr_assert_not_null(view);
    *eepi_view_seat_at(view, 0) = (eepi_view_seat){.generation = first, .state = EEP_SEAT_ACTIVE};
    *eepi_view_seat_at(view, 1) = (eepi_view_seat){.generation = second, .state = EEP_SEAT_ACTIVE};
    for (int i = 0; i < LAYERS * EXPERTS; i++) {
        *eepi_view_checksum_at(view, i / EXPERTS, i % EXPERTS) = sum_of(i / EXPERTS, i % EXPERTS);
    }
    eepi_view_seal(view);
    return view;
}

/* Progress until it can read the expert, or cannot any more. */
static void progress_until(eepi_backups *b, int layer, int expert)
{
    const uint64_t until_us = eepi_now_us() + 20000000;

    while (!has(b, layer, expert)) {
        struct pollfd fd = {.fd = eepi_backups_fd(b), .events = POLLIN};
        cr_assert_lt(eepi_now_us(), until_us, "it is not found");
        (void)poll(&fd, 1, 1);
        (void)eepi_backups_progress(b);
    }
}

Test(backups, outlive_the_rank_that_put_them_there)
{
    eepi_backups *first = open_backups(INSTANCE, 0, 1);
    give(first, 0, 1);
    give(first, 1, 4);
    cr_expect_not(has(first, 0, 1), "not before it is sealed");
    seal(first);
    cr_expect(has(first, 0, 1) && eepi_backups_own(first, 1, 4) == sum_of(1, 4));
    eepi_backups_close(first);

    eepi_backups *second = open_backups(INSTANCE, 1, 1), *other_node = open_backups(INSTANCE, 2, 1);
    cr_expect(has(second, 0, 1) && has(second, 1, 4));
    cr_expect_not(has(second, 0, 4));
    cr_expect_not(has(other_node, 0, 1), "it is another node's");
    eep_tensor tensors[EEP_MAX_TENSORS];
    cr_expect_eq(eepi_backups_find(second, 0, 1, sum_of(0, 1) + 1, tensors), 0, "other weights");
    eepi_view *view = view_of(2, 1);
    const eepi_backups_facts facts = eepi_backups_facts_of(second, view);
    cr_expect(facts.num_regions == 1 && facts.num_retained == 1 && facts.own_bytes == 0);
    cr_expect_eq(facts.retained_bytes, facts.node_bytes);
    eepi_backups_end(second);
    eepi_backups_close(second);
    eepi_backups_close(other_node);
    second = open_backups(INSTANCE, 1, 2);
    cr_expect_not(has(second, 0, 1), "the instance has ended");
    eepi_backups_close(second);
    free(view);
    cr_expect_eq(notes, 0, "%s", last_note);
}

Test(backups, of_another_instance_are_let_go_of)
{
    eepi_backups *old = open_backups(INSTANCE, 0, 1);
    give(old, 0, 1);
    seal(old);
    eepi_backups_close(old);
    eepi_backups *young = open_backups(INSTANCE + 1, 0, 2);
    cr_expect_not(has(young, 0, 1));
    give(young, 0, 2);
    seal(young);
    old = open_backups(INSTANCE, 1, 1);
    cr_expect_not(has(old, 0, 1));
    eepi_backups_close(old);
    eepi_backups_close(young);
}

/* A holder that has bound its socket itself, so that it is no part of this process. */
static void replace_holder(void)
{
    kill_holder();
    holder_pid = fork();
    cr_assert_geq(holder_pid, 0);
    if (holder_pid == 0) {
        eepi_holder *holder = NULL;
        if (eepi_holder_open(listen_as_holder(), NULL, NULL, &holder) != EEP_OK) {
            _exit(1);
        }
        for (;;) {
            pause();
        }
    }
}

/* The holder ends behind a rank: those that live bring its memory to the next one. */
Test(backups, outlive_the_holder_while_a_rank_lives)
{
    replace_holder();
    eepi_backups *first = open_backups(INSTANCE, 0, 1), *second = open_backups(INSTANCE, 1, 1);
    eepi_view *view = view_of(1, 1);
    give(first, 0, 3);
    seal(first);
    seal(second); /* it has none */
    eepi_backups_follow(second, view);
    progress_until(second, 0, 3);
    eepi_backups_close(first);
    replace_holder();
    eepi_backups *third = NULL;
    const uint64_t until_us = eepi_now_us() + 20000000;
    for (int tries = 0; eepi_now_us() < until_us; tries++) {
        struct pollfd fd = {.fd = eepi_backups_fd(second), .events = POLLIN};
        (void)poll(&fd, 1, 1);
        (void)eepi_backups_progress(second);
        if (tries % 50 == 49) {
            third = open_backups(INSTANCE, 0, 2);
            if (has(third, 0, 3)) {
                break;
            }
            eepi_backups_close(third);
            third = NULL;
        }
    }
    cr_assert_not_null(third, "the next holder was not given it");
    eepi_backups_close(second);
    cr_expect(has(third, 0, 3));
    eepi_backups_close(third);
    free(view);
}

/* A member's memory that comes late, as behind the end of a holder, is looked for again. */
Test(backups, of_a_member_are_looked_for_until_they_are_there)
{
    eepi_backups *first = open_backups(INSTANCE, 0, 1), *second = open_backups(INSTANCE, 1, 1);
    eepi_view *view = view_of(1, 1);
    seal(second);
    eepi_backups_follow(second, view);
    for (int i = 0; i < 40; i++) {
        (void)eepi_backups_progress(second);
        poll(NULL, 0, 1);
    }
    cr_expect_not(has(second, 1, 0));
    give(first, 1, 0);
    seal(first);
    progress_until(second, 1, 0);
    eepi_backups_close(first);
    eepi_backups_close(second);
    free(view);
}

/* Memory of a process of an earlier life, with other weights, is told to be let go of. */
Test(backups, with_other_weights_than_the_view_are_let_go_of)
{
    eepi_backups *first = open_backups(INSTANCE, 0, 1);
    give(first, 0, 0);
    seal(first);
    eepi_backups_close(first);
    eepi_backups *second = open_backups(INSTANCE, 1, 1);
    cr_assert(has(second, 0, 0));
    eepi_view *view = view_of(2, 1);
    *eepi_view_checksum_at(view, 0, 0) = 99;
    eepi_view_seal(view);
    eepi_backups_follow(second, view);
    for (int i = 0; i < 50; i++) {
        (void)eepi_backups_progress(second);
        poll(NULL, 0, 1);
    }
    eepi_backups *third = open_backups(INSTANCE, 0, 3);
    cr_expect_not(has(third, 0, 0));
    eepi_backups_close(second);
    eepi_backups_close(third);
    free(view);
}

Test(backups, without_a_holder_are_the_ranks_own)
{
    kill_holder();
    wait_us = 50000;
    holder_pid = fork(); /* for the fixture: a process that it can end */
    if (holder_pid == 0) {
        pause();
        _exit(0);
    }
    eepi_backups *b = open_backups(INSTANCE, 0, 1);
    give(b, 0, 0);
    seal(b);
    cr_expect(has(b, 0, 0));
    cr_expect_geq(notes, 1);
    cr_expect_not_null(strstr(last_note, "end with it"), "%s", last_note);
    eepi_backups_close(b);
}

/* ---------------------------------------------------------------- memory */

Test(backup_memory, nobody_writes_it_once_it_is_sealed)
{
    eepi_backup_memory memory;
    const unsigned char *read_only = NULL;
    cr_assert_eq(eepi_backup_memory_open(1 << 20, &memory), EEP_OK);
    cr_assert_eq(eepi_backup_memory_grow(&memory, 10000), EEP_OK);
    unsigned char *base = memory.base;
    memset(base, 5, 10000);
    cr_assert_eq(eepi_backup_memory_map(memory.fd, memory.bytes, &read_only), EEP_ERR_PROTOCOL,
                 "not sealed");
    cr_assert_eq(eepi_backup_memory_protect(&memory), EEP_OK);
    cr_assert_eq(eepi_backup_memory_write(&memory, 0, "x", 1), EEP_OK);
    cr_assert_eq(eepi_backup_memory_seal(&memory, 10000), EEP_OK);
    cr_assert_eq(memory.base, base);
    cr_assert_eq(base[0], 'x');
    cr_assert_eq(base[9999], 5);
    cr_expect_eq(pwrite(memory.fd, "y", 1, 0), -1);
    cr_expect_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd, 0), MAP_FAILED);
    cr_expect_eq(ftruncate(memory.fd, 0), -1);
    cr_expect_eq(eepi_backup_memory_write(&memory, 0, "y", 1), EEP_ERR_SYSTEM);
    cr_assert_eq(eepi_backup_memory_map(memory.fd, memory.bytes, &read_only), EEP_OK);
    cr_expect_eq(read_only[0], 'x');
    cr_expect_eq(eepi_backup_memory_map(memory.fd, memory.bytes + 4096, &read_only),
                 EEP_ERR_PROTOCOL);
    eepi_backup_memory_unmap(read_only, memory.bytes);
    eepi_backup_memory_close(&memory);
}

Test(backup_memory, what_does_not_fit_is_refused_by_name)
{
    eepi_backup_memory memory;
    cr_assert_eq(eepi_backup_memory_open(UINT64_C(1) << 62, &memory), EEP_ERR_NO_MEMORY);
    cr_assert_eq(eepi_backup_memory_open(UINT64_MAX - 5, &memory), EEP_ERR_NO_MEMORY);
    cr_assert_eq(eepi_backup_memory_open(1 << 20, &memory), EEP_OK);
    cr_expect_eq(eepi_backup_memory_grow(&memory, (1 << 20) + 1), EEP_ERR_NO_MEMORY);
    eepi_backup_memory_close(&memory);
}

Test(backups, too_large_ones_are_refused_by_name)
{
    eepi_backups *b = open_backups(INSTANCE, 0, 1);
    const uint64_t sizes[] = {UINT64_C(1) << 45, UINT64_MAX, UINT64_MAX / 8};
    for (int i = 0; i < 3; i++) {
        eep_tensor tensors[EEP_MAX_TENSORS] = {{NULL, sizes[i]}};
        char why[EEPI_BACKUP_WHY_BYTES] = "";
        cr_expect_eq(eepi_backups_give(b, 0, 0, tensors, 1, why), EEP_ERR_NO_MEMORY);
        cr_expect_not_null(strstr(why, "no host memory"), "%s", why);
    }
    give(b, 0, 0); /* and others are not */
    eepi_backups_close(b);
}

/* ---------------------------------------------------------------- the index */

typedef struct made {
    unsigned char bytes[EEPI_BACKUP_HEAD_BYTES + 3 * (128 + 64) + 3 * sizeof(eepi_backup_entry)];
} made;

static const eepi_backup_layout layout = {.instance = INSTANCE,
                                          .num_layers = LAYERS,
                                          .num_experts = EXPERTS,
                                          .num_tensors = 2,
                                          .tensor_bytes = {100, 60}};

static void make(made *to)
{
    eepi_backup_entry entries[3] = {{1, 2, EEPI_BACKUP_HEAD_BYTES, 11},
                                    {0, 4, EEPI_BACKUP_HEAD_BYTES + 192, 12},
                                    {0, 1, EEPI_BACKUP_HEAD_BYTES + 384, 13}};
    const eepi_backup_head head = eepi_backup_head_of(&layout, entries, 3);

    cr_assert_eq(head.bytes, sizeof *to);
    memset(to, 0, sizeof *to);
    memcpy(to->bytes, &head, sizeof head);
    memcpy(to->bytes + head.entries_offset, entries, sizeof entries);
}

static eep_status read_index(const made *from, uint64_t bytes, const eepi_backup_layout *expected)
{
    eepi_backup_entry *entries = NULL;
    uint64_t num = 0;
    const char *why = NULL;
    const eep_status status = eepi_backup_index_read(from, bytes, expected, &entries, &num, &why);

    if (status != EEP_OK) {
        cr_assert_not_null(why);
        return status;
    }
    for (uint64_t i = 0; i < num; i++) { /* what it says can be read without a look at its bounds */
        cr_assert(entries[i].layer >= 0 && entries[i].layer < LAYERS && entries[i].expert >= 0 &&
                  entries[i].expert < EXPERTS && entries[i].checksum != 0);
        cr_assert(entries[i].offset <= bytes - 192 && entries[i].offset >= EEPI_BACKUP_HEAD_BYTES);
        cr_assert_eq(eepi_backup_index_find(entries, num, entries[i].layer, entries[i].expert),
                     &entries[i]);
    }
    cr_assert_null(eepi_backup_index_find(entries, num, 1, 4));
    free(entries);
    return EEP_OK;
}

Test(backup_index, of_another_instance_or_shape_is_refused)
{
    made m;
    make(&m);
    eepi_backup_layout other = layout;
    cr_expect_eq(read_index(&m, sizeof m, &layout), EEP_OK);
    other.num_tensors = 0;
    memset(other.tensor_bytes, 0, sizeof other.tensor_bytes);
    cr_expect_eq(read_index(&m, sizeof m, &other), EEP_OK, "sizes are not known yet");
    other.instance++;
    cr_expect_eq(read_index(&m, sizeof m, &other), EEP_ERR_PROTOCOL);
    other = layout;
    other.tensor_bytes[1]++;
    cr_expect_eq(read_index(&m, sizeof m, &other), EEP_ERR_PROTOCOL);
    for (uint64_t bytes = 0; bytes < sizeof m; bytes++) {
        cr_assert_eq(read_index(&m, bytes, &layout), EEP_ERR_PROTOCOL);
    }
}

/* Any byte may be another, also several: it is refused, or what it says lies within the region. */
Test(backup_index, is_not_believed)
{
    uint64_t state = 20261129;
    const size_t entries_at = EEPI_BACKUP_HEAD_BYTES + 3 * 192;
    for (int round = 0; round < 20000; round++) {
        made m;
        make(&m);
        for (int changes = 1 + (int)(random_next(&state) % 3); changes > 0; changes--) {
            const size_t head = random_next(&state) % sizeof(eepi_backup_head);
            const size_t entry = entries_at + random_next(&state) % (3 * sizeof(eepi_backup_entry));
            m.bytes[random_next(&state) % 2 ? head : entry] = (unsigned char)random_next(&state);
        }
        (void)read_index(&m, sizeof m, &layout);
    }
}
