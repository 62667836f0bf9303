#include "tests/lib/store_conformance.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BOUND_US = 20 * 1000 * 1000, /* a wait that takes this long has failed */
    TTL_US = 1000 * 1000,
    QUIET_US = 50 * 1000,
    NUM_CLIENTS = 4,
    NUM_KEYS = 3,
    NUM_OPS = 400, /* of each client */
    MAX_WRITES = NUM_CLIENTS * NUM_OPS,
};

typedef struct suite {
    const store_world *world;
    uint64_t random;
    char why[256];
} suite;

static bool wrong(suite *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool wrong(suite *s, const char *format, ...)
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
            return wrong(s, __VA_ARGS__);                                                          \
        }                                                                                          \
    } while (0)
#define TRY(call)                                                                                  \
    do {                                                                                           \
        if (!(call)) {                                                                             \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

static uint64_t draw(suite *s, uint64_t limit)
{
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return (s->random >> 33) % limit;
}

static void pass(suite *s)
{
    s->world->pass(s->world->user);
}

static uint64_t now_us(suite *s)
{
    return s->world->now_us(s->world->user);
}

static bool open_client(suite *s, eepi_store_client **client_out)
{
    CHECK(s, eepi_store_client_open(s->world->address, BOUND_US, client_out) == EEP_OK,
          "no connection");
    return true;
}

static bool answer(suite *s, eepi_store_client *client, uint64_t id, eepi_store_reply *reply_out)
{
    CHECK(s, eepi_store_client_wait(client, id, BOUND_US, reply_out) == EEP_OK, "no answer");
    CHECK(s, reply_out->id == id, "the answer to another request");
    return true;
}

static bool put(suite *s, eepi_store_client *client, const char *key, const char *text,
                uint64_t *revision_out)
{
    eepi_store_reply reply;
    TRY(answer(s, client, eepi_store_put(client, key, text, strlen(text), 0), &reply));
    CHECK(s, reply.status == EEP_OK && reply.revision > 0, "put %s: %s", key,
          eep_strerror(reply.status));
    *revision_out = reply.revision;
    return true;
}

/* The key has that text and revision; text NULL: there is no such key. */
static bool is_there(suite *s, eepi_store_client *client, const char *key, const char *text,
                     uint64_t revision)
{
    eepi_store_reply reply;
    TRY(answer(s, client, eepi_store_get(client, key), &reply));
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

static bool next(suite *s, eepi_store_client *client, eepi_store_reply *reply_out)
{
    uint64_t end_us = now_us(s) + BOUND_US;
    while (eepi_store_client_next(client, reply_out) != EEP_OK) {
        CHECK(s, now_us(s) < end_us, "nothing comes");
        pass(s);
    }
    return true;
}

/* The next event is that one; text NULL: the key is gone, or the event has no key. */
static bool hears(suite *s, eepi_store_client *client, eepi_store_reply_kind kind, const char *key,
                  const char *text)
{
    eepi_store_reply reply;
    TRY(next(s, client, &reply));
    CHECK(s, reply.kind == kind && strcmp(reply.key, key) == 0, "event %d of '%s', not %d of '%s'",
          reply.kind, reply.key, kind, key);
    CHECK(s, reply.size == (text ? strlen(text) : 0), "%s: %zu bytes", key, reply.size);
    CHECK(s, !text || (memcmp(reply.value, text, reply.size) == 0 && reply.revision > 0),
          "%s: other bytes than %s", key, text);
    return true;
}

static bool hears_nothing(suite *s, eepi_store_client *client)
{
    eepi_store_reply reply;
    uint64_t end_us = now_us(s) + QUIET_US;
    while (now_us(s) < end_us) {
        CHECK(s, eepi_store_client_next(client, &reply) == EEP_ERR_TIMEOUT, "event %d of '%s'",
              reply.kind, reply.key);
        pass(s);
    }
    return true;
}

/* ---------------------------------------------------------------- a register */

static bool a_key_has_what_was_put_last(suite *s, eepi_store_client *a, eepi_store_client *b)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 4096, 1 << 20};
    unsigned char *bytes = malloc(1 << 20);
    uint64_t last = 0;
    bool good = bytes != NULL;
    eepi_store_reply reply;
    TRY(is_there(s, a, "r/a", NULL, 0));
    for (size_t i = 0; good && i < sizeof sizes / sizeof sizes[0]; i++) {
        memset(bytes, (int)i + 1, sizes[i]);
        good = answer(s, a, eepi_store_put(a, "r/a", bytes, sizes[i], 0), &reply);
        uint64_t revision = reply.revision;
        if (good && (reply.status != EEP_OK || revision <= last)) {
            good = wrong(s, "put of %zu bytes: %s", sizes[i], eep_strerror(reply.status));
        }
        good = good && answer(s, b, eepi_store_get(b, "r/a"), &reply);
        if (good && (reply.revision != revision || reply.size != sizes[i] ||
                     (sizes[i] > 0 && memcmp(reply.value, bytes, sizes[i]) != 0))) {
            good = wrong(s, "another client does not find the %zu bytes", sizes[i]);
        }
        last = revision;
    }
    free(bytes);
    return good;
}

static bool compare_and_swap_compares(suite *s, eepi_store_client *a, eepi_store_client *b)
{
    eepi_store_reply reply;
    TRY(answer(s, a, eepi_store_cas(a, "r/c", 7, "x", 1), &reply));
    CHECK(s, reply.status == EEP_ERR_CONFLICT && reply.revision == 0 && reply.size == 0,
          "no key, and revision 7 was expected");
    TRY(answer(s, a, eepi_store_cas(a, "r/c", 0, "one", 3), &reply));
    CHECK(s, reply.status == EEP_OK && reply.revision > 0, "no key was expected: %s",
          eep_strerror(reply.status));
    uint64_t first = reply.revision, second = 0;
    TRY(answer(s, b, eepi_store_cas(b, "r/c", 0, "two", 3), &reply));
    CHECK(s,
          reply.status == EEP_ERR_CONFLICT && reply.revision == first && reply.size == 3 &&
              memcmp(reply.value, "one", 3) == 0,
          "a conflict carries the present value");
    TRY(answer(s, b, eepi_store_cas(b, "r/c", first + 1, "two", 3), &reply));
    CHECK(s, reply.status == EEP_ERR_CONFLICT, "a higher revision than the key's fits");
    TRY(is_there(s, a, "r/c", "one", first));
    TRY(put(s, a, "r/c", "one", &second)); /* the same bytes, written again */
    TRY(answer(s, b, eepi_store_cas(b, "r/c", first, "two", 3), &reply));
    CHECK(s, reply.status == EEP_ERR_CONFLICT && reply.revision == second,
          "an old revision fits the same bytes");
    TRY(answer(s, b, eepi_store_cas(b, "r/c", second, "two", 3), &reply));
    CHECK(s, reply.status == EEP_OK && reply.revision > second, "the right revision does not fit");
    return is_there(s, a, "r/c", "two", reply.revision);
}

static bool answers_come_in_order(suite *s, eepi_store_client *a, eepi_store_client *b)
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
        TRY(next(s, a, &reply));
        snprintf(text, sizeof text, "%d", i / 2);
        CHECK(s, reply.kind == EEPI_STORE_REPLY && reply.id == id[i], "answer %d is another's", i);
        CHECK(s,
              i % 2 == 0 || (reply.size == strlen(text) && !memcmp(reply.value, text, reply.size)),
              "get %d does not see the put before it", i);
    }
    return true;
}

static bool bad_requests_are_answered(suite *s, eepi_store_client *a, eepi_store_client *b)
{
    char key[EEPI_STORE_KEY_MAX + 1] = {0};
    eepi_store_reply reply;
    (void)b;
    memset(key, 'k', EEPI_STORE_KEY_MAX);
    TRY(answer(s, a, eepi_store_get(a, key), &reply));
    CHECK(s, reply.status == EEP_ERR_INVALID, "a key of %d bytes", EEPI_STORE_KEY_MAX);
    key[EEPI_STORE_KEY_MAX - 1] = '\0';
    TRY(answer(s, a, eepi_store_put(a, key, "x", 1, 0), &reply));
    CHECK(s, reply.status == EEP_OK, "a key of %d bytes", EEPI_STORE_KEY_MAX - 1);
    TRY(answer(s, a, eepi_store_put(a, "", "x", 1, 0), &reply));
    CHECK(s, reply.status == EEP_ERR_INVALID, "an empty key");
    return true;
}

/* ---------------------------------------------------------------- histories */

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

static void ask(suite *s, history *h, eepi_store_client *client, int c)
{
    int i = h->num_asked[c]++;
    operation *op = &h->op[c][i];
    op->key = (int)draw(s, NUM_KEYS);
    op->token = (uint32_t)(c * NUM_OPS + i + 1);
    op->asked = h->time++;
    switch (draw(s, 3)) {
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

static bool tell(suite *s, history *h, int c, const eepi_store_reply *reply)
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

static bool see(suite *s, history *h, eepi_store_client *watcher)
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
static bool make_history(suite *s, history *h, eepi_store_client **client,
                         eepi_store_client *watcher)
{
    uint64_t end_us = now_us(s) + BOUND_US;
    for (int open = 1; open;) {
        bool heard = false;
        open = 0;
        for (int c = 0; c < NUM_CLIENTS; c++) {
            eepi_store_reply reply;
            while (h->num_asked[c] < NUM_OPS && h->num_asked[c] - h->num_told[c] < 8 &&
                   draw(s, 3)) {
                ask(s, h, client[c], c);
            }
            while (draw(s, 3) && eepi_store_client_next(client[c], &reply) == EEP_OK) {
                TRY(tell(s, h, c, &reply));
                heard = true;
            }
            open |= h->num_told[c] < NUM_OPS;
        }
        TRY(draw(s, 4) || see(s, h, watcher));
        if (!heard) {
            CHECK(s, now_us(s) < end_us, "answers are missing");
            pass(s);
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
static bool check_writes(suite *s, history *h, operation **order, int *num_out)
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
static bool check_real_time(suite *s, history *h)
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

static bool histories_are_linear(suite *s, eepi_store_client *a, eepi_store_client *b)
{
    history *h = calloc(1, sizeof *h);
    operation **order = calloc(MAX_WRITES, sizeof *order);
    eepi_store_client *client[NUM_CLIENTS] = {a, b}, *watcher = NULL;
    eepi_store_reply reply;
    int num = 0;
    bool good = h && order && open_client(s, &client[2]) && open_client(s, &client[3]) &&
                open_client(s, &watcher) &&
                answer(s, watcher, eepi_store_watch(watcher, "h/"), &reply) &&
                make_history(s, h, client, watcher) && check_writes(s, h, order, &num) &&
                check_real_time(s, h);
    uint64_t end_us = now_us(s) + BOUND_US;
    while (good && h->num_seen < num) {
        good = see(s, h, watcher) && (now_us(s) < end_us || wrong(s, "the watcher missed changes"));
        pass(s);
    }
    good = good && hears_nothing(s, watcher);
    for (int i = 0; good && i < num; i++) {
        good = h->seen[i] == order[i] ||
               wrong(s, "the watcher saw another order than that of revisions");
    }
    eepi_store_client_close(client[2]);
    eepi_store_client_close(client[3]);
    eepi_store_client_close(watcher);
    free(order);
    free(h);
    return good;
}

/* ---------------------------------------------------------------- watches */

static bool a_watch_begins_with_what_is_there(suite *s, eepi_store_client *a, eepi_store_client *b)
{
    uint64_t revision;
    eepi_store_reply reply;
    TRY(put(s, a, "w/2", "two", &revision));
    TRY(put(s, a, "w/10", "one", &revision));
    TRY(put(s, a, "w", "not below w/", &revision));
    uint64_t id = eepi_store_watch(b, "w/");
    TRY(hears(s, b, EEPI_STORE_ENTRY, "w/10", "one"));
    TRY(hears(s, b, EEPI_STORE_ENTRY, "w/2", "two"));
    TRY(next(s, b, &reply));
    CHECK(s, reply.kind == EEPI_STORE_REPLY && reply.id == id && reply.status == EEP_OK,
          "no end of what is there");
    TRY(put(s, a, "v", "x", &revision));
    TRY(put(s, a, "w/2", "three", &revision));
    TRY(hears(s, b, EEPI_STORE_CHANGED, "w/2", "three"));
    return hears_nothing(s, b);
}

static bool removed_keys_are_gone(suite *s, eepi_store_client *a, eepi_store_client *b)
{
    uint64_t first, second;
    eepi_store_reply reply;
    TRY(put(s, a, "l/2", "x", &second));
    TRY(put(s, a, "l/1", "x", &first));
    TRY(answer(s, b, eepi_store_watch(b, "l/"), &reply));
    TRY(hears(s, b, EEPI_STORE_ENTRY, "l/1", "x"));
    TRY(hears(s, b, EEPI_STORE_ENTRY, "l/2", "x"));
    TRY(answer(s, a, eepi_store_remove(a, "l/1"), &reply));
    CHECK(s, reply.status == EEP_OK, "remove: %s", eep_strerror(reply.status));
    TRY(hears(s, b, EEPI_STORE_CHANGED, "l/1", NULL));
    TRY(answer(s, a, eepi_store_remove(a, "l/1"), &reply));
    CHECK(s, reply.status == EEP_ERR_NOT_FOUND, "removed twice");
    TRY(answer(s, a, eepi_store_cas(a, "l/1", first, "y", 1), &reply));
    CHECK(s, reply.status == EEP_ERR_CONFLICT && reply.revision == 0,
          "a removed key's revision fits");
    TRY(is_there(s, a, "l/1", NULL, 0));
    uint64_t id = eepi_store_list(a, "l");
    TRY(hears(s, a, EEPI_STORE_ENTRY, "l/2", "x"));
    TRY(next(s, a, &reply));
    CHECK(s, reply.kind == EEPI_STORE_REPLY && reply.id == id, "a list without an end");
    return put(s, a, "l/1", "z", &second) && second > first;
}

/* ---------------------------------------------------------------- leases */

static bool leased_keys_live_with_their_client(suite *s, eepi_store_client *a, eepi_store_client *b)
{
    eepi_store_client *holder = NULL;
    eepi_store_reply reply;
    TRY(answer(s, a, eepi_store_put(a, "e/1", "x", 1, 1), &reply));
    CHECK(s, reply.status == EEP_ERR_STATE, "leased without a lease");
    TRY(open_client(s, &holder));
    TRY(answer(s, b, eepi_store_watch(b, "e/"), &reply));
    TRY(answer(s, holder, eepi_store_lease(holder, TTL_US), &reply));
    TRY(answer(s, holder, eepi_store_put(holder, "e/1", "x", 1, 1), &reply));
    TRY(hears(s, b, EEPI_STORE_CHANGED, "e/1", "x"));
    for (uint64_t end_us = now_us(s) + 3 * TTL_US; now_us(s) < end_us; pass(s)) {
        CHECK(s, eepi_store_client_next(holder, &reply) == EEP_ERR_TIMEOUT, "event %d", reply.kind);
        CHECK(s, eepi_store_client_next(b, &reply) == EEP_ERR_TIMEOUT, "its keys do not live");
    }
    TRY(hears(s, b, EEPI_STORE_CHANGED, "e/1", NULL)); /* nobody calls next for the holder */
    TRY(answer(s, holder, eepi_store_put(holder, "e/2", "x", 1, 1), &reply));
    TRY(hears(s, b, EEPI_STORE_CHANGED, "e/2", "x"));
    TRY(answer(s, holder, eepi_store_put(holder, "e/3", "x", 1, 1), &reply));
    TRY(answer(s, holder, eepi_store_put(holder, "e/3", "stays", 5, 0), &reply));
    TRY(hears(s, b, EEPI_STORE_CHANGED, "e/3", "x"));
    TRY(hears(s, b, EEPI_STORE_CHANGED, "e/3", "stays"));
    eepi_store_client_close(holder);
    TRY(hears(s, b, EEPI_STORE_CHANGED, "e/2", NULL));
    return hears_nothing(s, b);
}

/* ---------------------------------------------------------------- breaks */

/* Requests under way are answered, if only with "unknown", after DISCONNECTED. */
static bool hears_of_break(suite *s, eepi_store_client *client, const uint64_t *id, int num)
{
    int at = 0;
    bool broken = false;
    while (at < num || !broken) {
        eepi_store_reply reply;
        TRY(next(s, client, &reply));
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

static bool a_cut_connection_comes_back(suite *s, eepi_store_client *a, eepi_store_client *b)
{
    uint64_t revision, id[2];
    eepi_store_reply reply;
    TRY(put(s, a, "b/1", "x", &revision));
    TRY(answer(s, b, eepi_store_watch(b, "b/"), &reply));
    TRY(hears(s, b, EEPI_STORE_ENTRY, "b/1", "x"));
    id[0] = eepi_store_get(b, "b/1");
    s->world->cut(s->world->user, b);
    TRY(put(s, a, "b/2", "meanwhile", &revision));
    TRY(hears_of_break(s, b, id, 1));
    TRY(hears(s, b, EEPI_STORE_ENTRY, "b/1", "x"));
    TRY(hears(s, b, EEPI_STORE_ENTRY, "b/2", "meanwhile"));
    TRY(hears(s, b, EEPI_STORE_RECONNECTED, "", NULL));
    TRY(put(s, a, "b/3", "later", &revision));
    TRY(hears(s, b, EEPI_STORE_CHANGED, "b/3", "later"));
    return is_there(s, b, "b/3", "later", revision);
}

static bool a_restart_is_told(suite *s, eepi_store_client *a, eepi_store_client *b)
{
    uint64_t before = 0, after = 0;
    eepi_store_reply reply;
    TRY(put(s, a, "s/1", "x", &before));
    TRY(answer(s, b, eepi_store_watch(b, "s/"), &reply));
    TRY(hears(s, b, EEPI_STORE_ENTRY, "s/1", "x"));
    s->world->restart(s->world->user);
    TRY(hears_of_break(s, a, NULL, 0));
    TRY(hears_of_break(s, b, NULL, 0));
    if (!s->world->forgets) {
        TRY(hears(s, b, EEPI_STORE_ENTRY, "s/1", "x"));
    }
    TRY(hears(s, a, EEPI_STORE_RECONNECTED, "", NULL));
    TRY(hears(s, b, EEPI_STORE_RECONNECTED, "", NULL));
    TRY(is_there(s, a, "s/1", s->world->forgets ? NULL : "x", before));
    if (s->world->forgets) {
        TRY(answer(s, a, eepi_store_cas(a, "s/1", before, "y", 1), &reply));
        CHECK(s, reply.status == EEP_ERR_CONFLICT, "a forgotten key's revision fits");
    }
    TRY(put(s, a, "s/2", "new", &after));
    CHECK(s, after > before, "revisions begin again");
    return hears(s, b, EEPI_STORE_CHANGED, "s/2", "new");
}

/* ---------------------------------------------------------------- all of it */

typedef struct conformance_case {
    const char *name;
    bool (*run)(suite *s, eepi_store_client *a, eepi_store_client *b);
    enum { ALWAYS, LISTS, LEASES, CUTS, RESTARTS } where;
} conformance_case;

static const conformance_case cases[] = {
    {"a key has what was put last", a_key_has_what_was_put_last, ALWAYS},
    {"compare-and-swap compares", compare_and_swap_compares, ALWAYS},
    {"answers come in order", answers_come_in_order, ALWAYS},
    {"bad requests are answered", bad_requests_are_answered, ALWAYS},
    {"a watch begins with what is there", a_watch_begins_with_what_is_there, ALWAYS},
    {"histories are linear, watchers see each change once", histories_are_linear, ALWAYS},
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
    static suite s;
    s = (suite){.world = world, .random = 1};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        eepi_store_client *a = NULL, *b = NULL;
        *case_out = cases[i].name;
        if (!applies(world, &cases[i])) {
            continue;
        }
        bool good = open_client(&s, &a) && open_client(&s, &b) && cases[i].run(&s, a, b);
        eepi_store_client_close(a);
        eepi_store_client_close(b);
        if (!good) {
            return s.why;
        }
    }
    return NULL;
}
