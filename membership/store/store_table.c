/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/store_table.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct table_entry {
    uint64_t revision;
    uint64_t lease;
    eepi_store_value *value;
    char key[];
} table_entry;

typedef struct table_lease {
    uint64_t id;
    uint64_t end_us;
} table_lease;

struct eepi_store_table {
    eepi_store_limits limits;
    uint64_t revision; /* the last one drawn */
    eepi_store_entry_fn changed;
    void *user;
    table_entry **entry; /* sorted by key */
    size_t num_entries, max_entries;
    size_t value_bytes;
    table_lease *lease;
    size_t num_leases, max_leases;
};

eepi_store_value *eepi_store_value_new(const void *bytes, size_t size)
{
    eepi_store_value *value = malloc(sizeof *value + size);
    if (value) {
        value->refs = 1;
        value->size = size;
        if (size > 0) {
            memcpy(value->bytes, bytes, size);
        }
    }
    return value;
}

eepi_store_value *eepi_store_value_retain(eepi_store_value *value)
{
    value->refs++;
    return value;
}

void eepi_store_value_release(eepi_store_value *value)
{
    if (value && --value->refs == 0) {
        free(value);
    }
}

eepi_store_table *eepi_store_table_new(const eepi_store_limits *limits, uint64_t revision,
                                       eepi_store_entry_fn changed, void *user)
{
    eepi_store_table *table = calloc(1, sizeof *table);
    if (table) {
        table->limits = *limits;
        table->revision = revision;
        table->changed = changed;
        table->user = user;
    }
    return table;
}

static void entry_free(table_entry *entry)
{
    eepi_store_value_release(entry->value);
    free(entry);
}

void eepi_store_table_free(eepi_store_table *table)
{
    if (!table) {
        return;
    }
    for (size_t i = 0; i < table->num_entries; i++) {
        entry_free(table->entry[i]);
    }
    free(table->entry);
    free(table->lease);
    free(table);
}

/* Index of the first entry whose key is not below `key`. */
static size_t lower_bound(const eepi_store_table *table, const char *key)
{
    size_t low = 0, high = table->num_entries;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(table->entry[middle]->key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static table_entry *find(const eepi_store_table *table, const char *key)
{
    size_t i = lower_bound(table, key);
    bool found = i < table->num_entries && strcmp(table->entry[i]->key, key) == 0;
    return found ? table->entry[i] : NULL;
}

static table_lease *find_lease(const eepi_store_table *table, uint64_t lease)
{
    for (size_t i = 0; i < table->num_leases; i++) {
        if (table->lease[i].id == lease) {
            return &table->lease[i];
        }
    }
    return NULL;
}

eep_status eepi_store_table_get(const eepi_store_table *table, const char *key,
                                uint64_t *revision_out, eepi_store_value **value_out)
{
    const table_entry *entry = find(table, key);
    if (!entry) {
        return EEP_ERR_NOT_FOUND;
    }
    *revision_out = entry->revision;
    *value_out = entry->value;
    return EEP_OK;
}

/* Make `*array_io` hold at least one more than `count` elements. */
static bool reserve(void **array_io, size_t *max_io, size_t count, size_t element_bytes)
{
    if (count < *max_io) {
        return true;
    }
    size_t max = *max_io ? 2 * *max_io : 64;
    void *array = realloc(*array_io, max * element_bytes);
    if (!array) {
        return false;
    }
    *array_io = array;
    *max_io = max;
    return true;
}

/* A new entry without a value in its place; NULL: a limit or the memory. */
static table_entry *insert(eepi_store_table *table, const char *key)
{
    void *array = table->entry;
    if (table->num_entries >= table->limits.max_keys ||
        !reserve(&array, &table->max_entries, table->num_entries, sizeof *table->entry)) {
        return NULL;
    }
    table->entry = array;
    size_t key_bytes = strlen(key) + 1;
    table_entry *entry = calloc(1, sizeof *entry + key_bytes);
    if (!entry) {
        return NULL;
    }
    memcpy(entry->key, key, key_bytes);
    size_t i = lower_bound(table, key);
    memmove(&table->entry[i + 1], &table->entry[i],
            (table->num_entries - i) * sizeof *table->entry);
    table->entry[i] = entry;
    table->num_entries++;
    return entry;
}

eep_status eepi_store_table_put(eepi_store_table *table, const char *key, eepi_store_value *value,
                                uint64_t lease, uint64_t *revision_out)
{
    if (lease && !find_lease(table, lease)) {
        return EEP_ERR_STATE;
    }
    table_entry *entry = find(table, key);
    size_t other_bytes = table->value_bytes - (entry ? entry->value->size : 0);
    if (value->size > table->limits.max_bytes ||
        other_bytes > table->limits.max_bytes - value->size) {
        return EEP_ERR_NO_MEMORY;
    }
    if (!entry) {
        entry = insert(table, key);
        if (!entry) {
            return EEP_ERR_NO_MEMORY;
        }
    }
    eepi_store_value *old = entry->value;
    entry->value = eepi_store_value_retain(value);
    entry->lease = lease;
    entry->revision = ++table->revision;
    table->value_bytes = other_bytes + value->size;
    eepi_store_value_release(old);
    *revision_out = entry->revision;
    table->changed(table->user, entry->key, entry->revision, entry->value);
    return EEP_OK;
}

eep_status eepi_store_table_cas(eepi_store_table *table, const char *key, uint64_t expected,
                                eepi_store_value *value, uint64_t *revision_out)
{
    const table_entry *entry = find(table, key);
    if ((entry ? entry->revision : 0) != expected) {
        return EEP_ERR_CONFLICT;
    }
    return eepi_store_table_put(table, key, value, 0, revision_out);
}

static void remove_at(eepi_store_table *table, size_t i)
{
    table_entry *entry = table->entry[i];
    table->num_entries--;
    memmove(&table->entry[i], &table->entry[i + 1],
            (table->num_entries - i) * sizeof *table->entry);
    table->value_bytes -= entry->value->size;
    table->revision++;
    table->changed(table->user, entry->key, 0, NULL);
    entry_free(entry);
}

eep_status eepi_store_table_remove(eepi_store_table *table, const char *key)
{
    size_t i = lower_bound(table, key);
    if (i == table->num_entries || strcmp(table->entry[i]->key, key) != 0) {
        return EEP_ERR_NOT_FOUND;
    }
    remove_at(table, i);
    return EEP_OK;
}

void eepi_store_table_list(const eepi_store_table *table, const char *prefix,
                           eepi_store_entry_fn entry_fn, void *user)
{
    size_t prefix_bytes = strlen(prefix);
    for (size_t i = lower_bound(table, prefix); i < table->num_entries; i++) {
        const table_entry *entry = table->entry[i];
        if (strncmp(entry->key, prefix, prefix_bytes) != 0) {
            return;
        }
        entry_fn(user, entry->key, entry->revision, entry->value);
    }
}

eep_status eepi_store_table_lease(eepi_store_table *table, uint64_t id, uint64_t ttl_us,
                                  uint64_t now_us)
{
    assert(id > 0);
    table_lease *lease = find_lease(table, id);
    if (!lease) {
        void *array = table->lease;
        if (table->num_leases >= table->limits.max_leases ||
            !reserve(&array, &table->max_leases, table->num_leases, sizeof *table->lease)) {
            return EEP_ERR_NO_MEMORY;
        }
        table->lease = array;
        lease = &table->lease[table->num_leases++];
        lease->id = id;
    }
    lease->end_us = ttl_us < UINT64_MAX - now_us ? now_us + ttl_us : UINT64_MAX;
    return EEP_OK;
}

void eepi_store_table_revoke(eepi_store_table *table, uint64_t id)
{
    table_lease *lease = find_lease(table, id);
    if (!lease) {
        return;
    }
    *lease = table->lease[--table->num_leases];
    size_t i = 0;
    while (i < table->num_entries) {
        if (table->entry[i]->lease == id) {
            remove_at(table, i);
        } else {
            i++;
        }
    }
}

size_t eepi_store_table_expire(eepi_store_table *table, uint64_t now_us)
{
    size_t num_expired = 0, i = 0;
    while (i < table->num_leases) {
        if (table->lease[i].end_us <= now_us) {
            eepi_store_table_revoke(table, table->lease[i].id);
            num_expired++;
        } else {
            i++;
        }
    }
    return num_expired;
}

void eepi_store_table_extend(eepi_store_table *table, uint64_t by_us)
{
    for (size_t i = 0; i < table->num_leases; i++) {
        uint64_t *end_us = &table->lease[i].end_us;
        *end_us = by_us < UINT64_MAX - *end_us ? *end_us + by_us : UINT64_MAX;
    }
}

uint64_t eepi_store_table_next_expiry(const eepi_store_table *table)
{
    uint64_t next_us = UINT64_MAX;
    for (size_t i = 0; i < table->num_leases; i++) {
        if (table->lease[i].end_us < next_us) {
            next_us = table->lease[i].end_us;
        }
    }
    return next_us;
}

size_t eepi_store_table_num_keys(const eepi_store_table *table)
{
    return table->num_entries;
}
