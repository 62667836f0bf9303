/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the simulated store share: messages, and each process's connection. */
#ifndef SIM_STORE_H
#define SIM_STORE_H

#include "membership/store/store_client.h"
#include "membership/store/store_table.h"
#include "tests/sim/sim.h"

enum { SIM_RECONNECT_US = 20000 };

typedef enum message_kind {
    MESSAGE_GET,
    MESSAGE_PUT,
    MESSAGE_CAS,
    MESSAGE_REMOVE,
    MESSAGE_LIST,
    MESSAGE_WATCH,
    MESSAGE_UNWATCH,
    MESSAGE_LEASE,
    MESSAGE_DOWN /* a reply or event for the client */
} message_kind;

typedef struct message {
    struct message *next;
    message_kind kind;
    eepi_store_client *client;
    uint64_t connection;
    uint64_t life;          /* up: of which store process */
    uint64_t known_epoch;   /* up: the newest that its sender knew then */
    bool is_leased;         /* up: the key goes with its client's lease */
    bool is_late;           /* up: it has waited for as long as it should */
    eepi_store_reply reply; /* up: id, revision, key */
    eepi_store_value *value;
    char key[EEPI_STORE_KEY_MAX];
} message;

enum { SIM_MAX_WATCHES = 16 };

/* A watch, which stands again after a break. */
typedef struct sim_watch {
    char prefix[EEPI_STORE_KEY_MAX];
    uint64_t id;
    bool stands; /* on this connection */
} sim_watch;

typedef struct pending {
    struct pending *next;
    uint64_t id;
} pending;

struct eepi_store_client {
    eepi_store_client *next; /* of all clients */
    sim_process *process;
    int connected, fd;
    sim_watch watch[SIM_MAX_WATCHES];
    int num_watches, num_restoring; /* those whose state is still to be told after a break */
    uint64_t connection;            /* number of the present one */
    uint64_t next_id, retry_us;
    uint64_t up_us, down_us; /* newest times of the two directions */
    uint64_t watch_us;       /* and of what a store that keeps all tells by watches */
    uint64_t lease, ttl_us;  /* 0: it has none */
    uint64_t renewed_us;     /* when the store heard last that it is there */
    message *first, *last;   /* arrived */
    message *current;
    pending *pending, *last_pending;
};

/* ---- sim_store_connection.c */
/* All clients that there ever were. */
eepi_store_client *sim_store_clients(void);
void sim_store_add_client(eepi_store_client *client);
void sim_store_forget_clients(void);
/* When a message that is sent now arrives: behind all that were sent the same way before. */
uint64_t sim_store_arrival_us(uint64_t *newest_us);
/* From the store: a reply, an entry or a change. */
void sim_store_send_down(eepi_store_client *client, eepi_store_reply_kind kind, uint64_t id,
                         eep_status status, const char *key, uint64_t revision,
                         eepi_store_value *value);
/* An answer or event of the client's own. */
void sim_store_put_item(eepi_store_client *client, eepi_store_reply_kind kind, uint64_t id,
                        eep_status status);
void sim_store_forget_pending(eepi_store_client *client, uint64_t id);
void sim_store_disconnect(eepi_store_client *client);

/* The client's watch of that prefix; NULL: it has none. */
sim_watch *sim_store_watch_of(eepi_store_client *client, const char *prefix);

/* ---- sim_store.c */
/* To the store: a request, or a watch that stands after a break. */
void sim_store_send_up(eepi_store_client *client, message_kind kind, uint64_t id, const char *key,
                       uint64_t revision, eepi_store_value *value);
/* The same for a key with a lease. */
void sim_store_send_leased(eepi_store_client *client, uint64_t id, const char *key,
                           eepi_store_value *value);
/* The client has closed: its lease ends at once. */
void sim_store_revoke(const eepi_store_client *client);
bool sim_store_is_there(void);
/* The number of its process, and of the holder in it. */
uint64_t sim_store_life(void);
#endif
