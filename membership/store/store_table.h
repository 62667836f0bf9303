/* SPDX-License-Identifier: Apache-2.0 */
/* The store's state: keys with revisions and leases, in memory, in key order.
 *
 * Every write and removal draws the next number of one counter; a key's revision is the number of
 * its last write, so a revision names one write of one key for ever, across removals. All changes
 * are told to one function in the order in which they happen. Pure: no I/O, no clock. One thread.
 */
#ifndef EEPI_STORE_TABLE_H
#define EEPI_STORE_TABLE_H

#include "eep/status.h"

#include <stddef.h>
#include <stdint.h>

/* A value's bytes, shared by the table and by messages on their way out. Never written to after it
 * is in the table. */
typedef struct eepi_store_value {
    size_t refs;
    size_t size; /* bytes */
    unsigned char bytes[];
} eepi_store_value;

/* A new value with one reference, a copy of `size` bytes. NULL: no memory. */
eepi_store_value *eepi_store_value_new(const void *bytes, size_t size);
eepi_store_value *eepi_store_value_retain(eepi_store_value *value);
/* Drop a reference; the last one frees. NULL is allowed. */
void eepi_store_value_release(eepi_store_value *value);

typedef struct eepi_store_table eepi_store_table;

typedef struct eepi_store_limits {
    size_t max_keys, max_leases;
    size_t max_bytes; /* of all values together */
} eepi_store_limits;

/* A key and its present value; from a removal value is NULL and revision 0. Borrowed for the call;
 * it may retain the value but not change the table. */
typedef void (*eepi_store_entry_fn)(void *user, const char *key, uint64_t revision,
                                    eepi_store_value *value);

/* Revisions start above `revision`: a store that starts again passes one above all of its
 * predecessor's, so that no old revision ever fits a new key. `changed` is told of every change.
 * NULL: no memory. */
eepi_store_table *eepi_store_table_new(const eepi_store_limits *limits, uint64_t revision,
                                       eepi_store_entry_fn changed, void *user);
/* Frees all; tells `changed` nothing. NULL is allowed. */
void eepi_store_table_free(eepi_store_table *table);

/* EEP_OK with the present revision and value (borrowed until the next change); EEP_ERR_NOT_FOUND.
 */
EEP_MUST_CHECK eep_status eepi_store_table_get(const eepi_store_table *table, const char *key,
                                               uint64_t *revision_out,
                                               eepi_store_value **value_out);
/* Write, retaining the value. The key lives by `lease` from now on, or by itself with lease 0.
 * EEP_ERR_STATE: no such lease. EEP_ERR_NO_MEMORY: a limit or the memory. */
EEP_MUST_CHECK eep_status eepi_store_table_put(eepi_store_table *table, const char *key,
                                               eepi_store_value *value, uint64_t lease,
                                               uint64_t *revision_out);
/* As a put without a lease, if the key's revision is `expected` (0: no such key); else
 * EEP_ERR_CONFLICT and nothing changed. */
EEP_MUST_CHECK eep_status eepi_store_table_cas(eepi_store_table *table, const char *key,
                                               uint64_t expected, eepi_store_value *value,
                                               uint64_t *revision_out);
/* EEP_ERR_NOT_FOUND if there is none. */
EEP_MUST_CHECK eep_status eepi_store_table_remove(eepi_store_table *table, const char *key);
/* Call `entry` for each key that begins with the prefix, in byte order. */
void eepi_store_table_list(const eepi_store_table *table, const char *prefix,
                           eepi_store_entry_fn entry, void *user);

/* Create the lease (id > 0), or renew it: it lives until now_us + ttl_us. EEP_ERR_NO_MEMORY: a
 * limit or the memory. */
EEP_MUST_CHECK eep_status eepi_store_table_lease(eepi_store_table *table, uint64_t lease,
                                                 uint64_t ttl_us, uint64_t now_us);
/* End the lease now; its keys vanish, in byte order. No such lease: nothing happens. */
void eepi_store_table_revoke(eepi_store_table *table, uint64_t lease);
/* Revoke every lease whose time is up; returns how many. */
size_t eepi_store_table_expire(eepi_store_table *table, uint64_t now_us);
/* All leases live `by_us` longer (rule M6: the observer itself was unscheduled). */
void eepi_store_table_extend(eepi_store_table *table, uint64_t by_us);
/* When the next lease ends; UINT64_MAX without leases. */
uint64_t eepi_store_table_next_expiry(const eepi_store_table *table);
size_t eepi_store_table_num_keys(const eepi_store_table *table);
#endif
