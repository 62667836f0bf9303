/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that a socket does not take at once wait here in order. */
#include "experiments/wire/send_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct send_queue_message {
    send_queue_message *next;
    size_t bytes;
    char data[];
};

void send_queue_init(send_queue *self, int fd)
{
    *self = (send_queue){.fd = fd};
    self->last = &self->first;
    pthread_mutex_init(&self->lock, NULL);
}

static void drop_all(send_queue *self)
{
    while (self->first) {
        send_queue_message *message = self->first;
        self->first = message->next;
        free(message);
    }
    self->last = &self->first;
}

void send_queue_destroy(send_queue *self)
{
    drop_all(self);
    pthread_mutex_destroy(&self->lock);
}

/* EEP_OK: it is out; EEP_ERR_TIMEOUT: not now; EEP_ERR_UNREACHABLE: never. */
static eep_status try_send(send_queue *self, const void *message, size_t bytes)
{
    ssize_t sent = 0;
    do {
        sent = send(self->fd, message, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        return EEP_OK;
    }
    return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ? EEP_ERR_TIMEOUT
                                                                  : EEP_ERR_UNREACHABLE;
}

static void flush_locked(send_queue *self)
{
    while (self->first) {
        eep_status status = try_send(self, self->first->data, self->first->bytes);
        if (status == EEP_ERR_TIMEOUT) {
            return;
        }
        if (status != EEP_OK) {
            self->broken = true;
            drop_all(self);
            return;
        }
        send_queue_message *sent = self->first;
        self->first = sent->next;
        if (!self->first) {
            self->last = &self->first;
        }
        free(sent);
    }
}

static eep_status queue_locked(send_queue *self, const void *message, size_t bytes)
{
    send_queue_message *copy = malloc(sizeof *copy + bytes);
    if (!copy) {
        return EEP_ERR_NO_MEMORY;
    }
    copy->next = NULL;
    copy->bytes = bytes;
    memcpy(copy->data, message, bytes);
    *self->last = copy;
    self->last = &copy->next;
    return EEP_OK;
}

eep_status send_queue_send(send_queue *self, const void *message, size_t bytes)
{
    pthread_mutex_lock(&self->lock);
    flush_locked(self);
    eep_status status = EEP_ERR_TIMEOUT;
    if (self->broken) {
        status = EEP_ERR_UNREACHABLE;
    } else if (!self->first) {
        status = try_send(self, message, bytes);
        self->broken = status == EEP_ERR_UNREACHABLE;
    }
    if (status == EEP_ERR_TIMEOUT) {
        status = queue_locked(self, message, bytes);
    }
    pthread_mutex_unlock(&self->lock);
    return status;
}

void send_queue_flush(send_queue *self)
{
    pthread_mutex_lock(&self->lock);
    flush_locked(self);
    pthread_mutex_unlock(&self->lock);
}

bool send_queue_is_pending(send_queue *self)
{
    pthread_mutex_lock(&self->lock);
    bool pending = self->first != NULL;
    pthread_mutex_unlock(&self->lock);
    return pending;
}
