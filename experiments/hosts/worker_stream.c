/* SPDX-License-Identifier: Apache-2.0 */
/* Messages over one authenticated connection. */
#include "experiments/hosts/worker_stream.h"

#include "experiments/base/monotonic.h"
#include "transport/secure/tcp_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

eep_status worker_stream_open(worker_stream *self, int fd, const eepi_secure_key *key,
                              uint64_t front)
{
    eepi_secure_config config = {.key = *key,
                                 .is_server = front == 0,
                                 .own = {.service = HOST_SERVICE,
                                         .seat = -1,
                                         .generation = front,
                                         .newest = HOST_VERSION,
                                         .oldest = HOST_VERSION},
                                 .wanted_seat = -1,
                                 .max_message_bytes = sizeof(host_message) + HOST_BODY_BYTES,
                                 .max_unsent_bytes = HOST_UNSENT_BYTES};
    snprintf(config.own.role, sizeof config.own.role, "%s", front ? "front" : "worker");
    *self = (worker_stream){.fd = fd, .heard_ns = now_ns()};
    eepi_tcp_prepare(fd);
    eep_status status = eepi_secure_start(&self->channel, &config);
    eepi_secure_key_wipe(&config.key);
    if (status != EEP_OK) {
        worker_stream_close(self);
    }
    return status;
}

void worker_stream_close(worker_stream *self)
{
    if (self->fd >= 0) {
        eepi_secure_end(&self->channel);
        close(self->fd);
        self->fd = -1;
    }
}

void worker_stream_break(worker_stream *self)
{
    const struct linger at_once = {.l_onoff = 1};
    if (self->fd >= 0) {
        (void)!setsockopt(self->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    worker_stream_close(self);
}

/* What the last call on the socket has left in errno: not an end that its other side wished for. */
static eep_status with_cause(worker_stream *self, eep_status status)
{
    if (status == EEP_ERR_UNREACHABLE) {
        self->was_reset |= errno == ECONNRESET || errno == EPIPE || errno == ECONNABORTED;
    }
    return status;
}

static eep_status send_one(worker_stream *self, const host_message *message, const void *body,
                           size_t bytes)
{
    host_message own = *message;
    own.taken = self->journal ? self->journal->taken : 0;
    const struct iovec parts[] = {{&own, sizeof own}, {(void *)(uintptr_t)body, bytes}};
    if (self->fd < 0 || eepi_secure_put(&self->channel, parts, bytes ? 2 : 1) != EEP_OK) {
        return EEP_ERR_UNREACHABLE;
    }
    errno = 0;
    return with_cause(self, eepi_secure_flush(&self->channel, self->fd));
}

eep_status worker_stream_put(worker_stream *self, const host_message *message, const void *body,
                             size_t bytes)
{
    host_message own = *message;
    const bool counts = self->journal && host_journal_counts(own.kind);
    if (counts) {
        eep_status status = host_journal_keep(self->journal, &own, body, bytes);
        if (status != EEP_OK || self->fd < 0 || self->holds) {
            return status;
        }
    }
    return send_one(self, &own, body, bytes);
}

eep_status worker_stream_resume(worker_stream *self, uint64_t taken)
{
    eep_status status = EEP_OK;
    host_journal_release(self->journal, taken);
    self->holds = false;
    const host_journal_entry *entry = self->journal->first;
    for (; entry && status == EEP_OK; entry = entry->next) {
        status = send_one(self, &entry->message, entry->body, entry->bytes);
    }
    return status;
}

static eep_status take_one(worker_stream *self, host_message *message_out, void **body_out,
                           size_t *bytes_out)
{
    const void *payload = NULL;
    size_t bytes = 0;
    errno = 0;
    eep_status status =
        with_cause(self, eepi_secure_take(&self->channel, self->fd, &payload, &bytes));
    if (status != EEP_OK) {
        return status;
    }
    if (bytes < sizeof *message_out) {
        return EEP_ERR_PROTOCOL;
    }
    memcpy(message_out, payload, sizeof *message_out);
    *body_out = (char *)(uintptr_t)payload + sizeof *message_out; /* the channel's own buffer */
    *bytes_out = bytes - sizeof *message_out;
    self->heard_ns = now_ns();
    return EEP_OK;
}

eep_status worker_stream_next(worker_stream *self, host_message *message_out, void **body_out,
                              size_t *bytes_out)
{
    for (;;) {
        eep_status status = take_one(self, message_out, body_out, bytes_out);
        if (status != EEP_OK || !self->journal) {
            return status;
        }
        host_journal_release(self->journal, message_out->taken);
        if (!message_out->number) {
            return EEP_OK;
        }
        status = host_journal_take(self->journal, message_out->number);
        if (status != EEP_ERR_STATE) {
            return status;
        }
    }
}

short worker_stream_events(const worker_stream *self)
{
    size_t unsent = 0;
    (void)eepi_secure_unsent(&self->channel, &unsent);
    return unsent ? POLLIN | POLLOUT : POLLIN;
}

bool worker_stream_is_silent(const worker_stream *self, uint64_t time_ns, uint64_t ms)
{
    return time_ns > self->heard_ns + ms * 1000000u;
}

const char *worker_stream_why(const worker_stream *self, eep_status status, char *text,
                              size_t bytes)
{
    if (self->channel.fault != EEPI_SECURE_FINE) {
        return eepi_secure_why(&self->channel, text, bytes);
    }
    snprintf(text, bytes, "%s",
             status == EEP_ERR_TIMEOUT     ? "nothing was heard of it for some seconds"
             : status == EEP_ERR_PROTOCOL  ? "it said what is no message"
             : status == EEP_ERR_NO_MEMORY ? "too much waits for it"
             : self->was_reset             ? "it was reset"
                                           : "it was closed");
    return text;
}
