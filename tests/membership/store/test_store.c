/* SPDX-License-Identifier: Apache-2.0 */
/* The store through its socket: what clients are promised. */
#include "tests/lib/store_fixture.h"

#include <pthread.h>

TestSuite(store, .init = make_directory, .fini = remove_directory, .timeout = 90);

/* ---------------------------------------------------------------- requests */

Test(store, get_put_remove)
{
    eep_store *store = open_store();
    eepi_store_client *client = open_client();
    cr_assert_eq(wait_for(client, eepi_store_get(client, "a")).status, EEP_ERR_NOT_FOUND);
    uint64_t first = put(client, "a", "one"), second = put(client, "a", "two");
    cr_assert_lt(first, second);
    eepi_store_reply reply = wait_for(client, eepi_store_get(client, "a"));
    cr_assert_eq(reply.status, EEP_OK);
    cr_assert_eq(reply.revision, second);
    cr_assert_str_eq(reply.key, "a");
    cr_assert_str_eq(reply.value, "two");
    cr_assert_eq(reply.size, 4);
    cr_assert_eq(wait_for(client, eepi_store_put(client, "empty", NULL, 0, 0)).status, EEP_OK);
    reply = wait_for(client, eepi_store_get(client, "empty"));
    cr_assert(reply.status == EEP_OK && reply.revision > second && reply.size == 0);
    cr_assert_eq(wait_for(client, eepi_store_remove(client, "a")).status, EEP_OK);
    cr_assert_eq(wait_for(client, eepi_store_remove(client, "a")).status, EEP_ERR_NOT_FOUND);
    cr_assert_eq(wait_for(client, eepi_store_get(client, "a")).status, EEP_ERR_NOT_FOUND);
    eepi_store_client_close(client);
    eep_store_close(store);
    cr_assert_neq(access(path, F_OK), 0, "the socket file is removed");
}

Test(store, refuses_bad_requests_with_a_reply)
{
    eep_store *store = open_store();
    eepi_store_client *client = open_client();
    char key[EEPI_STORE_KEY_MAX + 1] = {0};
    eepi_store_reply reply;
    memset(key, 'k', EEPI_STORE_KEY_MAX);
    cr_assert_eq(wait_for(client, eepi_store_get(client, key)).status, EEP_ERR_INVALID);
    cr_assert_eq(wait_for(client, eepi_store_watch(client, key)).status, EEP_ERR_INVALID);
    key[EEPI_STORE_KEY_MAX - 1] = '\0';
    cr_assert_eq(wait_for(client, eepi_store_get(client, key)).status, EEP_ERR_NOT_FOUND);
    cr_assert_eq(wait_for(client, eepi_store_put(client, "", "x", 1, 0)).status, EEP_ERR_INVALID);
    cr_assert_eq(wait_for(client, eepi_store_put(client, "k", "x", 1, 1)).status, EEP_ERR_STATE,
                 "leased without a lease");
    cr_assert_eq(wait_for(client, eepi_store_lease(client, 0)).status, EEP_ERR_INVALID);
    cr_assert_eq(eepi_store_client_wait(client, 12345, BOUND_US, &reply), EEP_ERR_INVALID);
    eepi_store_client_close(client);
    eep_store_close(store);
}

Test(store, a_conflict_carries_the_present_value)
{
    eep_store *store = open_store();
    eepi_store_client *client = open_client();
    eepi_store_reply reply = wait_for(client, eepi_store_cas(client, "a", 7, "x", 2));
    cr_assert(reply.status == EEP_ERR_CONFLICT && reply.revision == 0 && reply.size == 0);
    reply = wait_for(client, eepi_store_cas(client, "a", 0, "one", 4));
    cr_assert_eq(reply.status, EEP_OK);
    uint64_t first = reply.revision;
    reply = wait_for(client, eepi_store_cas(client, "a", 0, "two", 4));
    cr_assert(reply.status == EEP_ERR_CONFLICT && reply.revision == first);
    cr_assert_str_eq(reply.value, "one");
    cr_assert_eq(wait_for(client, eepi_store_cas(client, "a", first, "two", 4)).status, EEP_OK);
    eepi_store_client_close(client);
    eep_store_close(store);
}

Test(store, lists_a_prefix_in_order)
{
    eep_store *store = open_store();
    eepi_store_client *client = open_client();
    put(client, "b/2", "four");
    put(client, "a/1", "one");
    put(client, "b/10", "three");
    put(client, "b", "two");
    put(client, "c", "five");
    uint64_t id = eepi_store_list(client, "b");
    expect(client, EEPI_STORE_ENTRY, "b", "two");
    expect(client, EEPI_STORE_ENTRY, "b/10", "three");
    expect(client, EEPI_STORE_ENTRY, "b/2", "four");
    eepi_store_reply reply = next(client);
    cr_assert(reply.kind == EEPI_STORE_REPLY && reply.id == id && reply.status == EEP_OK);
    eepi_store_client_close(client);
    eep_store_close(store);
}

Test(store, big_values_arrive_whole_and_aligned)
{
    static const size_t sizes[] = {2 * MB, EEPI_STORE_VALUE_MAX, 2 * MB + 3};
    eep_store *store = open_store();
    eepi_store_client *writer = open_client(), *watcher = open_client();
    unsigned char *bytes = malloc(EEPI_STORE_VALUE_MAX + 1);
    cr_assert_not_null(bytes);
    for (size_t i = 0; i < EEPI_STORE_VALUE_MAX; i++) {
        bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    }
    watch_all(watcher);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t id = eepi_store_put(writer, "big", bytes, sizes[i], 0);
        eepi_store_reply reply = wait_for(writer, id);
        cr_assert_eq(reply.status, EEP_OK);
        reply = next(watcher);
        cr_assert(reply.kind == EEPI_STORE_CHANGED && reply.size == sizes[i]);
        cr_assert_eq(memcmp(reply.value, bytes, sizes[i]), 0);
        cr_assert_eq((uintptr_t)reply.value % 8, 0);
    }
    cr_assert_eq(
        wait_for(writer, eepi_store_put(writer, "big", bytes, EEPI_STORE_VALUE_MAX + 1, 0)).status,
        EEP_ERR_INVALID);
    free(bytes);
    eepi_store_client_close(writer);
    eepi_store_client_close(watcher);
    eep_store_close(store);
}

/* ---------------------------------------------------------------- watches and races */

Test(store, a_watch_misses_none_and_doubles_none)
{
    eep_store *store = open_store();
    eepi_store_client *writer = open_client(), *watcher = open_client();
    uint64_t revision = 0;
    put(writer, "w/old", "0");
    put(writer, "x", "not watched");
    uint64_t id = eepi_store_watch(watcher, "w/");
    uint64_t again = eepi_store_watch(watcher, "w/n"); /* overlaps; still one event a write */
    expect(watcher, EEPI_STORE_ENTRY, "w/old", "0");
    cr_assert_eq(next(watcher).id, id);
    cr_assert_eq(next(watcher).id, again);
    for (uint32_t i = 0; i < 2000; i++) { /* many in flight at once */
        (void)eepi_store_put(writer, i % 3 ? "w/n" : "x", &i, sizeof i, 0);
    }
    uint64_t last = eepi_store_remove(writer, "w/n");
    cr_assert_eq(wait_for(writer, last).status, EEP_OK);
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t got;
        if (i % 3 == 0) {
            continue;
        }
        eepi_store_reply reply = next(watcher);
        cr_assert(reply.kind == EEPI_STORE_CHANGED && reply.size == sizeof got);
        memcpy(&got, reply.value, sizeof got);
        cr_assert_eq(got, i);
        cr_assert_gt(reply.revision, revision);
        revision = reply.revision;
    }
    eepi_store_reply reply = next(watcher);
    cr_assert(reply.kind == EEPI_STORE_CHANGED && reply.revision == 0 && reply.size == 0);
    cr_assert_str_eq(reply.key, "w/n");
    cr_assert_eq(eepi_store_client_next(watcher, &reply), EEP_ERR_TIMEOUT);
    eepi_store_client_close(writer);
    eepi_store_client_close(watcher);
    eep_store_close(store);
}

enum { NUM_ROUNDS = 200 };

typedef struct racer {
    eepi_store_client *client;
    pthread_barrier_t *barrier;
    uint64_t revision[NUM_ROUNDS]; /* after each round */
    bool won[NUM_ROUNDS];
    char mark;
    char present[NUM_ROUNDS]; /* the value after each round */
} racer;

static void *race(void *argument)
{
    racer *self = argument;
    uint64_t expected = 0;
    for (int i = 0; i < NUM_ROUNDS; i++) {
        eepi_store_reply reply;
        pthread_barrier_wait(self->barrier);
        uint64_t id = eepi_store_cas(self->client, "r", expected, &self->mark, 1);
        if (eepi_store_client_wait(self->client, id, BOUND_US, &reply) != EEP_OK) {
            abort();
        }
        self->won[i] = reply.status == EEP_OK;
        self->present[i] = self->won[i] ? self->mark : *(const char *)reply.value;
        expected = self->revision[i] = reply.revision;
    }
    return NULL;
}

Test(store, of_two_racing_cas_exactly_one_wins)
{
    eep_store *store = open_store();
    static racer racers[2];
    pthread_barrier_t barrier;
    pthread_t thread[2];
    pthread_barrier_init(&barrier, NULL, 2);
    for (int i = 0; i < 2; i++) {
        racers[i].client = open_client();
        racers[i].barrier = &barrier;
        racers[i].mark = "AB"[i];
        cr_assert_eq(pthread_create(&thread[i], NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
        eepi_store_client_close(racers[i].client);
    }
    for (int i = 0; i < NUM_ROUNDS; i++) {
        cr_assert_neq(racers[0].won[i], racers[1].won[i], "round %d", i);
        cr_assert_eq(racers[0].revision[i], racers[1].revision[i], "round %d", i);
        cr_assert_eq(racers[0].present[i], racers[1].present[i], "round %d", i);
    }
    pthread_barrier_destroy(&barrier);
    eep_store_close(store);
}

/* ---------------------------------------------------------------- leases */

Test(store, a_leased_key_lives_by_keep_alives_and_vanishes_without)
{
    eep_store *store = open_store();
    eepi_store_client *holder = open_client(), *watcher = open_client();
    eepi_store_reply reply;
    uint64_t ttl_us = 6 * SHORT_TTL_US, end_us = eepi_now_us() + 2 * ttl_us;
    watch_all(watcher);
    cr_assert_eq(wait_for(holder, eepi_store_lease(holder, ttl_us)).status, EEP_OK);
    cr_assert_eq(wait_for(holder, eepi_store_put(holder, "l", "x", 2, 1)).status, EEP_OK);
    expect(watcher, EEPI_STORE_CHANGED, "l", "x");
    while (eepi_now_us() < end_us) {
        cr_assert_eq(eepi_store_client_next(holder, &reply), EEP_ERR_TIMEOUT);
        cr_assert_eq(eepi_store_client_next(watcher, &reply), EEP_ERR_TIMEOUT);
        poll(NULL, 0, 5);
    }
    expect(watcher, EEPI_STORE_CHANGED, "l", NULL); /* nobody calls next for the holder */
    eepi_store_client_close(holder);
    eepi_store_client_close(watcher);
    eep_store_close(store);
}

Test(store, an_orderly_close_ends_the_lease_at_once)
{
    eep_store *store = open_store();
    eepi_store_client *holder = open_client(), *watcher = open_client();
    watch_all(watcher);
    (void)eepi_store_lease(holder, LONG_TTL_US);
    (void)eepi_store_put(holder, "l/1", "x", 2, 1);
    (void)eepi_store_put(holder, "l/2", "x", 2, 1);
    (void)eepi_store_put(holder, "stays", "x", 2, 0);
    eepi_store_client_close(holder);
    expect(watcher, EEPI_STORE_CHANGED, "l/1", "x");
    expect(watcher, EEPI_STORE_CHANGED, "l/2", "x");
    expect(watcher, EEPI_STORE_CHANGED, "stays", "x");
    expect(watcher, EEPI_STORE_CHANGED, "l/1", NULL);
    expect(watcher, EEPI_STORE_CHANGED, "l/2", NULL);
    eepi_store_client_close(watcher);
    eep_store_close(store);
}

Test(store, a_killed_holder_loses_its_key_after_the_ttl)
{
    pid_t server = fork_store();
    eepi_store_client *watcher = open_client();
    watch_all(watcher);
    pid_t child = fork();
    if (child == 0) {
        eepi_store_client *holder = NULL;
        if (eepi_store_client_open(path, BOUND_US, &holder) == EEP_OK) {
            (void)eepi_store_lease(holder, SHORT_TTL_US);
            (void)eepi_store_put(holder, "l", "x", 2, 1);
        }
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            pause();
        }
    }
    cr_assert_gt(child, 0);
    expect(watcher, EEPI_STORE_CHANGED, "l", "x");
    uint64_t start_us = eepi_now_us();
    kill_child(child);
    expect(watcher, EEPI_STORE_CHANGED, "l", NULL);
    cr_assert_lt(eepi_now_us() - start_us, BOUND_US);
    eepi_store_client_close(watcher);
    kill_child(server);
}

Test(store, a_broken_connection_keeps_the_lease_and_the_watch)
{
    eep_store *store = open_store();
    eepi_store_client *client = open_client();
    cr_assert_eq(wait_for(client, eepi_store_lease(client, LONG_TTL_US)).status, EEP_OK);
    watch_all(client);
    (void)eepi_store_put(client, "l", "x", 2, 1);
    expect(client, EEPI_STORE_CHANGED, "l", "x");
    cr_assert_eq(next(client).kind, EEPI_STORE_REPLY);
    shutdown(eepi_store_client_fd(client), SHUT_RDWR);
    expect(client, EEPI_STORE_DISCONNECTED, "", NULL);
    expect(client, EEPI_STORE_ENTRY, "l", "x");
    expect(client, EEPI_STORE_RECONNECTED, "", NULL);
    eepi_store_client *other = open_client();
    put(other, "m", "y");
    expect(client, EEPI_STORE_CHANGED, "m", "y");
    watch_all(other);
    eepi_store_client_close(client); /* the lease is the same one: its key goes with it */
    expect(other, EEPI_STORE_ENTRY, "l", "x");
    expect(other, EEPI_STORE_ENTRY, "m", "y");
    expect(other, EEPI_STORE_CHANGED, "l", NULL);
    eepi_store_client_close(other);
    eep_store_close(store);
}
