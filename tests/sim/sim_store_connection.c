/* SPDX-License-Identifier: Apache-2.0 */
/* A process's connection to the simulated store. It keeps the order both ways; different
 * connections do not wait for each other. A request whose answer was lost with its connection is
 * answered "unknown", as the product's client does it. */
#include "tests/sim/sim_store.h"

#include <stdlib.h>
#include <string.h>

static eepi_store_client *clients;

eepi_store_client *sim_store_clients(void)
{
    return clients;
}

void sim_store_add_client(eepi_store_client *client)
{
    client->next = clients;
    clients = client;
}

void sim_store_forget_clients(void)
{
    clients = NULL;
}

sim_watch *sim_store_watch_of(eepi_store_client *client, const char *prefix)
{
    for (int i = 0; i < client->num_watches; i++) {
        if (strcmp(client->watch[i].prefix, prefix) == 0) {
            return &client->watch[i];
        }
    }
    return NULL;
}

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
    sim_wake(&client->process->poll_key, SIM_POLLERS);
}

uint64_t sim_store_arrival_us(uint64_t *newest_us)
{
    uint64_t at = sim->now_us + sim_delay(50, sim->kinds >> SIM_DELAY & 1u ? 12000 : 2000);

    *newest_us = at > *newest_us ? at : *newest_us;
    return *newest_us;
}

void sim_store_send_down(eepi_store_client *client, eepi_store_reply_kind kind, uint64_t id,
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
    if (sim->store_keeps && kind == EEPI_STORE_CHANGED) { /* on a stream of its own */
        sim_after(sim_store_arrival_us(&client->watch_us) - sim->now_us, arrive, m, 0);
        return;
    }
    sim_after(sim_store_arrival_us(&client->down_us) - sim->now_us, arrive, m, 0);
    if (kind == EEPI_STORE_ENTRY && client->watch_us < client->down_us) {
        client->watch_us = client->down_us; /* what a list has comes before what follows it */
    }
}

/* An answer or event of the client's own. */
void sim_store_put_item(eepi_store_client *client, eepi_store_reply_kind kind, uint64_t id,
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

void sim_store_forget_pending(eepi_store_client *client, uint64_t id)
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

void sim_store_disconnect(eepi_store_client *client)
{
    if (!client->connected) {
        return;
    }
    client->connected = 0;
    for (int i = 0; i < client->num_watches; i++) {
        client->watch[i].stands = false;
    }
    client->connection++;
    client->retry_us = sim->now_us + SIM_RECONNECT_US;
    for (message *m = client->first; m; m = m->next) {
        m->connection = client->connection; /* what has arrived is read all the same */
    }
    sim_store_put_item(client, EEPI_STORE_DISCONNECTED, 0, EEP_OK);
    while (client->pending) {
        if (!is_answered(client, client->pending->id)) {
            sim_store_put_item(client, EEPI_STORE_REPLY, client->pending->id, EEP_ERR_UNREACHABLE);
        }
        sim_store_forget_pending(client, client->pending->id);
    }
}

void sim_store_break(sim_process *p)
{
    for (eepi_store_client *client = clients; client; client = client->next) {
        if (client->process == p && p->alive) {
            sim_store_disconnect(client);
        }
    }
}

void sim_store_cut(eepi_store_client *client)
{
    sim_store_disconnect(client);
}

void sim_store_delay(sim_process *p, uint64_t by_us)
{
    if (p->alive && p->store && p->store->down_us < sim->now_us + by_us) {
        p->store->down_us = sim->now_us + by_us;
    }
}

void sim_store_mute(uint64_t for_us)
{
    eepi_store_client *chosen = NULL;
    int num = 0;

    for (eepi_store_client *client = clients; client; client = client->next) {
        if (client->process->alive && client->connected && sim_random((uint64_t)++num) == 0) {
            chosen = client;
        }
    }
    if (chosen && chosen->watch_us < sim->now_us + for_us) {
        sim_trace("the watch of %d.%u is silent for %llu us", chosen->process->seat,
                  chosen->process->generation, (unsigned long long)for_us);
        chosen->watch_us = sim->now_us + for_us;
        chosen->process->disturbed_us = sim->now_us + 2 * for_us;
    }
}

int sim_store_is_readable(eepi_store_client *client)
{
    return client->first != NULL;
}
