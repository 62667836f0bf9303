/* SPDX-License-Identifier: Apache-2.0 */
/* A rank as agents and other ranks see it, without a context: it attaches to its host's agent, its
 * heart beats, and it listens to ranks of other hosts.
 *
 *     agent_rank PATH SEAT GENERATION [SEAT:GENERATION:HOST ...]      listens to those
 *
 * It prints JSON, a line each: {"ready": PID}, then what it hears: {"seat": 3, "sign": "silent",
 * "ms": 1234}, ms since its start. Lines that it reads: `look`, answered by {"alone": 0, "agent":
 * 7, "runs": [2, 3]}; `kill SEAT GENERATION`; `hang` and `beat`, which stop its heart and let it go
 * on. It ends with its input. */
#include "graphs/base/clock.h"
#include "membership/agent/agent_session.h"
#include "membership/process/detector.h"
#include "membership/process/host.h"
#include "membership/process/process.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A host may be silent for five times as long as elsewhere: on a busy machine one that is well may
 * not run for 200 ms. */
enum {
    PERIOD_US = 10000,
    HOST_SILENCE_US = 1000000,
    EXPEL_US = 2000000,
    MAX_SEATS = 64,
    LINE_BYTES = 256
};

typedef struct rank {
    eepi_agent_session *session;
    eepi_detector *detector;
    const eepi_board *agents;
    uint64_t begin_us;
    pthread_mutex_t lock; /* of the output */
} rank;

static rank self = {.lock = PTHREAD_MUTEX_INITIALIZER};
static eepk_window_header own;

static void say(const char *sign, int32_t seat)
{
    pthread_mutex_lock(&self.lock);
    printf("{\"seat\": %d, \"sign\": \"%s\", \"ms\": %llu}\n", seat, sign,
           (unsigned long long)((eepi_now_us() - self.begin_us) / 1000));
    fflush(stdout);
    pthread_mutex_unlock(&self.lock);
}

static void on_suspect(void *user, int32_t seat, uint32_t generation, eep_fault_kind kind)
{
    (void)user, (void)generation;
    say(kind == EEP_FAULT_SILENT ? "silent" : "exit", seat);
}

static void on_gone(void *user, int32_t seat, uint32_t generation)
{
    (void)user, (void)generation;
    say("ended", seat);
}

static void on_closed(void *user, int32_t seat, uint32_t generation)
{
    (void)user, (void)generation;
    say("closed", seat);
}

static void on_alive(void *user, int32_t seat, uint32_t generation)
{
    (void)user, (void)generation;
    say("alive", seat);
}

static void on_boards(void *user, const eepi_board *agents, const eepi_board *heard)
{
    (void)user;
    self.agents = agents;
    eepi_detector_set_boards(self.detector, agents, heard);
}

static void on_note(void *user, const char *text)
{
    (void)user;
    fprintf(stderr, "agent_rank: %s\n", text);
}

static void look(void)
{
    const char *comma = "";

    pthread_mutex_lock(&self.lock);
    printf("{\"alone\": %d, \"agent\": %llu, \"runs\": [", eepi_detector_is_alone(self.detector),
           (unsigned long long)(self.agents ? self.agents->generation : 0));
    for (int32_t seat = 0; self.agents && seat < MAX_SEATS; seat++) {
        eepi_board_seat said;
        if (eepi_board_read(&self.agents->seats[seat], &said) &&
            eepi_board_state(said.who) == EEPI_SEAT_RUNS) {
            printf("%s%d", comma, seat);
            comma = ", ";
        }
    }
    printf("]}\n");
    fflush(stdout);
    pthread_mutex_unlock(&self.lock);
}

static void obey(const char *line)
{
    int seat, generation;

    if (strncmp(line, "look", 4) == 0) {
        look();
    } else if (strncmp(line, "hang", 4) == 0) {
        eepi_detector_set_pulse(self.detector, NULL);
    } else if (strncmp(line, "beat", 4) == 0) {
        eepi_detector_set_pulse(self.detector, eepi_agent_session_pulse(self.session));
    } else if (sscanf(line, "kill %d %d", &seat, &generation) == 2) {
        (void)eepi_agent_session_kill(self.session, seat, (uint32_t)generation);
    }
}

static int serve(void)
{
    char line[LINE_BYTES];
    size_t bytes = 0;

    for (;;) {
        struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = eepi_agent_session_fd(self.session), .events = POLLIN}};
        (void)poll(fds, 2, PERIOD_US / 1000);
        eepi_agent_session_progress(self.session, eepi_now_us());
        eepi_agent_session_set_alone(self.session, eepi_detector_is_alone(self.detector),
                                     eepi_now_us());
        if (!fds[0].revents) {
            continue;
        }
        if (read(STDIN_FILENO, &line[bytes], 1) != 1) {
            return 0;
        }
        if (line[bytes] == '\n') {
            line[bytes] = '\0';
            bytes = 0;
            obey(line);
        } else if (bytes < sizeof line - 1) {
            bytes++;
        }
    }
}

/* Of a host that has this EEP_HOST_ID. */
static uint64_t id_of(const char *name)
{
    setenv(EEPI_HOST_VARIABLE, name, 1);
    return eepi_host_id();
}

int main(int argc, char **argv)
{
    eepi_agent_session_config config = {
        .boards = on_boards, .note = on_note, .host = eepi_host_id(), .home = eepi_process_home()};
    eepi_detector_config detector = {.period_us = PERIOD_US,
                                     .suspect_us = 3 * PERIOD_US,
                                     .host_silence_us = HOST_SILENCE_US,
                                     .max_ranks = MAX_SEATS,
                                     .suspect = on_suspect,
                                     .gone = on_gone,
                                     .ended = on_gone,
                                     .closed = on_closed,
                                     .alive = on_alive};
    int status;

    if (argc < 4) {
        fprintf(stderr, "usage: agent_rank PATH SEAT GENERATION [SEAT:GENERATION:HOST ...]\n");
        return 2;
    }
    config.path = argv[1];
    config.seat = detector.seat = atoi(argv[2]);
    config.generation = (uint32_t)atoi(argv[3]);
    self.begin_us = eepi_now_us();
    if (eepi_detector_open(&detector, &own, &self.detector) != EEP_OK ||
        eepi_agent_session_open(&config, &self.session) != EEP_OK) {
        fprintf(stderr, "agent_rank: cannot open\n");
        return 1;
    }
    eepi_detector_set_expel_us(self.detector, EXPEL_US);
    eepi_detector_set_pulse(self.detector, eepi_agent_session_pulse(self.session));
    for (int i = 4; i < argc; i++) {
        int seat = -1, generation = 0, name = 0;
        if (sscanf(argv[i], "%d:%d:%n", &seat, &generation, &name) == 2 && name > 0 && seat >= 0 &&
            seat < MAX_SEATS) {
            eepi_detector_watch_remote(self.detector, seat, (uint32_t)generation,
                                       id_of(argv[i] + name));
        }
    }
    printf("{\"ready\": %d}\n", (int)getpid());
    fflush(stdout);
    status = serve();
    eepi_detector_close(self.detector, false);
    eepi_agent_session_detach(self.session);
    eepi_agent_session_close(self.session);
    return status;
}
