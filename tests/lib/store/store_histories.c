/* SPDX-License-Identifier: Apache-2.0 */
/* Histories of a register by chance: four clients put, get and compare-and-swap at once, a fifth
 * watches. All that they are told must fit one order of the writes, and that order the real time.
 */
#include "tests/lib/store/store_suite.h"

#include <stdlib.h>

enum {
    NUM_CLIENTS = 4,
    NUM_KEYS = 3,
    NUM_OPS = 400, /* of each client */
    MAX_WRITES = NUM_CLIENTS * NUM_OPS,
};

typedef struct operation {
    uint64_t id, expected, revision; /* revision: that the answer names */
    int key, writes;                 /* writes: it is a put, or a cas */
    int is_cas, won;
    uint32_t token, found; /* what it writes; what the answer shows (0: nothing) */
    uint64_t asked, told;  /* when, in events of this thread */
} operation;

typedef struct history {
    operation op[NUM_CLIENTS][NUM_OPS];
    int num_asked[NUM_CLIENTS], num_told[NUM_CLIENTS];
    uint64_t last_seen[NUM_CLIENTS][NUM_KEYS];
    uint64_t time;
    operation *write[MAX_WRITES + 1]; /* by token */
    operation *seen[MAX_WRITES];      /* by the watcher, in order */
    int num_seen;
} history;

static const char *const history_keys[NUM_KEYS] = {"h/a", "h/b", "h/c"};

static void ask(store_suite *s, history *h, eepi_store_client *client, int c)
{
    int i = h->num_asked[c]++;
    operation *op = &h->op[c][i];
    op->key = (int)suite_draw(s, NUM_KEYS);
    op->token = (uint32_t)(c * NUM_OPS + i + 1);
    op->asked = h->time++;
    switch (suite_draw(s, 3)) {
    case 0:
        op->id = eepi_store_get(client, history_keys[op->key]);
        return;
    case 1:
        op->id = eepi_store_put(client, history_keys[op->key], &op->token, sizeof op->token, 0);
        break;
    default:
        op->is_cas = 1;
        op->expected = h->last_seen[c][op->key];
        op->id = eepi_store_cas(client, history_keys[op->key], op->expected, &op->token,
                                sizeof op->token);
        break;
    }
    op->writes = 1;
    h->write[op->token] = op;
}

static bool tell(store_suite *s, history *h, int c, const eepi_store_reply *reply)
{
    operation *op = &h->op[c][h->num_told[c]++];
    CHECK(s, reply->kind == EEPI_STORE_REPLY && reply->id == op->id, "answers out of order");
    op->told = h->time++;
    op->revision = reply->revision;
    op->won = op->writes && reply->status == EEP_OK;
    CHECK(s,
          reply->status == EEP_OK || (op->is_cas && reply->status == EEP_ERR_CONFLICT) ||
              (!op->writes && reply->status == EEP_ERR_NOT_FOUND),
          "answered with: %s", eep_strerror(reply->status));
    if (reply->size == sizeof op->found) {
        memcpy(&op->found, reply->value, sizeof op->found);
    }
    CHECK(s, op->won || (op->found == 0) == (op->revision == 0), "a value without a revision");
    CHECK(s, !op->won || op->revision > 0, "a write without a revision");
    CHECK(s, op->found <= MAX_WRITES && (op->found == 0 || h->write[op->found]), "invented bytes");
    h->last_seen[c][op->key] = op->revision;
    return true;
}

static bool see(store_suite *s, history *h, eepi_store_client *watcher)
{
    eepi_store_reply reply;
    while (eepi_store_client_next(watcher, &reply) == EEP_OK) {
        uint32_t token = 0;
        CHECK(s, reply.kind == EEPI_STORE_CHANGED && reply.size == sizeof token, "event %d",
              reply.kind);
        memcpy(&token, reply.value, sizeof token);
        CHECK(s, token > 0 && token <= MAX_WRITES && h->write[token], "invented bytes");
        CHECK(s, h->num_seen < MAX_WRITES, "more changes than writes");
        h->seen[h->num_seen++] = h->write[token];
        CHECK(s, strcmp(history_keys[h->write[token]->key], reply.key) == 0, "another key's bytes");
    }
    return true;
}

/* Every client has up to eight requests under way; the watcher looks now and then. */
static bool make_history(store_suite *s, history *h, eepi_store_client **client,
                         eepi_store_client *watcher)
{
    uint64_t end_us = suite_now_us(s) + BOUND_US;
    for (int open = 1; open;) {
        bool heard = false;
        open = 0;
        for (int c = 0; c < NUM_CLIENTS; c++) {
            eepi_store_reply reply;
            while (h->num_asked[c] < NUM_OPS && h->num_asked[c] - h->num_told[c] < 8 &&
                   suite_draw(s, 3)) {
                ask(s, h, client[c], c);
            }
            while (suite_draw(s, 3) && eepi_store_client_next(client[c], &reply) == EEP_OK) {
                TRY(tell(s, h, c, &reply));
                heard = true;
            }
            open |= h->num_told[c] < NUM_OPS;
        }
        TRY(suite_draw(s, 4) || see(s, h, watcher));
        if (!heard) {
            CHECK(s, suite_now_us(s) < end_us, "answers are missing");
            suite_pass(s);
        }
    }
    return true;
}

static int by_revision(const void *a, const void *b)
{
    const operation *x = *(operation *const *)a, *y = *(operation *const *)b;
    return x->revision < y->revision ? -1 : x->revision > y->revision;
}

static int by_asked(const void *a, const void *b)
{
    const operation *x = *(operation *const *)a, *y = *(operation *const *)b;
    return x->asked < y->asked ? -1 : x->asked > y->asked;
}

/* Each write has a revision of its own, and each compare-and-swap that won followed directly on the
 * one that it expected. Fills order[] with the writes that took effect, by revision. */
static bool check_writes(store_suite *s, history *h, operation **order, int *num_out)
{
    uint64_t last[NUM_KEYS] = {0};
    int num = 0;
    for (int token = 1; token <= MAX_WRITES; token++) {
        if (h->write[token] && h->write[token]->won) {
            order[num++] = h->write[token];
        }
    }
    qsort(order, (size_t)num, sizeof order[0], by_revision);
    for (int i = 0; i < num; i++) {
        const operation *op = order[i];
        CHECK(s, i == 0 || op->revision > order[i - 1]->revision, "two writes of one revision");
        CHECK(s, !op->is_cas || op->expected == last[op->key],
              "a compare-and-swap won on another revision than it expected");
        last[op->key] = op->revision;
    }
    *num_out = num;
    return true;
}

/* What each answer shows was there at some moment between request and answer: of the revisions that
 * anybody knew before the request it is not older, and whoever wrote it had asked before the
 * answer. */
static bool check_real_time(store_suite *s, history *h)
{
    static operation *asked[NUM_CLIENTS * NUM_OPS], *told[NUM_CLIENTS * NUM_OPS];
    uint64_t known[NUM_KEYS] = {0};
    int num = 0, n = 0;
    for (int c = 0; c < NUM_CLIENTS; c++) {
        for (int i = 0; i < NUM_OPS; i++) {
            asked[num++] = &h->op[c][i];
        }
    }
    qsort(asked, (size_t)num, sizeof asked[0], by_asked);
    memcpy(told, asked, sizeof told);
    for (int i = 1; i < num; i++) { /* by answer: nearly sorted */
        operation *op = told[i];
        int at = i;
        for (; at > 0 && told[at - 1]->told > op->told; at--) {
            told[at] = told[at - 1];
        }
        told[at] = op;
    }
    for (int i = 0; i < num; i++) {
        const operation *op = asked[i], *source = op->found ? h->write[op->found] : NULL;
        while (n < num && told[n]->told < op->asked) {
            uint64_t *newest = &known[told[n]->key];
            *newest = told[n]->revision > *newest ? told[n]->revision : *newest;
            n++;
        }
        CHECK(s, op->won ? op->revision > known[op->key] : op->revision >= known[op->key],
              "an answer is older than one that was there before the request");
        CHECK(s,
              !source || (source->won && source->revision == op->revision &&
                          source->key == op->key && source->asked < op->told),
              "a value with another write's revision");
        CHECK(s, !op->is_cas || op->won || op->revision != op->expected,
              "a compare-and-swap lost on the revision that it expected");
    }
    return true;
}

bool suite_histories_are_linear(store_suite *s, eepi_store_client *a, eepi_store_client *b)
{
    history *h = calloc(1, sizeof *h);
    operation **order = calloc(MAX_WRITES, sizeof *order);
    eepi_store_client *client[NUM_CLIENTS] = {a, b}, *watcher = NULL;
    eepi_store_reply reply;
    int num = 0;
    bool good = h && order && suite_open_client(s, &client[2]) &&
                suite_open_client(s, &client[3]) && suite_open_client(s, &watcher) &&
                suite_answer(s, watcher, eepi_store_watch(watcher, "h/"), &reply) &&
                make_history(s, h, client, watcher) && check_writes(s, h, order, &num) &&
                check_real_time(s, h);
    uint64_t end_us = suite_now_us(s) + BOUND_US;
    while (good && h->num_seen < num) {
        good = see(s, h, watcher) &&
               (suite_now_us(s) < end_us || suite_wrong(s, "the watcher missed changes"));
        suite_pass(s);
    }
    good = good && suite_hears_nothing(s, watcher);
    for (int i = 0; good && i < num; i++) {
        good = h->seen[i] == order[i] ||
               suite_wrong(s, "the watcher saw another order than that of revisions");
    }
    eepi_store_client_close(client[2]);
    eepi_store_client_close(client[3]);
    eepi_store_client_close(watcher);
    free(order);
    free(h);
    return good;
}
