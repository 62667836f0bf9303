/* SPDX-License-Identifier: Apache-2.0 */
/* The connection to the holder: made, lost, made again; requests and answers. */
#include "transport/holder/holder_client.h"

#include "transport/holder/holder_socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BACK_OFF_LEAST_US = 1000,
    BACK_OFF_MOST_US = 200000,
    HELLO_BOUND_US = 2000000, /* a holder that has not answered by then is not one */
    MESSAGES_AT_ONCE = 64
};

eep_status eepi_holder_client_init(eepi_holder_client *client)
{
    client->fd = -1;
    client->why = EEP_ERR_UNREACHABLE;
    client->back_off_us = BACK_OFF_LEAST_US;
    ssize_t got = getrandom(client->identity, sizeof client->identity, 0);
    return got == (ssize_t)sizeof client->identity ? EEP_OK : EEP_ERR_SYSTEM;
}

/* ---------------------------------------------------------------- the connection */

void eepi_holder_client_drop(eepi_holder_client *client, uint64_t now_us, eep_status why)
{
    bool was_known = client->is_known;
    eepi_holder_hang_up(client->epoll_fd, client->fd);
    client->fd = -1;
    client->is_known = false;
    client->why = why;
    client->retry_us = now_us + client->back_off_us;
    client->back_off_us *= 2;
    if (client->back_off_us > BACK_OFF_MOST_US) {
        client->back_off_us = BACK_OFF_MOST_US;
    }
    if (was_known) {
        client->lost(client->user);
    }
}

static eep_status dial(const char *path, int *fd_out)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int directory = -1;
    if (!eepi_holder_reach(path, address.sun_path, &directory)) {
        return EEP_ERR_INVALID;
    }
    eep_status status = EEP_OK;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        status = EEP_ERR_SYSTEM;
    } else if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        status = errno == EACCES || errno == EPERM || errno == EPROTOTYPE ? EEP_ERR_STATE
                                                                          : EEP_ERR_UNREACHABLE;
    } else if (!eepi_holder_is_trusted(fd)) {
        status = EEP_ERR_STATE;
    } else if (!eepi_holder_is_served(fd)) {
        status = EEP_ERR_UNREACHABLE;
    }
    if (directory >= 0) {
        close(directory);
    }
    if (status == EEP_OK) {
        *fd_out = fd;
    } else if (fd >= 0) {
        close(fd);
    }
    return status;
}

static eepi_holder_message request_of(eepi_holder_client *client, eepi_holder_kind kind)
{
    return (eepi_holder_message){.magic = EEPI_HOLDER_MAGIC,
                                 .version = EEPI_HOLDER_VERSION,
                                 .kind = (uint16_t)kind,
                                 .id = ++client->last_id};
}

static void connect_again(eepi_holder_client *client, uint64_t now_us)
{
    eep_status status = dial(client->path, &client->fd);
    if (status != EEP_OK) {
        client->fd = -1;
        eepi_holder_client_drop(client, now_us, status);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    eepi_holder_message hello = request_of(client, EEPI_HOLDER_HELLO);
    hello.seat = client->seat;
    hello.generation = client->generation;
    memcpy(hello.identity, client->identity, sizeof hello.identity);
    client->hello_id = hello.id;
    client->given_up_us = now_us + HELLO_BOUND_US;
    if (epoll_ctl(client->epoll_fd, EPOLL_CTL_ADD, client->fd, &event) != 0) {
        eepi_holder_client_drop(client, now_us, EEP_ERR_SYSTEM);
    } else if (eepi_holder_send(client->fd, &hello, sizeof hello, -1) != 0) {
        eepi_holder_client_drop(client, now_us, eepi_holder_send_status(errno));
    }
}

/* Until the hello is answered nothing else is taken. */
static void take_welcome(eepi_holder_client *client, const eepi_holder_message *message,
                         uint64_t now_us)
{
    bool is_answer = message->kind == EEPI_HOLDER_ANSWER &&
                     (message->id == client->hello_id || message->id == 0); /* 0: turned away */
    if (!is_answer || message->status != EEP_OK || message->version != EEPI_HOLDER_VERSION) {
        eepi_holder_client_drop(client, now_us,
                                is_answer && message->status != EEP_OK ? message->status
                                                                       : EEP_ERR_PROTOCOL);
        return;
    }
    client->is_known = true;
    client->why = EEP_OK;
    client->met(client->user);
}

static void take(eepi_holder_client *client, const eepi_holder_message *message, int fd, bool lost,
                 uint64_t now_us)
{
    if (client->is_known && message->kind == EEPI_HOLDER_ANSWER) {
        client->answered(client->user, message, fd, lost);
        return;
    }
    if (client->is_known && message->kind == EEPI_HOLDER_CALLED) {
        client->called(client->user, message, fd);
        return;
    }
    eepi_holder_drop_fd(fd);
    if (client->is_known) {
        eepi_holder_client_drop(client, now_us, EEP_ERR_PROTOCOL);
    } else {
        take_welcome(client, message, now_us);
    }
}

int eepi_holder_client_progress(eepi_holder_client *client, uint64_t now_us)
{
    if (client->fd < 0) {
        if (now_us < client->retry_us) {
            return 0;
        }
        connect_again(client, now_us);
        return 1;
    }
    if (!client->is_known && now_us >= client->given_up_us) {
        eepi_holder_client_drop(client, now_us, EEP_ERR_TIMEOUT);
        return 1;
    }
    int work = 0;
    for (int i = 0; i < MESSAGES_AT_ONCE && client->fd >= 0; i++) {
        eepi_holder_message message;
        int fd = -1;
        bool lost = false;
        ssize_t bytes = eepi_holder_receive(client->fd, &message, sizeof message, &fd, &lost);
        if (bytes < 0 && errno == EAGAIN) {
            break;
        }
        work = 1;
        if (eepi_holder_is_formed(&message, bytes)) {
            take(client, &message, fd, lost, now_us);
            continue;
        }
        eepi_holder_drop_fd(fd);
        eepi_holder_client_drop(client, now_us, bytes > 0 ? EEP_ERR_PROTOCOL : EEP_ERR_UNREACHABLE);
    }
    return work;
}

void eepi_holder_client_settled(eepi_holder_client *client)
{
    client->back_off_us = BACK_OFF_LEAST_US;
}

uint64_t eepi_holder_client_wake_us(const eepi_holder_client *client)
{
    if (client->fd < 0) {
        return client->retry_us;
    }
    return client->is_known ? UINT64_MAX : client->given_up_us;
}

/* Its id; 0: it could not be sent. */
static uint64_t send_request(eepi_holder_client *client, const eepi_holder_message *request, int fd)
{
    if (eepi_holder_send(client->fd, request, sizeof *request, fd) == 0) {
        return request->id;
    }
    client->why = eepi_holder_send_status(errno);
    return 0;
}

uint64_t eepi_holder_client_ask(eepi_holder_client *client, eepi_holder_kind kind,
                                const uint8_t *identity, const char *name, uint64_t bytes, int fd)
{
    if (!client->is_known) {
        return 0;
    }
    eepi_holder_message request = request_of(client, kind);
    request.bytes = bytes;
    if (identity != NULL) {
        memcpy(request.identity, identity, sizeof request.identity);
    }
    if (name != NULL) {
        snprintf(request.name, sizeof request.name, "%s", name);
    }
    return send_request(client, &request, fd);
}

uint64_t eepi_holder_client_ask_retained(eepi_holder_client *client, eepi_holder_kind kind,
                                         const char *name, uint64_t number, int fd)
{
    if (!client->is_known) {
        return 0;
    }
    eepi_holder_message request = request_of(client, kind);
    request.flags = EEPI_HOLDER_RETAINED;
    *(kind == EEPI_HOLDER_NEXT ? &request.sequence : &request.bytes) = number;
    snprintf(request.name, sizeof request.name, "%s", name);
    return send_request(client, &request, fd);
}

uint64_t eepi_holder_client_ask_attach(eepi_holder_client *client, const char *pulse, uint64_t host,
                                       uint64_t home, int pidfd)
{
    if (!client->is_known) {
        return 0;
    }
    eepi_holder_message request = request_of(client, EEPI_HOLDER_ATTACH);
    request.seat = client->seat;
    request.generation = client->generation;
    request.sequence = host;
    request.bytes = home;
    snprintf(request.name, sizeof request.name, "%s", pulse);
    return send_request(client, &request, pidfd);
}

uint64_t eepi_holder_client_ask_of(eepi_holder_client *client, eepi_holder_kind kind, int32_t seat,
                                   uint32_t generation)
{
    if (!client->is_known) {
        return 0;
    }
    eepi_holder_message request = request_of(client, kind);
    request.seat = seat;
    request.generation = generation;
    return send_request(client, &request, -1);
}

void eepi_holder_client_close(eepi_holder_client *client)
{
    eepi_holder_hang_up(client->epoll_fd, client->fd);
    client->fd = -1;
    client->is_known = false;
}
