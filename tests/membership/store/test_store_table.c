/* SPDX-License-Identifier: Apache-2.0 */
/* The store without its socket: the table against a trivially simple model, the wire format
 * against mutated and cut streams. EEP_TEST_SEED replays a random run. */
#include "membership/store/store_client.h"
#include "membership/store/store_table.h"
#include "membership/store/store_wire.h"
#include "experiments/base/random.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t seed_of_run(void)
{
    const char *text = getenv("EEP_TEST_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return text ? strtoull(text, NULL, 0) : (uint64_t)now.tv_nsec * 1000003 + (uint64_t)now.tv_sec;
}

/* ---------------------------------------------------------------- table against a model */

enum { NUM_KEYS = 24, NUM_LEASES = 5, NUM_STEPS = 20000 };

/* The model keeps them in key order: numbers in keys have two digits. */
typedef struct model_key {
    char key[8];
    uint64_t revision, lease; /* revision 0: not there */
    uint64_t number;          /* its value */
} model_key;

typedef struct model {
    model_key key[NUM_KEYS];
    model_key mirror[NUM_KEYS];            /* what the table's change function told */
    uint64_t lease_end_us[NUM_LEASES + 1]; /* 0: no such lease */
    uint64_t revision, now_us;
    size_t num_changes_told, num_changes;
} model;

static int key_index(const model *m, const char *key)
{
    for (int i = 0; i < NUM_KEYS; i++) {
        if (strcmp(m->key[i].key, key) == 0) {
            return i;
        }
    }
    return -1;
}

static void mirror_change(void *user, const char *key, uint64_t revision, eepi_store_value *value)
{
    model *m = user;
    int i = key_index(m, key);
    m->num_changes_told++;
    m->mirror[i].revision = revision;
    if (value) {
        memcpy(&m->mirror[i].number, value->bytes, sizeof(uint64_t));
    }
}

static eep_status model_put(model *m, model_key *k, uint64_t number, uint64_t lease)
{
    if (lease && !m->lease_end_us[lease]) {
        return EEP_ERR_STATE;
    }
    k->revision = ++m->revision;
    k->lease = lease;
    k->number = number;
    m->num_changes++;
    return EEP_OK;
}

static eep_status model_remove(model *m, model_key *k)
{
    if (!k->revision) {
        return EEP_ERR_NOT_FOUND;
    }
    k->revision = 0;
    m->revision++;
    m->num_changes++;
    return EEP_OK;
}

static void model_revoke(model *m, uint64_t lease)
{
    if (!m->lease_end_us[lease]) {
        return;
    }
    m->lease_end_us[lease] = 0;
    for (int i = 0; i < NUM_KEYS; i++) {
        if (m->key[i].revision && m->key[i].lease == lease) {
            (void)model_remove(m, &m->key[i]);
        }
    }
}

typedef struct cursor {
    const model *m;
    int next;
    bool same;
} cursor;

static void compare_entry(void *user, const char *key, uint64_t revision, eepi_store_value *value)
{
    cursor *c = user;
    while (c->next < NUM_KEYS && !c->m->key[c->next].revision) {
        c->next++;
    }
    if (c->next == NUM_KEYS) {
        c->same = false;
        return;
    }
    const model_key *k = &c->m->key[c->next++];
    c->same &= strcmp(key, k->key) == 0 && revision == k->revision &&
               memcmp(value->bytes, &k->number, sizeof(uint64_t)) == 0;
}

static bool same_state(const eepi_store_table *table, const model *m)
{
    cursor c = {.m = m, .same = true};
    size_t num_keys = 0;
    eepi_store_table_list(table, "", compare_entry, &c);
    for (int i = 0; i < NUM_KEYS; i++) {
        const model_key *k = &m->key[i], *told = &m->mirror[i];
        num_keys += k->revision != 0;
        c.same &= k->revision == told->revision && (!k->revision || k->number == told->number);
    }
    return c.same && num_keys == eepi_store_table_num_keys(table) &&
           m->num_changes == m->num_changes_told;
}

/* One random operation on both; false: they answered differently. */
static bool one_step(eepi_store_table *table, model *m, uint64_t *random_io)
{
    model_key *k = &m->key[random_next(random_io) % NUM_KEYS];
    uint64_t number = random_next(random_io), lease = 1 + random_next(random_io) % NUM_LEASES;
    uint64_t revision = 0, next_us = UINT64_MAX, expected = number % 4 ? k->revision : number % 64;
    eepi_store_value *value = eepi_store_value_new(&number, sizeof number), *present = NULL;
    eep_status got = EEP_OK, want = EEP_OK;
    cr_assert_not_null(value);
    switch (random_next(random_io) % 8) {
    case 0:
        got = eepi_store_table_put(table, k->key, value, 0, &revision);
        want = model_put(m, k, number, 0);
        break;
    case 1:
        got = eepi_store_table_put(table, k->key, value, lease, &revision);
        want = model_put(m, k, number, lease);
        break;
    case 2:
        got = eepi_store_table_cas(table, k->key, expected, value, &revision);
        want = expected == k->revision ? model_put(m, k, number, 0) : EEP_ERR_CONFLICT;
        break;
    case 3:
        got = eepi_store_table_remove(table, k->key);
        want = model_remove(m, k);
        break;
    case 4:
        got = eepi_store_table_lease(table, lease, 100 * (1 + number % 9) + lease, m->now_us);
        m->lease_end_us[lease] = m->now_us + 100 * (1 + number % 9) + lease;
        break;
    case 5:
        if (number % 4 == 0) {
            eepi_store_table_revoke(table, lease);
            model_revoke(m, lease);
        }
        break;
    case 6:
        got = eepi_store_table_get(table, k->key, &revision, &present);
        want = k->revision ? EEP_OK : EEP_ERR_NOT_FOUND;
        break;
    case 7:
        m->now_us += number % 2 ? 100 : 1;
        for (uint64_t i = 1; i <= NUM_LEASES; i++) {
            if (m->lease_end_us[i] && m->lease_end_us[i] <= m->now_us) {
                model_revoke(m, i);
            }
        }
        (void)eepi_store_table_expire(table, m->now_us);
        break;
    }
    eepi_store_value_release(value);
    for (uint64_t i = 1; i <= NUM_LEASES; i++) {
        if (m->lease_end_us[i] && m->lease_end_us[i] < next_us) {
            next_us = m->lease_end_us[i];
        }
    }
    return got == want && (!revision || revision == k->revision) &&
           next_us == eepi_store_table_next_expiry(table);
}

Test(store_table, agrees_with_a_simple_model)
{
    const eepi_store_limits limits = {.max_keys = 100, .max_leases = 10, .max_bytes = 10000};
    uint64_t seed = seed_of_run(), random = seed;
    model m = {.now_us = 1000};
    eepi_store_table *table = eepi_store_table_new(&limits, 0, mirror_change, &m);
    cr_assert_not_null(table);
    for (int i = 0; i < NUM_KEYS; i++) {
        snprintf(m.key[i].key, sizeof m.key[i].key, "%c/%02d", "ab"[i >= NUM_KEYS / 2],
                 i % (NUM_KEYS / 2));
    }
    for (int step = 0; step < NUM_STEPS; step++) {
        bool agreed = one_step(table, &m, &random);
        cr_assert(agreed && same_state(table, &m), "step %d; replay: EEP_TEST_SEED=%llu", step,
                  (unsigned long long)seed);
    }
    eepi_store_table_free(table);
}

static void count_change(void *user, const char *key, uint64_t revision, eepi_store_value *value)
{
    size_t *count = user;
    (void)key;
    (void)revision;
    (void)value;
    ++*count;
}

Test(store_table, keeps_its_limits)
{
    const eepi_store_limits limits = {.max_keys = 2, .max_leases = 1, .max_bytes = 10};
    size_t num_changes = 0;
    uint64_t revision = 0;
    eepi_store_table *table = eepi_store_table_new(&limits, 0, count_change, &num_changes);
    eepi_store_value *six = eepi_store_value_new("123456", 6);
    eepi_store_value *four = eepi_store_value_new("1234", 4);
    cr_assert(table && six && four);
    cr_assert_eq(eepi_store_table_put(table, "a", six, 0, &revision), EEP_OK);
    cr_assert_eq(eepi_store_table_put(table, "b", six, 0, &revision), EEP_ERR_NO_MEMORY);
    cr_assert_eq(eepi_store_table_put(table, "a", four, 0, &revision), EEP_OK);
    cr_assert_eq(eepi_store_table_put(table, "b", six, 0, &revision), EEP_OK);
    cr_assert_eq(eepi_store_table_remove(table, "a"), EEP_OK);
    cr_assert_eq(eepi_store_table_put(table, "c", four, 0, &revision), EEP_OK);
    cr_assert_eq(eepi_store_table_lease(table, 1, 10, 0), EEP_OK);
    cr_assert_eq(eepi_store_table_lease(table, 2, 10, 0), EEP_ERR_NO_MEMORY);
    cr_assert_eq(eepi_store_table_put(table, "c", four, 2, &revision), EEP_ERR_STATE);
    eepi_store_table_extend(table, 5);
    cr_assert_eq(eepi_store_table_next_expiry(table), 15);
    cr_assert_eq(num_changes, 5);
    eepi_store_table_free(table);
    eepi_store_value_release(six);
    eepi_store_value_release(four);
}

/* ---------------------------------------------------------------- wire */

enum { NUM_FRAMES = 200, STREAM_MAX = NUM_FRAMES * 1024 };

/* Random valid frames one after another; returns the bytes, and each frame's value size. */
static size_t random_stream(uint64_t *random_io, unsigned char *stream_out, size_t *sizes_out)
{
    static const unsigned char value[512] = "bytes of a value";
    size_t end = 0;
    for (int i = 0; i < NUM_FRAMES; i++) {
        char key[EEPI_STORE_KEY_MAX];
        size_t key_size = 1 + random_next(random_io) % (EEPI_STORE_KEY_MAX - 1);
        memset(key, 'k', key_size);
        key[key_size] = '\0';
        sizes_out[i] = random_next(random_io) % sizeof value;
        const eepi_store_message message = {.type = EEPI_STORE_MSG_PUT,
                                            .id = 1 + (uint64_t)i,
                                            .key = key,
                                            .value_size = sizes_out[i]};
        end += eepi_store_wire_encode(&message, stream_out + end);
        memcpy(stream_out + end, value, sizes_out[i]);
        end += sizes_out[i];
        memset(stream_out + end, 0, eepi_store_wire_padding(sizes_out[i]));
        end += eepi_store_wire_padding(sizes_out[i]);
    }
    return end;
}

/* Feed the stream in random pieces; returns how many messages came out before its end or a fault.
 */
static int feed(const unsigned char *stream, size_t bytes, const size_t *sizes, uint64_t *random_io)
{
    eepi_store_inbox inbox = {0};
    int num = 0;
    size_t done = 0;
    for (;;) {
        eepi_store_message message;
        eep_status status = eepi_store_inbox_next(&inbox, &message);
        if (status == EEP_OK) {
            cr_assert_lt(strlen(message.key), EEPI_STORE_KEY_MAX);
            cr_assert_leq(message.value_size, EEPI_STORE_VALUE_MAX);
            cr_assert_eq((uintptr_t)message.value % 8, 0);
            if (sizes) {
                cr_assert_eq(message.id, 1 + (uint64_t)num);
                cr_assert_eq(message.value_size, sizes[num]);
            }
            num++;
            continue;
        }
        if (status != EEP_ERR_TIMEOUT || done == bytes) {
            break;
        }
        size_t space = 0;
        void *to = eepi_store_inbox_space(&inbox, &space);
        size_t piece = 1 + random_next(random_io) % 3000;
        cr_assert_not_null(to);
        piece = piece < space ? piece : space;
        piece = piece < bytes - done ? piece : bytes - done;
        memcpy(to, stream + done, piece);
        eepi_store_inbox_filled(&inbox, piece);
        done += piece;
    }
    eepi_store_inbox_free(&inbox);
    return num;
}

Test(store_wire, a_stream_cut_anywhere_gives_the_same_messages)
{
    static unsigned char stream[STREAM_MAX];
    size_t sizes[NUM_FRAMES];
    uint64_t seed = seed_of_run(), random = seed;
    for (int i = 0; i < 20; i++) {
        size_t bytes = random_stream(&random, stream, sizes);
        cr_assert_eq(feed(stream, bytes, sizes, &random), NUM_FRAMES, "replay: EEP_TEST_SEED=%llu",
                     (unsigned long long)seed);
    }
}

/* Reads outside the inbox are for the address sanitizer to find. */
Test(store_wire, mutated_streams_never_break_a_bound)
{
    static unsigned char stream[STREAM_MAX];
    size_t sizes[NUM_FRAMES];
    uint64_t seed = seed_of_run(), random = seed;
    int num_rejected = 0;
    for (int i = 0; i < 300; i++) {
        size_t bytes = random_stream(&random, stream, sizes);
        for (int k = 0; k < 20; k++) {
            stream[random_next(&random) % bytes] = (unsigned char)random_next(&random);
        }
        num_rejected += feed(stream, bytes, NULL, &random) < NUM_FRAMES;
    }
    cr_assert_gt(num_rejected, 0, "replay: EEP_TEST_SEED=%llu", (unsigned long long)seed);
}
