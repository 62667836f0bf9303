/* SPDX-License-Identifier: Apache-2.0 */
/* The product's interface to the store, over the simulated one. */
#include "tests/sim/sim_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t ask(eepi_store_client *client, message_kind kind, const char *key,
                    uint64_t revision, const void *bytes, size_t size, bool is_leased)
{
    const int has_value = kind == MESSAGE_PUT || kind == MESSAGE_CAS;
    const int is_good = strnlen(key, EEPI_STORE_KEY_MAX) < EEPI_STORE_KEY_MAX &&
                        (kind >= MESSAGE_LIST || key[0] != '\0');
    uint64_t id = client->next_id++;
    pending *p;

    if (!is_good || !client->connected) {
        sim_store_put_item(client, EEPI_STORE_REPLY, id,
                           is_good ? EEP_ERR_UNREACHABLE : EEP_ERR_INVALID);
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
    if (is_leased) {
        sim_store_send_leased(client, id, key, eepi_store_value_new(bytes, size));
    } else {
        sim_store_send_up(client, kind, id, key, revision,
                          has_value ? eepi_store_value_new(bytes, size) : NULL);
    }
    return id;
}

static uint64_t request(eepi_store_client *client, message_kind kind, const char *key,
                        uint64_t revision, const void *bytes, size_t size)
{
    return ask(client, kind, key, revision, bytes, size, false);
}

static int can_connect(const eepi_store_client *client)
{
    return sim_store_is_there() && sim->now_us >= client->process->cut_until_us;
}

static void reconnect(eepi_store_client *client)
{
    if (client->connected || sim->now_us < client->retry_us) {
        return;
    }
    client->retry_us = sim->now_us + SIM_RECONNECT_US;
    if (!can_connect(client)) {
        return;
    }
    client->connected = 1;
    client->up_us = client->down_us = sim->now_us;
    client->num_restoring = client->num_watches;
    for (int i = 0; i < client->num_watches; i++) {
        sim_store_send_up(client, MESSAGE_WATCH, 0, client->watch[i].prefix, 0, NULL);
    }
    if (client->num_watches == 0) {
        sim_store_put_item(client, EEPI_STORE_RECONNECTED, 0, EEP_OK);
    }
}

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
        sim_sleep(SIM_RECONNECT_US);
    }
    if (!can_connect(client)) {
        free(client);
        return EEP_ERR_UNREACHABLE;
    }
    client->connected = 1;
    client->process->store = client;
    client->lease = (uint64_t)client->process->index + 1;
    sim_store_add_client(client);
    *client_out = client;
    return EEP_OK;
}

void eepi_store_client_close(eepi_store_client *client)
{
    if (client) {
        sim_store_revoke(client);
        client->ttl_us = 0;
        client->connected = 0;
        client->connection++;
    }
}

bool eepi_store_keeps(const eepi_store_client *client)
{
    (void)client;
    return sim->store_keeps;
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

uint64_t eepi_store_get(eepi_store_client *client, const char *key)
{
    return request(client, MESSAGE_GET, key, 0, NULL, 0);
}

uint64_t eepi_store_put(eepi_store_client *client, const char *key, const void *value, size_t size,
                        int leased)
{
    return ask(client, MESSAGE_PUT, key, 0, value, size, leased);
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
    client->ttl_us = ttl_us;
    return request(client, MESSAGE_LEASE, "", 0, NULL, 0);
}

/* Less a tenth, as the product counts it; by the clock of its process. */
uint64_t eepi_store_lease_until_us(const eepi_store_client *client)
{
    const uint64_t since_us = sim->now_us - client->renewed_us;

    return client->renewed_us == 0
               ? 0
               : sim_local_us(client->process) - since_us + client->ttl_us - client->ttl_us / 10;
}

uint64_t eepi_store_watch(eepi_store_client *client, const char *prefix)
{
    sim_watch *watch = sim_store_watch_of(client, prefix);

    if (!watch) {
        if (client->num_watches == SIM_MAX_WATCHES) {
            abort();
        }
        watch = &client->watch[client->num_watches++];
        *watch = (sim_watch){.stands = false};
        snprintf(watch->prefix, sizeof watch->prefix, "%s", prefix);
    }
    watch->id = client->next_id;
    return request(client, MESSAGE_WATCH, prefix, 0, NULL, 0);
}

uint64_t eepi_store_unwatch(eepi_store_client *client, const char *prefix)
{
    sim_watch *watch = sim_store_watch_of(client, prefix);

    if (watch) {
        *watch = client->watch[--client->num_watches];
    }
    return request(client, MESSAGE_UNWATCH, prefix, 0, NULL, 0);
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
        sim_store_forget_pending(client, m->reply.id);
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
