/* SPDX-License-Identifier: Apache-2.0 */
/* What the cases of the store's suite share: its random numbers, requests with their answers, and
 * what a watcher hears. A case returns false as soon as something is wrong, and `why` says what. */
#ifndef TESTS_STORE_SUITE_H
#define TESTS_STORE_SUITE_H

#include "tests/lib/store/store_conformance.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    BOUND_US = 20 * 1000 * 1000, /* a wait that takes this long has failed */
    QUIET_US = 50 * 1000,
};

typedef struct store_suite {
    const store_world *world;
    uint64_t random;
    char why[256];
} store_suite;

static inline bool suite_wrong(store_suite *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static inline bool suite_wrong(store_suite *s, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(s->why, sizeof s->why, format, arguments);
    va_end(arguments);
    return false;
}

#define CHECK(s, condition, ...)                                                                   \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return suite_wrong(s, __VA_ARGS__);                                                    \
        }                                                                                          \
    } while (0)
#define TRY(call)                                                                                  \
    do {                                                                                           \
        if (!(call)) {                                                                             \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

static inline uint64_t suite_draw(store_suite *s, uint64_t limit)
{
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return (s->random >> 33) % limit;
}

static inline void suite_pass(store_suite *s)
{
    s->world->pass(s->world->user);
}

static inline uint64_t suite_now_us(store_suite *s)
{
    return s->world->now_us(s->world->user);
}

static inline bool suite_open_client(store_suite *s, eepi_store_client **client_out)
{
    CHECK(s, eepi_store_client_open(s->world->address, BOUND_US, client_out) == EEP_OK,
          "no connection");
    return true;
}

static inline bool suite_answer(store_suite *s, eepi_store_client *client, uint64_t id,
                                eepi_store_reply *reply_out)
{
    CHECK(s, eepi_store_client_wait(client, id, BOUND_US, reply_out) == EEP_OK, "no answer");
    CHECK(s, reply_out->id == id, "the answer to another request");
    return true;
}

static inline bool suite_put(store_suite *s, eepi_store_client *client, const char *key,
                             const char *text, uint64_t *revision_out)
{
    eepi_store_reply reply;
    TRY(suite_answer(s, client, eepi_store_put(client, key, text, strlen(text), 0), &reply));
    CHECK(s, reply.status == EEP_OK && reply.revision > 0, "put %s: %s", key,
          eep_strerror(reply.status));
    *revision_out = reply.revision;
    return true;
}

/* The key has that text and revision; text NULL: there is no such key. */
static inline bool suite_is_there(store_suite *s, eepi_store_client *client, const char *key,
                                  const char *text, uint64_t revision)
{
    eepi_store_reply reply;
    TRY(suite_answer(s, client, eepi_store_get(client, key), &reply));
    CHECK(s, strcmp(reply.key, key) == 0, "get %s: the answer is about %s", key, reply.key);
    if (!text) {
        CHECK(s, reply.status == EEP_ERR_NOT_FOUND && reply.revision == 0, "get %s: %s", key,
              eep_strerror(reply.status));
        return true;
    }
    CHECK(s, reply.status == EEP_OK && reply.revision == revision, "get %s: %s, revision", key,
          eep_strerror(reply.status));
    CHECK(s, reply.size == strlen(text) && memcmp(reply.value, text, reply.size) == 0,
          "get %s: other bytes than %s", key, text);
    return true;
}

static inline bool suite_next(store_suite *s, eepi_store_client *client,
                              eepi_store_reply *reply_out)
{
    uint64_t end_us = suite_now_us(s) + BOUND_US;
    while (eepi_store_client_next(client, reply_out) != EEP_OK) {
        CHECK(s, suite_now_us(s) < end_us, "nothing comes");
        suite_pass(s);
    }
    return true;
}

/* The next event is that one; text NULL: the key is gone, or the event has no key. */
static inline bool suite_hears(store_suite *s, eepi_store_client *client,
                               eepi_store_reply_kind kind, const char *key, const char *text)
{
    eepi_store_reply reply;
    TRY(suite_next(s, client, &reply));
    CHECK(s, reply.kind == kind && strcmp(reply.key, key) == 0, "event %d of '%s', not %d of '%s'",
          reply.kind, reply.key, kind, key);
    CHECK(s, reply.size == (text ? strlen(text) : 0), "%s: %zu bytes", key, reply.size);
    CHECK(s, !text || (memcmp(reply.value, text, reply.size) == 0 && reply.revision > 0),
          "%s: other bytes than %s", key, text);
    return true;
}

static inline bool suite_hears_nothing(store_suite *s, eepi_store_client *client)
{
    eepi_store_reply reply;
    uint64_t end_us = suite_now_us(s) + QUIET_US;
    while (suite_now_us(s) < end_us) {
        CHECK(s, eepi_store_client_next(client, &reply) == EEP_ERR_TIMEOUT, "event %d of '%s'",
              reply.kind, reply.key);
        suite_pass(s);
    }
    return true;
}

/* store_histories.c: several clients at once; what each is told fits one order of all writes. */
bool suite_histories_are_linear(store_suite *s, eepi_store_client *a, eepi_store_client *b);
#endif
