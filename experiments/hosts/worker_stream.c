/* SPDX-License-Identifier: Apache-2.0 */
/* Messages over one authenticated connection. */
#include "experiments/hosts/worker_stream.h"

#include "experiments/base/monotonic.h"
#include "transport/secure/tcp_socket.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
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

eep_status worker_stream_put(worker_stream *self, const host_message *message, const void *body,
                             size_t bytes)
{
    const struct iovec parts[] = {{(void *)message, sizeof *message}, {(void *)body, bytes}};
    if (self->fd < 0 || eepi_secure_put(&self->channel, parts, bytes ? 2 : 1) != EEP_OK) {
        return EEP_ERR_UNREACHABLE;
    }
    return eepi_secure_flush(&self->channel, self->fd);
}

eep_status worker_stream_next(worker_stream *self, host_message *message_out, void **body_out,
                              size_t *bytes_out)
{
    const void *payload = NULL;
    size_t bytes = 0;
    eep_status status = eepi_secure_take(&self->channel, self->fd, &payload, &bytes);
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

short worker_stream_events(const worker_stream *self)
{
    size_t unsent = 0;
    (void)eepi_secure_unsent(&self->channel, &unsent);
    return unsent ? POLLIN | POLLOUT : POLLIN;
}

bool worker_stream_is_silent(const worker_stream *self, uint64_t time_ns)
{
    return time_ns > self->heard_ns + (uint64_t)HOST_SILENCE_MS * 1000000u;
}

const char *worker_stream_why(const worker_stream *self, eep_status status, char *text,
                              size_t bytes)
{
    if (self->channel.fault != EEPI_SECURE_FINE) {
        return eepi_secure_why(&self->channel, text, bytes);
    }
    snprintf(text, bytes, "%s",
             status == EEP_ERR_TIMEOUT    ? "nothing was heard of it for 5 s"
             : status == EEP_ERR_PROTOCOL ? "it said what is no message"
                                          : "it was closed");
    return text;
}
