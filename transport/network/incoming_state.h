/* SPDX-License-Identifier: Apache-2.0 */
/* What the receiver thread knows of its connections over TCP (incoming.c), and what takes their
 * messages (incoming_messages.c). */
#ifndef EEPI_INCOMING_STATE_H
#define EEPI_INCOMING_STATE_H

#include "transport/network/network_state.h"
#include "transport/secure/secure_waiting.h"

/* Puts that have come before their bytes. */
typedef struct eepi_announced {
    uint32_t num, at;    /* puts, and those of them whose bytes have come */
    uint32_t written;    /* bytes of put[at] that lie where they belong already */
    uint32_t void_bytes; /* still to come of a piece that may not be written any more */
    eepk_put put[EEPI_LANE_BATCH];
} eepi_announced;

typedef struct eepi_connection {
    int fd; /* -1: free */
    uint32_t path;
    bool is_greeted, owes;
    bool is_due; /* what it owes is to be said at once */
    bool is_bad; /* it has sent what no rank sends */
    uint32_t source, source_generation;
    uint64_t num_placed; /* slots of this connection, */
    uint64_t num_told;   /* and those that were acknowledged */
    size_t filled;
    uint8_t *buffer;             /* [buffer_bytes] without a key; */
    eepi_announced *announced;   /* without a key */
    eepi_secure_channel channel; /* with one */
} eepi_connection;

struct eepi_incoming {
    int num;                     /* one per seat, then the strangers */
    eepi_secure_waiting waiting; /* the strangers: they have not said who they are */
    bool owes;                   /* some connection does */
    bool is_full;                /* no descriptor for another one */
    uint64_t noted_us, num_unnoted;
    size_t buffer_bytes;
    eepi_connection connection[];
};

/* Place the whole messages of one that has greeted; how many bytes they have is left in
 * `*done_out`. False: no rank sends that, and the connection is bad. */
bool eepi_incoming_place_all(eepi_network *network, eepi_connection *c, const uint8_t *from,
                             size_t num, size_t *done_out);
/* Read what there is and place it, without a key. False: the connection is to be closed. */
bool eepi_incoming_read_plain(eepi_network *network, eepi_connection *c);
#endif
