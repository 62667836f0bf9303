/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated store: its table is the product's. It forgets, ends and comes back as faults want.
 */
#include "tests/sim/sim_store.h"

#include "membership/context/records.h"

#include <stdlib.h>
#include <string.h>

static struct {
    eepi_store_table *table;
    uint64_t newest_revision;
    uint64_t life;             /* number of its process */
    uint64_t away_until_us;    /* it does not answer */
    int is_down;               /* nor is it there */
    uint64_t refuses_until_us; /* it takes no writes (N14) */
} store;

static bool watches(const eepi_store_client *client, const char *key)
{
    for (int i = 0; i < client->num_watches; i++) {
        const sim_watch *watch = &client->watch[i];
        if (watch->stands && strncmp(key, watch->prefix, strlen(watch->prefix)) == 0) {
            return true;
        }
    }
    return false;
}

/* Every watcher is told of every change, in order. */
static void changed(void *user, const char *key, uint64_t revision, eepi_store_value *value)
{
    (void)user;
    if (revision > store.newest_revision) {
        store.newest_revision = revision;
    }
    for (eepi_store_client *client = sim_store_clients(); client; client = client->next) {
        if (client->process->alive && client->connected && watches(client, key)) {
            sim_store_send_down(client, EEPI_STORE_CHANGED, 0, EEP_OK, key, revision, value);
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

    sim_store_send_down(to->client, EEPI_STORE_ENTRY, to->id, EEP_OK, key, revision, value);
}

/* Nobody hears an answer on a connection that was given up. */
static void answer(const message *m, eep_status status, uint64_t revision, eepi_store_value *value)
{
    if (m->connection == m->client->connection) {
        sim_store_send_down(m->client, EEPI_STORE_REPLY, m->reply.id, status, m->key, revision,
                            value);
    }
}

enum { RACE_OF = 3, DEATH_OF = 5, RACE_US = 1500, FORGET_US = 1000, LATE_OF = 3, LATE_US = 500000 };

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

/* One whose lease has ended gets it anew, as the bridge to etcd does it. */
static eep_status put(message *m, uint64_t *revision_out)
{
    const eepi_store_client *client = m->client;

    if (m->is_leased && client->ttl_us == 0) {
        return EEP_ERR_STATE;
    }
    if (m->is_leased &&
        eepi_store_table_lease(store.table, client->lease, client->ttl_us, sim->now_us) != EEP_OK) {
        abort();
    }
    return eepi_store_table_put(store.table, m->key, m->value, m->is_leased ? client->lease : 0,
                                revision_out);
}

static void answer_write(message *m)
{
    uint64_t revision = 0;
    eepi_store_value *present = NULL;
    eep_status status;

    if (sim->now_us < store.refuses_until_us && !sim->healed) {
        answer(m, EEP_ERR_NO_MEMORY, 0, NULL);
        return;
    }
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
        if (status == EEP_OK && strcmp(m->key, EEPI_KEY_VIEW) != 0) {
            sim_check_put(m->client->process, m->key, m->value->bytes, m->value->size);
            sim_check_behind(m->client->process, m->known_epoch, register_epoch());
        }
    } else {
        sim_check_put(m->client->process, m->key, m->value->bytes, m->value->size);
        sim_check_behind(m->client->process, m->known_epoch, register_epoch());
        status = put(m, &revision);
    }
    answer(m, status, revision, status == EEP_ERR_CONFLICT ? present : NULL);
}

/* A list, a watch (again: one that stands after a break, id 0), and from then on its changes. */
static void answer_list(const message *m)
{
    sim_watch *watch = m->kind == MESSAGE_WATCH ? sim_store_watch_of(m->client, m->key) : NULL;
    listing to = {m->client, m->reply.id == 0 && watch ? watch->id : m->reply.id};

    eepi_store_table_list(store.table, m->key, entry, &to);
    if (watch) {
        watch->stands = true;
    }
    if (m->reply.id) {
        answer(m, EEP_OK, 0, NULL);
    } else if (--m->client->num_restoring == 0) {
        sim_store_send_down(m->client, EEPI_STORE_RECONNECTED, 0, EEP_OK, "", 0, NULL);
    }
}

static void answer_unwatch(const message *m)
{
    sim_watch *watch = sim_store_watch_of(m->client, m->key);

    if (watch) { /* it was asked for again; that comes behind this */
        watch->stands = false;
    }
    answer(m, EEP_OK, 0, NULL);
}

/* Its sender has been told that nobody knows, and has gone on with another connection. A member of
 * etcd may still have it, and pass it on to a new leader. */
static bool comes_late(message *m)
{
    const bool is_given_up = m->connection != m->client->connection;

    if (!sim->store_keeps || sim->healed || !is_given_up || m->is_late || sim_random(LATE_OF)) {
        return false;
    }
    sim_trace("a write of %s by %d.%u comes late", m->key, m->client->process->seat,
              m->client->process->generation);
    m->is_late = true;
    return true;
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
    if (comes_late(m)) {
        sim_after(sim_delay(1000, LATE_US), serve, m, 0);
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
    } else if (m->kind == MESSAGE_LEASE) {
        m->client->renewed_us = sim->now_us;
        status =
            eepi_store_table_lease(store.table, m->client->lease, m->client->ttl_us, sim->now_us);
        answer(m, status, 0, NULL);
    } else if (m->kind == MESSAGE_GET) {
        status = eepi_store_table_get(store.table, m->key, &revision, &value);
        answer(m, status, revision, value);
    } else if (m->kind == MESSAGE_REMOVE) {
        status = eepi_store_table_remove(store.table, m->key);
        answer(m, status, 0, NULL);
    } else if (m->connection == m->client->connection) {
        if (m->kind == MESSAGE_UNWATCH) {
            answer_unwatch(m);
        } else {
            answer_list(m);
        }
    }
    eepi_store_value_release(m->value);
    free(m);
}

static void send_up(eepi_store_client *client, message_kind kind, uint64_t id, const char *key,
                    uint64_t revision, eepi_store_value *value, bool is_leased)
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
    m->is_leased = is_leased;
    strcpy(m->key, key);
    sim_after(sim_store_arrival_us(&client->up_us) - sim->now_us, serve, m, 0);
}

void sim_store_send_up(eepi_store_client *client, message_kind kind, uint64_t id, const char *key,
                       uint64_t revision, eepi_store_value *value)
{
    send_up(client, kind, id, key, revision, value, false);
}

void sim_store_send_leased(eepi_store_client *client, uint64_t id, const char *key,
                           eepi_store_value *value)
{
    send_up(client, MESSAGE_PUT, id, key, 0, value, true);
}

bool sim_store_is_there(void)
{
    return !store.is_down && sim->now_us >= store.away_until_us;
}

uint64_t sim_store_life(void)
{
    return store.life;
}

/* ------------------------------------------------------------------ leases */

enum { RENEW_US = 20000 };

void sim_store_revoke(const eepi_store_client *client)
{
    if (client->ttl_us != 0) {
        eepi_store_table_revoke(store.table, client->lease);
    }
}

/* Clients whose processes run send keep-alives. While the store is away no lease lapses: behind an
 * election etcd extends them all. */
static void renew(void *user, uint64_t number)
{
    (void)user;
    (void)number;
    if (!sim_store_is_there()) {
        eepi_store_table_extend(store.table, RENEW_US);
        sim_after(RENEW_US, renew, NULL, 0);
        return;
    }
    for (eepi_store_client *client = sim_store_clients(); client; client = client->next) {
        const sim_process *p = client->process;
        if (client->ttl_us != 0 && client->connected && p->alive &&
            sim->now_us >= p->stopped_until_us) {
            client->renewed_us = sim->now_us;
            (void)!eepi_store_table_lease(store.table, client->lease, client->ttl_us, sim->now_us);
        }
    }
    (void)eepi_store_table_expire(store.table, sim->now_us);
    sim_leases_note(store.table);
    sim_after(RENEW_US, renew, NULL, 0);
}

static void table_new(void)
{
    const eepi_store_limits limits = {4096, SIM_MAX_PROCESSES, (size_t)1 << 28};

    store.newest_revision += 1000;
    store.table = eepi_store_table_new(&limits, store.newest_revision, changed, NULL);
    if (!store.table) {
        abort();
    }
}

static void restart(void *user, uint64_t forgets)
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

void sim_store_refuse_writes(uint64_t for_us)
{
    sim_trace("the store refuses writes for %llu us", (unsigned long long)for_us);
    store.refuses_until_us = sim->now_us + for_us;
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
    for (int i = 0; i < sim->num_agents; i++) {
        sim_store_break(sim->agent[i]);
    }
    sim_after(for_us, restart, NULL, (uint64_t)forgets);
}

/* With a document of an instance whose processes are all gone, so that counters start high. */
void sim_store_open(uint64_t first_epoch, uint64_t first_step)
{
    memset(&store, 0, sizeof store);
    sim_store_forget_clients();
    table_new();
    if (sim->store_keeps) {
        sim_after(RENEW_US, renew, NULL, 0);
    }
    if (first_epoch > 1) {
        const eepi_view_shape shape = {sim->shape.max_ranks, sim->shape.num_layers,
                                       sim->shape.num_experts, sim->shape.num_slots,
                                       .ranks_per_node = sim->shape.ranks_per_node};
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
