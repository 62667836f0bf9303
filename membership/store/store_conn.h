/* SPDX-License-Identifier: Apache-2.0 */
/* The store server's inside: its connections and what waits to be sent on them. Server thread. */
#ifndef EEPI_STORE_CONN_H
#define EEPI_STORE_CONN_H

#include "membership/store/store_secure.h"
#include "membership/store/store_socket.h"
#include "membership/store/store_table.h"
#include "membership/store/store_url.h"
#include "membership/store/store_wire.h"
#include "transport/secure/secure_waiting.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct eep_store;

/* A connection that has asked for nothing for so long is dropped: the store's hello_us. */
#define EEPI_STORE_HELLO_US (UINT64_C(10) * 1000 * 1000)

/* One message on its way out; the value's bytes are shared, never copied. */
typedef struct eepi_store_out {
    struct eepi_store_out *next;
    eepi_store_value *value; /* NULL: none */
    size_t bytes;            /* of the whole frame */
    size_t head_bytes;
    bool is_event; /* counts towards the cap of a slow watcher */
    unsigned char head[EEPI_STORE_HEAD_MAX];
} eepi_store_out;

typedef struct eepi_store_conn {
    struct eep_store *store;
    struct eepi_store_conn *prev, *next; /* all connections */
    struct eepi_store_conn *next_dirty;  /* those with something to push */
    int fd;
    uint32_t epoll_events; /* what epoll watches for */
    bool dirty;
    bool paused; /* its output is full: no request of it is looked at until that has drained */
    bool mute;   /* its reading end is gone: output is dropped, what it sent is still done */
    bool dead;   /* to be freed at the end of the round */
    bool asked;  /* it has sent a whole request */
    uint64_t since_us;           /* when it was accepted */
    uint64_t heard_us;           /* when it last sent something */
    eepi_secure_channel *secure; /* that it speaks through; NULL: none */
    eepi_store_inbox inbox;
    eepi_store_out *out_first, *out_last;
    size_t out_sent; /* bytes of out_first that are gone */
    size_t queued_bytes, event_bytes;
    uint64_t lease, ttl_us; /* 0: none; any bytes that arrive renew it */
    char *prefix[EEPI_STORE_WATCH_MAX];
    size_t num_prefixes;
} eepi_store_conn;

struct eep_store {
    eepi_store_listener listener;
    int tcp_fd;   /* listens beside it; -1: there is none */
    bool has_key; /* and whoever comes over TCP proves it */
    eepi_secure_config secure_config;
    eepi_secure_waiting waiting; /* connections without a proof yet; their owners are the conns */
    eepi_secure_counts counts;
    char path[EEPI_STORE_SOCKET_BYTES];
    struct eepi_agent *agent; /* of the host, where this process embeds it; NULL: another one
                               * serves, or none (membership/embedded_store.c) */
    pid_t pid; /* the process that serves; a forked child holds copies and serves nobody */
    int epoll_fd;
    int stop_fd;    /* eventfd: eep_store_close */
    int reserve_fd; /* given up for a moment to turn a connection away when descriptors run out */
    eepi_store_table *table;
    eepi_store_conn *conns;
    eepi_store_conn *dirty_first, *dirty_last;
    size_t num_conns;
    size_t most_guests; /* connections without lease or watch that are held at once */
    uint64_t hello_us;
    uint64_t silent_end_us;   /* when the next connection that asks for nothing is dropped */
    uint64_t accept_again_us; /* 0: the listener is watched; else no descriptor could be had */
    bool has_dead;            /* some connection is to be freed at the end of the round */
    uint64_t now_us;          /* when this round began */
    pthread_t thread;
};

/* Take over a connected socket. With `secure` it has to prove the key first. false: no memory; the
 * socket stays the caller's. */
bool eepi_store_conn_new(struct eep_store *store, int fd, bool secure);
void eepi_store_conn_free(eepi_store_conn *conn);
/* It has proved the key, or needs none. */
static inline bool eepi_store_conn_has_proven(const eepi_store_conn *conn)
{
    return !conn->secure || eepi_secure_is_open(conn->secure);
}
/* A guest has neither a lease nor a watch: it is no rank, and whoever merely holds a connection is
 * one. Drop the guest that is needed least, other than `but`: one that has asked for nothing goes
 * first, then the one that was silent longest. `unproven`: of those alone that have not proved the
 * key. false: there is none. */
bool eepi_store_conns_evict(struct eep_store *store, const eepi_store_conn *but, bool unproven);
/* How many there are, without those that have not proved the key yet: these have a bound of their
 * own. */
size_t eepi_store_conns_guests(const struct eep_store *store);
/* Drop those that have asked for nothing since they were accepted, hello_us ago, and those that
 * have not proved the key in time. Returns when the next is due; UINT64_MAX: never. */
uint64_t eepi_store_conns_expire(struct eep_store *store);
/* epoll reported `events` on it. */
void eepi_store_conn_ready(eepi_store_conn *conn, uint32_t events);
/* Push the output of all connections that have some, until there is none that can be pushed. */
void eepi_store_conns_push(struct eep_store *store);
/* Say without waiting why a connection is turned away, in a REPLY with id 0. */
void eepi_store_turn_away(int fd, eep_status status);
/* How many were let in over TCP with the key, and refused, for what. Any thread. */
eepi_secure_counts eepi_store_counts(const struct eep_store *store);

/* store_conn_secure.c: of connections that speak through a channel. Who calls them drops the
 * connections that they name; they have counted them.
 *
 * Begin, and make room among those without a proof: *crowded_out has to go for it; NULL: none.
 * false: no memory. */
bool eepi_store_conn_greet(eepi_store_conn *conn, eepi_store_conn **crowded_out);
/* Read once. EEP_OK: something came; *got_out of it is for the inbox, and may be 0.
 * EEP_ERR_TIMEOUT: nothing is there now. Else the connection is over. */
EEP_MUST_CHECK eep_status eepi_store_conn_receive(eepi_store_conn *conn, size_t *got_out);
/* One whose time for the proof is up; NULL: none, and the next one's is up at *next_us_out. */
eepi_store_conn *eepi_store_conns_unproven(struct eep_store *store, uint64_t *next_us_out);
/* It goes: what of it is in the channel. */
void eepi_store_conn_unsecure(eepi_store_conn *conn);
/* The table's change function: tell every watcher. `user` is the store. */
void eepi_store_conns_changed(void *user, const char *key, uint64_t revision,
                              eepi_store_value *value);
#endif
