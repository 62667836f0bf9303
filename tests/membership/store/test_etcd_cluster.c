/* SPDX-License-Identifier: Apache-2.0 */
/* A store at three etcd: leaders that are killed or stopped, a majority that is lost and comes
 * back, and answers that never come (rules N18 to N20). */
#include "tests/lib/store/etcd_fixture.h"

#include <stdlib.h>

TestSuite(etcd_cluster, .fini = end_etcd, .timeout = 170);

enum { MS = 1000, CLIENTS = 4, HISTORY_US = 8 * 1000 * 1000 };

/* The node that leads, as a member that answers says; -1: none does. */
static int find_leader(void)
{
    static const int never;
    uint64_t leader = 0, member[ETCD_NODES] = {0};
    for (int node = 0; node < ETCD_NODES; node++) {
        char address[64];
        eepi_store_url url;
        eepi_etcd_api api;
        cJSON *answer = NULL;
        snprintf(address, sizeof address, "etcd://127.0.0.1:%u", etcd.client_port[node]);
        cr_assert_eq(eepi_store_url_parse(address, &url, NULL, 0), EEP_OK);
        cr_assert_eq(eepi_etcd_api_open(&url, &never, &api), EEP_OK);
        eepi_etcd_text_add(&api.body, "{}", 2);
        if (etcd.pid[node] > 0 &&
            eepi_etcd_api_call(&api, "/v3/maintenance/status", &answer) == EEP_OK) {
            member[node] =
                eepi_etcd_number(cJSON_GetObjectItemCaseSensitive(answer, "header"), "member_id");
            leader = eepi_etcd_number(answer, "leader");
            cJSON_Delete(answer);
        }
        eepi_etcd_api_close(&api);
    }
    for (int node = 0; node < ETCD_NODES; node++) {
        if (leader != 0 && member[node] == leader) {
            return node;
        }
    }
    return -1;
}

static int wait_for_leader(void)
{
    const struct timespec nap = {.tv_nsec = 20 * 1000 * 1000};
    const uint64_t end_us = eepi_now_us() + ETCD_BOUND_US;
    int leader;
    while ((leader = find_leader()) < 0) {
        cr_assert(eepi_now_us() < end_us, "nobody leads");
        nanosleep(&nap, NULL);
    }
    return leader;
}

/* It is told that the key has that text, be it after a break. */
static void hears_at_last(eepi_store_client *client, const char *key, const char *text)
{
    for (;;) {
        eepi_store_reply reply = etcd_next(client);
        if ((reply.kind == EEPI_STORE_CHANGED || reply.kind == EEPI_STORE_ENTRY) &&
            strcmp(reply.key, key) == 0 && reply.size == strlen(text) &&
            memcmp(reply.value, text, reply.size) == 0) {
            return;
        }
    }
}

Test(etcd_cluster, clients_outlive_each_leader)
{
    begin_etcd(ETCD_NODES);
    eepi_store_client *a = etcd_client(), *b = etcd_client();
    uint64_t revision = 0;
    (void)etcd_answer(b, eepi_store_watch(b, "l/"));
    for (int turn = 0; turn < 3; turn++) {
        char text[32];
        int leader = wait_for_leader();
        uint64_t begin_us = eepi_now_us(), now;
        snprintf(text, sizeof text, "turn %d", turn);
        etcd_kill(&etcd, leader);
        now = etcd_put(a, "l/x", text);
        cr_assert(now > revision, "revisions begin again");
        cr_expect(eepi_now_us() - begin_us < 10000 * MS, "written after %llu ms",
                  (unsigned long long)(eepi_now_us() - begin_us) / MS);
        revision = now;
        hears_at_last(b, "l/x", text);
        etcd_start(&etcd, leader);
    }
    eepi_store_client_close(a);
    eepi_store_client_close(b);
}

Test(etcd_cluster, a_majority_is_lost_and_comes_back)
{
    begin_etcd(ETCD_NODES);
    eepi_store_client *a = etcd_client(), *b = etcd_client();
    eepi_store_reply reply;
    uint64_t revision = etcd_put(a, "m/x", "before");
    (void)etcd_answer(b, eepi_store_watch(b, "m/"));
    etcd_hears(b, EEPI_STORE_ENTRY, "m/x");
    etcd_kill(&etcd, 0);
    etcd_kill(&etcd, 1);
    reply = etcd_answer(a, eepi_store_cas(a, "m/x", revision, "during", 6));
    cr_expect_eq(reply.status, EEP_ERR_UNREACHABLE);
    etcd_hears(b, EEPI_STORE_DISCONNECTED, "");
    cr_expect_eq(etcd_answer(a, eepi_store_get(a, "m/x")).status, EEP_ERR_UNREACHABLE);
    etcd_start(&etcd, 0);
    etcd_start(&etcd, 1);
    reply = etcd_get(a, "m/x"); /* nobody knows which it is */
    cr_assert_eq(reply.status, EEP_OK, "%s", eep_strerror(reply.status));
    cr_expect(reply.size == 6 &&
              (memcmp(reply.value, "before", 6) == 0 || memcmp(reply.value, "during", 6) == 0));
    (void)etcd_put(a, "m/x", "after");
    hears_at_last(b, "m/x", "after");
    eepi_store_client_close(a);
    eepi_store_client_close(b);
}

/* ---------------------------------------------------------------- a counter under faults */

typedef struct counter {
    eepi_store_client *client;
    uint64_t id, expected; /* of the request under way; 0: none */
    long value;            /* that it writes, or has read */
    bool reads;
} counter;

typedef struct tally {
    int acknowledged, unknown, conflicts;
} tally;

static long number_in(const eepi_store_reply *reply)
{
    char text[24] = "";
    memcpy(text, reply->value, reply->size < sizeof text ? reply->size : sizeof text - 1);
    return atol(text);
}

/* Read, or write what was read and one. */
static void ask(counter *c)
{
    char text[24];
    if (c->reads) {
        c->id = eepi_store_get(c->client, "count");
        return;
    }
    snprintf(text, sizeof text, "%ld", c->value);
    c->id = eepi_store_cas(c->client, "count", c->expected, text, strlen(text));
}

static void take(counter *c, const eepi_store_reply *reply, tally *sum)
{
    if (reply->kind != EEPI_STORE_REPLY || reply->id != c->id) {
        return;
    }
    c->id = 0;
    if (!c->reads) {
        sum->acknowledged += reply->status == EEP_OK;
        sum->conflicts += reply->status == EEP_ERR_CONFLICT;
        sum->unknown += reply->status == EEP_ERR_UNREACHABLE;
        cr_assert(reply->status == EEP_OK || reply->status == EEP_ERR_CONFLICT ||
                      reply->status == EEP_ERR_UNREACHABLE,
                  "%s", eep_strerror(reply->status));
        c->reads = true;
    } else if (reply->status == EEP_OK || reply->status == EEP_ERR_NOT_FOUND) {
        c->value = (reply->status == EEP_OK ? number_in(reply) : 0) + 1;
        c->expected = reply->revision;
        c->reads = false;
    }
}

/* Now and then the leader is killed and comes back, or is stopped for a moment. */
static void disturb(int turn)
{
    const struct timespec stopped = {.tv_nsec = 400 * 1000 * 1000};
    int leader = find_leader();
    if (leader < 0) {
        return;
    }
    if (turn % 2 == 0) {
        etcd_kill(&etcd, leader);
        etcd_start(&etcd, leader);
    } else {
        kill(etcd.pid[leader], SIGSTOP);
        nanosleep(&stopped, NULL);
        kill(etcd.pid[leader], SIGCONT);
    }
}

/* No acknowledged increment is lost or counted twice, and each unknown one counts once or not. */
Test(etcd_cluster, compare_and_swap_holds_while_answers_are_lost)
{
    begin_etcd(ETCD_NODES);
    const struct timespec nap = {.tv_nsec = 1000 * 1000};
    counter c[CLIENTS] = {0};
    tally sum = {0};
    eepi_store_reply reply;
    uint64_t end_us = eepi_now_us() + HISTORY_US, fault_us = eepi_now_us() + 1000 * MS;
    int turn = 0;
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = (counter){.client = etcd_client(), .reads = true};
    }
    while (eepi_now_us() < end_us) {
        for (int i = 0; i < CLIENTS; i++) {
            if (c[i].id == 0) {
                ask(&c[i]);
            }
            while (eepi_store_client_next(c[i].client, &reply) == EEP_OK) {
                take(&c[i], &reply, &sum);
            }
        }
        if (eepi_now_us() > fault_us) {
            disturb(turn++);
            fault_us = eepi_now_us() + 1000 * MS;
        }
        nanosleep(&nap, NULL);
    }
    for (int i = 0; i < CLIENTS; i++) {
        while (c[i].id != 0) {
            reply = etcd_next(c[i].client);
            take(&c[i], &reply, &sum);
        }
    }
    reply = etcd_get(c[0].client, "count");
    cr_assert_eq(reply.status, EEP_OK);
    cr_expect(number_in(&reply) >= sum.acknowledged &&
                  number_in(&reply) <= sum.acknowledged + sum.unknown,
              "counted to %ld: %d acknowledged, %d unknown", number_in(&reply), sum.acknowledged,
              sum.unknown);
    cr_expect(sum.acknowledged > 10 && sum.conflicts > 0 && turn > 2,
              "%d acknowledged, %d conflicts, %d faults: nothing was shown", sum.acknowledged,
              sum.conflicts, turn);
    for (int i = 0; i < CLIENTS; i++) {
        eepi_store_client_close(c[i].client);
    }
}
