/* SPDX-License-Identifier: Apache-2.0 */
/* One connection between eep-run and a worker: messages of host_wire.h in a channel that proves the
 * job's key. One thread at a time. */
#ifndef EEPX_WORKER_STREAM_H
#define EEPX_WORKER_STREAM_H

#include "experiments/hosts/host_journal.h"
#include "transport/secure/secure_socket.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct worker_stream {
    int fd; /* -1: closed */
    eepi_secure_channel channel;
    uint64_t heard_ns;     /* when the last message came */
    bool was_reset;        /* the connection broke, though neither end has closed it */
    bool holds;            /* what counts is kept, and sent by worker_stream_resume */
    host_journal *journal; /* NULL: nothing counts yet */
} worker_stream;

#define WORKER_STREAM_CLOSED ((worker_stream){.fd = -1})

/* `fd`, a TCP socket, is the stream's from here on, also on failure. `front`: a number of the
 * front's own, random; 0: this end is a worker. */
EEP_MUST_CHECK eep_status worker_stream_open(worker_stream *self, int fd,
                                             const eepi_secure_key *key, uint64_t front);
void worker_stream_close(worker_stream *self);
/* The same by a reset: the other end learns that the connection is over, and not that this end has
 * wished for no other one. */
void worker_stream_break(worker_stream *self);
/* Queue a message, with `bytes` of a body, and send what can be sent. With a journal a message that
 * counts is kept there, on a closed stream as well, and EEP_OK means that. EEP_ERR_UNREACHABLE: the
 * other end is gone (`was_reset`: by a reset, and the message is kept), or does not keep up.
 * EEP_ERR_NO_MEMORY: the journal takes no more. */
EEP_MUST_CHECK eep_status worker_stream_put(worker_stream *self, const host_message *message,
                                            const void *body, size_t bytes);
/* The other end has told what it has taken: send it the rest, and hold nothing back any more. */
EEP_MUST_CHECK eep_status worker_stream_resume(worker_stream *self, uint64_t taken);
/* The next message that was not taken before, with its body, which stays until the next call and
 * may be changed. EEP_OK, EEP_ERR_TIMEOUT: none now; EEP_ERR_UNREACHABLE: the other end is gone;
 * EEP_ERR_PROTOCOL: what came was refused. */
EEP_MUST_CHECK eep_status worker_stream_next(worker_stream *self, host_message *message_out,
                                             void **body_out, size_t *bytes_out);
/* What to poll the socket for. */
short worker_stream_events(const worker_stream *self);
/* Nothing has come for so long, as HOST_SILENCE_MS. */
bool worker_stream_is_silent(const worker_stream *self, uint64_t time_ns, uint64_t ms);
/* Why it ended, in words. Returns `text`. */
const char *worker_stream_why(const worker_stream *self, eep_status status, char *text,
                              size_t bytes);
#endif
