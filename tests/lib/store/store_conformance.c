/* SPDX-License-Identifier: Apache-2.0 */
/* The suite that every store must pass: registers, watches, leases, breaks. */
#include "tests/lib/store/store_suite.h"

#include <stdlib.h>

enum { TTL_US = 2000 * 1000 };

/* ---------------------------------------------------------------- all of it */

static bool a_key_has_what_was_put_last(store_suite *s, eepi_store_client *a, eepi_store_client *b)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 4096, 1 << 20};
    unsigned char *bytes = malloc(1 << 20);
    uint64_t last = 0;
    bool good = bytes != NULL;
    eepi_store_reply reply;
    TRY(suite_is_there(s, a, "r/a", NULL, 0));
    for (size_t i = 0; good && i < sizeof sizes / sizeof sizes[0]; i++) {
        memset(bytes, (int)i + 1, sizes[i]);
        good = suite_answer(s, a, eepi_store_put(a, "r/a", bytes, sizes[i], 0), &reply);
        uint64_t revision = reply.revision;
        if (good && (reply.status != EEP_OK || revision <= last)) {
            good = suite_wrong(s, "put of %zu bytes: %s", sizes[i], eep_strerror(reply.status));
        }
        good = good && suite_answer(s, b, eepi_store_get(b, "r/a"), &reply);
        if (good && (reply.revision != revision || reply.size != sizes[i] ||
                     (sizes[i] > 0 && memcmp(reply.value, bytes, sizes[i]) != 0))) {
            good = suite_wrong(s, "another client does not find the %zu bytes", sizes[i]);
        }
        last = revision;
    }
    free(bytes);
    return good;
}

static bool compare_and_swap_compares(store_suite *s, eepi_store_client *a, eepi_store_client *b)
{
    eepi_store_reply reply;
    TRY(suite_answer(s, a, eepi_store_cas(a, "r/c", 7, "x", 1), &reply));
    CHECK(s, reply.status == EEP_ERR_CONFLICT && reply.revision == 0 && reply.size == 0,
          "no key, and revision 7 was expected");
    TRY(suite_answer(s, a, eepi_store_cas(a, "r/c", 0, "one", 3), &reply));
    CHECK(s, reply.status == EEP_OK && reply.revision > 0, "no key was expected: %s",
          eep_strerror(reply.status));
    uint64_t first = reply.revision, second = 0;
    TRY(suite_answer(s, b, eepi_store_cas(b, "r/c", 0, "two", 3), &reply));
    CHECK(s,
          reply.status == EEP_ERR_CONFLICT && reply.revision == first && reply.size == 3 &&
              memcmp(reply.value, "one", 3) == 0,
          "a conflict carries the present value");
    TRY(suite_answer(s, b, eepi_store_cas(b, "r/c", first + 1, "two", 3), &reply));
    CHECK(s, reply.status == EEP_ERR_CONFLICT, "a higher revision than the key's fits");
    TRY(suite_is_there(s, a, "r/c", "one", first));
    TRY(suite_put(s, a, "r/c", "one", &second)); /* the same bytes, written again */
    TRY(suite_answer(s, b, eepi_store_cas(b, "r/c", first, "two", 3), &reply));
    CHECK(s, reply.status == EEP_ERR_CONFLICT && reply.revision == second,
          "an old revision fits the same bytes");
    TRY(suite_answer(s, b, eepi_store_cas(b, "r/c", second, "two", 3), &reply));
    CHECK(s, reply.status == EEP_OK && reply.revision > second, "the right revision does not fit");
    return suite_is_there(s, a, "r/c", "two", reply.revision);
}

static bool answers_come_in_order(store_suite *s, eepi_store_client *a, eepi_store_client *b)
{
    enum { NUM = 200 };
    uint64_t id[NUM];
    char text[16];
    (void)b;
    for (int i = 0; i < NUM; i++) {
        snprintf(text, sizeof text, "%d", i / 2);
        id[i] = i % 2 ? eepi_store_get(a, "r/o") : eepi_store_put(a, "r/o", text, strlen(text), 0);
    }
    for (int i = 0; i < NUM; i++) {
        eepi_store_reply reply;
        TRY(suite_next(s, a, &reply));
        snprintf(text, sizeof text, "%d", i / 2);
        CHECK(s, reply.kind == EEPI_STORE_REPLY && reply.id == id[i], "answer %d is another's", i);
        CHECK(s,
              i % 2 == 0 || (reply.size == strlen(text) && !memcmp(reply.value, text, reply.size)),
              "get %d does not see the put before it", i);
    }
    return true;
}

static bool bad_requests_are_answered(store_suite *s, eepi_store_client *a, eepi_store_client *b)
{
    char key[EEPI_STORE_KEY_MAX + 1] = {0};
    eepi_store_reply reply;
    (void)b;
    memset(key, 'k', EEPI_STORE_KEY_MAX);
    TRY(suite_answer(s, a, eepi_store_get(a, key), &reply));
    CHECK(s, reply.status == EEP_ERR_INVALID, "a key of %d bytes", EEPI_STORE_KEY_MAX);
    key[EEPI_STORE_KEY_MAX - 1] = '\0';
    TRY(suite_answer(s, a, eepi_store_put(a, key, "x", 1, 0), &reply));
    CHECK(s, reply.status == EEP_OK, "a key of %d bytes", EEPI_STORE_KEY_MAX - 1);
    TRY(suite_answer(s, a, eepi_store_put(a, "", "x", 1, 0), &reply));
    CHECK(s, reply.status == EEP_ERR_INVALID, "an empty key");
    return true;
}

/* ---------------------------------------------------------------- all of it */

/* ---------------------------------------------------------------- all of it */

static bool a_watch_begins_with_what_is_there(store_suite *s, eepi_store_client *a,
                                              eepi_store_client *b)
{
    uint64_t revision = 0;
    eepi_store_reply reply;
    TRY(suite_put(s, a, "w/2", "two", &revision));
    TRY(suite_put(s, a, "w/10", "one", &revision));
    TRY(suite_put(s, a, "w", "not below w/", &revision));
    uint64_t id = eepi_store_watch(b, "w/");
    TRY(suite_hears(s, b, EEPI_STORE_ENTRY, "w/10", "one"));
    TRY(suite_hears(s, b, EEPI_STORE_ENTRY, "w/2", "two"));
    TRY(suite_next(s, b, &reply));
    CHECK(s, reply.kind == EEPI_STORE_REPLY && reply.id == id && reply.status == EEP_OK,
          "no end of what is there");
    TRY(suite_put(s, a, "v", "x", &revision));
    TRY(suite_put(s, a, "w/2", "three", &revision));
    TRY(suite_hears(s, b, EEPI_STORE_CHANGED, "w/2", "three"));
    return suite_hears_nothing(s, b);
}

static bool a_watch_ends(store_suite *s, eepi_store_client *a, eepi_store_client *b)
{
    uint64_t revision = 0;
    eepi_store_reply reply;
    TRY(suite_put(s, a, "u/1", "one", &revision));
    TRY(suite_answer(s, b, eepi_store_watch(b, "u/"), &reply));
    TRY(suite_hears(s, b, EEPI_STORE_ENTRY, "u/1", "one"));
    TRY(suite_answer(s, b, eepi_store_watch(b, "uu/"), &reply));
    TRY(suite_answer(s, b, eepi_store_unwatch(b, "u/"), &reply));
    CHECK(s, reply.status == EEP_OK, "unwatch: %s", eep_strerror(reply.status));
    TRY(suite_put(s, a, "u/1", "two", &revision));
    TRY(suite_put(s, a, "uu/1", "three", &revision));
    TRY(suite_hears(s, b, EEPI_STORE_CHANGED, "uu/1", "three"));
    TRY(suite_answer(s, b, eepi_store_unwatch(b, "never/"), &reply));
    CHECK(s, reply.status == EEP_OK, "a prefix that is not watched: %s",
          eep_strerror(reply.status));
    TRY(suite_answer(s, b, eepi_store_watch(b, "u/"), &reply));
    TRY(suite_hears(s, b, EEPI_STORE_ENTRY, "u/1", "two"));
    TRY(suite_put(s, a, "u/2", "four", &revision));
    TRY(suite_hears(s, b, EEPI_STORE_CHANGED, "u/2", "four"));
    return suite_hears_nothing(s, b);
}

static bool removed_keys_are_gone(store_suite *s, eepi_store_client *a, eepi_store_client *b)
{
    uint64_t first = 0, second = 0;
    eepi_store_reply reply;
    TRY(suite_put(s, a, "l/2", "x", &second));
    TRY(suite_put(s, a, "l/1", "x", &first));
    TRY(suite_answer(s, b, eepi_store_watch(b, "l/"), &reply));
    TRY(suite_hears(s, b, EEPI_STORE_ENTRY, "l/1", "x"));
    TRY(suite_hears(s, b, EEPI_STORE_ENTRY, "l/2", "x"));
    TRY(suite_answer(s, a, eepi_store_remove(a, "l/1"), &reply));
    CHECK(s, reply.status == EEP_OK, "remove: %s", eep_strerror(reply.status));
    TRY(suite_hears(s, b, EEPI_STORE_CHANGED, "l/1", NULL));
    TRY(suite_answer(s, a, eepi_store_remove(a, "l/1"), &reply));
    CHECK(s, reply.status == EEP_ERR_NOT_FOUND, "removed twice");
    TRY(suite_answer(s, a, eepi_store_cas(a, "l/1", first, "y", 1), &reply));
    CHECK(s, reply.status == EEP_ERR_CONFLICT && reply.revision == 0,
          "a removed key's revision fits");
    TRY(suite_is_there(s, a, "l/1", NULL, 0));
    uint64_t id = eepi_store_list(a, "l");
    TRY(suite_hears(s, a, EEPI_STORE_ENTRY, "l/2", "x"));
    TRY(suite_next(s, a, &reply));
    CHECK(s, reply.kind == EEPI_STORE_REPLY && reply.id == id, "a list without an end");
    return suite_put(s, a, "l/1", "z", &second) && second > first;
}

/* ---------------------------------------------------------------- all of it */

/* They do while the holder's owner looks after it. *ended_out: they have ended, since the machine
 * kept us from that for a time. */
static bool keys_live(store_suite *s, eepi_store_client *holder, eepi_store_client *b,
                      bool *ended_out)
{
    eepi_store_reply reply;
    uint64_t last_us = suite_now_us(s), away_us = 0;
    for (uint64_t end_us = last_us + 2 * TTL_US; last_us < end_us && !*ended_out; suite_pass(s)) {
        const uint64_t now_us = suite_now_us(s);
        away_us = now_us - last_us > away_us ? now_us - last_us : away_us;
        last_us = now_us;
        CHECK(s, eepi_store_client_next(holder, &reply) == EEP_ERR_TIMEOUT, "event %d", reply.kind);
        *ended_out = eepi_store_client_next(b, &reply) != EEP_ERR_TIMEOUT;
        CHECK(s, !*ended_out || away_us > TTL_US / 4, "its keys do not live");
    }
    return true;
}

static bool leased_keys_live_with_their_client(store_suite *s, eepi_store_client *a,
                                               eepi_store_client *b)
{
    bool ended = false;
    eepi_store_client *holder = NULL;
    eepi_store_reply reply;
    TRY(suite_answer(s, a, eepi_store_put(a, "e/1", "x", 1, 1), &reply));
    CHECK(s, reply.status == EEP_ERR_STATE, "leased without a lease");
    TRY(suite_open_client(s, &holder));
    TRY(suite_answer(s, b, eepi_store_watch(b, "e/"), &reply));
    TRY(suite_answer(s, holder, eepi_store_lease(holder, TTL_US), &reply));
    TRY(suite_answer(s, holder, eepi_store_put(holder, "e/1", "x", 1, 1), &reply));
    TRY(suite_hears(s, b, EEPI_STORE_CHANGED, "e/1", "x"));
    TRY(keys_live(s, holder, b, &ended));
    if (!ended) { /* nobody calls next for the holder */
        TRY(suite_hears(s, b, EEPI_STORE_CHANGED, "e/1", NULL));
    }
    TRY(suite_answer(s, holder, eepi_store_put(holder, "e/2", "x", 1, 1), &reply));
    TRY(suite_hears(s, b, EEPI_STORE_CHANGED, "e/2", "x"));
    TRY(suite_answer(s, holder, eepi_store_put(holder, "e/3", "x", 1, 1), &reply));
    TRY(suite_answer(s, holder, eepi_store_put(holder, "e/3", "stays", 5, 0), &reply));
    TRY(suite_hears(s, b, EEPI_STORE_CHANGED, "e/3", "x"));
    TRY(suite_hears(s, b, EEPI_STORE_CHANGED, "e/3", "stays"));
    eepi_store_client_close(holder);
    TRY(suite_hears(s, b, EEPI_STORE_CHANGED, "e/2", NULL));
    return suite_hears_nothing(s, b);
}

/* ---------------------------------------------------------------- all of it */

/* Requests under way are answered, if only with "unknown", after DISCONNECTED. */
static bool hears_of_break(store_suite *s, eepi_store_client *client, const uint64_t *id, int num)
{
    int at = 0;
    bool broken = false;
    while (at < num || !broken) {
        eepi_store_reply reply;
        TRY(suite_next(s, client, &reply));
        if (reply.kind == EEPI_STORE_DISCONNECTED) {
            CHECK(s, !broken, "disconnected twice");
            broken = true;
        } else if (reply.kind == EEPI_STORE_REPLY) {
            CHECK(s, at < num && reply.id == id[at++], "another answer");
            CHECK(s, (reply.status == EEP_ERR_UNREACHABLE) == broken, "answered with: %s",
                  eep_strerror(reply.status));
        } else {
            CHECK(s, !broken && reply.kind == EEPI_STORE_CHANGED, "event %d", reply.kind);
        }
    }
    return true;
}

static bool a_cut_connection_comes_back(store_suite *s, eepi_store_client *a, eepi_store_client *b)
{
    uint64_t revision = 0, id[2];
    eepi_store_reply reply;
    TRY(suite_put(s, a, "b/1", "x", &revision));
    TRY(suite_answer(s, b, eepi_store_watch(b, "b/"), &reply));
    TRY(suite_hears(s, b, EEPI_STORE_ENTRY, "b/1", "x"));
    id[0] = eepi_store_get(b, "b/1");
    s->world->cut(s->world->user, b);
    TRY(suite_put(s, a, "b/2", "meanwhile", &revision));
    TRY(hears_of_break(s, b, id, 1));
    TRY(suite_hears(s, b, EEPI_STORE_ENTRY, "b/1", "x"));
    TRY(suite_hears(s, b, EEPI_STORE_ENTRY, "b/2", "meanwhile"));
    TRY(suite_hears(s, b, EEPI_STORE_RECONNECTED, "", NULL));
    TRY(suite_put(s, a, "b/3", "later", &revision));
    TRY(suite_hears(s, b, EEPI_STORE_CHANGED, "b/3", "later"));
    return suite_is_there(s, b, "b/3", "later", revision);
}

static bool a_restart_is_told(store_suite *s, eepi_store_client *a, eepi_store_client *b)
{
    uint64_t before = 0, after = 0;
    eepi_store_reply reply;
    TRY(suite_put(s, a, "s/1", "x", &before));
    TRY(suite_answer(s, b, eepi_store_watch(b, "s/"), &reply));
    TRY(suite_hears(s, b, EEPI_STORE_ENTRY, "s/1", "x"));
    if (!s->world->forgets) { /* who neither watches nor asks has nothing to do again */
        TRY(suite_answer(s, a, eepi_store_watch(a, "sa/"), &reply));
    }
    s->world->restart(s->world->user);
    TRY(hears_of_break(s, a, NULL, 0));
    TRY(hears_of_break(s, b, NULL, 0));
    if (!s->world->forgets) {
        TRY(suite_hears(s, b, EEPI_STORE_ENTRY, "s/1", "x"));
    }
    TRY(suite_hears(s, a, EEPI_STORE_RECONNECTED, "", NULL));
    TRY(suite_hears(s, b, EEPI_STORE_RECONNECTED, "", NULL));
    TRY(suite_is_there(s, a, "s/1", s->world->forgets ? NULL : "x", before));
    if (s->world->forgets) {
        TRY(suite_answer(s, a, eepi_store_cas(a, "s/1", before, "y", 1), &reply));
        CHECK(s, reply.status == EEP_ERR_CONFLICT, "a forgotten key's revision fits");
    }
    TRY(suite_put(s, a, "s/2", "new", &after));
    CHECK(s, after > before, "revisions begin again");
    return suite_hears(s, b, EEPI_STORE_CHANGED, "s/2", "new");
}

/* ---------------------------------------------------------------- all of it */

typedef struct conformance_case {
    const char *name;
    bool (*run)(store_suite *s, eepi_store_client *a, eepi_store_client *b);
    enum { ALWAYS, LISTS, LEASES, CUTS, RESTARTS } where;
} conformance_case;

static const conformance_case cases[] = {
    {"a key has what was put last", a_key_has_what_was_put_last, ALWAYS},
    {"compare-and-swap compares", compare_and_swap_compares, ALWAYS},
    {"answers come in order", answers_come_in_order, ALWAYS},
    {"bad requests are answered", bad_requests_are_answered, ALWAYS},
    {"a watch begins with what is there", a_watch_begins_with_what_is_there, ALWAYS},
    {"a watch ends", a_watch_ends, ALWAYS},
    {"histories are linear, watchers see each change once", suite_histories_are_linear, ALWAYS},
    {"removed keys are gone", removed_keys_are_gone, LISTS},
    {"leased keys live with their client", leased_keys_live_with_their_client, LEASES},
    {"a cut connection comes back", a_cut_connection_comes_back, CUTS},
    {"a restart is told", a_restart_is_told, RESTARTS},
};

static bool applies(const store_world *world, const conformance_case *one)
{
    switch (one->where) {
    case LISTS:
        return world->lists;
    case LEASES:
        return world->leases;
    case CUTS:
        return world->cut != NULL;
    case RESTARTS:
        return world->restart != NULL;
    default:
        return true;
    }
}

const char *store_conformance(const store_world *world, const char **case_out)
{
    static store_suite s;
    s = (store_suite){.world = world, .random = 1};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        eepi_store_client *a = NULL, *b = NULL;
        *case_out = cases[i].name;
        if (!applies(world, &cases[i])) {
            continue;
        }
        bool good =
            suite_open_client(&s, &a) && suite_open_client(&s, &b) && cases[i].run(&s, a, b);
        eepi_store_client_close(a);
        eepi_store_client_close(b);
        if (!good) {
            return s.why;
        }
    }
    return NULL;
}
