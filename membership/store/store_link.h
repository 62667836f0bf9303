/* SPDX-License-Identifier: Apache-2.0 */
/* A store client's inside: its connection (store_link.c) and what the caller sees of it
 * (store_client.c). One thread. */
#ifndef EEPI_STORE_LINK_H
#define EEPI_STORE_LINK_H

#include "graphs/base/clock.h"
#include "membership/store/etcd/etcd_bridge.h"
#include "membership/store/store_client.h"
#include "membership/store/store_secure.h"
#include "membership/store/store_url.h"
#include "membership/store/store_wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EEPI_STORE_RECONNECT_US = 20 * 1000, EEPI_STORE_LOOK_US = 200 * 1000 };

/* A request that waits for its answer, or something to hand out that is kept here. */
typedef struct eepi_store_item {
    struct eepi_store_item *next;
    eepi_store_reply reply; /* of a waiting request: what it becomes when the connection breaks */
    bool restores;          /* a lease or watch sent again: nobody waits for the answer */
    char key[EEPI_STORE_KEY_MAX];
    _Alignas(8) unsigned char value[];
} eepi_store_item;

typedef struct eepi_store_items {
    eepi_store_item *first, *last;
} eepi_store_items;

typedef struct eepi_store_watched {
    uint64_t id;
    char prefix[EEPI_STORE_KEY_MAX];
} eepi_store_watched;

struct eepi_store_client {
    eepi_store_url url;
    eepi_etcd *etcd; /* our way there, if it is etcd; else NULL */
    int fd;          /* -1: disconnected */
    bool has_key;    /* this connection speaks through a channel; */
    bool opening;    /* it is not open yet: nothing is asked of the store so far */
    eepi_secure_config secure_config;
    eepi_secure_channel secure;
    char why[EEPI_SECURE_WHY_BYTES]; /* why it was refused last */
    bool mute;          /* this connection takes no more output; its end is about to be read */
    eep_status refusal; /* with which the store turned us away; until it answers something else, or
                           nothing listens there */
    bool announced;     /* the caller knows this connection; tell it when it breaks */
    uint64_t next_id;
    uint64_t next_connect_us, next_keepalive_us;
    uint64_t next_look_us; /* whether the process that serves has ended */
    eepi_store_inbox inbox;
    unsigned char *out; /* unsent bytes [out_begin, out_end) */
    size_t out_begin, out_end, out_capacity;
    eepi_store_items pending; /* requests without an answer, in order */
    eepi_store_items kept;    /* to be handed out before anything that arrives from now on */
    eepi_store_item *current; /* handed out last; freed by the next call */
    eepi_store_item *notice;  /* set aside for the day when the connection breaks */
    size_t num_restoring;     /* answers until RECONNECTED */
    uint64_t lease, ttl_us;   /* ttl 0: no lease wanted */
    eepi_store_watched watch[EEPI_STORE_WATCH_MAX];
    size_t num_watches;
};

/* A copy of the reply with room for `value_bytes` of its value. NULL: no memory. free(). */
eepi_store_item *eepi_store_item_new(const eepi_store_reply *reply, size_t value_bytes);
/* The notice that the connection broke. NULL: no memory. */
eepi_store_item *eepi_store_notice_new(void);
void eepi_store_items_push(eepi_store_items *list, eepi_store_item *item);
/* Unlink `item`, which follows `before` (NULL: it is the first). */
void eepi_store_items_unlink(eepi_store_items *list, eepi_store_item *before,
                             eepi_store_item *item);

/* Send now what the socket takes and keep a copy of the rest; connected only. false: nothing of it
 * was sent, for want of memory. */
bool eepi_store_link_send(eepi_store_client *client, const eepi_store_message *message);
/* Push unsent output as far as the socket takes it. */
void eepi_store_link_flush(eepi_store_client *client);
/* The next thing that arrives for the caller, after all that is due has been done (reconnecting,
 * keep-alive, output). EEP_ERR_TIMEOUT: nothing now; there may be news in `kept`. */
EEP_MUST_CHECK eep_status eepi_store_link_take(eepi_store_client *client,
                                               eepi_store_reply *reply_out);
/* Give the connection up: DISCONNECTED, then each request without an answer as UNREACHABLE, go to
 * `kept`. Needs no memory. */
void eepi_store_link_break(eepi_store_client *client);
/* A new connection to where the store is; `fd` is set. As eepi_store_socket_connect. Where there is
 * a key it may still be `opening`. */
EEP_MUST_CHECK eep_status eepi_store_link_connect(eepi_store_client *client);
/* Requests can be sent. */
bool eepi_store_link_is_up(const eepi_store_client *client);
/* Something waits to be sent. */
bool eepi_store_link_owes(const eepi_store_client *client);

/* store_link_secure.c: of a connection that speaks through a channel.
 *
 * The key that the address names. EEP_ERR_INVALID, EEP_ERR_SYSTEM: eepi_store_secure_why. */
EEP_MUST_CHECK eep_status eepi_store_link_read_key(eepi_store_client *client);
/* Begin one on `fd`. */
EEP_MUST_CHECK eep_status eepi_store_link_greet(eepi_store_client *client);
/* Go on with a connection that is `opening`. EEP_OK: it is open. EEP_ERR_TIMEOUT: not yet. Else it
 * cannot be opened: the client's refusal and its `why` say more, if the other end was not just
 * gone. */
EEP_MUST_CHECK eep_status eepi_store_link_open(eepi_store_client *client);
/* Wait for that, at most `timeout_us`: EEP_ERR_UNREACHABLE if it takes longer. */
EEP_MUST_CHECK eep_status eepi_store_link_open_within(eepi_store_client *client,
                                                      uint64_t timeout_us);
#endif
