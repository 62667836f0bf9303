/* SPDX-License-Identifier: Apache-2.0 */
/* The agents' addresses in the store. */
#include "membership/agent/agent_roll.h"

#include "graphs/base/clock.h"
#include "membership/context/config.h"
#include "membership/store/store_client.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROLL_VERSION = 1,
    BOUND_US = 5000000,
    POLL_MS = 20,
    EVENTS_AT_ONCE = 64,
    AGAIN_US = 200000 /* a store that refuses writes takes them later (rule N14) */
};

typedef struct roll_value {
    uint64_t version, host, generation;
    char address[EEPI_BOARD_ADDRESS_BYTES];
} roll_value;

/* At a store that several hosts reach: it vanishes soon behind its agent. */
typedef struct roll_lease {
    uint64_t host, home;
} roll_lease;

struct eepi_agent_roll {
    eepi_agent_roll_config config;
    eepi_store_client *client;
    roll_value own;
    char key[EEPI_STORE_KEY_MAX], lease_key[EEPI_STORE_KEY_MAX];
    uint64_t put_id;   /* of the newest put of the own entry, */
    uint64_t lease_id; /* and of the lease's key */
    uint64_t again_us; /* when it is put again; 0: the store has it, or answers yet */
    bool is_outlived;
};

static void put_lease(eepi_agent_roll *roll)
{
    const roll_lease lease = {roll->own.host, roll->config.home};

    if (eepi_store_keeps(roll->client)) {
        roll->lease_id = eepi_store_put(roll->client, roll->lease_key, &lease, sizeof lease, 1);
    }
}

static void put_own(eepi_agent_roll *roll)
{
    roll->again_us = 0;
    if (roll->is_outlived) { /* the newer one's stays */
        return;
    }
    put_lease(roll);
    roll->put_id = eepi_store_put(roll->client, roll->key, &roll->own, sizeof roll->own, 0);
}

static void take_answer(eepi_agent_roll *roll, const eepi_store_reply *reply)
{
    if ((reply->id == roll->put_id || reply->id == roll->lease_id) && reply->status != EEP_OK) {
        roll->again_us = eepi_now_us() + AGAIN_US;
    }
}

static bool read_value(const eepi_store_reply *reply, roll_value *value_out)
{
    if (reply->size != sizeof *value_out) {
        return false;
    }
    memcpy(value_out, reply->value, sizeof *value_out);
    return value_out->version == ROLL_VERSION &&
           value_out->address[sizeof value_out->address - 1] == '\0';
}

/* Others take no word of an agent that is older than one that they know. */
static eep_status follow_predecessor(eepi_agent_roll *roll)
{
    const uint64_t until_us = eepi_now_us() + BOUND_US;
    struct pollfd fd = {.events = POLLIN};
    uint64_t id = eepi_store_get(roll->client, roll->key);
    eepi_store_reply reply;
    roll_value last;

    while (eepi_now_us() < until_us) {
        while (eepi_store_client_next(roll->client, &reply) == EEP_OK) {
            if (reply.kind != EEPI_STORE_REPLY || reply.id != id) {
                continue;
            }
            if (reply.status == EEP_OK || reply.status == EEP_ERR_NOT_FOUND) {
                if (read_value(&reply, &last) && last.host == roll->own.host &&
                    last.generation >= roll->own.generation) {
                    roll->own.generation = last.generation + 1;
                }
                return EEP_OK;
            }
            id = 0;
        }
        fd.fd = eepi_store_client_fd(roll->client);
        (void)poll(&fd, 1, POLL_MS);
        id = id != 0 ? id : eepi_store_get(roll->client, roll->key);
    }
    return EEP_ERR_UNREACHABLE;
}

/* An agent of the same host id has its lease elsewhere, or from before a new start of the machine.
 */
static bool has_namesake(eepi_agent_roll *roll, eep_status *status_out)
{
    eepi_store_reply reply;
    roll_lease there;

    *status_out = eepi_store_client_wait(
        roll->client, eepi_store_get(roll->client, roll->lease_key), BOUND_US, &reply);
    if (*status_out != EEP_OK || reply.status != EEP_OK || reply.size != sizeof there) {
        return false;
    }
    memcpy(&there, reply.value, sizeof there);
    return there.host == roll->own.host && there.home != roll->config.home;
}

/* Rule N12. EEP_ERR_CONFLICT: an agent of the same host id runs elsewhere, and goes on with its
 * lease. */
static eep_status take_lease(eepi_agent_roll *roll)
{
    const uint64_t until_us = eepi_now_us() + 2 * eepi_config_lease_us();
    eepi_store_reply reply;
    eep_status status;

    if (!eepi_store_keeps(roll->client)) {
        return EEP_OK;
    }
    while (has_namesake(roll, &status)) {
        if (eepi_now_us() >= until_us) {
            return EEP_ERR_CONFLICT;
        }
        (void)poll(NULL, 0, POLL_MS);
    }
    if (status == EEP_OK) {
        status = eepi_store_client_wait(
            roll->client, eepi_store_lease(roll->client, eepi_config_lease_us()), BOUND_US, &reply);
    }
    return status == EEP_OK ? reply.status : status;
}

eep_status eepi_agent_roll_open(const eepi_agent_roll_config *config, uint64_t *generation_out,
                                eepi_agent_roll **roll_out)
{
    eepi_agent_roll *roll = calloc(1, sizeof *roll);
    eep_status status =
        roll ? eepi_store_client_open(config->store, BOUND_US, &roll->client) : EEP_ERR_NO_MEMORY;

    if (status != EEP_OK) {
        free(roll);
        return status;
    }
    roll->config = *config;
    roll->own = (roll_value){ROLL_VERSION, config->host, config->generation, ""};
    snprintf(roll->own.address, sizeof roll->own.address, "%s", config->address);
    snprintf(roll->key, sizeof roll->key, EEPI_KEY_AGENT "%016" PRIx64, config->host);
    snprintf(roll->lease_key, sizeof roll->lease_key, EEPI_KEY_AGENT "lease/%016" PRIx64,
             config->host);
    status = take_lease(roll);
    if (status == EEP_OK) {
        status = follow_predecessor(roll);
    }
    if (status != EEP_OK) {
        eepi_agent_roll_close(roll);
        return status;
    }
    put_own(roll);
    (void)eepi_store_watch(roll->client, EEPI_KEY_AGENT);
    *generation_out = roll->own.generation;
    *roll_out = roll;
    return EEP_OK;
}

void eepi_agent_roll_close(eepi_agent_roll *roll)
{
    if (roll) {
        eepi_store_client_close(roll->client);
    }
    free(roll);
}

int eepi_agent_roll_fd(const eepi_agent_roll *roll)
{
    return eepi_store_client_fd(roll->client);
}

static void take_value(eepi_agent_roll *roll, const eepi_store_reply *reply)
{
    roll_value value;

    if (reply->size == 0 && reply->key && strcmp(reply->key, roll->key) == 0) {
        put_own(roll); /* somebody has cleared the store */
    }
    if (reply->size == 0 && reply->key && strcmp(reply->key, roll->lease_key) == 0) {
        put_lease(roll); /* this process stood still for longer than it lasts */
    }
    if (!read_value(reply, &value)) {
        return;
    }
    if (value.host != roll->own.host) {
        roll->config.found(roll->config.user, value.host, value.generation, value.address);
    } else if (value.generation < roll->own.generation) { /* our predecessor's word, come late */
        put_own(roll);
    } else if (value.generation > roll->own.generation && !roll->is_outlived) {
        roll->is_outlived = true;
        roll->config.outlived(roll->config.user, value.generation);
    }
}

void eepi_agent_roll_progress(eepi_agent_roll *roll)
{
    eepi_store_reply reply;

    for (int i = 0; i < EVENTS_AT_ONCE && eepi_store_client_next(roll->client, &reply) == EEP_OK;
         i++) {
        if (reply.kind == EEPI_STORE_RECONNECTED) {
            put_own(roll); /* it may have forgotten */
        } else if (reply.kind == EEPI_STORE_ENTRY || reply.kind == EEPI_STORE_CHANGED) {
            take_value(roll, &reply);
        } else if (reply.kind == EEPI_STORE_REPLY) {
            take_answer(roll, &reply);
        }
    }
    if (roll->again_us != 0 && eepi_now_us() >= roll->again_us) {
        put_own(roll);
    }
}
