/* SPDX-License-Identifier: Apache-2.0 */
/* What the holder's own files share: its clients, and what each of them has it hold. The holder's
 * thread alone uses them. Calls go one way: holder.c, holder_requests.c, holder_table.c. */
#ifndef EEPI_HOLDER_TABLE_H
#define EEPI_HOLDER_TABLE_H

#include "transport/holder/holder.h"

#include <pthread.h>
#include <sys/types.h>

typedef struct holder_held {
    struct holder_held *next;
    int fd;
    uint64_t bytes;
    uint64_t sequence; /* of retained memory, and whose it was: */
    int32_t seat;
    uint32_t generation;
    uint8_t identity[EEPI_HOLDER_IDENTITY_BYTES];
    char name[EEPI_HOLDER_NAME_BYTES];
} holder_held;

typedef struct holder_client {
    struct holder_client *prev, *next;
    int fd;
    bool is_known; /* has said hello */
    bool dropped;  /* to be freed at the end of the round: epoll's events may name it */
    uint64_t since_us;
    int32_t seat;
    uint32_t generation;
    uint8_t identity[EEPI_HOLDER_IDENTITY_BYTES];
    holder_held *held;
    uint32_t num_held;
    bool has_retained; /* has had memory retained: it is no guest */
} holder_client;

struct eepi_holder {
    eepi_holder_limits limits;
    eepi_holder_agent agent; /* no functions: there is none */
    int listen_fd, epoll_fd, stop_fd;
    int reserve_fd; /* given up for a moment to turn a client away when descriptors run out */
    bool has_dropped;
    holder_client *clients;
    uint32_t num_clients, num_strangers; /* all; without a hello */
    holder_held *retained;               /* in order of sequence */
    uint32_t num_retained;
    uint64_t retained_bytes, last_sequence;
    uint64_t most_guests;
    uint64_t opened_us, now_us;
    uint64_t paused_us; /* no clients are accepted until then; 0: they are */
    pthread_t thread;
    pid_t pid; /* who opened it: a forked child has no thread, and ends nobody's connection */
};

/* Take the descriptor over, on EEP_OK only. EEP_ERR_STATE: of another user; EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_holder_add_client(eepi_holder *holder, int fd);
/* Let go of a client at the end of the round. */
void eepi_holder_drop_client(eepi_holder *holder, holder_client *client);
void eepi_holder_free_client(eepi_holder *holder, holder_client *client);
/* The client that has said hello with that identity; NULL: there is none. */
holder_client *eepi_holder_find_client(const eepi_holder *holder, const uint8_t *identity);
/* What is held under that name, and for whom; NULL: nothing is. */
holder_held *eepi_holder_find_held(const eepi_holder *holder, const char *name,
                                   const holder_client **owner_out);
/* Drop the guest that is needed least, other than `but` (NULL: any): the oldest that has not said
 * hello, or else the oldest. Its descriptor is free at the end of the round. False: no guest. */
bool eepi_holder_evict(eepi_holder *holder, const holder_client *but);

/* ---- holder_retained.c: memory that outlives who put it there. */
/* Take the descriptor over, on EEP_OK only. Memory of another instance is let go. CONFLICT: that
 * name is taken; NO_MEMORY: as much is retained as this holder takes, by ranks that live. */
EEP_MUST_CHECK eep_status eepi_holder_retain(eepi_holder *holder, holder_client *from,
                                             const eepi_holder_message *message, int fd);
/* The first that begins with the name and is younger than the sequence; NULL: there is none. */
const holder_held *eepi_holder_next_retained(const eepi_holder *holder, const char *name,
                                             uint64_t sequence);
/* Of exactly that name. */
const holder_held *eepi_holder_find_retained(const eepi_holder *holder, const char *name);
/* Let go of all that begins with the name. NOT_FOUND: nothing does. */
EEP_MUST_CHECK eep_status eepi_holder_release_retained(eepi_holder *holder, const char *name);

/* holder_requests.c: read and answer what a client has sent. */
void eepi_holder_read_client(eepi_holder *holder, holder_client *from);
eepi_holder_message eepi_holder_answer(const eepi_holder *holder,
                                       const eepi_holder_message *request, eep_status status);
#endif
