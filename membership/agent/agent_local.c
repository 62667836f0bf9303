/* SPDX-License-Identifier: Apache-2.0 */
/* The ranks of the agent's own host: attached, watched, killed. */
#include "membership/agent/agent_state.h"

#include "graphs/base/clock.h"
#include "membership/process/process.h"
#include "membership/process/seat_file.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void let_go(agent_process *process)
{
    if (process->pidfd >= 0 && process->generation != 0) {
        close(process->pidfd);
    }
    if (process->pulse) {
        munmap((void *)(uintptr_t)process->pulse, EEPI_PULSE_BYTES);
    }
    *process = (agent_process){.pidfd = -1};
}

static eep_status on_attach(void *user, const eepi_holder_message *message, int pidfd, int pulse_fd,
                            int *passed_out)
{
    eepi_agent *agent = user;
    const bool is_here = message->bytes == agent->home && message->sequence == agent->host;
    struct stat info;
    eep_status status;
    void *pulse;

    if (!is_here) { /* rule N12: another host, or namespace, has an agent of its own */
        return EEP_ERR_STATE;
    }
    if (message->seat < 0 || message->seat >= EEP_MAX_RANKS || fstat(pulse_fd, &info) != 0 ||
        info.st_size < EEPI_PULSE_BYTES) {
        return EEP_ERR_INVALID;
    }
    if (!agent->links) { /* its mates see its end and its heart themselves */
        close(pidfd);
        *passed_out = agent->board_fd;
        return EEP_OK;
    }
    pulse = mmap(NULL, EEPI_PULSE_BYTES, PROT_READ, MAP_SHARED, pulse_fd, 0);
    if (pulse == MAP_FAILED) {
        return EEP_ERR_SYSTEM;
    }
    pthread_mutex_lock(&agent->lock);
    status = eepi_agent_attach(agent->table, message->seat, message->generation);
    if (status == EEP_OK) {
        agent_process *process = &agent->processes[message->seat];
        let_go(process);
        *process = (agent_process){message->generation, pidfd, pulse};
        *passed_out = agent->board_fd;
    }
    pthread_mutex_unlock(&agent->lock);
    if (status != EEP_OK) {
        munmap(pulse, EEPI_PULSE_BYTES);
    } else if (agent->links) {
        eepi_agent_links_hurry(agent->links);
    }
    return status;
}

static eep_status on_say(void *user, const eepi_holder_message *message)
{
    eepi_agent *agent = user;

    if (message->kind == EEPI_HOLDER_KILL) {
        return agent->links
                   ? eepi_agent_links_kill(agent->links, message->seat, message->generation)
                   : EEP_ERR_UNSUPPORTED;
    }
    pthread_mutex_lock(&agent->lock);
    (void)eepi_agent_note_end(agent->table, message->seat, message->generation, EEPI_SEAT_CLOSED);
    pthread_mutex_unlock(&agent->lock);
    if (agent->links) {
        eepi_agent_links_hurry(agent->links);
    }
    return EEP_OK;
}

eepi_holder_agent eepi_agent_local(eepi_agent *agent)
{
    return (eepi_holder_agent){.attach = on_attach, .say = on_say, .user = agent};
}

void eepi_agent_local_end(eepi_agent *agent)
{
    for (int seat = 0; seat < EEP_MAX_RANKS; seat++) {
        let_go(&agent->processes[seat]);
    }
}

void eepi_agent_read_pulses(eepi_agent *agent)
{
    const uint64_t now_ns = eepi_now_ns();

    for (int32_t seat = 0; seat < EEP_MAX_RANKS; seat++) {
        const agent_process *process = &agent->processes[seat];
        if (!process->pulse) {
            continue;
        }
        const uint64_t until_ns = __atomic_load_n(&process->pulse->busy_until_ns, __ATOMIC_ACQUIRE);
        const uint64_t most_ns = (uint64_t)EEP_BUSY_MAX_US * 1000u;
        uint64_t busy_ns = until_ns > now_ns ? until_ns - now_ns : 0;
        busy_ns = busy_ns < most_ns ? busy_ns : most_ns;
        eepi_agent_note_beats(agent->table, seat, process->generation,
                              __atomic_load_n(&process->pulse->beats, __ATOMIC_ACQUIRE),
                              busy_ns / 1000u);
    }
}

int eepi_agent_processes(eepi_agent *agent, struct pollfd *fds_out)
{
    int num = 0;

    pthread_mutex_lock(&agent->lock);
    for (int seat = 0; seat < EEP_MAX_RANKS; seat++) {
        if (agent->processes[seat].generation != 0 && agent->processes[seat].pidfd >= 0) {
            fds_out[num++] = (struct pollfd){.fd = agent->processes[seat].pidfd, .events = POLLIN};
        }
    }
    pthread_mutex_unlock(&agent->lock);
    return num;
}

/* Several ranks of one process have ended together, each by a descriptor of its own. */
static bool take_end(eepi_agent *agent, int pidfd)
{
    for (int32_t seat = 0; seat < EEP_MAX_RANKS; seat++) {
        agent_process *process = &agent->processes[seat];
        struct pollfd end = {.fd = pidfd, .events = POLLIN};
        if (process->generation == 0 || process->pidfd != pidfd) {
            continue;
        }
        if (poll(&end, 1, 0) <= 0) { /* another process, under the number of the one before */
            return false;
        }
        (void)eepi_agent_note_end(agent->table, seat, process->generation, EEPI_SEAT_ENDED);
        let_go(process);
        return true;
    }
    return false;
}

bool eepi_agent_take_ends(eepi_agent *agent, const struct pollfd *fds, int num)
{
    bool any = false;

    pthread_mutex_lock(&agent->lock);
    for (int i = 0; i < num; i++) {
        any |= fds[i].revents != 0 && take_end(agent, fds[i].fd);
    }
    pthread_mutex_unlock(&agent->lock);
    return any;
}

void eepi_agent_kill(eepi_agent *agent, int32_t seat, uint32_t generation)
{
    char text[128];
    bool is_here, is_killed = false;

    pthread_mutex_lock(&agent->lock);
    /* one that has closed stores nothing any more, and may go on with other work */
    is_here = eepi_agent_runs(agent->table, seat, generation) &&
              agent->processes[seat].generation == generation && agent->processes[seat].pidfd >= 0;
    if (is_here) {
        is_killed = eepi_process_kill(agent->processes[seat].pidfd);
    }
    pthread_mutex_unlock(&agent->lock);
    if (is_here && agent->note) { /* else it has ended or closed, or is another agent's */
        snprintf(text, sizeof text, "%s rank %d (generation %u) for another host",
                 is_killed ? "killed" : "could not kill", seat, generation);
        agent->note(agent->user, text);
    }
}

void eepi_agent_adopt_ends(eepi_agent *agent, const char *path)
{
    for (int32_t seat = 0; seat < EEP_MAX_RANKS; seat++) {
        eepi_seat_holder holder;
        if (eepi_seat_look(path, seat, &holder) != EEP_OK || holder.generation == 0 ||
            !eepi_seat_has_ended(path, seat, agent->home, &holder)) {
            continue;
        }
        pthread_mutex_lock(&agent->lock);
        (void)eepi_agent_note_end(agent->table, seat, holder.generation,
                                  holder.pid == 0 ? EEPI_SEAT_CLOSED : EEPI_SEAT_ENDED);
        pthread_mutex_unlock(&agent->lock);
    }
}
