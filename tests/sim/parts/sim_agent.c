/* SPDX-License-Identifier: Apache-2.0 */
/* Agents as processes (membership/agent), in half of the histories with hosts. Agent, session,
 * links, roll, table and judgement are the product's own; simulated are the lock's file, the
 * holder's socket, and a connection with its proof. Agents die, stand still, are slow, are cut off
 * with their host, and are doubled: somebody removes the lock's file, and starts another one.
 *
 * An agent's end disturbs no rank, so that L5 and N10 object if one is suspected for it. What is
 * told is checked where it is said (N9, N12). */
#include "membership/agent/agent.h"
#include "membership/agent/agent_link.h"
#include "membership/agent/agent_lock.h"
#include "membership/agent/agent_session.h"
#include "membership/store/store_socket.h"
#include "tests/sim/parts/sim_lines.h"
#include "transport/holder/holder.h"
#include "transport/holder/holder_socket.h"
#include "transport/secure/tcp_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    STACK_BYTES = 640 * 1024,
    SUPERVISE_US = 100000,
    RETRY_US = 50000,
    MOST_UNSENT_BYTES = 16384,
    MAX_CLIENTS = 64,
    FIRST_PORT = 7700,
    FIRST_PID = 1000000
};

/* What the lock's file of a host says. */
static struct {
    const sim_process *locked_by;
    uint64_t generation;
} file[SIM_MAX_HOSTS];

/* ------------------------------------------------------------------ processes */

static void note(void *user, const char *text)
{
    const sim_process *p = user;

    sim_trace("agent %d of host %d: %s", p->index, p->host, text);
}

static void *agent_main(void *argument)
{
    sim_process *p = argument;
    char address[SIM_ADDRESS_BYTES], why[256] = "";
    const eepi_agent_config config = {
        .path = "sim", .listen = address, .store = "sim", .note = note, .user = p};
    eepi_agent *agent = NULL;

    snprintf(address, sizeof address, "host%d:%d", p->host, FIRST_PORT + p->index);
    while (eepi_agent_open(&config, why, sizeof why, &agent) != EEP_OK) {
        sim_trace("agent %d of host %d: %s", p->index, p->host, why);
        sim_sleep(RETRY_US);
    }
    sim_trace("agent %d of host %d serves", p->index, p->host);
    (void)sim_wait(NULL, SIM_NEVER);
    return NULL;
}

static void start(int host)
{
    sim_process *p;

    if (sim->num_agents == SIM_MAX_AGENTS) {
        return;
    }
    p = calloc(1, sizeof *p);
    p->seat = -1;
    p->index = sim->num_agents;
    p->host = host;
    p->alive = 1;
    p->pid = FIRST_PID + p->index;
    p->started_us = sim->now_us;
    p->offset_us = 5000000;
    if (sim->kinds >> SIM_SKEW & 1u) {
        p->drift_ppm = (int64_t)sim_random(40001) - 20000;
    }
    sim->agent[sim->num_agents++] = p;
    (void)sim_spawn(p, agent_main, p, STACK_BYTES);
}

static sim_process *newest_of(int host)
{
    for (int i = sim->num_agents - 1; i >= 0; i--) {
        if (sim->agent[i]->host == host && sim->agent[i]->alive) {
            return sim->agent[i];
        }
    }
    return NULL;
}

static void supervise(void *user, uint64_t number)
{
    (void)user, (void)number;
    for (int host = 0; host < sim->num_hosts; host++) {
        if (!newest_of(host) && (sim->healed || sim_random(4) == 0)) {
            start(host);
        }
    }
    sim_after(SUPERVISE_US, supervise, NULL, 0);
}

void sim_agents_open(void)
{
    memset(file, 0, sizeof file);
    sim_lines_open();
    sim_descriptors_open();
    for (int host = 0; sim->has_agents && host < sim->num_hosts; host++) {
        if (sim_random(8)) {
            start(host);
        }
    }
    if (sim->has_agents) {
        sim_after(SUPERVISE_US, supervise, NULL, 0);
    }
}

void sim_agent_fault(int host, uint64_t for_us)
{
    static const char *const what[] = {"ends", "stands still", "is slow", "is doubled"};
    const uint64_t kind = sim_random(4);
    sim_process *p = newest_of(host);

    sim_trace("the agent of host %d %s (%llu us)", host, what[kind], (unsigned long long)for_us);
    if (!p) {
        return;
    }
    switch (kind) {
    case 0:
        sim_process_end(p, "its host's agent");
        break;
    case 1:
        sim_process_stop(p, for_us);
        break;
    case 2:
        p->slow_us = sim_delay(1000, 30000);
        break;
    default:
        file[host].locked_by = NULL;
        file[host].generation = 0;
        start(host);
        break;
    }
}

void sim_agents_heal(void)
{
    for (int i = 0; i < sim->num_agents; i++) {
        sim->agent[i]->slow_us = 0;
        sim->agent[i]->cut_until_us = 0;
    }
    if (sim->has_agents) {
        supervise(NULL, 0);
    }
}

/* ------------------------------------------------------------------ one per host */

eep_status eepi_agent_lock_take(const char *path, eepi_agent_lock *lock_out, char *error_out,
                                size_t error_bytes)
{
    const sim_process *self = sim_self();
    const int host = self->host;

    (void)path;
    if (file[host].locked_by && file[host].locked_by->alive && file[host].locked_by != self) {
        snprintf(error_out, error_bytes, "another agent serves this host");
        return EEP_ERR_CONFLICT;
    }
    file[host].locked_by = self;
    lock_out->generation = ++file[host].generation;
    return EEP_OK;
}

eep_status eepi_agent_lock_raise(eepi_agent_lock *lock, uint64_t generation)
{
    const sim_process *self = sim_self();

    lock->generation = generation;
    if (file[self->host].locked_by == self) {
        file[self->host].generation = generation;
    }
    return EEP_OK;
}

void eepi_agent_lock_release(eepi_agent_lock *lock, const char *path, bool removes)
{
    const sim_process *self = sim_self();

    (void)lock, (void)path, (void)removes;
    if (file[self->host].locked_by == self) {
        file[self->host].locked_by = NULL;
    }
}

/* ------------------------------------------------------------------ the holder's socket */

typedef struct client {
    int fd, pulse_fd; /* -1: none */
} client;

struct eepi_holder {
    eepi_holder_agent agent;
    int listen_fd, stops;
    client clients[MAX_CLIENTS];
    int num_clients;
};

void eepi_holder_path(const char *store_path, char path_out[EEPI_HOLDER_PATH_BYTES])
{
    (void)store_path;
    snprintf(path_out, EEPI_HOLDER_PATH_BYTES, "holder%d", sim_self()->host);
}

bool eepi_holder_reach(const char *path, char address_out[EEPI_HOLDER_ADDRESS_BYTES],
                       int *directory_out)
{
    *directory_out = -1;
    snprintf(address_out, EEPI_HOLDER_ADDRESS_BYTES, "%s", path);
    return true;
}

eep_status __wrap_eepi_store_socket_listen_as(int type, const char *path, char *error_out,
                                              size_t error_bytes,
                                              eepi_store_listener *listener_out);
eep_status __wrap_eepi_store_socket_listen_as(int type, const char *path, char *error_out,
                                              size_t error_bytes, eepi_store_listener *listener_out)
{
    (void)type, (void)error_out, (void)error_bytes;
    listener_out->fd = sim_line_listen(path);
    return EEP_OK;
}

void __wrap_eepi_store_socket_unlisten(const char *path, const eepi_store_listener *listener);
void __wrap_eepi_store_socket_unlisten(const char *path, const eepi_store_listener *listener)
{
    (void)path;
    sim_line_unlisten(listener->fd);
}

int eepi_holder_send(int fd, const void *message, size_t bytes, int passed_fd)
{
    errno = EPIPE;
    return sim_line_send(fd, message, bytes, passed_fd) ? 0 : -1;
}

eep_status eepi_holder_send_status(int error)
{
    (void)error;
    return EEP_ERR_UNREACHABLE;
}

ssize_t eepi_holder_receive(int fd, void *message, size_t bytes, int *passed_out, bool *lost_out)
{
    *lost_out = false;
    return sim_line_receive(fd, message, bytes, passed_out);
}

void eepi_holder_drop_fd(int fd)
{
    (void)fd;
}

void eepi_holder_refuse_fds(int fd)
{
    (void)fd;
}

bool eepi_holder_is_trusted(int fd)
{
    (void)fd;
    return true;
}

bool eepi_holder_is_served(int fd)
{
    (void)fd;
    return true;
}

bool eepi_holder_is_formed(const eepi_holder_message *message, ssize_t bytes)
{
    return bytes == sizeof *message;
}

void eepi_holder_hang_up(int set, int fd)
{
    sim_fd_put_into_set(set, -1);
    if (fd >= 0) {
        sim_line_close(fd);
    }
}

static void answer(const eepi_holder *holder, client *from, const eepi_holder_message *request,
                   int pidfd)
{
    eepi_holder_message reply = *request;
    int passed = -1;

    reply.kind = EEPI_HOLDER_ANSWER;
    reply.status = EEP_OK;
    switch (request->kind) {
    case EEPI_HOLDER_HOLD:
        from->pulse_fd = pidfd;
        break;
    case EEPI_HOLDER_ATTACH:
        reply.status =
            holder->agent.attach(holder->agent.user, request, pidfd, from->pulse_fd, &passed);
        break;
    case EEPI_HOLDER_DETACH:
    case EEPI_HOLDER_KILL:
        reply.status = holder->agent.say(holder->agent.user, request);
        break;
    default: /* HELLO */
        break;
    }
    (void)sim_line_send(from->fd, &reply, sizeof reply, passed);
}

static void read_client(eepi_holder *holder, int at)
{
    client *from = &holder->clients[at];
    eepi_holder_message request;
    int passed;
    ssize_t bytes;

    while ((bytes = sim_line_receive(from->fd, &request, sizeof request, &passed)) > 0) {
        answer(holder, from, &request, passed);
    }
    if (bytes == 0) {
        sim_line_close(from->fd);
        *from = holder->clients[--holder->num_clients];
    }
}

static void *holder_main(void *argument)
{
    eepi_holder *holder = argument;

    while (!holder->stops) {
        struct pollfd fds[MAX_CLIENTS + 1] = {{.fd = holder->listen_fd}};
        int fd;
        for (int i = 0; i < holder->num_clients; i++) {
            fds[i + 1].fd = holder->clients[i].fd;
        }
        (void)poll(fds, (nfds_t)holder->num_clients + 1, 1000);
        for (int i = holder->num_clients - 1; i >= 0; i--) {
            read_client(holder, i);
        }
        while (holder->num_clients < MAX_CLIENTS &&
               (fd = sim_line_accept(holder->listen_fd)) >= 0) {
            holder->clients[holder->num_clients++] = (client){fd, -1};
        }
    }
    for (int i = 0; i < holder->num_clients; i++) {
        sim_line_close(holder->clients[i].fd);
    }
    return NULL;
}

eep_status eepi_holder_open(int listen_fd, const eepi_holder_limits *limits,
                            const eepi_holder_agent *agent, eepi_holder **holder_out)
{
    eepi_holder *holder = calloc(1, sizeof *holder);

    (void)limits;
    holder->agent = *agent;
    holder->listen_fd = listen_fd;
    (void)sim_spawn(sim_self(), holder_main, holder, STACK_BYTES);
    *holder_out = holder;
    return EEP_OK;
}

void eepi_holder_close(eepi_holder *holder)
{
    if (holder) {
        holder->stops = 1;
        sim_wake(&sim_self()->poll_key, SIM_POLLERS);
    }
}

/* Without agents as processes ranks see each other's ends and hearts themselves. */
eep_status __real_eepi_agent_session_open(const eepi_agent_session_config *config,
                                          eepi_agent_session **session_out);
eep_status __wrap_eepi_agent_session_open(const eepi_agent_session_config *config,
                                          eepi_agent_session **session_out);
eep_status __wrap_eepi_agent_session_open(const eepi_agent_session_config *config,
                                          eepi_agent_session **session_out)
{
    *session_out = NULL;
    return sim->has_agents ? __real_eepi_agent_session_open(config, session_out) : EEP_OK;
}

/* ------------------------------------------------------------------ links between hosts */

eep_status eepi_secure_key_read(const char *path, eepi_secure_key *key_out, char *why,
                                size_t why_bytes)
{
    (void)path, (void)why, (void)why_bytes;
    memset(key_out, 0, sizeof *key_out);
    return EEP_OK;
}

void eepi_secure_key_wipe(eepi_secure_key *key)
{
    (void)key;
}

bool eepi_agent_address_parse(const char *text, char host_out[EEPI_AGENT_ADDRESS_HOST_BYTES],
                              uint16_t *port_out)
{
    unsigned port = 0;

    *port_out = 0;
    if (sscanf(text, "%47[^:]:%u", host_out, &port) == 2) {
        *port_out = (uint16_t)port;
    }
    return *port_out != 0;
}

eep_status eepi_tcp_check_host(const char *host, bool has_key, char *why, size_t why_bytes)
{
    (void)host, (void)has_key, (void)why, (void)why_bytes;
    return EEP_OK;
}

eep_status eepi_tcp_listen(const char *host, uint16_t port, char *error_out, size_t error_bytes,
                           int *fd_out)
{
    char address[SIM_ADDRESS_BYTES];

    (void)error_out, (void)error_bytes;
    snprintf(address, sizeof address, "%s:%u", host, port);
    *fd_out = sim_line_listen(address);
    return EEP_OK;
}

uint64_t eepi_tcp_peer(int fd)
{
    return (uint64_t)fd;
}

/* Lines are up at once or never. */
bool eepi_agent_link_is_unanswered(const eepi_agent_link *link, uint32_t num_before)
{
    (void)link, (void)num_before;
    return false;
}

/* The channel's proof: who the other end is. */
static void look_at_peer(eepi_agent_link *link)
{
    const eepi_agent_self *peer = sim_line_peer(link->fd);
    eepi_secure_identity *identity = &link->channel.peer.identity;

    if (link->is_open || !peer || !sim_line_is_open(link->fd)) {
        return;
    }
    link->is_open = true;
    link->channel.state = EEPI_SECURE_OPEN;
    snprintf(identity->host, sizeof identity->host, "%016llx", (unsigned long long)peer->host);
    snprintf(identity->role, sizeof identity->role, "%s",
             peer->speaker == EEPI_AGENT_SPEAKER ? "agent" : "rank");
}

static void begin(eepi_agent_link *link, const eepi_agent_self *self, int fd, uint64_t now_us)
{
    *link = (eepi_agent_link){.fd = fd, .heard_us = now_us};
    link->channel.begun_us = now_us;
    sim_line_name(fd, self, sizeof *self);
}

static uint64_t now_here(void)
{
    return sim_local_us(sim_self());
}

eep_status eepi_agent_link_dial(eepi_agent_link *link, const eepi_agent_self *self,
                                const char *address)
{
    const int fd = sim_line_connect(address);

    if (fd < 0) {
        link->fd = -1;
        return EEP_ERR_UNREACHABLE;
    }
    begin(link, self, fd, now_here());
    return EEP_OK;
}

eep_status eepi_agent_link_serve(eepi_agent_link *link, const eepi_agent_self *self, int fd)
{
    begin(link, self, fd, now_here());
    return EEP_OK;
}

void eepi_agent_link_close(eepi_agent_link *link)
{
    if (link->fd >= 0) {
        sim_line_close(link->fd);
    }
    *link = (eepi_agent_link){.fd = -1};
}

eep_status eepi_agent_link_take(eepi_agent_link *link, eepi_agent_message *message_out, char *why,
                                size_t why_bytes)
{
    const eepi_agent_self *peer = sim_line_peer(link->fd);
    int passed;
    ssize_t bytes;

    (void)why_bytes;
    why[0] = '\0';
    look_at_peer(link);
    bytes = sim_line_receive(link->fd, message_out, sizeof *message_out, &passed);
    if (bytes <= 0) {
        return bytes < 0 ? EEP_ERR_TIMEOUT : EEP_ERR_UNREACHABLE;
    }
    link->heard_us = now_here();
    SIM_MUST(message_out->head.host == peer->host &&
                 message_out->head.generation == peer->generation &&
                 message_out->head.speaker == peer->speaker,
             "N12", "a message of %d.%llu over the connection of %d.%llu",
             message_out->head.speaker, (unsigned long long)message_out->head.generation,
             peer->speaker, (unsigned long long)peer->generation);
    return eepi_agent_check(message_out, (size_t)bytes);
}

/* A process of that seat on that host took a generation, and ended before the store knew of it.
 * Another host's process may have the same one since. Who listens looks where the document says
 * that the member is, so words of the former are void. */
static int has_ended_unknown(int host, int seat, uint32_t generation)
{
    for (int i = 0; i < sim->num_processes; i++) {
        const sim_process *p = sim->process[i];
        if (p->host == host && p->seat == seat && !p->alive && p->generation == 0 &&
            p->took == generation) {
            return 1;
        }
    }
    return 0;
}

/* An agent speaks for ranks of its host, a rank for itself alone; an end was seen. */
static void check_said(const eepi_agent_message *message)
{
    const sim_process *self = sim_self();

    for (uint32_t i = 0; i < message->head.num_seats; i++) {
        const eepi_agent_entry *said = &message->entries[i];
        const sim_process *p = sim_process_of(said->seat, said->generation);
        if (!p || message->head.kind != EEPI_AGENT_BEAT) {
            continue;
        }
        if (p->host != self->host && has_ended_unknown(self->host, said->seat, said->generation)) {
            continue;
        }
        SIM_MUST(p->host == self->host && (self->seat < 0 || p == self), "N12",
                 "host %d, speaker %d: it tells of %d.%u of host %d", self->host,
                 message->head.speaker, said->seat, said->generation, p->host);
        SIM_MUST(said->state != EEPI_SEAT_ENDED || (!p->alive && sim->now_us >= p->gone_us), "N9",
                 "host %d tells that %d.%u has ended, and it lives", self->host, said->seat,
                 said->generation);
        SIM_MUST(said->state != EEPI_SEAT_CLOSED || !p->alive || p->said_end || p->closes, "N12",
                 "host %d tells that %d.%u has closed, and it serves", self->host, said->seat,
                 said->generation);
    }
}

void eepi_agent_link_say(eepi_agent_link *link, const eepi_agent_message *message)
{
    look_at_peer(link);
    if (!link->is_open || sim_line_unsent(link->fd) > MOST_UNSENT_BYTES) {
        return;
    }
    check_said(message);
    (void)sim_line_send(link->fd, message, eepi_agent_message_bytes(message), -1);
}

bool eepi_agent_link_wants_write(const eepi_agent_link *link)
{
    (void)link;
    return false;
}
