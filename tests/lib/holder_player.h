/* SPDX-License-Identifier: Apache-2.0 */
/* A client of the holder that is played by a test, message by message. Each wait is bounded. */
#ifndef EEPT_HOLDER_PLAYER_H
#define EEPT_HOLDER_PLAYER_H

#include "transport/bulk/bulk_shm.h"
#include "transport/holder/holder_socket.h"

typedef struct player {
    int fd;
    uint8_t identity[EEPI_HOLDER_IDENTITY_BYTES];
    uint64_t last_id;
} player;

/* Connect; says nothing. */
player player_dial(const char *path);
/* Connect and say hello; the answer must be EEP_OK. */
player player_open(const char *path);
eepi_holder_message player_message(player *self, eepi_holder_kind kind);
void player_send(const player *self, const eepi_holder_message *message, int fd);
/* The next message and its descriptor (-1: none). false: the connection has ended. */
bool player_receive(const player *self, eepi_holder_message *message_out, int *fd_out);
/* Send a request and take its answer. */
eepi_holder_message player_ask(player *self, const eepi_holder_message *request, int fd,
                               int *fd_out);
eep_status player_hold(player *self, const char *name, int fd, uint64_t bytes);
/* A sealed region that can be held, mapped for writing. */
int make_region(unsigned char **region_out);
/* Play a copier: hold a region under its name. Returns the address by which others ask it. */
shm_address player_be_copier(player *self, unsigned char **region_out);
/* The connection of somebody who has asked it for something; `from` is progressed meanwhile. */
int player_called(player *self, eepi_bulk *from);
/* Connect to the copier with that address, as its requesters do. */
int player_call(player *self, const shm_address *address);
#endif
