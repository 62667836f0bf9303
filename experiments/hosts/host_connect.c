/* SPDX-License-Identifier: Apache-2.0 */
/* Connect to a worker, and start it where it is not there. */
#include "experiments/hosts/host_connect.h"

#include "experiments/base/child.h"
#include "experiments/base/monotonic.h"
#include "transport/secure/tcp_socket.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONNECT_MS = 1000, PROOF_US = 2000000, READY_MS = 20000, FIRST_PINGS = 8, END_MS = 3000 };

static const char *ending(int status, char *text, size_t bytes)
{
    snprintf(text, bytes, WIFSIGNALED(status) ? "by signal %d" : "with status %d",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return text;
}

/* Nobody answers: start a worker, once. */
static eep_status start(host_connect *self, char *why)
{
    static char shell[] = "sh", flag[] = "-c";
    const hosts_entry *host = self->config.host;
    int status = 0;
    char how[32];
    if (self->resumes) {
        snprintf(why, HOST_NOTE_BYTES, "no worker answers at %.100s", host->address);
        return EEP_ERR_TIMEOUT;
    }
    if (!host->start) {
        snprintf(why, HOST_NOTE_BYTES,
                 host->is_launched
                     ? "no worker answers at %.100s, where the launcher had started one"
                     : "no worker answers at %.100s, and the file has no 'start': run 'eep-run "
                       "--worker %.100s' there",
                 host->address, host->address);
        return EEP_ERR_UNREACHABLE;
    }
    if (self->starter && child_has_ended(self->starter, &status)) {
        self->starter = 0;
        self->is_fatal = true;
        snprintf(why, HOST_NOTE_BYTES, "its start command ended %s: %.300s",
                 ending(status, how, sizeof how), host->start);
        return EEP_ERR_UNREACHABLE;
    }
    if (!self->starter) {
        char *const words[] = {shell, flag, host->start, NULL};
        child_setup setup = CHILD_SETUP;
        setup.death_signal = 0; /* the worker ends in order when we are gone, and this with it */
        setup.output = STDERR_FILENO;
        setup.has_own_group = true; /* ^C is for eep-run, which ends the worker in order */
        pid_t pid = child_exec(&setup, "/bin/sh", words, NULL, NULL);
        if (pid < 0) {
            snprintf(why, HOST_NOTE_BYTES, "its start command cannot be run: %s", strerror(errno));
            return EEP_ERR_SYSTEM;
        }
        self->starter = pid;
        self->started = true;
    }
    snprintf(why, HOST_NOTE_BYTES, "no worker answers at %.100s, though its start command runs",
             host->address);
    return EEP_ERR_TIMEOUT;
}

/* Until a message comes. */
static eep_status await(worker_stream *stream, host_message *message, void **body, size_t *bytes,
                        int wait_ms)
{
    const uint64_t end_ns = now_ns() + (uint64_t)wait_ms * 1000000u;
    for (;;) {
        eep_status status = worker_stream_next(stream, message, body, bytes);
        uint64_t time_ns = now_ns();
        if (status != EEP_ERR_TIMEOUT || time_ns >= end_ns) {
            return status;
        }
        struct pollfd set = {.fd = stream->fd, .events = worker_stream_events(stream)};
        (void)poll(&set, 1, (int)((end_ns - time_ns) / 1000000u) + 1);
    }
}

/* The first question to a clock is asked more than once. */
static eep_status ask_clock(worker_stream *stream, host_clock *clock)
{
    host_message answer;
    void *body = NULL;
    size_t bytes = 0;
    for (int i = 0; i < FIRST_PINGS; i++) {
        const host_message ping = {.kind = REMOTE_PING, .time_ns = now_ns()};
        eep_status status = worker_stream_put(stream, &ping, NULL, 0);
        while (status == EEP_OK) {
            status = await(stream, &answer, &body, &bytes, CONNECT_MS);
            if (status == EEP_OK && answer.kind == REMOTE_PONG) {
                host_clock_add(clock, answer.time_ns, now_ns(), answer.own_ns);
                break;
            }
        }
        if (status != EEP_OK) {
            return status;
        }
    }
    return EEP_OK;
}

/* The worker's yes; EEP_ERR_CONFLICT: its no, in `why`. */
static eep_status await_yes(host_connect *self, worker_stream *stream, uint32_t wanted, char *why,
                            host_message *answer_out)
{
    host_message *answer = answer_out;
    void *body = NULL;
    size_t bytes = 0;
    eep_status status = await(stream, answer, &body, &bytes, self->resumes ? CONNECT_MS : READY_MS);
    if (status == EEP_OK && answer->kind == REMOTE_REFUSED) {
        snprintf(why, HOST_NOTE_BYTES, "its worker refuses: %.*s", (int)bytes, (char *)body);
        self->is_fatal = answer->value == 0;
        return EEP_ERR_CONFLICT;
    }
    return status == EEP_OK && answer->kind != wanted ? EEP_ERR_PROTOCOL : status;
}

/* Go on with the connection that broke; EEP_ERR_STATE: its worker knows nothing of it. */
static eep_status resume(host_connect *self, worker_stream *stream, const host_message *welcome)
{
    const host_message message = {.kind = REMOTE_RESUME};
    if (welcome->value != 1) {
        return EEP_ERR_STATE;
    }
    stream->journal = &self->journal;
    eep_status status = worker_stream_put(stream, &message, NULL, 0);
    return status == EEP_OK ? worker_stream_resume(stream, welcome->taken) : status;
}

/* The channel is open: tell the worker what it is for. */
static eep_status begin(host_connect *self, worker_stream *stream, host_clock *clock, char *why)
{
    const host_message message = {.kind = REMOTE_BEGIN, .value = self->started};
    host_message answer = {0};
    eep_status status = await_yes(self, stream, REMOTE_WELCOME, why, &answer);
    if (status == EEP_OK && self->resumes) {
        status = resume(self, stream, &answer);
    } else if (status == EEP_OK) {
        host_journal_clear(&self->journal);
        stream->journal = &self->journal;
        status = worker_stream_put(stream, &message, self->config.begin, self->config.begin_bytes);
        status = status == EEP_OK ? await_yes(self, stream, REMOTE_READY, why, &answer) : status;
        status = status == EEP_OK ? ask_clock(stream, clock) : status;
    }
    if (status != EEP_OK && status != EEP_ERR_CONFLICT) {
        char text[EEPI_SECURE_WHY_BYTES];
        snprintf(why, HOST_NOTE_BYTES, "its worker is not ready: %s",
                 status == EEP_ERR_TIMEOUT ? "it says nothing"
                                           : worker_stream_why(stream, status, text, sizeof text));
    }
    return status;
}

/* What was opened leads to nothing. A worker that is late is not to take that for the front's end,
 * where it has ranks of it. */
static void give_up(const host_connect *self, worker_stream *stream)
{
    if (self->resumes) {
        worker_stream_break(stream);
    } else {
        worker_stream_close(stream);
    }
}

eep_status host_connect_try(host_connect *self, worker_stream *stream_out, host_clock *clock_out,
                            char *why)
{
    const hosts_entry *host = self->config.host;
    worker_stream stream = WORKER_STREAM_CLOSED;
    char text[EEPI_SECURE_WHY_BYTES];
    int fd = -1;
    self->is_fatal = false;
    eep_status status = eepi_tcp_check_host(host->ip, true, text, sizeof text);
    if (status != EEP_OK) {
        self->is_fatal = true;
        snprintf(why, HOST_NOTE_BYTES, "%s", text);
        return status;
    }
    if (eepi_tcp_connect(host->ip, host->port, CONNECT_MS, &fd) != EEP_OK) {
        return start(self, why);
    }
    status = worker_stream_open(&stream, fd, &self->config.key, self->config.front);
    if (status == EEP_OK) {
        status = eepi_secure_open(&stream.channel, stream.fd, PROOF_US);
        if (status != EEP_OK && stream.channel.fault == EEPI_SECURE_FINE) {
            give_up(self, &stream); /* it was not there after all */
            return start(self, why);
        }
    }
    if (status != EEP_OK) {
        self->is_fatal = stream.channel.fault != EEPI_SECURE_UNPROVEN; /* it may just be ending */
        snprintf(why, HOST_NOTE_BYTES, "what answers at %.100s: %s", host->address,
                 worker_stream_why(&stream, status, text, sizeof text));
    } else {
        status = begin(self, &stream, clock_out, why);
    }
    if (status == EEP_OK) {
        *stream_out = stream;
    } else {
        give_up(self, &stream);
    }
    return status;
}

void host_connect_close(host_connect *self)
{
    const uint64_t end_ns = now_ns() + (uint64_t)END_MS * 1000000u;
    const struct timespec nap = {0, 10000000};
    while (self->starter && !child_has_ended(self->starter, NULL)) {
        if (now_ns() > end_ns) {
            kill(-self->starter, SIGTERM); /* what it has started here, in its group */
            child_kill(self->starter, NULL);
            break;
        }
        nanosleep(&nap, NULL);
    }
    self->starter = 0;
    host_journal_clear(&self->journal);
    eepi_secure_key_wipe(&self->config.key);
}
