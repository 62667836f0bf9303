/* SPDX-License-Identifier: Apache-2.0 */
/* A host's agent opens, serves and closes. */
#include "membership/agent/agent_state.h"

#include "graphs/base/clock.h"
#include "graphs/base/thread.h"
#include "membership/agent/agent_roll.h"
#include "membership/process/host.h"
#include "membership/process/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SEALS = EEPI_HOLDER_SEALS, ADOPT_PERIOD_US = 1000000 };

/* ------------------------------------------------------------------ other hosts */

static void refresh(void *user)
{
    eepi_agent_read_pulses(user);
}

static void found(void *user, uint64_t host, uint64_t generation, const char *address)
{
    eepi_agent *agent = user;

    pthread_mutex_lock(&agent->lock);
    eepi_agent_note_address(agent->table, host, generation, address);
    pthread_mutex_unlock(&agent->lock);
}

/* Once: whoever gets it closes it. */
static eepi_holder *take_holder(eepi_agent *agent, bool is_outlived)
{
    eepi_holder *holder;

    pthread_mutex_lock(&agent->lock);
    holder = agent->holder;
    agent->holder = NULL;
    agent->is_outlived |= is_outlived;
    pthread_mutex_unlock(&agent->lock);
    return holder;
}

/* Somebody has removed the lock's file and started another agent. Other hosts take no word of this
 * one any more, so its ranks would look silent: it lets go of them, and they attach to the newer
 * one. */
static void outlived(void *user, uint64_t generation)
{
    eepi_agent *agent = user;
    char text[128];

    eepi_holder_close(take_holder(agent, true));
    eepi_agent_links_stop(agent->links);
    if (agent->note) {
        snprintf(text, sizeof text,
                 "another agent serves this host, of generation %llu: this one serves no more",
                 (unsigned long long)generation);
        agent->note(agent->user, text);
    }
}

/* The first descriptor is the store's; the others are processes. */
static int watch(void *user, struct pollfd *fds_out)
{
    eepi_agent *agent = user;

    fds_out[0] = (struct pollfd){.fd = eepi_agent_roll_fd(agent->roll), .events = POLLIN};
    return 1 + eepi_agent_processes(agent, fds_out + 1);
}

static bool polled(void *user, const struct pollfd *fds, int num)
{
    eepi_agent *agent = user;
    const uint64_t now_us = eepi_now_us();
    const bool has_news = eepi_agent_take_ends(agent, fds + 1, num - 1);

    eepi_agent_roll_progress(agent->roll);
    if (now_us - agent->adopted_us >= ADOPT_PERIOD_US) {
        agent->adopted_us = now_us;
        eepi_agent_adopt_ends(agent, agent->path);
    }
    return has_news;
}

static void kill_for(void *user, int32_t seat, uint32_t generation)
{
    eepi_agent_kill(user, seat, generation);
}

/* A predecessor that the store knows may raise the generation. */
static eep_status open_roll(eepi_agent *agent, const eepi_agent_config *config, char *error_out,
                            size_t error_bytes)
{
    const eepi_agent_roll_config roll = {.store = config->store,
                                         .host = agent->host,
                                         .home = agent->home,
                                         .generation = agent->file.generation,
                                         .address = config->listen,
                                         .found = found,
                                         .outlived = outlived,
                                         .user = agent};
    uint64_t generation = 0;
    eep_status status = eepi_agent_roll_open(&roll, &generation, &agent->roll);

    if (status == EEP_ERR_CONFLICT) {
        snprintf(error_out, error_bytes,
                 "an agent runs on another machine, or in another pid or time namespace, under "
                 "this host's name: give each an EEP_HOST_ID of its own, or none");
    } else if (status != EEP_OK) {
        snprintf(error_out, error_bytes, "no store answers at %.200s: %s", config->store,
                 eep_strerror(status));
    } else if (generation != agent->file.generation) {
        status = eepi_agent_lock_raise(&agent->file, generation);
        if (status != EEP_OK) {
            snprintf(error_out, error_bytes, "cannot write %.200s.agent: %s", config->path,
                     strerror(errno));
        }
    }
    return status;
}

/* ------------------------------------------------------------------ open and close */

/* Written through one mapping, made before the seals; readers map it for reading alone. */
static eep_status make_board(eepi_agent *agent)
{
    void *board = MAP_FAILED;

    agent->board_fd = memfd_create("eep-board", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (agent->board_fd >= 0 && ftruncate(agent->board_fd, sizeof *agent->board) == 0) {
        board = mmap(NULL, sizeof *agent->board, PROT_READ | PROT_WRITE, MAP_SHARED,
                     agent->board_fd, 0);
    }
    if (board == MAP_FAILED) {
        return EEP_ERR_SYSTEM;
    }
    agent->board = board;
    return fcntl(agent->board_fd, F_ADD_SEALS, SEALS) == 0 ? EEP_OK : EEP_ERR_SYSTEM;
}

static eep_status open_table(eepi_agent *agent, char *error_out, size_t error_bytes)
{
    eepi_agent_table_config table = {
        .host = agent->host, .generation = agent->file.generation, .speaker = EEPI_AGENT_SPEAKER};
    eep_status status = make_board(agent);

    if (status == EEP_OK) {
        table.board = agent->board;
        agent->table = eepi_agent_table_open(&table);
        status = agent->table ? EEP_OK : EEP_ERR_NO_MEMORY;
    }
    if (status != EEP_OK) {
        snprintf(error_out, error_bytes, "memory for the agent's board: %s", strerror(errno));
    }
    return status;
}

/* The agent's generation is settled behind open_roll, and all that names it comes behind that. */
static eep_status open_links(eepi_agent *agent, const eepi_agent_config *config, char *error_out,
                             size_t error_bytes)
{
    eepi_agent_links_config links = {.self = {.host = agent->host, .speaker = EEPI_AGENT_SPEAKER},
                                     .listen = config->listen,
                                     .lock = &agent->lock,
                                     .refresh = refresh,
                                     .watch = watch,
                                     .polled = polled,
                                     .kill = kill_for,
                                     .note = config->note,
                                     .user = agent};
    eep_status status =
        eepi_secure_key_read(config->key_file, &links.self.key, error_out, error_bytes);

    if (status == EEP_ERR_NOT_FOUND) {
        snprintf(error_out, error_bytes,
                 "agents of several hosts need a key: name its file, or set EEP_KEY_FILE");
        status = EEP_ERR_INVALID;
    }
    if (status == EEP_OK) {
        status = open_roll(agent, config, error_out, error_bytes);
    }
    if (status == EEP_OK) {
        status = open_table(agent, error_out, error_bytes);
    }
    if (status == EEP_OK) {
        links.self.generation = agent->file.generation;
        links.board = agent->board;
        links.table = agent->table;
        eepi_agent_adopt_ends(agent, agent->path);
        status = eepi_agent_links_open(&links, error_out, error_bytes, &agent->links);
    }
    eepi_secure_key_wipe(&links.self.key);
    return status;
}

static eep_status open_holder(eepi_agent *agent, const char *path, char *error_out,
                              size_t error_bytes)
{
    const eepi_holder_agent local = eepi_agent_local(agent);
    char holder_path[EEPI_HOLDER_PATH_BYTES], why[EEPI_THREAD_ERROR_BYTES];
    eep_status status = EEP_ERR_SYSTEM;
    eepi_holder *holder = NULL;

    eepi_holder_path(path, holder_path);
    if (eepi_holder_reach(holder_path, agent->socket_path, &agent->socket_directory)) {
        status = eepi_store_socket_listen_as(SOCK_SEQPACKET, agent->socket_path, error_out,
                                             error_bytes, &agent->listener);
        if (status != EEP_OK) {
            return status;
        }
        status = eepi_holder_open(agent->listener.fd, NULL, &local, &holder);
    }
    if (status != EEP_OK) {
        snprintf(error_out, error_bytes, "cannot start the holder on %.300s: %s", holder_path,
                 errno == EAGAIN ? eepi_thread_error(errno, why, sizeof why) : strerror(errno));
        return status;
    }
    pthread_mutex_lock(&agent->lock);
    agent->holder = holder;
    status = agent->is_outlived ? EEP_ERR_CONFLICT : EEP_OK;
    pthread_mutex_unlock(&agent->lock);
    if (status != EEP_OK) {
        snprintf(error_out, error_bytes, "another agent has begun to serve this host meanwhile");
    }
    return status;
}

static eep_status open_parts(eepi_agent *agent, const eepi_agent_config *config, char *error_out,
                             size_t error_bytes)
{
    eep_status status = eepi_agent_lock_take(config->path, &agent->file, error_out, error_bytes);

    if (status == EEP_OK) {
        status = config->listen ? open_links(agent, config, error_out, error_bytes)
                                : open_table(agent, error_out, error_bytes);
    }
    /* last: a rank that attaches finds all of it */
    return status == EEP_OK ? open_holder(agent, config->path, error_out, error_bytes) : status;
}

eep_status eepi_agent_open(const eepi_agent_config *config, char *error_out, size_t error_bytes,
                           eepi_agent **agent_out)
{
    eepi_agent *agent = calloc(1, sizeof *agent);
    char none[1];
    eep_status status = EEP_ERR_NO_MEMORY;

    if (!error_out || error_bytes == 0) {
        error_out = none;
        error_bytes = sizeof none;
    }
    snprintf(error_out, error_bytes, "out of memory");
    if (!agent) {
        return status;
    }
    agent->pid = getpid();
    agent->file.fd = agent->listener.fd = agent->socket_directory = agent->board_fd = -1;
    for (int seat = 0; seat < EEP_MAX_RANKS; seat++) {
        agent->processes[seat].pidfd = -1;
    }
    agent->host = config->host ? config->host : eepi_host_id();
    agent->home = eepi_process_home();
    agent->note = config->note;
    agent->user = config->user;
    agent->path = strdup(config->path);
    pthread_mutex_init(&agent->lock, NULL);
    if (agent->path) {
        status = open_parts(agent, config, error_out, error_bytes);
    }
    if (status != EEP_OK) {
        eepi_agent_close(agent);
        return status;
    }
    *agent_out = agent;
    return EEP_OK;
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

void eepi_agent_close(eepi_agent *agent)
{
    if (!agent) {
        return;
    }
    const bool is_own = agent->pid == getpid(), is_known = agent->links != NULL;
    eepi_holder_close(take_holder(agent, false)); /* nobody attaches from here on */
    if (is_own) {
        eepi_agent_links_close(agent->links);
        eepi_agent_roll_close(agent->roll);
    }
    if (agent->listener.fd >= 0 && is_own) {
        eepi_store_socket_unlisten(agent->socket_path, &agent->listener);
    } else {
        close_fd(agent->listener.fd);
    }
    close_fd(agent->socket_directory);
    eepi_agent_local_end(agent);
    eepi_agent_table_close(agent->table);
    if (agent->board) {
        munmap(agent->board, sizeof *agent->board);
    }
    close_fd(agent->board_fd);
    eepi_agent_lock_release(&agent->file, agent->path, is_own && !is_known);
    free(agent->path);
    if (is_own) {
        pthread_mutex_destroy(&agent->lock);
    }
    free(agent);
}
