/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/etcd/etcd_session.h"

#include "graphs/base/clock.h"

#include <stdlib.h>
#include <string.h>

enum { US_PER_S = 1000 * 1000 };

static void reply(eepi_etcd *self, const eepi_store_message *request, eep_status status,
                  const eepi_etcd_value *value)
{
    if (status == EEP_ERR_UNREACHABLE || status == EEP_ERR_TIMEOUT) {
        eepi_etcd_break(self, true); /* nobody knows: the client is told so by the break */
        return;
    }
    eepi_etcd_send(self, &(eepi_store_message){.type = EEPI_STORE_MSG_REPLY,
                                               .status = status,
                                               .id = request->id,
                                               .revision = value ? value->revision : 0,
                                               .key = request->key,
                                               .value = value ? value->bytes : NULL,
                                               .value_size = value ? value->size : 0});
}

/* A refusal of who we are is an outage, as all is that only reads (rule N14). */
static eep_status as_outage(eep_status status)
{
    return status == EEP_ERR_STATE ? EEP_ERR_UNREACHABLE : status;
}

static void get(eepi_etcd *self, const eepi_store_message *request)
{
    eepi_etcd_value value = {0};
    eep_status status = as_outage(eepi_etcd_value_get(&self->api, request->key, &value));
    reply(self, request, status, &value);
    eepi_etcd_value_free(&value);
}

/* Created anew, or renewed where it lives. It is counted from before it was asked for: etcd counts
 * from later on (rule N21). */
static eep_status take_lease(eepi_etcd *self, uint64_t lease, uint64_t ttl_s)
{
    const uint64_t sent_us = eepi_now_us();
    const eep_status status = eepi_etcd_api_lease(&self->api, lease, ttl_s);

    if (status == EEP_OK) {
        __atomic_store_n(&self->lease_sent_us, sent_us, __ATOMIC_RELAXED);
    }
    return status;
}

static void write_key(eepi_etcd *self, const eepi_store_message *request)
{
    eepi_etcd_value value = {0};
    const bool leased = request->type == EEPI_STORE_MSG_PUT && request->lease != 0;
    const eepi_etcd_write write = {.key = request->key,
                                   .value = request->value,
                                   .size = request->value_size,
                                   .compares = request->type == EEPI_STORE_MSG_CAS,
                                   .expected = request->revision,
                                   .lease = leased ? self->lease : 0};
    eep_status status;
    if (leased && self->lease == 0) {
        reply(self, request, EEP_ERR_STATE, NULL);
        return;
    }
    status = eepi_etcd_value_write(&self->api, &write, &value);
    if (leased && status == EEP_ERR_NOT_FOUND) { /* it has ended: created anew, without its keys */
        status = take_lease(self, self->lease, self->ttl_s);
        status = status == EEP_OK ? eepi_etcd_value_write(&self->api, &write, &value) : status;
    }
    status = status == EEP_ERR_NOT_FOUND ? EEP_ERR_UNREACHABLE : status;
    reply(self, request, as_outage(status), &value);
    if (status == EEP_OK && value.has_base) { /* behind the answer, which waits for nothing */
        eepi_etcd_documents_collect(&self->api, request->key, &value.base);
    }
    eepi_etcd_value_free(&value);
}

/* ENTRY for each key below the prefix. *revision_out: as of which revision. */
static eep_status give_list(eepi_etcd *self, const eepi_store_message *request,
                            uint64_t *revision_out)
{
    const size_t skip = strlen(self->url.prefix) + 2;
    cJSON *answer = NULL;
    const cJSON *kv;
    eep_status status =
        as_outage(eepi_etcd_value_list(&self->api, request->key, &answer, revision_out));
    if (status != EEP_OK) {
        return status;
    }
    cJSON_ArrayForEach(kv, cJSON_GetObjectItemCaseSensitive(answer, "kvs"))
    {
        char key[EEPI_STORE_KEY_MAX];
        eepi_etcd_entry entry = {0};
        eepi_etcd_value value = {0};
        if (status != EEP_OK) {
            continue;
        }
        if (!eepi_etcd_api_entry(kv, skip, &entry) || strlen(entry.key) >= sizeof key) {
            free(entry.key);
            free(entry.bytes);
            status = EEP_ERR_UNREACHABLE;
            continue;
        }
        strcpy(key, entry.key);
        status = as_outage(eepi_etcd_value_of(&self->api, key, &entry, &value));
        if (status == EEP_OK) {
            eepi_etcd_send(self, &(eepi_store_message){.type = EEPI_STORE_MSG_ENTRY,
                                                       .id = request->id,
                                                       .revision = value.revision,
                                                       .key = key,
                                                       .value = value.bytes,
                                                       .value_size = value.size});
        }
        status = status == EEP_ERR_NOT_FOUND ? EEP_OK : status; /* gone since the list */
        eepi_etcd_value_free(&value);
    }
    cJSON_Delete(answer);
    return status;
}

static void watch(eepi_etcd *self, const eepi_store_message *request)
{
    uint64_t revision = 0;
    eep_status status = give_list(self, request, &revision);
    if (status == EEP_OK && !eepi_etcd_watch(self, request->key, revision)) {
        status = EEP_ERR_NO_MEMORY;
    }
    reply(self, request, status, NULL);
}

static void lease(eepi_etcd *self, const eepi_store_message *request)
{
    const uint64_t name = request->lease & INT64_MAX; /* etcd's have a sign */
    const uint64_t ttl_s = (request->ttl_us + US_PER_S - 1) / US_PER_S;
    eep_status status = as_outage(take_lease(self, name, ttl_s));
    status = status == EEP_ERR_NOT_FOUND ? EEP_ERR_UNREACHABLE : status;
    if (status == EEP_OK) {
        self->lease = name;
        self->ttl_s = ttl_s;
    }
    reply(self, request, status, NULL);
}

static void keep_alive(eepi_etcd *self)
{
    const uint64_t sent_us = eepi_now_us();
    eep_status status;
    if (self->lease == 0) {
        return;
    }
    status = eepi_etcd_api_renew(&self->api, self->lease);
    if (status == EEP_OK) {
        __atomic_store_n(&self->lease_sent_us, sent_us, __ATOMIC_RELAXED);
    } else if (status == EEP_ERR_NOT_FOUND) {
        status = take_lease(self, self->lease, self->ttl_s);
    }
    if (status != EEP_OK) {
        eepi_etcd_break(self, true);
    }
}

static void say_bye(eepi_etcd *self)
{
    cJSON *answer = NULL;
    if (self->lease == 0) {
        return;
    }
    eepi_etcd_text_clear(&self->api.body);
    eepi_etcd_text_format(&self->api.body, "{\"ID\":\"%llu\"}", (unsigned long long)self->lease);
    self->lease = 0;
    if (eepi_etcd_api_call(&self->api, "/v3/lease/revoke", &answer) == EEP_OK) {
        cJSON_Delete(answer);
    }
}

void eepi_etcd_request(eepi_etcd *self, const eepi_store_message *request)
{
    uint64_t revision = 0;
    switch (request->type) {
    case EEPI_STORE_MSG_GET:
        get(self, request);
        break;
    case EEPI_STORE_MSG_PUT:
    case EEPI_STORE_MSG_CAS:
        write_key(self, request);
        break;
    case EEPI_STORE_MSG_REMOVE:
        reply(self, request, as_outage(eepi_etcd_value_remove(&self->api, request->key)), NULL);
        break;
    case EEPI_STORE_MSG_LIST:
        reply(self, request, give_list(self, request, &revision), NULL);
        break;
    case EEPI_STORE_MSG_WATCH:
        watch(self, request);
        break;
    case EEPI_STORE_MSG_UNWATCH:
        eepi_etcd_unwatch(self, request->key);
        reply(self, request, EEP_OK, NULL);
        break;
    case EEPI_STORE_MSG_LEASE:
        lease(self, request);
        break;
    case EEPI_STORE_MSG_KEEPALIVE:
        keep_alive(self);
        break;
    case EEPI_STORE_MSG_BYE:
        say_bye(self);
        break;
    default:
        eepi_etcd_break(self, false);
    }
}
