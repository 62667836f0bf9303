/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/etcd/etcd_session.h"

#include "graphs/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_US = 500 * 1000, PATIENCE_US = 100 * 1000, MOST_PATIENCE_US = 3200 * 1000 };

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool eepi_etcd_watch(eepi_etcd *self, const char *prefix, uint64_t revision)
{
    size_t at = 0;
    while (at < self->num_watches &&
           (self->watch[at].active ? strcmp(self->watch[at].prefix, prefix) != 0 : true)) {
        at++;
    }
    for (size_t i = 0; at == self->num_watches && i < self->num_watches; i++) {
        at = self->watch[i].active ? at : i; /* a slot that is free again */
    }
    if (at == EEPI_STORE_WATCH_MAX) {
        return false;
    }
    self->num_watches += at == self->num_watches;
    self->watch[at] = (eepi_etcd_watched){.active = true, .since = revision, .next = revision + 1};
    snprintf(self->watch[at].prefix, sizeof self->watch[at].prefix, "%s", prefix);
    self->seen = revision > self->seen ? revision : self->seen;
    self->stream_stale = true;
    return true;
}

void eepi_etcd_unwatch(eepi_etcd *self, const char *prefix)
{
    for (size_t i = 0; i < self->num_watches; i++) {
        if (self->watch[i].active && strcmp(self->watch[i].prefix, prefix) == 0) {
            self->watch[i].active = false; /* the stream goes on; its events are dropped */
        }
    }
}

void eepi_etcd_forget_watches(eepi_etcd *self)
{
    self->num_watches = 0;
    self->num_ahead = 0;
    self->missing = self->seen = 0;
    self->stream_stale = false;
    eepi_etcd_http_end_stream(self->api.http);
}

/* One stream for all watches: events of one revision come together, in the order of revisions. */
static void begin_stream(eepi_etcd *self)
{
    eepi_etcd_text *body = &self->api.body;
    bool has_any = false;
    eepi_etcd_text_clear(body);
    for (size_t i = 0; i < self->num_watches; i++) {
        char full[EEPI_ETCD_KEY_BYTES];
        self->watch[i].created = false;
        if (!self->watch[i].active) {
            continue;
        }
        (void)eepi_etcd_key_of(&self->api, self->watch[i].prefix, full);
        eepi_etcd_text_format(body, "{\"create_request\":{");
        eepi_etcd_text_key(body, "key", full);
        eepi_etcd_text_format(body, ",");
        eepi_etcd_text_range_end(body, "range_end", full);
        eepi_etcd_text_format(body, ",\"start_revision\":\"%llu\",\"watch_id\":\"%zu\"}}\n",
                              (unsigned long long)self->watch[i].next, i + 1);
        has_any = true;
    }
    self->stream_stale = false;
    self->stream_us = eepi_now_us();
    if (self->patience_us == 0) {
        self->patience_us = PATIENCE_US;
    }
    if (self->tick_us > self->stream_us + self->patience_us) {
        self->tick_us = self->stream_us + self->patience_us;
    }
    eepi_etcd_http_end_stream(self->api.http);
    if (has_any && (body->failed || eepi_etcd_http_stream(self->api.http, "/v3/watch", body->bytes,
                                                          self->api.token) != EEP_OK)) {
        eepi_etcd_break(self, true);
    }
}

/* It was given at this revision or a newer one. */
static bool is_old(eepi_etcd *self, const char *key, uint64_t revision)
{
    for (size_t i = 0; i < self->num_ahead; i++) {
        if (strcmp(self->ahead[i].key, key) == 0 && revision <= self->ahead[i].revision) {
            return true;
        }
    }
    return false;
}

static void note_ahead(eepi_etcd *self, const char *key, uint64_t revision)
{
    const size_t at =
        self->num_ahead < EEPI_ETCD_AHEAD ? self->num_ahead++ : revision % EEPI_ETCD_AHEAD;
    snprintf(self->ahead[at].key, sizeof self->ahead[at].key, "%s", key);
    self->ahead[at].revision = revision;
}

/* Another watch, before this one, gives the client the same event. */
static bool is_anothers(const eepi_etcd *self, size_t at, const char *key, uint64_t revision)
{
    for (size_t i = 0; i < at; i++) {
        const eepi_etcd_watched *other = &self->watch[i];
        if (other->active && other->since < revision && begins_with(key, other->prefix)) {
            return true;
        }
    }
    return false;
}

/* Takes the entry over. */
static void give(eepi_etcd *self, eepi_etcd_entry *entry, bool is_gone)
{
    char key[EEPI_STORE_KEY_MAX];
    eepi_etcd_value value = {0};
    eep_status status = EEP_OK;
    const uint64_t revision = entry->revision;
    snprintf(key, sizeof key, "%s", entry->key);
    if (!is_gone) {
        status = eepi_etcd_value_of(&self->api, key, entry, &value);
    }
    if (status == EEP_OK || status == EEP_ERR_NOT_FOUND) { /* the latter: it is gone by now */
        eepi_etcd_send(self, &(eepi_store_message){.type = EEPI_STORE_MSG_CHANGED,
                                                   .revision = value.revision,
                                                   .key = key,
                                                   .value = value.bytes,
                                                   .value_size = value.size});
        if (status == EEP_ERR_NOT_FOUND || value.revision > revision) {
            note_ahead(self, key, value.revision > revision ? value.revision : revision);
        }
    } else {
        eepi_etcd_break(self, true);
    }
    eepi_etcd_value_free(&value);
}

static void take_event(eepi_etcd *self, size_t at, const cJSON *event)
{
    eepi_etcd_watched *watch = &self->watch[at];
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(event, "type");
    const cJSON *kv = cJSON_GetObjectItemCaseSensitive(event, "kv");
    const size_t skip = strlen(self->url.prefix) + 2;
    eepi_etcd_entry entry = {0};
    if (!eepi_etcd_api_entry(kv, skip, &entry) || strlen(entry.key) >= EEPI_STORE_KEY_MAX) {
        eepi_etcd_break(self, true);
    } else if (watch->active && entry.revision >= watch->next &&
               !is_anothers(self, at, entry.key, entry.revision) &&
               !is_old(self, entry.key, entry.revision)) {
        give(self, &entry, cJSON_IsString(type) && strcmp(type->valuestring, "DELETE") == 0);
    }
    free(entry.key);
    free(entry.bytes);
}

/* Events of one watch: whole revisions. */
static void take_events(eepi_etcd *self, size_t at, const cJSON *events)
{
    const cJSON *event;
    uint64_t last = 0;
    cJSON_ArrayForEach(event, events)
    {
        uint64_t revision =
            eepi_etcd_number(cJSON_GetObjectItemCaseSensitive(event, "kv"), "mod_revision");
        last = revision > last ? revision : last;
        if (!self->broken) {
            take_event(self, at, event);
        }
    }
    if (last >= self->watch[at].next) {
        self->watch[at].next = last + 1;
    }
    self->seen = last > self->seen ? last : self->seen;
}

static void take_line(eepi_etcd *self, const char *line)
{
    cJSON *answer = cJSON_Parse(line);
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(answer, "result");
    const uint64_t id = eepi_etcd_number(result, "watch_id");
    if (!result || id > self->num_watches) {
        eepi_etcd_break(self, true);
    } else if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(result, "canceled"))) {
        /* Compacted: all begins anew, with a list, at this endpoint or another (rule N17). */
        eepi_etcd_break(self, eepi_etcd_number(result, "compact_revision") == 0);
    } else if (id > 0) {
        self->watch[id - 1].created |=
            cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(result, "created"));
        take_events(self, id - 1, cJSON_GetObjectItemCaseSensitive(result, "events"));
    }
    cJSON_Delete(answer);
}

void eepi_etcd_follow(eepi_etcd *self)
{
    char *line;
    if (self->stream_stale && !self->broken) {
        begin_stream(self);
    }
    while (!self->broken && (line = eepi_etcd_http_line(self->api.http))) {
        take_line(self, line);
    }
    if (!self->broken && eepi_etcd_http_stream_ended(self->api.http)) {
        eepi_etcd_break(self, true);
    }
}

/* All watches are asked for in the body of one POST. etcd's gateway reads on while it begins to
 * answer the first of them, and the HTTP server below it throws away what has not been read by then
 * (Go's net/http, HTTP/1.1). So etcd may never have heard of the last ones, and says nothing of it:
 * what it has not confirmed in time is asked for again, with a longer time each, since etcd may
 * also be slow. */
static void insist(eepi_etcd *self, uint64_t now_us)
{
    const uint64_t end_us = self->stream_us + self->patience_us;
    bool has_all = true;
    for (size_t i = 0; i < self->num_watches; i++) {
        has_all &= !self->watch[i].active || self->watch[i].created;
    }
    if (has_all) {
        self->patience_us = PATIENCE_US;
    } else if (now_us < end_us) {
        self->tick_us = end_us;
    } else {
        self->patience_us =
            self->patience_us < MOST_PATIENCE_US ? 2 * self->patience_us : MOST_PATIENCE_US;
        self->stream_stale = true;
    }
}

/* The revision of the newest write that a watch is to give and that it has not; 0: there is none.
 */
static uint64_t find_missing(eepi_etcd *self)
{
    const size_t skip = strlen(self->url.prefix) + 2;
    char full[EEPI_ETCD_KEY_BYTES];
    eepi_etcd_entry entry = {0};
    cJSON *answer = NULL;
    uint64_t missing = 0;
    const cJSON *kv;
    (void)eepi_etcd_key_of(&self->api, "", full);
    eepi_etcd_text_clear(&self->api.body);
    eepi_etcd_text_format(&self->api.body, "{");
    eepi_etcd_text_key(&self->api.body, "key", full);
    eepi_etcd_text_format(&self->api.body, ",");
    eepi_etcd_text_range_end(&self->api.body, "range_end", full);
    eepi_etcd_text_format(&self->api.body,
                          ",\"keys_only\":true,\"limit\":\"1\",\"sort_order\":\"DESCEND\","
                          "\"sort_target\":\"MOD\"}");
    if (eepi_etcd_api_call(&self->api, "/v3/kv/range", &answer) != EEP_OK) {
        eepi_etcd_break(self, true);
        return 0;
    }
    kv = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(answer, "kvs"), 0);
    if (kv && eepi_etcd_api_entry(kv, skip, &entry)) {
        for (size_t i = 0; i < self->num_watches; i++) {
            if (self->watch[i].active && begins_with(entry.key, self->watch[i].prefix) &&
                entry.revision >= self->watch[i].next) {
                missing = entry.revision;
            }
        }
    }
    free(entry.key);
    free(entry.bytes);
    cJSON_Delete(answer);
    return missing;
}

void eepi_etcd_look(eepi_etcd *self, uint64_t now_us)
{
    eep_status status;
    uint64_t missing = 0;
    if (self->broken || self->num_watches == 0 || now_us < self->tick_us) {
        return;
    }
    /* A stream that has just begun may be confirmed and bring it yet; insist() looks sooner. */
    const bool counts = now_us - self->stream_us >= LOOK_US;
    self->tick_us = now_us + LOOK_US;
    insist(self, now_us);
    status = eepi_etcd_api_probe(&self->api);
    if (status != EEP_OK) {
        eepi_etcd_break(self, true);
        return;
    }
    if (self->api.revision > self->seen && counts) {
        missing = find_missing(self);
        if (missing != 0 && missing == self->missing) { /* at two looks, and nothing between */
            snprintf(self->api.why, sizeof self->api.why, "etcd at %s: a watch brings nothing more",
                     eepi_etcd_http_endpoint(self->api.http));
            eepi_etcd_break(self, true);
        }
    }
    self->missing = missing;
}
