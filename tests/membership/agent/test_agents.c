/* SPDX-License-Identifier: Apache-2.0 */
/* Agents of two hosts on this machine, and the ranks that are attached to them: ends, kills, a dead
 * agent, the next one. Each wait has a bound that no healthy run comes near. */
#include "membership/agent/agent_session.h"

#include "eep/store.h"
#include "graphs/base/clock.h"
#include "membership/agent/agent.h"
#include "membership/agent/agent_links.h"
#include "membership/process/process.h"
#include "membership/process/seat_file.h"
#include "tests/lib/store/store_port.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HOST_A = 1001, HOST_B = 1002, WAIT_US = 20000000, PATH_ROOM = 64 };

static char folder[] = "/tmp/eep-agents-XXXXXX", key_file[PATH_ROOM], store_path[PATH_ROOM];
static char path_a[PATH_ROOM], path_b[PATH_ROOM];
static eep_store *store;
static eepi_agent *agent_a, *agent_b;

/* A rank as an agent sees it: it attaches, and its heart beats. */
typedef struct player {
    eepi_agent_session *session;
    const eepi_board *agents, *own;
} player;

static void set_boards(void *user, const eepi_board *agents, const eepi_board *own)
{
    player *self = user;

    self->agents = agents;
    self->own = own;
}

static void ignore_note(void *user, const char *text)
{
    (void)user, (void)text;
}

static void play(player *self, const char *path, uint64_t host, int32_t seat, uint32_t generation)
{
    const eepi_agent_session_config config = {.path = path,
                                              .seat = seat,
                                              .generation = generation,
                                              .host = host,
                                              .home = eepi_process_home(),
                                              .boards = set_boards,
                                              .note = ignore_note,
                                              .user = self};

    *self = (player){0};
    cr_assert_eq(eepi_agent_session_open(&config, &self->session), EEP_OK);
}

/* Let some time pass for it. */
static void live(player *self)
{
    struct pollfd fd = {.fd = eepi_agent_session_fd(self->session), .events = POLLIN};

    eepi_agent_session_pulse(self->session)->beats++;
    (void)poll(&fd, 1, 2);
    eepi_agent_session_progress(self->session, eepi_now_us());
}

/* A port that is free when it is looked for may be another test's by now: then the next one. */
static eepi_agent *open_agent(const char *path, uint64_t host)
{
    char error[256] = "", address[PATH_ROOM];
    eepi_agent *agent = NULL;
    eep_status status = EEP_ERR_CONFLICT;

    for (int tries = 0; tries < 20 && status == EEP_ERR_CONFLICT; tries++) {
        const eepi_agent_config config = {.path = path,
                                          .host = host,
                                          .listen = address,
                                          .store = store_path,
                                          .key_file = key_file};
        snprintf(address, sizeof address, "127.0.0.1:%d", (int)test_free_port());
        status = eepi_agent_open(&config, error, sizeof error, &agent);
    }
    cr_assert_eq(status, EEP_OK, "%s: %s", eep_strerror(status), error);
    return agent;
}

static void name(char *out, const char *file)
{
    snprintf(out, PATH_ROOM, "%s/%s", folder, file);
}

/* A process that waits to be told what rank it is. It is forked before this process has threads: a
 * lock that one of them holds at a fork is held for ever in the child. */
static struct waiting {
    pid_t pid; /* 0: it is a rank by now */
    int to;
    struct {
        int32_t seat;
        uint32_t generation;
    } place;
} waiting;

static void fork_waiting(void)
{
    int ends[2];
    player self;

    cr_assert_eq(pipe(ends), 0);
    waiting.to = ends[1];
    waiting.pid = fork();
    cr_assert_geq(waiting.pid, 0);
    if (waiting.pid > 0) {
        close(ends[0]);
        return;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
    if (read(ends[0], &waiting.place, sizeof waiting.place) != sizeof waiting.place) {
        _exit(1);
    }
    play(&self, path_a, HOST_A, waiting.place.seat, waiting.place.generation);
    for (;;) {
        live(&self);
    }
}

static void set_up(void)
{
    FILE *key;

    cr_assert(mkdtemp(folder));
    name(key_file, "key");
    name(store_path, "store");
    name(path_a, "a");
    name(path_b, "b");
    key = fopen(key_file, "w");
    cr_assert(key);
    fputs("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n", key);
    fclose(key);
    cr_assert_eq(chmod(key_file, 0600), 0);
    setenv("EEP_KEY_FILE", key_file, 1);
    fork_waiting();
    cr_assert_eq(eep_store_open(store_path, NULL, 0, &store), EEP_OK);
    agent_a = open_agent(path_a, HOST_A);
    agent_b = open_agent(path_b, HOST_B);
}

static void tear_down(void)
{
    char command[PATH_ROOM + 16];

    if (waiting.pid > 0) {
        kill(waiting.pid, SIGKILL);
        waitpid(waiting.pid, NULL, 0);
    }
    close(waiting.to);
    eepi_agent_close(agent_a);
    eepi_agent_close(agent_b);
    eep_store_close(store);
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_expect_eq(system(command), 0);
}

TestSuite(agents, .init = set_up, .fini = tear_down, .timeout = 60);

static eepi_board_seat said(const eepi_board *board, int32_t seat)
{
    eepi_board_seat read = {0};

    return board && eepi_board_read(&board->seats[seat], &read) ? read : (eepi_board_seat){0};
}

/* Until the observer's board says that of the seat. */
static void await(player *observer, player *other, int32_t seat, uint32_t generation,
                  eepi_seat_state state)
{
    const uint64_t until_us = eepi_now_us() + WAIT_US;

    for (;;) {
        const uint64_t who = said(observer->agents, seat).who;
        if (eepi_board_generation(who) == generation && eepi_board_state(who) == state) {
            return;
        }
        cr_assert_lt(eepi_now_us(), until_us, "seat %d is not said to be %d", seat, state);
        live(observer);
        if (other) {
            live(other);
        }
    }
}

/* Others may be told of a rank before it finds its own agent. */
static void await_agent(player *self)
{
    const uint64_t until_us = eepi_now_us() + WAIT_US;

    while (!self->agents) {
        cr_assert_lt(eepi_now_us(), until_us, "it finds no agent");
        live(self);
    }
}

/* So many further beats of the seat come. */
static void await_beats(player *observer, player *other, int32_t seat, int num)
{
    const uint64_t until_us = eepi_now_us() + WAIT_US;
    uint64_t last = said(observer->agents, seat).beats;

    while (num > 0) {
        const uint64_t beats = said(observer->agents, seat).beats;
        num -= beats != last;
        last = beats;
        cr_assert_lt(eepi_now_us(), until_us, "seat %d beats no more", seat);
        live(observer);
        live(other);
    }
}

/* The process of its own that is attached to A from now on, until it is killed. */
static pid_t start_rank(int32_t seat, uint32_t generation)
{
    const pid_t pid = waiting.pid;

    waiting.place.seat = seat;
    waiting.place.generation = generation;
    cr_assert_eq(write(waiting.to, &waiting.place, sizeof waiting.place),
                 (ssize_t)sizeof waiting.place);
    waiting.pid = 0; /* the test's */
    return pid;
}

Test(agents, beats_cross_between_hosts)
{
    player here, there;

    play(&here, path_a, HOST_A, 0, 1);
    play(&there, path_b, HOST_B, 4, 7);
    await(&there, &here, 0, 1, EEPI_SEAT_RUNS);
    await(&here, &there, 4, 7, EEPI_SEAT_RUNS);
    await_beats(&there, &here, 0, 5);
    await_beats(&here, &there, 4, 5);
    cr_expect_eq(here.agents->host, HOST_A);
    eepi_agent_session_detach(there.session);
    await(&here, NULL, 4, 7, EEPI_SEAT_CLOSED);
    eepi_agent_session_close(here.session);
    eepi_agent_session_close(there.session);
}

/* Rules M7 and N9: said from a descriptor that was held while it lived. */
Test(agents, the_end_of_a_process_is_told)
{
    player there;
    pid_t rank = start_rank(2, 5);

    play(&there, path_b, HOST_B, 4, 1);
    await(&there, NULL, 2, 5, EEPI_SEAT_RUNS);
    kill(rank, SIGKILL);
    await(&there, NULL, 2, 5, EEPI_SEAT_ENDED);
    waitpid(rank, NULL, 0);
    eepi_agent_session_close(there.session);
}

/* Rule N13. */
Test(agents, a_process_is_killed_by_its_own_agent)
{
    player there;
    int status = 0;
    pid_t rank = start_rank(2, 5);

    play(&there, path_b, HOST_B, 4, 1);
    await(&there, NULL, 2, 5, EEPI_SEAT_RUNS);
    cr_expect(eepi_agent_session_kill(there.session, 2, 4), "it is asked, and kills nobody");
    for (int i = 0; i < 50; i++) {
        live(&there);
    }
    cr_expect_eq(waitpid(rank, &status, WNOHANG), 0, "another generation is not killed");
    cr_assert(eepi_agent_session_kill(there.session, 2, 5));
    await(&there, NULL, 2, 5, EEPI_SEAT_ENDED);
    cr_assert_eq(waitpid(rank, &status, 0), rank);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    eepi_agent_session_close(there.session);
}

/* It stores nothing any more, and its process goes on with other work: this one. */
Test(agents, a_rank_that_has_closed_is_not_killed)
{
    player here, there;

    play(&here, path_a, HOST_A, 2, 5);
    play(&there, path_b, HOST_B, 4, 1);
    await(&there, &here, 2, 5, EEPI_SEAT_RUNS);
    eepi_agent_session_detach(here.session);
    await(&there, &here, 2, 5, EEPI_SEAT_CLOSED);
    cr_assert(eepi_agent_session_kill(there.session, 2, 5));
    await_beats(&here, &there, 4, 20); /* this process is there still, and the order is behind it */
    eepi_agent_session_close(here.session);
    eepi_agent_session_close(there.session);
}

/* Rule N12. */
Test(agents, a_second_agent_is_refused)
{
    const eepi_agent_config config = {.path = path_a, .host = HOST_A};
    char error[256] = "";
    eepi_agent *second = NULL;

    cr_expect_eq(eepi_agent_open(&config, error, sizeof error, &second), EEP_ERR_CONFLICT);
    cr_expect(strstr(error, "an agent serves this host"), "%s", error);
    cr_expect_null(second);
}

Test(agents, the_next_agent_adopts_ranks_and_ends)
{
    eepi_seat_holder seat = {.pid = (int32_t)getpid(),
                             .pid_start = eepi_process_start((int32_t)getpid()),
                             .home = eepi_process_home()},
                     before;
    player here, there;

    play(&here, path_a, HOST_A, 0, 1);
    play(&there, path_b, HOST_B, 4, 1);
    await(&there, &here, 0, 1, EEPI_SEAT_RUNS);
    await_agent(&here);
    const uint64_t generation = here.agents->generation;
    eepi_agent_close(agent_a);
    /* seat 6 is taken and left while nobody watches: its file proves the end (M7) */
    cr_assert_eq(eepi_seat_take(path_a, 6, 8, &seat, &before), EEP_OK);
    cr_assert_eq(eepi_seat_release(path_a, 6, &seat), EEP_OK);
    agent_a = open_agent(path_a, HOST_A);
    await(&there, &here, 6, seat.generation, EEPI_SEAT_CLOSED);
    await_beats(&there, &here, 0, 5);
    cr_expect_gt(there.agents->hosts[0].generation, generation);
    cr_expect_gt(here.agents->generation, generation, "the rank is attached to it");
    eepi_agent_session_close(here.session);
    eepi_agent_session_close(there.session);
}

/* Its file is gone, such as with a container's files. Others know the generation before. */
Test(agents, the_next_agent_is_heard_though_its_file_is_gone)
{
    char file[PATH_ROOM + 8];
    player here, there;

    eepi_agent_close(agent_a);
    agent_a = open_agent(path_a, HOST_A); /* the second: a first one would be 1 again */
    play(&here, path_a, HOST_A, 0, 1);
    play(&there, path_b, HOST_B, 4, 1);
    await(&there, &here, 0, 1, EEPI_SEAT_RUNS);
    const uint64_t generation = there.agents->hosts[0].generation;
    eepi_agent_close(agent_a);
    snprintf(file, sizeof file, "%s.agent", path_a);
    cr_assert_eq(unlink(file), 0);
    agent_a = open_agent(path_a, HOST_A);
    await_beats(&there, &here, 0, 5);
    cr_expect_gt(there.agents->hosts[0].generation, generation);
    eepi_agent_session_close(here.session);
    eepi_agent_session_close(there.session);
}

/* Somebody has cleared the folder and started another agent. Other hosts take no word of the older
 * one any more: it lets go of its ranks, which attach to the newer one (rule N12). */
Test(agents, an_agent_that_is_outlived_lets_go_of_its_ranks)
{
    char file[PATH_ROOM + 8];
    player here, there;
    eepi_agent *second;

    play(&here, path_a, HOST_A, 0, 1);
    play(&there, path_b, HOST_B, 4, 1);
    await(&there, &here, 0, 1, EEPI_SEAT_RUNS);
    await_agent(&here);
    const uint64_t generation = here.agents->generation, until_us = eepi_now_us() + WAIT_US;
    snprintf(file, sizeof file, "%s.agent", path_a);
    cr_assert_eq(unlink(file), 0);
    snprintf(file, sizeof file, "%s.holder", path_a);
    cr_assert_eq(unlink(file), 0);
    second = open_agent(path_a, HOST_A);
    while (here.agents->generation == generation) {
        cr_assert_lt(eepi_now_us(), until_us, "the rank stays with the older one");
        live(&here);
        live(&there);
    }
    await_beats(&there, &here, 0, 5);
    eepi_agent_session_close(here.session);
    eepi_agent_session_close(there.session);
    eepi_agent_close(second);
}

/* Rule N11: what the agent does not say, the rank says itself, and hears itself. */
Test(agents, a_rank_without_an_agent_speaks_for_itself)
{
    player here, there;

    play(&here, path_a, HOST_A, 0, 1);
    play(&there, path_b, HOST_B, 4, 1);
    await(&there, &here, 0, 1, EEPI_SEAT_RUNS);
    await(&here, &there, 4, 1, EEPI_SEAT_RUNS);
    eepi_agent_close(agent_a);
    agent_a = NULL;
    eepi_agent_session_set_alone(here.session, true, eepi_now_us());
    await_beats(&there, &here, 0, 5);
    cr_assert(here.own);
    const uint64_t until_us = eepi_now_us() + WAIT_US;
    while (eepi_board_state(said(here.own, 4).who) != EEPI_SEAT_RUNS) {
        cr_assert_lt(eepi_now_us(), until_us);
        live(&here);
        live(&there);
    }
    agent_a = open_agent(path_a, HOST_A);
    const uint64_t generation = here.agents->generation;
    while (here.agents->generation == generation) { /* it has the board of the next one */
        cr_assert_lt(eepi_now_us(), until_us + WAIT_US);
        live(&here);
        live(&there);
    }
    eepi_agent_session_set_alone(here.session, false, eepi_now_us());
    cr_expect(here.own, "the others may not have found the next agent yet");
    await_beats(&there, &here, 0, 5);
    eepi_agent_session_set_alone(here.session, false, eepi_now_us() + EEPI_AGENT_GOES_ON_US);
    cr_expect_null(here.own);
    await_beats(&there, &here, 0, 5);
    eepi_agent_session_close(here.session);
    eepi_agent_session_close(there.session);
}

/* Rules N9 and N12: a rank of another host, by its own word, has another agent. */
Test(agents, a_rank_of_another_host_is_not_attached)
{
    player here, stranger;

    play(&here, path_a, HOST_A, 0, 1);
    play(&stranger, path_a, HOST_B, 1, 1);
    await_agent(&here);
    for (int i = 0; i < 20; i++) {
        live(&stranger);
    }
    cr_expect_null(stranger.agents);
    eepi_agent_session_close(here.session);
    eepi_agent_session_close(stranger.session);
}

static bool count_poll(void *user, const struct pollfd *fds, int num)
{
    (void)fds, (void)num;
    __atomic_fetch_add((uint64_t *)user, 1, __ATOMIC_RELAXED);
    return false;
}

/* Somebody waits to be accepted, and no descriptor is left: the thread waits for its next round. */
Test(agent_links, without_descriptors_the_thread_does_not_spin, .timeout = 60)
{
    enum { ROUNDS = 8, POLLS_A_ROUND = 10 };
    static eepi_board board;
    static uint64_t polls;
    const eepi_agent_table_config of = {.host = 1, .generation = 1, .speaker = -1, .board = &board};
    const int port = (int)test_free_port(), client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr = {htonl(INADDR_LOOPBACK)}};
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    char address[PATH_ROOM], error[256] = "";
    struct rlimit limit, low;
    eepi_agent_links *links = NULL;

    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    eepi_agent_table *table = eepi_agent_table_open(&of);
    const eepi_agent_links_config config = {.self = {1, 1, EEPI_AGENT_SPEAKER, {{0}}},
                                            .listen = address,
                                            .board = &board,
                                            .table = table,
                                            .lock = &lock,
                                            .polled = count_poll,
                                            .user = &polls};
    cr_assert(table && client >= 0);
    eep_status status = eepi_agent_links_open(&config, error, sizeof error, &links);
    if (status == EEP_ERR_CONFLICT) {
        cr_skip_test("another test has the port by now");
    }
    cr_assert_eq(status, EEP_OK, "%s", error);
    const int next = fcntl(client, F_DUPFD_CLOEXEC, 0);
    cr_assert_geq(next, 0);
    close(next);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = (struct rlimit){(rlim_t)next, limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    cr_assert_eq(connect(client, (const struct sockaddr *)&to, sizeof to), 0);
    const uint64_t first = __atomic_load_n(&board.rounds, __ATOMIC_ACQUIRE);
    const uint64_t before = __atomic_load_n(&polls, __ATOMIC_RELAXED);
    const uint64_t until_us = eepi_now_us() + WAIT_US;
    while (__atomic_load_n(&board.rounds, __ATOMIC_ACQUIRE) < first + ROUNDS) {
        cr_assert_lt(eepi_now_us(), until_us);
        (void)poll(NULL, 0, 5);
    }
    const uint64_t rounds = __atomic_load_n(&board.rounds, __ATOMIC_ACQUIRE) - first;
    cr_expect_lt(__atomic_load_n(&polls, __ATOMIC_RELAXED) - before, rounds * POLLS_A_ROUND);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    eepi_agent_links_close(links);
    eepi_agent_table_close(table);
    close(client);
}

static void keep_note(void *user, const char *text)
{
    if (strstr(text, "is not heard")) {
        cr_expect(strstr(text, "host 0000000000000002 "), "%s", text);
        __atomic_fetch_add((int *)user, 1, __ATOMIC_SEQ_CST);
    }
}

/* One of a board without room says once whom it does not hear. */
Test(agent_links, a_host_without_room_on_the_board_is_named, .timeout = 60)
{
    enum { FULL = 9, NEW = 2 }; /* of two hosts that with the lower number dials */
    static eepi_board boards[2];
    static int num_notes;
    pthread_mutex_t locks[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
    eepi_agent_table *tables[2];
    eepi_agent_links *links[2] = {NULL, NULL};
    char address[PATH_ROOM], error[256] = "";

    snprintf(address, sizeof address, "127.0.0.1:%d", (int)test_free_port());
    for (int i = 0; i < 2; i++) {
        const uint64_t host = i == 0 ? FULL : NEW;
        const eepi_agent_table_config of = {
            .host = host, .generation = 1, .speaker = -1, .board = &boards[i]};
        tables[i] = eepi_agent_table_open(&of);
        cr_assert_not_null(tables[i]);
        for (int place = 0; i == 0 && place < EEPI_BOARD_HOSTS; place++) {
            boards[i].hosts[place].host = 1000 + (uint64_t)place;
        }
        if (i == 1) {
            eepi_agent_note_address(tables[i], FULL, 1, address);
        }
        const eepi_agent_links_config config = {.self = {host, 1, EEPI_AGENT_SPEAKER, {{0}}},
                                                .listen = i == 0 ? address : NULL,
                                                .board = &boards[i],
                                                .table = tables[i],
                                                .lock = &locks[i],
                                                .note = keep_note,
                                                .user = &num_notes};
        eep_status status = eepi_agent_links_open(&config, error, sizeof error, &links[i]);
        if (status == EEP_ERR_CONFLICT) {
            cr_skip_test("another test has the port by now");
        }
        cr_assert_eq(status, EEP_OK, "%s", error);
    }
    const uint64_t until_us = eepi_now_us() + WAIT_US;
    while (__atomic_load_n(&num_notes, __ATOMIC_SEQ_CST) == 0) {
        cr_assert_lt(eepi_now_us(), until_us);
        (void)poll(NULL, 0, 5);
    }
    (void)poll(NULL, 0, 200); /* in which ten more beats come */
    cr_expect_eq(__atomic_load_n(&num_notes, __ATOMIC_SEQ_CST), 1);
    for (int i = 0; i < 2; i++) {
        eepi_agent_links_close(links[i]);
        eepi_agent_table_close(tables[i]);
    }
}
