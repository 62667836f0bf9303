/* SPDX-License-Identifier: Apache-2.0 */
/* A connection to the store: requests go out, replies and watch events come in, nothing blocks.
 *
 * One thread owns a client. Every request gets an id; its reply carries that id, or arrives as
 * EEP_ERR_UNREACHABLE when the connection broke before an answer (then it is unknown whether the
 * request took effect: read before acting, rule M4). After a break the client reconnects by
 * itself from eepi_store_client_next, about every 20 ms, re-creates its lease and its watches,
 * and says so with EEPI_STORE_RECONNECTED: state in the store may be gone (it lives in memory).
 *
 *   DISCONNECTED   requests without an answer follow as UNREACHABLE; what watches said is void
 *   ENTRY ...      for each key below each watch, with the id of that watch; no second REPLY
 *   RECONNECTED    that was all of the present state: a key without an ENTRY is gone
 *
 * A store that keeps all (etcd) tells of its restart those who watch or have asked.
 *
 * A watch and a lease stand again after a break even if their request was answered UNREACHABLE.
 * Requests made while disconnected are answered UNREACHABLE. What is refused on this side (a key
 * that is empty or too long, a value too big: INVALID; no memory for it: NO_MEMORY) gets its REPLY
 * too, so replies may wait without the socket being readable: call eepi_store_client_next until
 * EEP_ERR_TIMEOUT before polling, and at least every third of the lease's ttl. A client whose watch
 * falls 64 MB behind is disconnected by the store. */
#ifndef EEPI_STORE_CLIENT_H
#define EEPI_STORE_CLIENT_H

#include "eep/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EEPI_STORE_KEY_MAX = 128, /* bytes, with the final NUL */
    EEPI_STORE_VALUE_MAX = 16 * 1024 * 1024,
};

typedef struct eepi_store_client eepi_store_client;

typedef enum eepi_store_reply_kind {
    EEPI_STORE_REPLY,        /* answer to request `id` */
    EEPI_STORE_ENTRY,        /* one entry of a list or of the state a watch begins with */
    EEPI_STORE_CHANGED,      /* a watched key was written; size 0 and revision 0: it is gone */
    EEPI_STORE_RECONNECTED,  /* after a break; watches and lease stand again */
    EEPI_STORE_DISCONNECTED, /* the connection broke */
} eepi_store_reply_kind;

/* `key` and `value` are valid until the next call on the client. */
typedef struct eepi_store_reply {
    eepi_store_reply_kind kind;
    uint64_t id;       /* 0 for CHANGED and the connection events */
    eep_status status; /* OK; CONFLICT (cas: value and revision are the present ones); NOT_FOUND
                        * (get, remove); UNREACHABLE (unknown outcome) */
    uint64_t revision; /* of this key's last write; 0: no such key */
    const char *key;
    const void *value;
    size_t size;
} eepi_store_reply;

/* Connect to the store at an address (store_url.h), waiting at most `timeout_us` for a server to be
 * there (else EEP_ERR_UNREACHABLE). EEP_ERR_STATE: what listens there is another user's. Do not use
 * a client in a forked child. */
EEP_MUST_CHECK eep_status eepi_store_client_open(const char *address, uint64_t timeout_us,
                                                 eepi_store_client **client_out);
void eepi_store_client_close(eepi_store_client *client); /* its leased keys vanish at once */
/* The store never forgets what it has answered for (rule N19): etcd, whose servers write to disks.
 * One in memory may come back empty. */
bool eepi_store_keeps(const eepi_store_client *client);
/* To poll for reading; -1 while disconnected. Changes at a reconnect. */
int eepi_store_client_fd(const eepi_store_client *client);
/* 1 while there is unsent output: poll for writing too. */
int eepi_store_client_wants_write(const eepi_store_client *client);

/* With which status the store took no connection of ours when it was asked last; EEP_OK: it has not
 * said so. */
eep_status eepi_store_client_refusal(const eepi_store_client *client);
/* Why the store took no connection of ours when it was asked last; "": it has not said so. */
const char *eepi_store_client_why(const eepi_store_client *client);

/* Requests; each returns its id (> 0; 0: not even the memory to refuse it). With `leased`, the key
 * vanishes within ttl_us after the connection broke or the client stopped sending keep-alives
 * (eepi_store_client_next sends them); EEP_ERR_STATE without a lease. A lease that ended because
 * its client was stopped for too long is created anew by its next message, without its keys.
 * Every other write of a key, cas included, takes it from its lease. EEP_ERR_NO_MEMORY: the
 * store is full (65536 keys, 1 GB, 64 watches of a client). */
uint64_t eepi_store_get(eepi_store_client *client, const char *key);
uint64_t eepi_store_put(eepi_store_client *client, const char *key, const void *value, size_t size,
                        int leased);
/* Write only if the key's revision is `expected` (0: the key does not exist). */
uint64_t eepi_store_cas(eepi_store_client *client, const char *key, uint64_t expected,
                        const void *value, size_t size);
uint64_t eepi_store_remove(eepi_store_client *client, const char *key);
/* ENTRY for each key that begins with the prefix ("": all), in byte order, then REPLY. */
uint64_t eepi_store_list(eepi_store_client *client, const char *prefix);
/* From now on CHANGED for each write below the prefix, in order, none twice, none missed; before
 * them, ENTRY for each key that is there, then REPLY. */
uint64_t eepi_store_watch(eepi_store_client *client, const char *prefix);
/* No CHANGED for the prefix from its REPLY on, unless another watch has the key; the watch does not
 * stand again after a break. */
uint64_t eepi_store_unwatch(eepi_store_client *client, const char *prefix);
/* Give this client a lease of `ttl_us` for its leased keys; keep-alives go out every third of it.
 */
uint64_t eepi_store_lease(eepi_store_client *client, uint64_t ttl_us);
/* At etcd: until when the lease lasts by this client's own count, from the sending of the last
 * keep-alive that was acknowledged, less a tenth for clocks that differ (rule N21). 0: none was;
 * the embedded store's clients do not count. */
uint64_t eepi_store_lease_until_us(const eepi_store_client *client);

/* Push output, read input, take the next reply or event: EEP_OK with *reply_out, or EEP_ERR_TIMEOUT
 * when there is none now. Never blocks. */
EEP_MUST_CHECK eep_status eepi_store_client_next(eepi_store_client *client,
                                                 eepi_store_reply *reply_out);
/* Wait at most `timeout_us` for the reply to `id`, for start-up code that has nothing else to do;
 * other replies and events that arrive meanwhile are kept, in order, for _next. EEP_ERR_INVALID: no
 * such request waits for an answer. EEP_ERR_NO_MEMORY: `id` is 0. */
EEP_MUST_CHECK eep_status eepi_store_client_wait(eepi_store_client *client, uint64_t id,
                                                 uint64_t timeout_us, eepi_store_reply *reply_out);
#endif
