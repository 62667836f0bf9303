#include "experiments/wire/send_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct outbox_message {
    outbox_message *next;
    size_t bytes;
    char data[];
};

void outbox_init(outbox *self, int fd)
{
    *self = (outbox){.fd = fd};
    self->last = &self->first;
    pthread_mutex_init(&self->lock, NULL);
}

static void drop_all(outbox *self)
{
    while (self->first) {
        outbox_message *message = self->first;
        self->first = message->next;
        free(message);
    }
    self->last = &self->first;
}

void outbox_destroy(outbox *self)
{
    drop_all(self);
    pthread_mutex_destroy(&self->lock);
}

/* EEP_OK: it is out; EEP_ERR_TIMEOUT: not now; EEP_ERR_UNREACHABLE: never. */
static eep_status try_send(outbox *self, const void *message, size_t bytes)
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

static void flush_locked(outbox *self)
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
        outbox_message *sent = self->first;
        self->first = sent->next;
        if (!self->first) {
            self->last = &self->first;
        }
        free(sent);
    }
}

static eep_status queue_locked(outbox *self, const void *message, size_t bytes)
{
    outbox_message *copy = malloc(sizeof *copy + bytes);
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

eep_status outbox_send(outbox *self, const void *message, size_t bytes)
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

void outbox_flush(outbox *self)
{
    pthread_mutex_lock(&self->lock);
    flush_locked(self);
    pthread_mutex_unlock(&self->lock);
}

bool outbox_is_pending(outbox *self)
{
    pthread_mutex_lock(&self->lock);
    bool pending = self->first != NULL;
    pthread_mutex_unlock(&self->lock);
    return pending;
}
