/* SPDX-License-Identifier: Apache-2.0 */
/* The holder's clients, and which of them has to make room when descriptors run out. */
#include "transport/holder/holder_table.h"

#include "transport/holder/holder_socket.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

void eepi_holder_drop_client(eepi_holder *holder, holder_client *client)
{
    client->dropped = true;
    holder->has_dropped = true;
}

/* ---------------------------------------------------------------- guests */

/* A client that has no memory held is no rank, or not yet one. */
static bool is_guest(const holder_client *client)
{
    return !client->dropped && client->held == NULL && !client->has_retained;
}

bool eepi_holder_evict(eepi_holder *holder, const holder_client *but)
{
    holder_client *least = NULL;
    for (holder_client *at = holder->clients; at != NULL;
         at = at->next) { /* begins with the newest */
        if (at != but && is_guest(at) && (least == NULL || least->is_known || !at->is_known)) {
            least = at;
        }
    }
    if (least != NULL) {
        eepi_holder_drop_client(holder, least);
    }
    return least != NULL;
}

static uint64_t count_guests(const eepi_holder *holder)
{
    uint64_t num = 0;
    for (const holder_client *at = holder->clients; at != NULL; at = at->next) {
        num += is_guest(at);
    }
    return num;
}

/* ---------------------------------------------------------------- clients */

holder_client *eepi_holder_find_client(const eepi_holder *holder, const uint8_t *identity)
{
    for (holder_client *at = holder->clients; at != NULL; at = at->next) {
        if (at->is_known && !at->dropped &&
            memcmp(at->identity, identity, EEPI_HOLDER_IDENTITY_BYTES) == 0) {
            return at;
        }
    }
    return NULL;
}

holder_held *eepi_holder_find_held(const eepi_holder *holder, const char *name,
                                   const holder_client **owner_out)
{
    for (holder_client *at = holder->clients; at != NULL; at = at->next) {
        for (holder_held *piece = at->held; piece != NULL && !at->dropped; piece = piece->next) {
            if (strcmp(piece->name, name) == 0) {
                *owner_out = at;
                return piece;
            }
        }
    }
    return NULL;
}

void eepi_holder_free_client(eepi_holder *holder, holder_client *client)
{
    if (client->prev != NULL) {
        client->prev->next = client->next;
    } else {
        holder->clients = client->next;
    }
    if (client->next != NULL) {
        client->next->prev = client->prev;
    }
    holder->num_clients--;
    holder->num_strangers -= client->is_known ? 0 : 1;
    while (client->held != NULL) {
        holder_held *piece = client->held;
        client->held = piece->next;
        close(piece->fd);
        free(piece);
    }
    if (holder->pid == getpid()) {
        eepi_holder_hang_up(holder->epoll_fd, client->fd);
    } else {
        close(client->fd);
    }
    free(client);
}

eep_status eepi_holder_add_client(eepi_holder *holder, int fd)
{
    if (!eepi_holder_is_trusted(fd)) {
        return EEP_ERR_STATE;
    }
    if (holder->num_clients >= holder->limits.max_clients) {
        return EEP_ERR_NO_MEMORY;
    }
    holder_client *made = calloc(1, sizeof *made);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = made};
    if (made == NULL || epoll_ctl(holder->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        free(made);
        return EEP_ERR_NO_MEMORY;
    }
    made->fd = fd;
    made->since_us = holder->now_us;
    made->next = holder->clients;
    if (made->next != NULL) {
        made->next->prev = made;
    }
    holder->clients = made;
    holder->num_clients++;
    holder->num_strangers++;
    if (count_guests(holder) > holder->most_guests) {
        (void)eepi_holder_evict(holder, made);
    }
    return EEP_OK;
}
