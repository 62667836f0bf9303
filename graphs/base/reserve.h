/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor that a server keeps for the moment when descriptors run out (EMFILE, ENFILE). A
 * connection that waits and cannot be taken would wake the server for ever: with the reserve it is
 * taken, told why, and closed. One thread at a time. */
#ifndef EEPI_RESERVE_H
#define EEPI_RESERVE_H

#include <stdbool.h>

/* Tells whoever has just connected why it is turned away, and closes `fd`; must not wait. */
typedef void (*eepi_reserve_tell)(int fd, const void *user);

/* A new reserve, or -1 with errno. The owner closes it. */
int eepi_reserve_open(void);
/* Accept one connection of `listen_fd` in the reserve's place and have it told. *reserve is a new
 * one afterwards, or -1. false: nobody could be accepted, or there is no reserve any more: look for
 * connections again only after a pause. */
bool eepi_reserve_turn_away(int *reserve, int listen_fd, eepi_reserve_tell tell, const void *user);
#endif
