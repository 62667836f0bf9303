/* SPDX-License-Identifier: Apache-2.0 */
/* A front is served, and its ranks end when it is gone. */
#include "experiments/hosts/worker_front.h"

#include "experiments/base/commit.h"
#include "experiments/base/monotonic.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

static const uint64_t MS = 1000000;
enum { LOOK_MS = 20, LOOK_OFTEN_MS = 2, OFTEN_MS = 5000 }; /* at processes that may have stopped */
enum { STOP_MS = 1000, END_MS = 5000 }; /* a front is gone: to stop serving, to end */

static void set_phase(worker_front *self, worker_phase phase)
{
    self->phase = phase;
    self->since_ns = now_ns();
}

void worker_front_init(worker_front *self)
{
    *self = (worker_front){.stream = WORKER_STREAM_CLOSED, .agent = WORKER_AGENT_INITIAL};
    worker_ranks_init(&self->ranks);
}

/* ---------------------------------------------------------------- to the front */

/* The connection has ended. After a reset the front has some time to come back. */
static void end_stream(worker_front *self, const char *why)
{
    if (self->phase != WORKER_SERVES || !self->stream.was_reset) {
        worker_front_lose(self, why);
        return;
    }
    worker_stream_close(&self->stream);
    self->broken_ns = now_ns();
    fprintf(stderr, "eep-run: worker: the connection to the front broke (%s): waits %d s for it\n",
            why, HOST_AWAIT_MS / 1000);
}

static void put(worker_front *self, const host_message *message, const void *body, size_t bytes)
{
    if (self->stream.fd < 0 && !self->broken_ns) {
        return;
    }
    eep_status status = worker_stream_put(&self->stream, message, body, bytes);
    if (status == EEP_ERR_UNREACHABLE && self->stream.was_reset) {
        end_stream(self, "it was reset");
    } else if (status != EEP_OK) {
        worker_front_lose(self, "it does not take what is sent");
    }
}

static void put_text(worker_front *self, host_message_kind kind, const char *text)
{
    const host_message message = {.kind = kind};
    put(self, &message, text, strlen(text));
}

void worker_front_take(worker_front *self, const worker_stream *stream)
{
    self->stream = *stream;
    self->owns = self->is_launched;
    self->id = stream->channel.peer.identity.generation;
    set_phase(self, WORKER_GREETED);
    put_text(self, REMOTE_WELCOME, "");
    host_journal_clear(&self->journal);
    self->stream.journal = &self->journal;
}

bool worker_front_take_again(worker_front *self, const worker_stream *stream)
{
    const host_message welcome = {.kind = REMOTE_WELCOME, .value = 1};
    if (self->phase != WORKER_SERVES || stream->channel.peer.identity.generation != self->id) {
        return false;
    }
    worker_stream_break(&self->stream); /* the front may hold both until one of them speaks */
    self->stream = *stream;
    self->stream.journal = &self->journal;
    self->stream.holds = true;
    self->broken_ns = 0;
    put(self, &welcome, NULL, 0);
    return true;
}

/* Its BEGIN cannot be met. The front learns why, and the connection ends. */
static void refuse(worker_front *self, const char *why)
{
    put_text(self, REMOTE_REFUSED, why);
    set_phase(self, WORKER_DRAINS);
}

/* ---------------------------------------------------------------- orders */

static void on_begin(worker_front *self, const host_message *order, const void *body, size_t bytes)
{
    char why[HOST_NOTE_BYTES];
    self->owns = order->value != 0 || self->is_launched;
    eep_status status = worker_begin_set(&self->begin, body, bytes);
    const char *build = status == EEP_OK ? self->begin.text[HOST_BEGIN_BUILD] : "";
    if (strcmp(build, commit_text()) != 0) {
        snprintf(why, sizeof why, "it is of another build: commit %s, and eep-run is of %.40s",
                 commit_text(), *build ? build : "one that says none");
        refuse(self, why);
        return;
    }
    if (worker_agent_start(&self->agent, &self->begin) != EEP_OK) {
        snprintf(why, sizeof why, "its agent cannot be started: %s", strerror(errno));
        refuse(self, why);
    }
}

static void on_start(worker_front *self, const host_message *order)
{
    char why[HOST_NOTE_BYTES];
    eep_status status = worker_ranks_start(&self->ranks, &self->begin, order);
    if (status != EEP_OK) {
        const host_message ended = {.kind = REMOTE_ENDED,
                                    .seat = order->seat,
                                    .process = order->process,
                                    .value = W_EXITCODE(1, 0)};
        snprintf(why, sizeof why, "rank %d cannot be started: %s", order->seat,
                 status == EEP_ERR_SYSTEM ? strerror(errno) : "the last one has not ended yet");
        put_text(self, REMOTE_NOTE, why);
        put(self, &ended, NULL, 0);
    }
}

/* A packet for a rank; an order to stop itself may have its effect soon. */
static void on_packet(worker_front *self, const host_message *order, const void *body, size_t bytes)
{
    worker_rank *rank = &self->ranks.seat[order->seat];
    if (rank->pid && rank->process == order->process && bytes >= sizeof(wire_header)) {
        if (((const wire_header *)body)->kind == WIRE_DIE) {
            self->often_ns = now_ns() + OFTEN_MS * MS;
        }
        (void)!send_queue_send(&rank->queue, body, bytes); /* one that has ended takes nothing */
    }
}

static void on_agent(worker_front *self, int signal_number)
{
    char why[HOST_NOTE_BYTES];
    if (signal_number) {
        worker_agent_signal(&self->agent, signal_number);
    } else if (worker_agent_start(&self->agent, &self->begin) != EEP_OK) {
        snprintf(why, sizeof why, "its agent cannot be started: %s", strerror(errno));
        put_text(self, REMOTE_NOTE, why);
    }
}

static void on_rank_order(worker_front *self, const host_message *order, const void *body,
                          size_t bytes)
{
    worker_rank *rank = &self->ranks.seat[order->seat];
    switch (order->kind) {
    case REMOTE_START:
        on_start(self, order);
        break;
    case REMOTE_SIGNAL:
        self->often_ns = now_ns() + OFTEN_MS * MS;
        worker_ranks_signal(&self->ranks, order->seat, order->process, order->value);
        break;
    case REMOTE_SHUT:
        if (rank->pid && rank->process == order->process) {
            shutdown(rank->fd, SHUT_WR);
        }
        break;
    case REMOTE_PACKET:
        on_packet(self, order, body, bytes);
        break;
    default:
        break;
    }
}

static void on_order(worker_front *self, const host_message *order, const void *body, size_t bytes)
{
    if (order->kind == REMOTE_PING) {
        const host_message pong = {
            .kind = REMOTE_PONG, .time_ns = order->time_ns, .own_ns = now_ns()};
        put(self, &pong, NULL, 0);
    } else if (order->kind == REMOTE_BEGIN && self->phase == WORKER_GREETED) {
        on_begin(self, order, body, bytes);
    } else if (order->kind == REMOTE_BEGIN) { /* it has given up what runs here */
        const host_message later = {.kind = REMOTE_REFUSED, .value = 1};
        static const char why[] = "it still ends the ranks of the connection that broke";
        put(self, &later, why, strlen(why));
        worker_front_lose(self, "it begins anew");
    } else if (order->kind == REMOTE_RESUME && self->stream.holds) {
        fprintf(stderr, "eep-run: worker: the front is back\n");
        if (worker_stream_resume(&self->stream, order->taken) != EEP_OK) {
            end_stream(self, "it was reset");
        }
    } else if (order->kind == REMOTE_END) {
        worker_ranks_signal_all(&self->ranks, SIGKILL);
        set_phase(self, WORKER_ENDS);
    } else if (self->phase != WORKER_SERVES) {
        return; /* nothing else comes before READY */
    } else if (order->kind == REMOTE_ALL) {
        self->often_ns = now_ns() + OFTEN_MS * MS;
        worker_ranks_signal_all(&self->ranks, order->value);
        worker_agent_signal(&self->agent, order->value);
    } else if (order->kind == REMOTE_AGENT) {
        on_agent(self, order->value);
    } else if (order->seat >= 0 && order->seat < EEP_MAX_RANKS) {
        on_rank_order(self, order, body, bytes);
    }
}

static void take_orders(worker_front *self)
{
    host_message order;
    void *body = NULL;
    size_t bytes = 0;
    char text[EEPI_SECURE_WHY_BYTES];
    while (self->stream.fd >= 0) {
        eep_status status = worker_stream_next(&self->stream, &order, &body, &bytes);
        if (status == EEP_ERR_TIMEOUT) {
            if (worker_stream_is_silent(&self->stream, now_ns(), HOST_SILENCE_MS)) {
                worker_front_lose(self,
                                  worker_stream_why(&self->stream, status, text, sizeof text));
            }
            return;
        }
        if (status != EEP_OK) {
            end_stream(self, worker_stream_why(&self->stream, status, text, sizeof text));
            return;
        }
        on_order(self, &order, body, bytes);
    }
}

/* ---------------------------------------------------------------- ranks and agent */

static void pass_packets(worker_front *self, int seat)
{
    worker_rank *rank = &self->ranks.seat[seat];
    while (rank->fd >= 0 && !rank->has_hung_up) {
        ssize_t bytes = recv(rank->fd, self->packet, sizeof self->packet, MSG_DONTWAIT);
        if (bytes <= 0) {
            rank->has_hung_up = bytes == 0;
            return;
        }
        const wire_header *header = (const wire_header *)self->packet;
        const host_message message = {
            .kind = REMOTE_PACKET, .seat = seat, .process = rank->process};
        rank->has_stopped |= (size_t)bytes >= sizeof *header && header->kind == WIRE_STOPPED;
        put(self, &message, self->packet, (size_t)bytes);
    }
}

static void look_at_ranks(worker_front *self)
{
    const uint64_t time_ns = now_ns();
    const bool looks = time_ns >= self->look_ns;
    if (looks) {
        self->look_ns = time_ns + (time_ns < self->often_ns ? LOOK_OFTEN_MS : LOOK_MS) * MS;
    }
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        worker_rank *rank = &self->ranks.seat[s];
        host_message message = {.seat = s, .process = rank->process};
        bool is_halted = false;
        int wait_status = 0;
        if (!rank->pid) {
            continue;
        }
        send_queue_flush(&rank->queue);
        pass_packets(self, s);
        if (looks && worker_ranks_halted(&self->ranks, s, &is_halted)) {
            message.kind = REMOTE_HALTED;
            message.value = is_halted;
            put(self, &message, NULL, 0);
        }
        if (worker_ranks_ended(&self->ranks, s, &wait_status)) {
            pass_packets(self, s); /* what it sent before its end counts */
            worker_ranks_forget(&self->ranks, s);
            message.kind = REMOTE_ENDED;
            message.value = wait_status;
            put(self, &message, NULL, 0);
        }
    }
}

static void look_at_agent(worker_front *self)
{
    char why[HOST_NOTE_BYTES], told[HOST_NOTE_BYTES];
    if (!self->begin.body || self->phase == WORKER_DRAINS || self->phase == WORKER_ENDS) {
        return;
    }
    worker_agent_look(&self->agent, &self->begin, why);
    bool is_ready = self->agent.state != WORKER_AGENT_BEGINS;
    if (self->phase != WORKER_GREETED) {
        if (*why) {
            snprintf(told, sizeof told, "%.400s; it is started again", why);
            put_text(self, REMOTE_NOTE, told);
        }
    } else if (*why) { /* it ended before it was ready: its standard error says why */
        worker_agent_end(&self->agent);
        refuse(self, why);
    } else if (is_ready) {
        set_phase(self, WORKER_SERVES);
        put_text(self, REMOTE_READY, "");
        if (self->agent.state == WORKER_AGENT_ELSEWHERE) {
            put_text(self, REMOTE_NOTE,
                     "another agent serves it, which is not the worker's to kill");
        }
    }
}

/* ---------------------------------------------------------------- the front is gone */

void worker_front_lose(worker_front *self, const char *why)
{
    if (self->stream.fd < 0 && !self->broken_ns) {
        return;
    }
    worker_stream_close(&self->stream);
    host_journal_clear(&self->journal);
    self->broken_ns = 0;
    if (self->phase == WORKER_SERVES) {
        fprintf(stderr, "eep-run: worker: the front is gone (%s): its %d ranks are told to stop\n",
                why, self->ranks.num);
        worker_ranks_stop(&self->ranks);
    }
    if (self->phase != WORKER_ENDS) {
        set_phase(self, WORKER_DRAINS);
    }
    self->is_cut = false;
}

static bool all_have_stopped(const worker_ranks *ranks)
{
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        if (ranks->seat[s].pid && !ranks->seat[s].has_stopped) {
            return false;
        }
    }
    return true;
}

static void drain(worker_front *self)
{
    const uint64_t took_ns = now_ns() - self->since_ns;
    if (self->ranks.num > 0 && took_ns > END_MS * MS) {
        worker_ranks_signal_all(&self->ranks, SIGKILL);
    } else if (!self->is_cut && (all_have_stopped(&self->ranks) || took_ns > STOP_MS * MS)) {
        worker_ranks_shut(&self->ranks);
        self->is_cut = true;
    }
}

/* No rank is left of a front that is gone. */
static void end_front(worker_front *self)
{
    worker_agent_end(&self->agent);
    if (self->stream.fd >= 0) {
        (void)!eepi_secure_flush(&self->stream.channel, self->stream.fd);
        worker_stream_close(&self->stream);
    }
    host_journal_clear(&self->journal);
    free(self->begin.body);
    self->begin = (worker_begin){0};
    self->is_over = self->owns;
    set_phase(self, WORKER_IDLE);
}

void worker_front_step(worker_front *self)
{
    take_orders(self);
    if (self->broken_ns && now_ns() - self->broken_ns > HOST_AWAIT_MS * MS) {
        worker_front_lose(self, "its connection broke, and it did not come back in time");
    }
    look_at_ranks(self);
    look_at_agent(self);
    if (self->phase == WORKER_DRAINS) {
        drain(self);
    }
    if ((self->phase == WORKER_DRAINS || self->phase == WORKER_ENDS) && self->ranks.num == 0) {
        end_front(self);
    }
}

void worker_front_close(worker_front *self)
{
    worker_ranks_signal_all(&self->ranks, SIGKILL);
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        int wait_status = 0;
        if (self->ranks.seat[s].pid) {
            (void)waitpid(self->ranks.seat[s].pid, &wait_status, 0);
            worker_ranks_forget(&self->ranks, s);
        }
    }
    worker_agent_end(&self->agent);
    worker_stream_close(&self->stream);
    host_journal_clear(&self->journal);
    free(self->begin.body);
}
