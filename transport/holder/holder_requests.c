/* SPDX-License-Identifier: Apache-2.0 */
/* What clients ask of the holder, and what it answers. */
#include "transport/holder/holder_table.h"

#include "transport/holder/holder_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MESSAGES_A_ROUND = 16, /* of one client */
    PAIR_BUFFER_BYTES = 262144
};

/* ---------------------------------------------------------------- answers */

eepi_holder_message eepi_holder_answer(const eepi_holder *holder,
                                       const eepi_holder_message *request, eep_status status)
{
    return (eepi_holder_message){.magic = EEPI_HOLDER_MAGIC,
                                 .version = EEPI_HOLDER_VERSION,
                                 .kind = EEPI_HOLDER_ANSWER,
                                 .id = request->id,
                                 .status = status,
                                 .age_us = holder->now_us - holder->opened_us};
}

/* A client that does not read its answers is let go. One whose descriptor the kernel does not take
 * (too many of this user are on their way) is told so. */
static void send_answer(eepi_holder *holder, holder_client *to, const eepi_holder_message *answer,
                        int fd)
{
    if (eepi_holder_send(to->fd, answer, sizeof *answer, fd) == 0) {
        return;
    }
    eepi_holder_message bare = *answer;
    bare.status = EEP_ERR_SYSTEM;
    if (fd < 0 || eepi_holder_send_status(errno) != EEP_ERR_SYSTEM ||
        eepi_holder_send(to->fd, &bare, sizeof bare, -1) != 0) {
        eepi_holder_drop_client(holder, to);
    }
}

static void reply(eepi_holder *holder, holder_client *to, const eepi_holder_message *request,
                  eep_status status)
{
    const eepi_holder_message answer = eepi_holder_answer(holder, request, status);
    send_answer(holder, to, &answer, -1);
}

/* ---------------------------------------------------------------- requests */

static void handle_hello(eepi_holder *holder, holder_client *from,
                         const eepi_holder_message *message)
{
    eep_status status = EEP_OK;
    if (message->kind != EEPI_HOLDER_HELLO || message->flags != 0) {
        status = EEP_ERR_PROTOCOL;
    } else if (message->version != EEPI_HOLDER_VERSION) {
        status = EEP_ERR_UNSUPPORTED;
    } else if (eepi_holder_find_client(holder, message->identity) != NULL) {
        status = EEP_ERR_CONFLICT;
    }
    reply(holder, from, message, status);
    if (status != EEP_OK) {
        eepi_holder_drop_client(holder, from);
        return;
    }
    from->is_known = true;
    from->seat = message->seat;
    from->generation = message->generation;
    memcpy(from->identity, message->identity, sizeof from->identity);
    holder->num_strangers--;
}

/* Memory that nobody can write by its descriptor, and that does not shrink under a reader. */
static bool is_sealed(int fd, uint64_t bytes)
{
    struct stat info;
    int seals = fcntl(fd, F_GET_SEALS); /* first: what has seals answers fstat at once */
    return seals >= 0 && (seals & EEPI_HOLDER_SEALS) == EEPI_HOLDER_SEALS &&
           fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && bytes > 0 &&
           (uint64_t)info.st_size == bytes;
}

/* Takes the descriptor over only on EEP_OK. */
static eep_status hold(eepi_holder *holder, holder_client *from, const eepi_holder_message *message,
                       int fd, bool lost)
{
    const holder_client *owner = NULL;
    if (lost) { /* no descriptors left here: there may be when it tries again */
        (void)eepi_holder_evict(holder, from);
        return EEP_ERR_SYSTEM;
    }
    if (fd < 0 || message->name[0] == '\0' || !is_sealed(fd, message->bytes)) {
        return EEP_ERR_INVALID;
    }
    if ((message->flags & EEPI_HOLDER_RETAINED) != 0) {
        return eepi_holder_retain(holder, from, message, fd);
    }
    if (eepi_holder_find_held(holder, message->name, &owner) != NULL) {
        return EEP_ERR_CONFLICT;
    }
    holder_held *piece =
        from->num_held < holder->limits.max_held_per_client ? calloc(1, sizeof *piece) : NULL;
    if (piece == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    piece->fd = fd;
    piece->bytes = message->bytes;
    memcpy(piece->name, message->name, sizeof piece->name);
    piece->next = from->held;
    from->held = piece;
    from->num_held++;
    return EEP_OK;
}

static eep_status release(holder_client *from, const char *name)
{
    for (holder_held **link = &from->held; *link != NULL; link = &(*link)->next) {
        holder_held *piece = *link;
        if (strcmp(piece->name, name) != 0) {
            continue;
        }
        *link = piece->next;
        close(piece->fd);
        free(piece);
        from->num_held--;
        return EEP_OK;
    }
    return EEP_ERR_NOT_FOUND;
}

static void look_up(eepi_holder *holder, holder_client *from, const eepi_holder_message *message)
{
    const holder_client *owner = NULL;
    const holder_held *piece = eepi_holder_find_held(holder, message->name, &owner);
    if (piece == NULL) {
        reply(holder, from, message, EEP_ERR_NOT_FOUND);
        return;
    }
    eepi_holder_message answer = eepi_holder_answer(holder, message, EEP_OK);
    answer.bytes = piece->bytes;
    answer.seat = owner->seat;
    answer.generation = owner->generation;
    memcpy(answer.identity, owner->identity, sizeof answer.identity);
    send_answer(holder, from, &answer, piece->fd);
}

/* The next piece of retained memory. */
static void show_next(eepi_holder *holder, holder_client *from, const eepi_holder_message *message)
{
    const holder_held *piece = eepi_holder_next_retained(holder, message->name, message->sequence);
    if (piece == NULL) {
        reply(holder, from, message, EEP_ERR_NOT_FOUND);
        return;
    }
    eepi_holder_message answer = eepi_holder_answer(holder, message, EEP_OK);
    answer.bytes = piece->bytes;
    answer.seat = piece->seat;
    answer.generation = piece->generation;
    answer.sequence = piece->sequence;
    memcpy(answer.identity, piece->identity, sizeof answer.identity);
    memcpy(answer.name, piece->name, sizeof answer.name);
    send_answer(holder, from, &answer, piece->fd);
}

static eep_status let_go(eepi_holder *holder, holder_client *from,
                         const eepi_holder_message *message)
{
    return (message->flags & EEPI_HOLDER_RETAINED) != 0
               ? eepi_holder_release_retained(holder, message->name)
               : release(from, message->name);
}

static void connect_two(eepi_holder *holder, holder_client *from,
                        const eepi_holder_message *message)
{
    const int buffer_bytes = PAIR_BUFFER_BYTES;
    int ends[2];
    const holder_client *to = eepi_holder_find_client(holder, message->identity);
    if (to == NULL || to == from) {
        reply(holder, from, message, to == NULL ? EEP_ERR_NOT_FOUND : EEP_ERR_INVALID);
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        (void)eepi_holder_evict(holder, from);
        reply(holder, from, message, EEP_ERR_SYSTEM);
        return;
    }
    for (int i = 0; i < 2; i++) {
        setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
        eepi_holder_refuse_fds(ends[i]);
    }
    eepi_holder_message call = {.magic = EEPI_HOLDER_MAGIC,
                                .version = EEPI_HOLDER_VERSION,
                                .kind = EEPI_HOLDER_CALLED,
                                .seat = from->seat,
                                .generation = from->generation};
    memcpy(call.identity, from->identity, sizeof call.identity);
    if (eepi_holder_send(to->fd, &call, sizeof call, ends[1]) != 0) { /* it does not read, say */
        reply(holder, from, message, eepi_holder_send_status(errno));
    } else {
        const eepi_holder_message answer = eepi_holder_answer(holder, message, EEP_OK);
        send_answer(holder, from, &answer, ends[0]);
    }
    close(ends[0]);
    close(ends[1]);
}

/* Returns whether the descriptor was taken over. */
static bool attach(eepi_holder *holder, holder_client *from, const eepi_holder_message *message,
                   int fd, bool lost)
{
    const holder_client *owner = NULL;
    const holder_held *pulse = eepi_holder_find_held(holder, message->name, &owner);
    eepi_holder_message answer = eepi_holder_answer(holder, message, EEP_ERR_INVALID);
    int passed_fd = -1;
    if (holder->agent.attach == NULL) {
        answer.status = EEP_ERR_UNSUPPORTED;
    } else if (lost) { /* no descriptors left here: there may be when it tries again */
        (void)eepi_holder_evict(holder, from);
        answer.status = EEP_ERR_SYSTEM;
    } else if (fd >= 0 && pulse != NULL && owner == from) {
        answer.status =
            holder->agent.attach(holder->agent.user, message, fd, pulse->fd, &passed_fd);
    }
    send_answer(holder, from, &answer, passed_fd);
    return answer.status == EEP_OK;
}

/* A client speaks of itself alone; whom to kill, an agent decides. */
static eep_status say(const eepi_holder *holder, const holder_client *from,
                      const eepi_holder_message *message)
{
    if (holder->agent.say == NULL) {
        return EEP_ERR_UNSUPPORTED;
    }
    if (message->kind == EEPI_HOLDER_DETACH &&
        (message->seat != from->seat || message->generation != from->generation)) {
        return EEP_ERR_INVALID;
    }
    return holder->agent.say(holder->agent.user, message);
}

/* Returns whether the descriptor was taken over. */
static bool handle(eepi_holder *holder, holder_client *from, const eepi_holder_message *message,
                   int fd, bool lost)
{
    if (!from->is_known) {
        handle_hello(holder, from, message);
        return false;
    }
    if (message->version != EEPI_HOLDER_VERSION || (message->flags & ~EEPI_HOLDER_RETAINED) != 0) {
        reply(holder, from, message, EEP_ERR_UNSUPPORTED);
        return false;
    }
    switch (message->kind) {
    case EEPI_HOLDER_HOLD: {
        eep_status status = hold(holder, from, message, fd, lost);
        reply(holder, from, message, status);
        return status == EEP_OK;
    }
    case EEPI_HOLDER_LOOK_UP:
        look_up(holder, from, message);
        return false;
    case EEPI_HOLDER_RELEASE:
        reply(holder, from, message, let_go(holder, from, message));
        return false;
    case EEPI_HOLDER_NEXT:
        show_next(holder, from, message);
        return false;
    case EEPI_HOLDER_CONNECT:
        connect_two(holder, from, message);
        return false;
    case EEPI_HOLDER_ATTACH:
        return attach(holder, from, message, fd, lost);
    case EEPI_HOLDER_DETACH:
    case EEPI_HOLDER_KILL:
        reply(holder, from, message, say(holder, from, message));
        return false;
    default: /* only a holder sends the others */
        reply(holder, from, message, EEP_ERR_PROTOCOL);
        eepi_holder_drop_client(holder, from);
        return false;
    }
}

static bool takes_fd(uint16_t kind)
{
    return kind == EEPI_HOLDER_HOLD || kind == EEPI_HOLDER_ATTACH;
}

void eepi_holder_read_client(eepi_holder *holder, holder_client *from)
{
    for (int i = 0; i < MESSAGES_A_ROUND && !from->dropped; i++) {
        eepi_holder_message message;
        int fd = -1;
        bool lost = false;
        ssize_t bytes = eepi_holder_receive(from->fd, &message, sizeof message, &fd, &lost);
        if (bytes < 0 && errno == EAGAIN) {
            return;
        }
        bool brings_fd = bytes > 0 && (fd >= 0 || lost);
        if (!eepi_holder_is_formed(&message, bytes) || /* gone, or not one of ours */
            (brings_fd && (!from->is_known || !takes_fd(message.kind)))) {
            eepi_holder_drop_client(holder, from);
        } else if (handle(holder, from, &message, fd, lost)) {
            continue;
        }
        eepi_holder_drop_fd(fd);
    }
}
