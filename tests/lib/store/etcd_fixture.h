/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of an etcd of the test's own, and that etcd's other interface, for what goes wrong. */
#ifndef TESTS_ETCD_FIXTURE_H
#define TESTS_ETCD_FIXTURE_H

#include "graphs/base/clock.h"
#include "membership/store/etcd/etcd_bridge.h"
#include "membership/store/etcd/etcd_values.h"
#include "membership/store/store_client.h"
#include "tests/lib/store/etcd_process.h"

#include <criterion/criterion.h>
#include <time.h>

enum { ETCD_BOUND_US = 30 * 1000 * 1000 };

static etcd_cluster etcd;
static char etcd_at[600];

static inline void begin_etcd(int num_nodes)
{
    if (!etcd_is_here()) {
        cr_skip_test("no etcd here");
    }
    cr_assert(etcd_open(&etcd, num_nodes));
    /* One that is alone is waited for, on however busy a machine; of three another takes over. */
    etcd_address(&etcd, num_nodes > 1 ? "/test" : "/test?timeout-ms=20000", etcd_at,
                 sizeof etcd_at);
}

static inline void end_etcd(void)
{
    if (etcd.num_nodes > 0) {
        etcd_close(&etcd);
    }
}

static inline eepi_store_client *etcd_client(void)
{
    eepi_store_client *client = NULL;
    cr_assert_eq(eepi_store_client_open(etcd_at, ETCD_BOUND_US, &client), EEP_OK, "no etcd at %s",
                 etcd_at);
    return client;
}

static inline eepi_store_reply etcd_answer(eepi_store_client *client, uint64_t id)
{
    eepi_store_reply reply;
    cr_assert_eq(eepi_store_client_wait(client, id, ETCD_BOUND_US, &reply), EEP_OK, "no answer");
    return reply;
}

/* The next thing that is told. */
static inline eepi_store_reply etcd_next(eepi_store_client *client)
{
    const struct timespec nap = {.tv_nsec = 500 * 1000};
    const uint64_t end_us = eepi_now_us() + ETCD_BOUND_US;
    eepi_store_reply reply;
    while (eepi_store_client_next(client, &reply) != EEP_OK) {
        cr_assert(eepi_now_us() < end_us, "nothing comes");
        nanosleep(&nap, NULL);
    }
    return reply;
}

static inline void etcd_hears(eepi_store_client *client, eepi_store_reply_kind kind,
                              const char *key)
{
    eepi_store_reply reply = etcd_next(client);
    cr_assert(reply.kind == kind && strcmp(reply.key, key) == 0, "event %d of '%s', not %d of '%s'",
              (int)reply.kind, reply.key, (int)kind, key);
}

/* A client that watches nothing looks after its connection, for a moment. */
static inline void etcd_mend(eepi_store_client *client)
{
    const struct timespec nap = {.tv_nsec = 5 * 1000 * 1000};
    eepi_store_reply reply;
    while (eepi_store_client_next(client, &reply) == EEP_OK) {
    }
    nanosleep(&nap, NULL);
}

/* Get until it is answered. */
static inline eepi_store_reply etcd_get(eepi_store_client *client, const char *key)
{
    const uint64_t end_us = eepi_now_us() + ETCD_BOUND_US;
    for (;;) {
        eepi_store_reply reply = etcd_answer(client, eepi_store_get(client, key));
        if (reply.status != EEP_ERR_UNREACHABLE) {
            return reply;
        }
        cr_assert(eepi_now_us() < end_us, "get %s is not answered", key);
        etcd_mend(client);
    }
}

/* Write until it is acknowledged; the revision. */
static inline uint64_t etcd_put(eepi_store_client *client, const char *key, const char *text)
{
    const uint64_t end_us = eepi_now_us() + ETCD_BOUND_US;
    for (;;) {
        eepi_store_reply reply =
            etcd_answer(client, eepi_store_put(client, key, text, strlen(text), 0));
        if (reply.status == EEP_OK) {
            return reply.revision;
        }
        cr_assert(reply.status == EEP_ERR_UNREACHABLE && eepi_now_us() < end_us, "put: %s",
                  eep_strerror(reply.status));
        etcd_mend(client);
    }
}

/* etcd itself, below the same prefix. */
static inline void begin_api(eepi_etcd_api *api)
{
    static eepi_store_url url;
    static const int never;
    const uint64_t end_us = eepi_now_us() + ETCD_BOUND_US;
    cr_assert_eq(eepi_store_url_parse(etcd_at, &url, NULL, 0), EEP_OK);
    cr_assert_eq(eepi_etcd_api_open(&url, &never, api), EEP_OK);
    while (eepi_etcd_api_probe(api) != EEP_OK) {
        cr_assert(eepi_now_us() < end_us, "%s", api->why);
        eepi_etcd_http_move(api->http);
    }
}

/* A call with this body; the answer is for cJSON_Delete. */
static inline cJSON *api_call(eepi_etcd_api *api, const char *path, const char *body)
{
    cJSON *answer = NULL;
    eepi_etcd_text_clear(&api->body);
    eepi_etcd_text_add(&api->body, body, strlen(body));
    cr_assert_eq(eepi_etcd_api_call(api, path, &answer), EEP_OK, "%s: %s", path, api->why);
    return answer;
}

/* From now on root has to give its password, "secret". */
static inline void enable_users(void)
{
    eepi_etcd_api api;
    begin_api(&api);
    cJSON_Delete(
        api_call(&api, "/v3/auth/user/add", "{\"name\":\"root\",\"password\":\"secret\"}"));
    cJSON_Delete(api_call(&api, "/v3/auth/role/add", "{\"name\":\"root\"}"));
    cJSON_Delete(api_call(&api, "/v3/auth/user/grant", "{\"user\":\"root\",\"role\":\"root\"}"));
    cJSON_Delete(api_call(&api, "/v3/auth/enable", "{}"));
    eepi_etcd_api_close(&api);
}

static inline uint64_t present_revision(eepi_etcd_api *api)
{
    cr_assert_eq(eepi_etcd_api_probe(api), EEP_OK, "%s", api->why);
    return api->revision;
}
#endif
