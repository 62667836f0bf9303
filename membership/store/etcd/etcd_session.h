/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge's inside (etcd_bridge.h): its thread (etcd_bridge.c), messages to the client
 * (etcd_session.c), requests (etcd_requests.c) and watches (etcd_watch.c). The thread's, but for
 * what is below `lock`. */
#ifndef EEPI_ETCD_SESSION_H
#define EEPI_ETCD_SESSION_H

#include "membership/store/etcd/etcd_bridge.h"
#include "membership/store/etcd/etcd_values.h"
#include "membership/store/store_client.h"
#include "membership/store/store_wire.h"

#include <pthread.h>
#include <sys/types.h>

enum { EEPI_ETCD_AHEAD = 16 };

typedef struct eepi_etcd_watched {
    bool active;
    char prefix[EEPI_STORE_KEY_MAX];
    uint64_t since; /* revision of the list that it began with */
    uint64_t next;  /* the first revision whose events it has not been given */
    bool created;   /* etcd has said that the present stream has it */
} eepi_etcd_watched;

/* A key that was given at a newer revision than that of the event: its document had gone. */
typedef struct eepi_etcd_ahead {
    char key[EEPI_STORE_KEY_MAX];
    uint64_t revision;
} eepi_etcd_ahead;

struct eepi_etcd {
    eepi_store_url url;
    pid_t pid;
    pthread_t thread;
    int stop;    /* atomic: requests end at once */
    int closing; /* atomic: end when the client has */
    int wake_fd; /* eventfd */
    pthread_mutex_t lock;
    int offered_fd; /* a new connection; -1: none */
    bool healthy;   /* an endpoint answers */
    eep_status refusal;
    char why[EEPI_ETCD_WHY_BYTES];

    eepi_etcd_api api;
    int fd;      /* -1: no client */
    bool broken; /* to be given up at the end of the round */
    bool moves;  /* and the next endpoint to be tried */
    eepi_store_inbox inbox;
    uint64_t lease, ttl_s;  /* 0: none */
    uint64_t lease_sent_us; /* atomic: eepi_etcd_lease_sent_us */
    eepi_etcd_watched watch[EEPI_STORE_WATCH_MAX];
    size_t num_watches;   /* slots in use, some of them inactive */
    bool stream_stale;    /* the stream does not have all watches */
    uint64_t stream_us;   /* since when there is this stream */
    uint64_t patience_us; /* for so long etcd may not have said that it has all watches */
    uint64_t seen;        /* highest revision that the stream has shown */
    uint64_t missing;     /* of a write that the stream has not shown at the last look; 0: none */
    uint64_t tick_us;     /* of the next look */
    eepi_etcd_ahead ahead[EEPI_ETCD_AHEAD];
    size_t num_ahead;
};

/* Give the connection up at the end of this round. */
void eepi_etcd_break(eepi_etcd *self, bool moves);
/* Hand a message to the client. */
void eepi_etcd_send(eepi_etcd *self, const eepi_store_message *message);
/* A request of the client. */
void eepi_etcd_request(eepi_etcd *self, const eepi_store_message *message);
/* Watch a prefix from after the revision of a list. false: there is no room. */
bool eepi_etcd_watch(eepi_etcd *self, const char *prefix, uint64_t revision);
void eepi_etcd_unwatch(eepi_etcd *self, const char *prefix);
void eepi_etcd_forget_watches(eepi_etcd *self);
/* Begin the stream anew if need be, and give the client what it has brought. */
void eepi_etcd_follow(eepi_etcd *self);
/* Now and then: whether it still brings what is written (rule N18). */
void eepi_etcd_look(eepi_etcd *self, uint64_t now_us);
#endif
