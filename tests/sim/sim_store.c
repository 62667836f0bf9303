/* The store: its table is the product's, the network to it is simulated. A connection keeps the
 * order both ways; different connections do not wait for each other. A request whose answer was
 * lost with its connection is answered "unknown", as the product's client does it. */
#include "membership/store/store_table.h"
#include "tests/sim/sim.h"

#include "membership/context/records.h"
#include "membership/store/store_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECONNECT_US = 20000 };

typedef enum message_kind {
    MESSAGE_GET,
    MESSAGE_PUT,
    MESSAGE_CAS,
    MESSAGE_REMOVE,
    MESSAGE_LIST,
    MESSAGE_WATCH,
    MESSAGE_DOWN /* a reply or event for the client */
} message_kind;

typedef struct message {
    struct message *next;
    message_kind kind;
    eepi_store_client *client;
    uint64_t connection;
    uint64_t life;          /* up: of which store process */
    uint64_t known_epoch;   /* up: the newest that its sender knew then */
    eepi_store_reply reply; /* up: id, revision, key */
    eepi_store_value *value;
    char key[EEPI_STORE_KEY_MAX];
} message;

typedef struct pending {
    struct pending *next;
    uint64_t id;
} pending;

struct eepi_store_client {
    eepi_store_client *next; /* of all clients */
    sim_process *process;
    int connected, watches, fd;
    char prefix[EEPI_STORE_KEY_MAX]; /* of its watch */
    uint64_t connection;             /* number of the present one */
    uint64_t next_id, watch_id, retry_us;
    uint64_t up_us, down_us; /* newest times of the two directions */
    message *first, *last;   /* arrived */
    message *current;
    pending *pending, *last_pending;
};

static struct {
    eepi_store_table *table;
    uint64_t newest_revision;
    uint64_t life;          /* number of its process */
    uint64_t away_until_us; /* it does not answer */
    int is_down;            /* nor is it there */
    eepi_store_client *clients;
} store;

/* ------------------------------------------------------------------ down */

static void arrive(void *user, uint64_t number)
{
    message *m = user;
    eepi_store_client *client = m->client;

    (void)number;
    if (m->connection != client->connection || !client->process->alive) {
        eepi_store_value_release(m->value);
        free(m);
        return;
    }
    m->next = NULL;
    if (client->last) {
        client->last->next = m;
    } else {
        client->first = m;
    }
    client->last = m;
    sim_wake(&client->process->poll_key, 1);
}

static uint64_t on_channel(uint64_t *newest_us)
{
    uint64_t at = sim->now_us + sim_delay(50, sim->kinds >> SIM_DELAY & 1u ? 12000 : 2000);

    *newest_us = at > *newest_us ? at : *newest_us;
    return *newest_us;
}

static void send_down(eepi_store_client *client, eepi_store_reply_kind kind, uint64_t id,
                      eep_status status, const char *key, uint64_t revision,
                      eepi_store_value *value)
{
    message *m = calloc(1, sizeof *m);

    if (!m) {
        abort();
    }
    m->kind = MESSAGE_DOWN;
    m->client = client;
    m->connection = client->connection;
    m->value = value ? eepi_store_value_retain(value) : NULL;
    strcpy(m->key, key);
    m->reply = (eepi_store_reply){
        kind, id, status, revision, m->key, value ? value->bytes : NULL, value ? value->size : 0};
    sim_after(on_channel(&client->down_us) - sim->now_us, arrive, m, 0);
}

/* Every watcher is told of every change, in order. */
static void changed(void *user, const char *key, uint64_t revision, eepi_store_value *value)
{
    (void)user;
    if (revision > store.newest_revision) {
        store.newest_revision = revision;
    }
    for (eepi_store_client *client = store.clients; client; client = client->next) {
        if (client->process->alive && client->connected && client->watches &&
            strncmp(key, client->prefix, strlen(client->prefix)) == 0) {
            send_down(client, EEPI_STORE_CHANGED, 0, EEP_OK, key, revision, value);
        }
    }
}

typedef struct listing {
    eepi_store_client *client;
    uint64_t id;
} listing;

static void entry(void *user, const char *key, uint64_t revision, eepi_store_value *value)
{
    const listing *to = user;

    send_down(to->client, EEPI_STORE_ENTRY, to->id, EEP_OK, key, revision, value);
}

/* ------------------------------------------------------------------ up */

/* Nobody hears an answer on a connection that was given up. */
static void answer(const message *m, eep_status status, uint64_t revision, eepi_store_value *value)
{
    if (m->connection == m->client->connection) {
        send_down(m->client, EEPI_STORE_REPLY, m->reply.id, status, m->key, revision, value);
    }
}

enum { RACE_OF = 3, DEATH_OF = 5, RACE_US = 1500, FORGET_US = 1000 };

static void forget(void *user, uint64_t number)
{
    (void)user;
    (void)number;
    if (!sim->healed) {
        sim_store_outage(FORGET_US, 1, 1);
    }
}

/* The store forgets what it has just taken, before or after some have heard of it; its proposer may
 * be on the machine that fails with it. */
static void perhaps_forget(const eepi_view *view, sim_process *proposer)
{
    int is_new = !sim->newest || view->epoch > sim->newest->epoch;

    if (!(sim->kinds >> SIM_RACE & 1u) || sim->healed || !is_new || sim_random(RACE_OF)) {
        return;
    }
    sim->faults++;
    if (sim_random(DEATH_OF) == 0) {
        sim_process_end(proposer, "race");
    }
    sim_after(50 + sim_random(RACE_US), forget, NULL, 0);
}

static uint64_t register_epoch(void)
{
    eepi_store_value *value;
    uint64_t revision;

    return eepi_store_table_get(store.table, EEPI_KEY_VIEW, &revision, &value) == EEP_OK
               ? ((const eepi_view *)value->bytes)->epoch
               : 0;
}

static void answer_write(message *m)
{
    uint64_t revision = 0;
    eepi_store_value *present = NULL;
    eep_status status;

    if (m->kind == MESSAGE_CAS) {
        if (strcmp(m->key, EEPI_KEY_VIEW) == 0 &&
            (eepi_store_table_get(store.table, m->key, &revision, &present) != EEP_OK
                 ? m->reply.revision == 0
                 : m->reply.revision == revision)) {
            perhaps_forget((const eepi_view *)m->value->bytes, m->client->process);
            sim_check_commit((const eepi_view *)m->value->bytes);
        }
        status = eepi_store_table_cas(store.table, m->key, m->reply.revision, m->value, &revision);
        if (status == EEP_ERR_CONFLICT &&
            eepi_store_table_get(store.table, m->key, &revision, &present) != EEP_OK) {
            revision = 0;
        }
    } else {
        sim_check_put(m->client->process, m->key, m->value->bytes, m->value->size);
        sim_check_behind(m->client->process, m->known_epoch, register_epoch());
        status = eepi_store_table_put(store.table, m->key, m->value, 0, &revision);
    }
    answer(m, status, revision, status == EEP_ERR_CONFLICT ? present : NULL);
}

/* A list, a watch (again: one that stands after a break, id 0), and from then on its changes. */
static void answer_list(const message *m)
{
    const int is_watch = m->kind == MESSAGE_WATCH;
    listing to = {m->client, m->reply.id ? m->reply.id : m->client->watch_id};

    eepi_store_table_list(store.table, m->key, entry, &to);
    m->client->watches |= is_watch;
    send_down(m->client, m->reply.id ? EEPI_STORE_REPLY : EEPI_STORE_RECONNECTED, m->reply.id,
              EEP_OK, m->reply.id ? m->key : "", 0, NULL);
}

static void serve(void *user, uint64_t number)
{
    message *m = user;
    eepi_store_value *value = NULL;
    uint64_t revision = 0;
    eep_status status;

    (void)number;
    if (!store.is_down && sim->now_us < store.away_until_us) { /* it stands still */
        sim_after(store.away_until_us - sim->now_us, serve, m, 0);
        return;
    }
    /* what a process sent before it died, or before it gave the connection up, may still arrive,
     * but not at the store's next process */
    if (store.is_down || m->life != store.life ||
        (m->connection != m->client->connection && sim_random(2))) {
        eepi_store_value_release(m->value);
        free(m);
        return;
    }
    if (m->kind == MESSAGE_PUT || m->kind == MESSAGE_CAS) {
        answer_write(m);
    } else if (m->kind == MESSAGE_GET) {
        status = eepi_store_table_get(store.table, m->key, &revision, &value);
        answer(m, status, revision, value);
    } else if (m->kind == MESSAGE_REMOVE) {
        status = eepi_store_table_remove(store.table, m->key);
        answer(m, status, 0, NULL);
    } else if (m->connection == m->client->connection) {
        answer_list(m);
    }
    eepi_store_value_release(m->value);
    free(m);
}

static void send_up(eepi_store_client *client, message_kind kind, uint64_t id, const char *key,
                    uint64_t revision, eepi_store_value *value)
{
    message *m = calloc(1, sizeof *m);

    if (!m) {
        abort();
    }
    m->kind = kind;
    m->client = client;
    m->connection = client->connection;
    m->life = store.life;
    m->known_epoch = sim_known_epoch(client->process, key);
    m->reply = (eepi_store_reply){.id = id, .revision = revision};
    m->value = value;
    strcpy(m->key, key);
    sim_after(on_channel(&client->up_us) - sim->now_us, serve, m, 0);
}

/* An answer or event of the client's own. */
static void put_item(eepi_store_client *client, eepi_store_reply_kind kind, uint64_t id,
                     eep_status status)
{
    message *m = calloc(1, sizeof *m);

    if (!m) {
        abort();
    }
    m->client = client;
    m->connection = client->connection;
    m->reply = (eepi_store_reply){.kind = kind, .id = id, .status = status, .key = m->key};
    arrive(m, 0);
}

static uint64_t request(eepi_store_client *client, message_kind kind, const char *key,
                        uint64_t revision, const void *bytes, size_t size)
{
    const int has_value = kind == MESSAGE_PUT || kind == MESSAGE_CAS;
    const int is_good = strnlen(key, EEPI_STORE_KEY_MAX) < EEPI_STORE_KEY_MAX &&
                        (kind >= MESSAGE_LIST || key[0] != '\0');
    uint64_t id = client->next_id++;
    pending *p;

    if (!is_good || !client->connected) {
        put_item(client, EEPI_STORE_REPLY, id, is_good ? EEP_ERR_UNREACHABLE : EEP_ERR_INVALID);
        return id;
    }
    p = calloc(1, sizeof *p);
    if (!p) {
        abort();
    }
    p->id = id;
    if (client->last_pending) {
        client->last_pending->next = p;
    } else {
        client->pending = p;
    }
    client->last_pending = p;
    send_up(client, kind, id, key, revision, has_value ? eepi_store_value_new(bytes, size) : NULL);
    return id;
}

static void forget_pending(eepi_store_client *client, uint64_t id)
{
    pending *before = NULL;

    for (pending *p = client->pending; p; before = p, p = p->next) {
        if (p->id != id) {
            continue;
        }
        if (before) {
            before->next = p->next;
        } else {
            client->pending = p->next;
        }
        if (client->last_pending == p) {
            client->last_pending = before;
        }
        free(p);
        return;
    }
}

/* ------------------------------------------------------------------ connections */

/* Its answer has arrived, and will be read before the end of the connection. */
static int is_answered(const eepi_store_client *client, uint64_t id)
{
    for (const message *m = client->first; m; m = m->next) {
        if (m->reply.kind == EEPI_STORE_REPLY && m->reply.id == id) {
            return 1;
        }
    }
    return 0;
}

static void disconnect(eepi_store_client *client)
{
    if (!client->connected) {
        return;
    }
    client->connected = client->watches = 0;
    client->connection++;
    client->retry_us = sim->now_us + RECONNECT_US;
    for (message *m = client->first; m; m = m->next) {
        m->connection = client->connection; /* what has arrived is read all the same */
    }
    put_item(client, EEPI_STORE_DISCONNECTED, 0, EEP_OK);
    while (client->pending) {
        if (!is_answered(client, client->pending->id)) {
            put_item(client, EEPI_STORE_REPLY, client->pending->id, EEP_ERR_UNREACHABLE);
        }
        forget_pending(client, client->pending->id);
    }
}

static int can_connect(const eepi_store_client *client)
{
    return !store.is_down && sim->now_us >= store.away_until_us &&
           sim->now_us >= client->process->cut_until_us;
}

static void reconnect(eepi_store_client *client)
{
    if (client->connected || sim->now_us < client->retry_us) {
        return;
    }
    client->retry_us = sim->now_us + RECONNECT_US;
    if (!can_connect(client)) {
        return;
    }
    client->connected = 1;
    client->up_us = client->down_us = sim->now_us;
    if (client->watch_id) {
        send_up(client, MESSAGE_WATCH, 0, client->prefix, 0, NULL);
    } else {
        put_item(client, EEPI_STORE_RECONNECTED, 0, EEP_OK);
    }
}

/* ------------------------------------------------------------------ the product's interface */

eep_status eepi_store_client_open(const char *path, uint64_t timeout_us,
                                  eepi_store_client **client_out)
{
    eepi_store_client *client = calloc(1, sizeof *client);
    uint64_t until = sim->now_us + timeout_us;

    (void)path;
    if (!client) {
        return EEP_ERR_NO_MEMORY;
    }
    client->process = sim_self();
    client->fd = sim_fd_new(SIM_FD_STORE, client);
    client->next_id = client->connection = 1;
    while (!can_connect(client) && sim->now_us < until) {
        sim_sleep(RECONNECT_US);
    }
    if (!can_connect(client)) {
        free(client);
        return EEP_ERR_UNREACHABLE;
    }
    client->connected = 1;
    client->process->store = client;
    client->next = store.clients;
    store.clients = client;
    *client_out = client;
    return EEP_OK;
}

void eepi_store_client_close(eepi_store_client *client)
{
    if (client) {
        client->connected = 0;
        client->connection++;
    }
}

int eepi_store_client_fd(const eepi_store_client *client)
{
    return client->connected ? client->fd : -1;
}

const char *eepi_store_client_why(const eepi_store_client *client)
{
    (void)client;
    return "";
}

int eepi_store_client_wants_write(const eepi_store_client *client)
{
    (void)client;
    return 0;
}

int sim_store_is_readable(eepi_store_client *client)
{
    return client->first != NULL;
}

uint64_t eepi_store_get(eepi_store_client *client, const char *key)
{
    return request(client, MESSAGE_GET, key, 0, NULL, 0);
}

uint64_t eepi_store_put(eepi_store_client *client, const char *key, const void *value, size_t size,
                        int leased)
{
    (void)leased;
    return request(client, MESSAGE_PUT, key, 0, value, size);
}

uint64_t eepi_store_cas(eepi_store_client *client, const char *key, uint64_t expected,
                        const void *value, size_t size)
{
    return request(client, MESSAGE_CAS, key, expected, value, size);
}

uint64_t eepi_store_remove(eepi_store_client *client, const char *key)
{
    return request(client, MESSAGE_REMOVE, key, 0, NULL, 0);
}

uint64_t eepi_store_list(eepi_store_client *client, const char *prefix)
{
    return request(client, MESSAGE_LIST, prefix, 0, NULL, 0);
}

uint64_t eepi_store_lease(eepi_store_client *client, uint64_t ttl_us)
{
    (void)client;
    (void)ttl_us;
    abort(); /* libeep has none */
}

uint64_t eepi_store_watch(eepi_store_client *client, const char *prefix)
{
    client->watch_id = client->next_id; /* one watch is all that libeep has */
    snprintf(client->prefix, sizeof client->prefix, "%s", prefix);
    return request(client, MESSAGE_WATCH, prefix, 0, NULL, 0);
}

static void hand_out(eepi_store_client *client, message *before, message *m,
                     eepi_store_reply *reply_out)
{
    if (before) {
        before->next = m->next;
    } else {
        client->first = m->next;
    }
    if (client->last == m) {
        client->last = before;
    }
    client->current = m;
    if (m->reply.kind == EEPI_STORE_REPLY) {
        forget_pending(client, m->reply.id);
    }
    *reply_out = m->reply;
}

static void drop_current(eepi_store_client *client)
{
    if (client->current) {
        eepi_store_value_release(client->current->value);
        free(client->current);
    }
    client->current = NULL;
}

eep_status eepi_store_client_next(eepi_store_client *client, eepi_store_reply *reply_out)
{
    drop_current(client);
    if (!client->first) {
        reconnect(client); /* what came by the old connection is read before */
    }
    if (!client->first) {
        return EEP_ERR_TIMEOUT;
    }
    hand_out(client, NULL, client->first, reply_out);
    return EEP_OK;
}

eep_status eepi_store_client_wait(eepi_store_client *client, uint64_t id, uint64_t timeout_us,
                                  eepi_store_reply *reply_out)
{
    uint64_t until = sim->now_us + timeout_us;

    drop_current(client);
    for (;;) {
        message *before = NULL;
        for (message *m = client->first; m; before = m, m = m->next) {
            if (m->reply.kind == EEPI_STORE_REPLY && m->reply.id == id) {
                hand_out(client, before, m, reply_out);
                return EEP_OK;
            }
        }
        if (sim_wait(&client->process->poll_key, until)) {
            return EEP_ERR_TIMEOUT;
        }
    }
}

/* ------------------------------------------------------------------ faults */

void sim_store_break(sim_process *p)
{
    for (eepi_store_client *client = store.clients; client; client = client->next) {
        if (client->process == p && p->alive) {
            disconnect(client);
        }
    }
}

void sim_store_cut(eepi_store_client *client)
{
    disconnect(client);
}

void sim_store_delay(sim_process *p, uint64_t by_us)
{
    if (p->alive && p->store && p->store->down_us < sim->now_us + by_us) {
        p->store->down_us = sim->now_us + by_us;
    }
}

static void table_new(void)
{
    const eepi_store_limits limits = {4096, 16, (size_t)1 << 28};

    store.newest_revision += 1000;
    store.table = eepi_store_table_new(&limits, store.newest_revision, changed, NULL);
    if (!store.table) {
        abort();
    }
}

static void come_back(void *user, uint64_t forgets)
{
    (void)user;
    store.is_down = 0;
    store.life++;
    if (forgets) {
        eepi_store_table_free(store.table);
        table_new();
    }
    sim_trace("store is back%s", forgets ? ", empty" : "");
}

void sim_store_outage(uint64_t for_us, int ends, int forgets)
{
    if (store.is_down || sim->now_us < store.away_until_us) {
        return;
    }
    sim_trace("store %s for %llu us", ends ? "ends" : "stands still", (unsigned long long)for_us);
    store.away_until_us = sim->now_us + for_us;
    if (!ends) {
        return;
    }
    store.is_down = 1;
    for (int i = 0; i < sim->num_processes; i++) {
        sim_store_break(sim->process[i]);
    }
    sim_after(for_us, come_back, NULL, (uint64_t)forgets);
}

/* With a document of an instance whose processes are all gone, so that counters start high. */
void sim_store_open(uint64_t first_epoch, uint64_t first_step)
{
    memset(&store, 0, sizeof(store));
    table_new();
    if (first_epoch > 1) {
        const eepi_view_shape shape = {sim->shape.max_ranks, sim->shape.num_layers,
                                       sim->shape.num_experts, sim->shape.num_slots};
        eepi_view *view = eepi_view_new(&shape);
        eepi_store_value *value;
        uint64_t revision;
        view->epoch = first_epoch - 1;
        view->first_step = first_step;
        view->phase = EEPI_VIEW_SERVING;
        view->cause = EEPI_VIEW_INITIAL;
        eepi_view_seal(view);
        sim->first_epoch = view->epoch;
        sim->in_register = sim->committed[0] = sim->newest = view;
        value = eepi_store_value_new(view, view->bytes);
        if (!value ||
            eepi_store_table_put(store.table, EEPI_KEY_VIEW, value, 0, &revision) != EEP_OK) {
            abort();
        }
    }
}
