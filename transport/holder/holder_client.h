/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's side of the holder: one connection that comes back by itself. Owner's thread; nothing
 * here waits. */
#ifndef EEPI_HOLDER_CLIENT_H
#define EEPI_HOLDER_CLIENT_H

#include "eep/status.h"
#include "transport/holder/holder.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct eepi_holder_client {
    char path[EEPI_HOLDER_PATH_BYTES];
    int epoll_fd;   /* the owner's: the connection is watched there, with `this` as tag */
    int fd;         /* -1: there is none */
    bool is_known;  /* the holder has answered the hello */
    eep_status why; /* why there is none, or none that is known */
    int32_t seat;
    uint32_t generation;
    uint8_t identity[EEPI_HOLDER_IDENTITY_BYTES];
    uint64_t last_id, hello_id;
    uint64_t retry_us, back_off_us; /* without a connection: the next try, and what it waits */
    uint64_t given_up_us;           /* with one that is not known: when it is given up */
    /* What comes of it; `fd` is the owner's to close, -1: none. */
    void (*answered)(void *user, const eepi_holder_message *answer, int fd, bool lost);
    void (*called)(void *user, const eepi_holder_message *call, int fd);
    void (*met)(void *user);  /* a new holder: nothing is held there */
    void (*lost)(void *user); /* no answers come to what was asked */
    void *user;
} eepi_holder_client;

/* Set up; the fields that the owner gives (path to generation, functions, user) are set. Chooses
 * the identity. EEP_ERR_SYSTEM: no random numbers. */
EEP_MUST_CHECK eep_status eepi_holder_client_init(eepi_holder_client *client);
/* Connect if it is time, read what has come; nonzero if there was work. */
int eepi_holder_client_progress(eepi_holder_client *client, uint64_t now_us);
/* The holder does for its owner what it is for. Until then each connection that ends, whatever was
 * answered on it, makes the next try wait longer, up to 200 ms. */
void eepi_holder_client_settled(eepi_holder_client *client);
/* When progress must be called at the latest; UINT64_MAX: when there is something to read. */
uint64_t eepi_holder_client_wake_us(const eepi_holder_client *client);
/* Send a request with this kind, identity (may be NULL), name (may be NULL), bytes and descriptor
 * (-1: none). Returns its id; 0: there is no holder now, or it could not be sent (`why`). */
uint64_t eepi_holder_client_ask(eepi_holder_client *client, eepi_holder_kind kind,
                                const uint8_t *identity, const char *name, uint64_t bytes, int fd);
/* The same of memory that the holder is to retain, or has retained; `number` is its bytes, or of
 * EEPI_HOLDER_NEXT the sequence of the last one that was shown. */
uint64_t eepi_holder_client_ask_retained(eepi_holder_client *client, eepi_holder_kind kind,
                                         const char *name, uint64_t number, int fd);
/* The same of a process, as it is said to an agent: ATTACH, with a descriptor of this one; DETACH
 * or KILL of that one. */
uint64_t eepi_holder_client_ask_attach(eepi_holder_client *client, const char *pulse, uint64_t host,
                                       uint64_t home, int pidfd);
uint64_t eepi_holder_client_ask_of(eepi_holder_client *client, eepi_holder_kind kind, int32_t seat,
                                   uint32_t generation);
/* End the connection and try again later; `lost` is called if the holder was known. */
void eepi_holder_client_drop(eepi_holder_client *client, uint64_t now_us, eep_status why);
void eepi_holder_client_close(eepi_holder_client *client);
#endif
