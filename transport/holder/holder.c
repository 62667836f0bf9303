#include "transport/holder/holder.h"

#include "graphs/base/clock.h"
#include "graphs/base/thread.h"
#include "graphs/base/descriptors.h"
#include "transport/holder/holder_socket.h"
#include "graphs/base/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAX_CLIENTS = 4096,
    MAX_HELD_PER_CLIENT = 16,
    HELLO_US = 5000000,    /* a client that has not said hello by then is let go */
    MAX_EVENTS = 64,       /* taken from epoll per round */
    MESSAGES_A_ROUND = 16, /* of one client */
    PAUSE_US = 20000,      /* without looking for clients, when descriptors have run out */
    MAX_GUESTS = 256,
    GUESTS_PART = 4, /* guests take at most one in so many descriptors */
    PAIR_BUFFER_BYTES = 262144
};

typedef struct held {
    struct held *next;
    int fd;
    uint64_t bytes;
    char name[EEPI_HOLDER_NAME_BYTES];
} held;

typedef struct client {
    struct client *prev, *next;
    int fd;
    bool is_known; /* has said hello */
    bool dead;     /* to be freed at the end of the round: epoll's events may name it */
    uint64_t since_us;
    int32_t seat;
    uint32_t generation;
    uint8_t identity[EEPI_HOLDER_IDENTITY_BYTES];
    held *held;
    uint32_t num_held;
} client;

struct eepi_holder {
    eepi_holder_limits limits;
    int listen_fd, epoll_fd, stop_fd;
    int reserve_fd; /* given up for a moment to turn a client away when descriptors run out */
    bool has_dead;
    client *clients;
    uint32_t num_clients, num_strangers; /* all; without a hello */
    uint64_t most_guests;
    uint64_t opened_us, now_us;
    uint64_t paused_us; /* no clients are accepted until then; 0: they are */
    pthread_t thread;
    pid_t pid; /* who opened it: a forked child has no thread, and ends nobody's connection */
};

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

static void kill_client(eepi_holder *holder, client *of)
{
    of->dead = true;
    holder->has_dead = true;
}

/* ---------------------------------------------------------------- guests */

/* Whoever holds no memory is no rank, or not yet: a connection that is merely held is one. */
static bool is_guest(const client *of)
{
    return !of->dead && of->held == NULL;
}

/* Let go of the guest that is needed least, other than `but` (NULL: any): the oldest that has not
 * said hello, or else the oldest. Its descriptor is free at the end of the round. */
static bool evict(eepi_holder *holder, const client *but)
{
    client *least = NULL;
    for (client *at = holder->clients; at != NULL; at = at->next) { /* begins with the newest */
        if (at != but && is_guest(at) && (least == NULL || least->is_known || !at->is_known)) {
            least = at;
        }
    }
    if (least != NULL) {
        kill_client(holder, least);
    }
    return least != NULL;
}

static uint64_t count_guests(const eepi_holder *holder)
{
    uint64_t num = 0;
    for (const client *at = holder->clients; at != NULL; at = at->next) {
        num += is_guest(at);
    }
    return num;
}

/* ---------------------------------------------------------------- answers */

static eepi_holder_message answer_to(const eepi_holder *holder, const eepi_holder_message *request,
                                     eep_status status)
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
static void send_answer(eepi_holder *holder, client *to, const eepi_holder_message *answer, int fd)
{
    if (eepi_holder_send(to->fd, answer, sizeof *answer, fd) == 0) {
        return;
    }
    eepi_holder_message bare = *answer;
    bare.status = EEP_ERR_SYSTEM;
    if (fd < 0 || eepi_holder_send_status(errno) != EEP_ERR_SYSTEM ||
        eepi_holder_send(to->fd, &bare, sizeof bare, -1) != 0) {
        kill_client(holder, to);
    }
}

static void reply(eepi_holder *holder, client *to, const eepi_holder_message *request,
                  eep_status status)
{
    const eepi_holder_message answer = answer_to(holder, request, status);
    send_answer(holder, to, &answer, -1);
}

/* ---------------------------------------------------------------- requests */

static client *find_client(const eepi_holder *holder, const uint8_t *identity)
{
    for (client *at = holder->clients; at != NULL; at = at->next) {
        if (at->is_known && !at->dead &&
            memcmp(at->identity, identity, EEPI_HOLDER_IDENTITY_BYTES) == 0) {
            return at;
        }
    }
    return NULL;
}

static held *find_held(const eepi_holder *holder, const char *name, const client **owner_out)
{
    for (client *at = holder->clients; at != NULL; at = at->next) {
        for (held *piece = at->held; piece != NULL && !at->dead; piece = piece->next) {
            if (strcmp(piece->name, name) == 0) {
                *owner_out = at;
                return piece;
            }
        }
    }
    return NULL;
}

static void take_hello(eepi_holder *holder, client *from, const eepi_holder_message *message)
{
    eep_status status = EEP_OK;
    if (message->kind != EEPI_HOLDER_HELLO || message->flags != 0) {
        status = EEP_ERR_PROTOCOL;
    } else if (message->version != EEPI_HOLDER_VERSION) {
        status = EEP_ERR_UNSUPPORTED;
    } else if (find_client(holder, message->identity) != NULL) {
        status = EEP_ERR_CONFLICT;
    }
    reply(holder, from, message, status);
    if (status != EEP_OK) {
        kill_client(holder, from);
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
static eep_status hold(eepi_holder *holder, client *from, const eepi_holder_message *message,
                       int fd, bool lost)
{
    const client *owner = NULL;
    if (lost) { /* no descriptors left here: there may be when it tries again */
        (void)evict(holder, from);
        return EEP_ERR_SYSTEM;
    }
    if (fd < 0 || message->name[0] == '\0' || !is_sealed(fd, message->bytes)) {
        return EEP_ERR_INVALID;
    }
    if (find_held(holder, message->name, &owner) != NULL) {
        return EEP_ERR_CONFLICT;
    }
    held *piece =
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

static eep_status release(client *from, const char *name)
{
    for (held **link = &from->held; *link != NULL; link = &(*link)->next) {
        held *piece = *link;
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

static void look_up(eepi_holder *holder, client *from, const eepi_holder_message *message)
{
    const client *owner = NULL;
    const held *piece = find_held(holder, message->name, &owner);
    if (piece == NULL) {
        reply(holder, from, message, EEP_ERR_NOT_FOUND);
        return;
    }
    eepi_holder_message answer = answer_to(holder, message, EEP_OK);
    answer.bytes = piece->bytes;
    answer.seat = owner->seat;
    answer.generation = owner->generation;
    memcpy(answer.identity, owner->identity, sizeof answer.identity);
    send_answer(holder, from, &answer, piece->fd);
}

static void connect_two(eepi_holder *holder, client *from, const eepi_holder_message *message)
{
    const int buffer_bytes = PAIR_BUFFER_BYTES;
    int ends[2];
    const client *to = find_client(holder, message->identity);
    if (to == NULL || to == from) {
        reply(holder, from, message, to == NULL ? EEP_ERR_NOT_FOUND : EEP_ERR_INVALID);
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        (void)evict(holder, from);
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
        const eepi_holder_message answer = answer_to(holder, message, EEP_OK);
        send_answer(holder, from, &answer, ends[0]);
    }
    close(ends[0]);
    close(ends[1]);
}

/* Returns whether the descriptor was taken over. */
static bool handle(eepi_holder *holder, client *from, const eepi_holder_message *message, int fd,
                   bool lost)
{
    if (!from->is_known) {
        take_hello(holder, from, message);
        return false;
    }
    if (message->version != EEPI_HOLDER_VERSION || message->flags != 0) {
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
        reply(holder, from, message, release(from, message->name));
        return false;
    case EEPI_HOLDER_CONNECT:
        connect_two(holder, from, message);
        return false;
    default: /* only a holder sends the others */
        reply(holder, from, message, EEP_ERR_PROTOCOL);
        kill_client(holder, from);
        return false;
    }
}

static void read_client(eepi_holder *holder, client *from)
{
    for (int i = 0; i < MESSAGES_A_ROUND && !from->dead; i++) {
        eepi_holder_message message;
        int fd = -1;
        bool lost = false;
        ssize_t bytes = eepi_holder_receive(from->fd, &message, sizeof message, &fd, &lost);
        if (bytes < 0 && errno == EAGAIN) {
            return;
        }
        bool brings_fd = bytes > 0 && (fd >= 0 || lost);
        if (!eepi_holder_is_formed(&message, bytes) || /* gone, or not one of ours */
            (brings_fd && (!from->is_known || message.kind != EEPI_HOLDER_HOLD))) {
            kill_client(holder, from);
        } else if (handle(holder, from, &message, fd, lost)) {
            continue;
        }
        eepi_holder_drop_fd(fd);
    }
}

/* ---------------------------------------------------------------- clients */

static void free_client(eepi_holder *holder, client *of)
{
    if (of->prev != NULL) {
        of->prev->next = of->next;
    } else {
        holder->clients = of->next;
    }
    if (of->next != NULL) {
        of->next->prev = of->prev;
    }
    holder->num_clients--;
    holder->num_strangers -= of->is_known ? 0 : 1;
    while (of->held != NULL) {
        held *piece = of->held;
        of->held = piece->next;
        close(piece->fd);
        free(piece);
    }
    if (holder->pid == getpid()) {
        eepi_holder_hang_up(holder->epoll_fd, of->fd);
    } else {
        close(of->fd);
    }
    free(of);
}

/* Takes the descriptor over only on EEP_OK. */
static eep_status add_client(eepi_holder *holder, int fd)
{
    if (!eepi_holder_is_trusted(fd)) {
        return EEP_ERR_STATE;
    }
    if (holder->num_clients >= holder->limits.max_clients) {
        return EEP_ERR_NO_MEMORY;
    }
    client *made = calloc(1, sizeof *made);
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
        (void)evict(holder, made);
    }
    return EEP_OK;
}

static void set_paused(eepi_holder *holder, bool paused)
{
    struct epoll_event event = {.events = paused ? 0 : EPOLLIN, .data.ptr = &holder->listen_fd};
    epoll_ctl(holder->epoll_fd, EPOLL_CTL_MOD, holder->listen_fd, &event);
    holder->paused_us = paused ? holder->now_us + PAUSE_US : 0;
}

/* `answer` says why. */
static void turn_away(int fd, const void *answer)
{
    (void)eepi_holder_send(fd, answer, sizeof(eepi_holder_message), -1);
    close(fd);
}

/* Descriptors ran out. A guest makes room, if there is one, by the end of the round; else whoever
 * comes is turned away. */
static void make_room(eepi_holder *holder)
{
    const eepi_holder_message answer =
        answer_to(holder, &(eepi_holder_message){.id = 0}, EEP_ERR_SYSTEM);
    if (!evict(holder, NULL) &&
        !eepi_reserve_turn_away(&holder->reserve_fd, holder->listen_fd, turn_away, &answer)) {
        set_paused(holder, true);
    }
}

static void accept_some(eepi_holder *holder)
{
    for (int i = 0; i < MAX_EVENTS; i++) {
        int fd = accept4(holder->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE) {
                make_room(holder);
            } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
                set_paused(holder, true);
            }
            return;
        }
        eep_status status = add_client(holder, fd);
        if (status != EEP_OK) {
            const eepi_holder_message answer =
                answer_to(holder, &(eepi_holder_message){.id = 0}, status);
            turn_away(fd, &answer);
        }
    }
}

/* ---------------------------------------------------------------- the thread */

/* Let go of who has said nothing for too long and of who is dead. */
static void reap(eepi_holder *holder)
{
    if (!holder->has_dead && holder->num_strangers == 0) {
        return;
    }
    holder->has_dead = false;
    client *next = NULL;
    for (client *at = holder->clients; at != NULL; at = next) {
        next = at->next;
        if (at->dead ||
            (!at->is_known && holder->now_us - at->since_us >= holder->limits.hello_us)) {
            free_client(holder, at);
        }
    }
}

/* Milliseconds until somebody is to be looked at whatever happens; -1: nobody. */
static int timeout_ms(const eepi_holder *holder)
{
    if (holder->paused_us != 0) {
        return PAUSE_US / 1000;
    }
    if (holder->num_strangers == 0) {
        return -1;
    }
    uint64_t quarter_us = holder->limits.hello_us / 4;
    return quarter_us < 1000 ? 1 : (int)(quarter_us / 1000);
}

static bool round_once(eepi_holder *holder)
{
    struct epoll_event events[MAX_EVENTS];
    bool stop = false;
    int num = epoll_wait(holder->epoll_fd, events, MAX_EVENTS, timeout_ms(holder));
    holder->now_us = eepi_now_us();
    for (int i = 0; i < num; i++) {
        if (events[i].data.ptr == &holder->listen_fd) {
            accept_some(holder);
        } else if (events[i].data.ptr == &holder->stop_fd) {
            stop = true;
        } else if (!((client *)events[i].data.ptr)->dead) {
            read_client(holder, events[i].data.ptr);
        }
    }
    reap(holder);
    if (holder->paused_us != 0 && holder->now_us >= holder->paused_us) {
        set_paused(holder, false);
    }
    return !stop;
}

static void *serve_thread(void *argument)
{
    while (round_once(argument)) {
    }
    return NULL;
}

static void free_holder(eepi_holder *holder)
{
    while (holder->clients != NULL) {
        free_client(holder, holder->clients);
    }
    if (holder->epoll_fd >= 0 && holder->pid == getpid()) {
        epoll_ctl(holder->epoll_fd, EPOLL_CTL_DEL, holder->listen_fd, NULL);
    }
    close_fd(holder->epoll_fd);
    close_fd(holder->stop_fd);
    close_fd(holder->reserve_fd);
    free(holder);
}

static bool watch(const eepi_holder *holder, int fd, void *tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};
    return epoll_ctl(holder->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

eep_status eepi_holder_open(int listen_fd, const eepi_holder_limits *limits,
                            eepi_holder **holder_out)
{
    eepi_holder *holder = calloc(1, sizeof *holder);
    if (holder == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    if (limits != NULL) {
        holder->limits = *limits;
    }
    if (holder->limits.max_clients == 0) {
        holder->limits.max_clients = MAX_CLIENTS;
    }
    if (holder->limits.max_held_per_client == 0) {
        holder->limits.max_held_per_client = MAX_HELD_PER_CLIENT;
    }
    if (holder->limits.hello_us == 0) {
        holder->limits.hello_us = HELLO_US;
    }
    holder->pid = getpid();
    holder->listen_fd = listen_fd;
    holder->opened_us = holder->now_us = eepi_now_us();
    holder->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    holder->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    holder->reserve_fd = eepi_reserve_open();
    holder->most_guests = eepi_descriptors_share(GUESTS_PART, MAX_GUESTS);
    int error = 0;
    eep_status status = EEP_ERR_SYSTEM;
    if (holder->epoll_fd < 0 || holder->stop_fd < 0 || holder->reserve_fd < 0 ||
        !watch(holder, listen_fd, &holder->listen_fd) ||
        !watch(holder, holder->stop_fd, &holder->stop_fd)) {
        error = errno;
    }
    if (error == 0) {
        status = eepi_thread_start(&holder->thread, "eep-holder", EEPI_STACK_BYTES, serve_thread,
                                   holder);
        error = errno;
    }
    if (status != EEP_OK) {
        free_holder(holder);
        errno = error;
        return status;
    }
    *holder_out = holder;
    return EEP_OK;
}

void eepi_holder_close(eepi_holder *holder)
{
    if (holder == NULL) {
        return;
    }
    if (holder->pid != getpid()) {
        free_holder(holder);
        return;
    }
    const uint64_t one = 1;
    ssize_t written = write(holder->stop_fd, &one, sizeof one);
    assert(written == sizeof one); /* the counter of an eventfd that is written once */
    (void)written;
    pthread_join(holder->thread, NULL);
    free_holder(holder);
}
