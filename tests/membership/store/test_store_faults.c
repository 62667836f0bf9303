/* SPDX-License-Identifier: Apache-2.0 */
/* The store under faults: foreign bytes, slow readers, a store that dies, paths that are taken. */
#include "membership/store/store_conn.h"
#include "membership/store/store_socket.h"
#include "membership/store/store_wire.h"
#include "tests/lib/foreign.h"
#include "tests/lib/store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

TestSuite(store_faults, .init = make_directory, .fini = remove_directory, .timeout = 90);

/* ---------------------------------------------------------------- foreign bytes */

static int raw_connect(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, path);
    cr_assert_eq(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* The store hangs up, within BOUND_US. */
static void expect_hang_up(int fd)
{
    struct pollfd set = {.fd = fd, .events = POLLIN};
    char byte;
    cr_assert_eq(poll(&set, 1, BOUND_US / 1000), 1);
    cr_assert_leq(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

Test(store_faults, malformed_frames_cost_only_their_sender)
{
    static const struct {
        size_t offset;
        unsigned char byte;
    } damage[] = {
        {0, 0},    /* magic */
        {5, 0},    /* no such type */
        {5, 15},   /* nor this */
        {5, 16},   /* a store's message */
        {5, 7},    /* a lease with a key */
        {6, 0},    /* no NUL in the key field */
        {6, 129},  /* key too long */
        {7, 1},    /* much too long */
        {10, 1},   /* a get with a value */
        {11, 255}, /* value over the cap */
        {16, 0},   /* id 0 */
        {48, 0},   /* a NUL inside the key */
        {50, 'x'}, /* none at its end */
    };
    eep_store *store = open_store();
    eepi_store_client *client = open_client();
    for (size_t i = 0; i < sizeof damage / sizeof damage[0]; i++) {
        const eepi_store_message get = {.type = EEPI_STORE_MSG_GET, .id = 1, .key = "ab"};
        unsigned char frame[EEPI_STORE_HEAD_MAX + 128 * 1024] = {0};
        size_t bytes = eepi_store_wire_encode(&get, frame);
        int fd = raw_connect();
        frame[damage[i].offset] = damage[i].byte;
        if (damage[i].offset == 10) {
            bytes += 64 * 1024;
        }
        cr_assert_gt(send(fd, frame, bytes, MSG_NOSIGNAL), 0);
        expect_hang_up(fd);
        put(client, "alive", "yes");
    }
    eepi_store_client_close(client);
    eep_store_close(store);
}

Test(store_faults, half_a_frame_blocks_nobody)
{
    eep_store *store = open_store();
    eepi_store_client *client = open_client();
    const eepi_store_message big = {
        .type = EEPI_STORE_MSG_PUT, .id = 1, .key = "k", .value_size = EEPI_STORE_VALUE_MAX};
    unsigned char head[EEPI_STORE_HEAD_MAX];
    size_t bytes = eepi_store_wire_encode(&big, head);
    int fd = raw_connect();
    cr_assert_eq(send(fd, head, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
    put(client, "alive", "yes");
    cr_assert_eq(wait_for(client, eepi_store_get(client, "k")).status, EEP_ERR_NOT_FOUND);
    close(fd);
    put(client, "alive", "still");
    eepi_store_client_close(client);
    eep_store_close(store);
}

/* ---------------------------------------------------------------- forked children */

/* A child with copies of all descriptors. It sleeps; at a byte on `*go_out` it writes to `fd`; when
 * `*go_out` is closed it closes the store `closes` (NULL: none) and ends. */
static pid_t fork_holder(int fd, eep_store *closes, int *go_out)
{
    int go[2];
    cr_assert_eq(pipe(go), 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(go[1]);
        while (read(go[0], &byte, 1) == 1) {
            (void)!send(fd, "more", 4, MSG_NOSIGNAL);
        }
        eep_store_close(closes);
        _exit(0);
    }
    cr_assert_gt(child, 0);
    close(go[0]);
    *go_out = go[1];
    return child;
}

static void release_holder(pid_t child, int go)
{
    int end = -1;
    close(go);
    cr_assert_eq(waitpid(child, &end, 0), child);
    cr_assert(WIFEXITED(end) && WEXITSTATUS(end) == 0);
}

Test(store_faults, a_forked_childs_copies_keep_no_connection_alive)
{
    eep_store *store = open_store();
    eepi_store_client *client = open_client();
    const eepi_store_message get = {.type = EEPI_STORE_MSG_GET, .id = 1, .key = "k"};
    unsigned char frame[EEPI_STORE_HEAD_MAX] = {0}, answer[EEPI_STORE_HEAD_MAX];
    size_t bytes = eepi_store_wire_encode(&get, frame);
    int go = -1, fd = raw_connect();
    cr_assert_eq(send(fd, frame, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
    cr_assert_gt(recv(fd, answer, sizeof answer, 0), 0); /* so the store has accepted it */
    pid_t child = fork_holder(fd, NULL, &go);
    frame[0] = 0; /* not the magic number */
    cr_assert_eq(send(fd, frame, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
    put(client, "one", "round");
    put(client, "another", "round"); /* by now the connection was dropped and freed */
    cr_assert_eq(write(go, "w", 1), 1);
    poll(NULL, 0, 50); /* not for the answer, which must not come: for the child to write */
    put(client, "alive", "yes");
    release_holder(child, go);
    struct pollfd set = {.fd = fd, .events = POLLIN};
    cr_expect_eq(poll(&set, 1, 2000), 1, "the sender does not learn that it was dropped");
    close(fd);
    eepi_store_client_close(client);
    eep_store_close(store);
}

Test(store_faults, a_forked_child_that_closes_the_store_leaves_it_to_its_parent)
{
    eep_store *store = open_store();
    eepi_store_client *client = open_client(), *late;
    int go = -1;
    put(client, "before", "fork");
    pid_t child = fork_holder(-1, store, &go);
    release_holder(child, go);
    put(client, "after", "fork");
    late = open_client();
    put(late, "joins", "yes");
    eepi_store_client_close(late);
    eepi_store_client_close(client);
    eep_store_close(store);
}

/* A process that serves forks a worker, as Python's multiprocessing does, and is killed: the worker
 * holds the socket, on which nobody accepts. */
static pid_t open_in_a_parent(int *worker_holds_out)
{
    int ready[2], held[2];
    char byte;
    cr_assert_eq(pipe(ready), 0);
    cr_assert_eq(pipe(held), 0);
    pid_t server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)open_store();
        if (fork() == 0) {
            close(held[1]);
            (void)!read(held[0], &byte, 1); /* until the test ends */
            _exit(0);
        }
        (void)!write(ready[1], "r", 1);
        pause();
        _exit(0);
    }
    cr_assert_gt(server, 0);
    close(held[0]);
    close(ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    *worker_holds_out = held[1];
    return server;
}

Test(store_faults, a_worker_of_an_ended_store_does_not_keep_its_path)
{
    int worker = -1, fd = -1;
    pid_t server = open_in_a_parent(&worker);
    eepi_store_client *client = open_client();
    put(client, "key", "value");
    cr_assert_eq(kill(server, SIGKILL), 0);
    siginfo_t end;
    cr_assert_eq(waitid(P_PID, (id_t)server, &end, WEXITED | WNOWAIT), 0); /* a zombie yet */
    cr_expect_eq(eepi_store_socket_connect(path, &fd), EEP_ERR_UNREACHABLE);
    eep_store *store = open_store();
    cr_assert_eq(waitpid(server, NULL, 0), server);
    eepi_store_client *late = open_client();
    put(late, "key", "value");
    while (next(client).kind != EEPI_STORE_RECONNECTED) {
    }
    put(client, "key", "again"); /* it has learnt of the end, too */
    eepi_store_client_close(late);
    eepi_store_client_close(client);
    eep_store_close(store);
    close(worker);
}

/* ---------------------------------------------------------------- held connections */

static void limit_descriptors(rlim_t most)
{
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = most;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

Test(store_faults, held_connections_keep_nobody_out)
{
    enum { HELD = 200, STORE_DESCRIPTORS = 64, OURS = 512 };
    int held[HELD];
    limit_descriptors(STORE_DESCRIPTORS);
    pid_t child = fork_store();
    limit_descriptors(OURS);
    eepi_store_client *member = open_client();
    watch_all(member);
    for (int i = 0; i < HELD; i++) {
        held[i] = raw_connect();
    }
    eepi_store_client *joiner = open_client();
    put(joiner, "joins", "yes");
    expect(member, EEPI_STORE_CHANGED, "joins", "yes"); /* and it was never disconnected */
    for (int i = 0; i < HELD; i++) {
        close(held[i]);
    }
    eepi_store_client_close(joiner);
    eepi_store_client_close(member);
    kill_child(child);
}

Test(store_faults, who_asks_for_nothing_is_dropped)
{
    eep_store *store = open_store();
    eepi_store_client *client = open_client();
    put(client, "one", "request");
    store->hello_us = 100 * 1000; /* its thread reads it when somebody connects */
    int silent = raw_connect();
    expect_hang_up(silent);
    put(client, "still", "here");
    eepi_store_client_close(client);
    eep_store_close(store);
}

static double cpu_ms(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec * 1e3 + (double)used.tv_nsec / 1e6;
}

Test(store_faults, a_store_without_descriptors_does_not_spin)
{
    enum { WATCHED_MS = 300 }; /* a thread that spins takes all of it */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    eep_store *store = open_store();
    eepi_store_client *member = open_client();
    int lowest = -1, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    watch_all(member);
    strcpy(address.sun_path, path);
    lowest = dup(0);
    close(lowest);
    limit_descriptors((rlim_t)lowest);
    close(store->reserve_fd); /* as if another thread had taken what it gave up */
    cr_assert_eq(dup2(0, store->reserve_fd), store->reserve_fd);
    store->reserve_fd = -1;
    cr_assert_eq(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    double before_ms = cpu_ms();
    poll(NULL, 0, WATCHED_MS);
    double spent_ms = cpu_ms() - before_ms; /* a host that takes its CPU away counts here, too */
    cr_expect_lt(spent_ms, WATCHED_MS / 2, "%g ms of CPU time", spent_ms);
    limit_descriptors((rlim_t)lowest + 16);
    put(member, "still", "here");
    eepi_store_client *joiner = open_client();
    put(joiner, "joins", "yes");
    eepi_store_client_close(joiner);
    eepi_store_client_close(member);
    close(fd);
    eep_store_close(store);
}

/* All are held by ranks, so nobody makes room. */
Test(store_faults, who_is_turned_away_without_descriptors_is_told)
{
    enum { MEMBERS = 4 };
    eepi_store_client *members[MEMBERS], *late = NULL;
    eepi_store_reply reply;
    eep_store *store = open_store();
    for (int i = 0; i < MEMBERS; i++) {
        members[i] = open_client();
        watch_all(members[i]);
    }
    int ours = dup(0), lowest = dup(0); /* the client gets one, the store gets none */
    close(lowest);
    close(ours);
    limit_descriptors((rlim_t)ours + 1);
    late = open_client();
    cr_expect_str_eq(eepi_store_client_why(late), "");
    for (;;) {
        reply = ask_again(late);
        cr_assert_eq(reply.status, EEP_ERR_UNREACHABLE);
        if (strstr(eepi_store_client_why(late), "ulimit -n")) {
            break; /* else a look of the client's took the descriptor that the store gave up */
        }
    }
    limit_descriptors((rlim_t)lowest + 64);
    do {
        reply = ask_again(late);
    } while (reply.status == EEP_ERR_UNREACHABLE);
    cr_expect_eq(reply.status, EEP_ERR_NOT_FOUND, "%d", reply.status);
    cr_expect_str_eq(eepi_store_client_why(late), "");
    eepi_store_client_close(late);
    for (int i = 0; i < MEMBERS; i++) {
        eepi_store_client_close(members[i]);
    }
    eep_store_close(store);
}

/* What a store said is no reason any more when nothing listens there. */
Test(store_faults, why_a_store_took_nobody_is_forgotten_when_it_is_gone)
{
    const eepi_store_message why = {
        .type = EEPI_STORE_MSG_REPLY, .status = EEP_ERR_SYSTEM, .key = ""};
    unsigned char frame[EEPI_STORE_HEAD_MAX];
    size_t bytes = eepi_store_wire_encode(&why, frame);
    eepi_store_listener listener;
    eepi_store_reply reply;
    cr_assert_eq(eepi_store_socket_listen(path, NULL, 0, &listener), EEP_OK);
    eepi_store_client *client = open_client();
    uint64_t id = eepi_store_get(client, "any");
    int fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC);
    cr_assert_eq(send(fd, frame, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
    eepi_store_socket_unlisten(path, &listener);
    close(fd);
    cr_assert_eq(wait_for(client, id).status, EEP_ERR_UNREACHABLE);
    cr_expect(strstr(eepi_store_client_why(client), "ulimit -n"));
    while (*eepi_store_client_why(client)) { /* the suite's timeout bounds it */
        (void)!eepi_store_client_next(client, &reply);
        poll(NULL, 0, 1);
    }
    cr_expect_str_eq(eepi_store_client_why(client), "");
    eepi_store_client_close(client);
}

/* Where the store holds as many connections as it takes, a guest makes room for its own user. */
Test(store_faults, another_user_makes_nobody_leave)
{
    enum { FULL = 4096, NOBODY = 65534 };
    int status = 0;
    if (geteuid() != 0) {
        cr_skip_test("only root can become another user");
    }
    eep_store *store = open_store();
    eepi_store_client *guest = open_client();
    put(guest, "one", "request");
    store->num_conns += FULL; /* its thread reads it when somebody connects */
    cr_assert_eq(chmod(directory, 0755), 0);
    cr_assert_eq(chmod(path, 0777), 0);
    pid_t child = fork();
    if (child == 0) {
        if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0) {
            _exit(2);
        }
        struct pollfd turned_away = {.fd = raw_connect(), .events = POLLIN};
        _exit(poll(&turned_away, 1, BOUND_US / 1000) == 1 ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect_eq(status, 0);
    store->num_conns -= FULL;
    put(guest, "still", "here");
    eepi_store_client_close(guest);
    eep_store_close(store);
}

/* ---------------------------------------------------------------- slow readers */

Test(store_faults, a_watcher_that_never_reads_blocks_nobody_and_is_dropped)
{
    enum { NUM_PUTS = 60 }; /* of 2 MB: beyond the 64 MB that a watcher may be behind */
    eep_store *store = open_store();
    eepi_store_client *writer = open_client(), *watcher = open_client(), *stopped = open_client();
    char *bytes = calloc(1, 2 * MB);
    uint64_t last = 0;
    bool disconnected = false;
    cr_assert_not_null(bytes);
    watch_all(watcher);
    watch_all(stopped);
    for (uint64_t i = 0; i < NUM_PUTS; i++) {
        memcpy(bytes, &i, sizeof i);
        eepi_store_reply reply = wait_for(writer, eepi_store_put(writer, "k", bytes, 2 * MB, 0));
        cr_assert_eq(reply.status, EEP_OK);
        last = reply.revision;
        reply = next(watcher);
        cr_assert(reply.kind == EEPI_STORE_CHANGED && reply.revision == last);
    }
    /* Now it reads: some events, the break, and then the present state, once. */
    for (eepi_store_reply reply = next(stopped); reply.kind != EEPI_STORE_RECONNECTED;
         reply = next(stopped)) {
        if (disconnected) {
            cr_assert(reply.kind == EEPI_STORE_ENTRY && reply.revision == last);
        } else if (reply.kind == EEPI_STORE_DISCONNECTED) {
            disconnected = true;
        } else {
            cr_assert_eq(reply.kind, EEPI_STORE_CHANGED);
        }
    }
    cr_assert(disconnected);
    free(bytes);
    eepi_store_client_close(writer);
    eepi_store_client_close(watcher);
    eepi_store_client_close(stopped);
    eep_store_close(store);
}

Test(store_faults, a_requester_that_never_reads_is_paused_and_then_served)
{
    enum { NUM_GETS = 100 };
    eep_store *store = open_store();
    eepi_store_client *client = open_client(), *other = open_client();
    char *bytes = calloc(1, 2 * MB);
    cr_assert_not_null(bytes);
    cr_assert_eq(wait_for(client, eepi_store_put(client, "k", bytes, 2 * MB, 0)).status, EEP_OK);
    uint64_t first = 0;
    for (uint64_t i = 0; i < NUM_GETS; i++) {
        uint64_t id = eepi_store_get(client, "k");
        first = first ? first : id;
    }
    put(other, "alive", "yes");
    for (uint64_t i = 0; i < NUM_GETS; i++) {
        eepi_store_reply reply = next(client);
        cr_assert(reply.kind == EEPI_STORE_REPLY && reply.id == first + i);
        cr_assert_eq(reply.size, 2 * MB);
    }
    free(bytes);
    eepi_store_client_close(client);
    eepi_store_client_close(other);
    eep_store_close(store);
}

/* ---------------------------------------------------------------- a store that dies */

Test(store_faults, a_killed_store_is_survived)
{
    pid_t server = fork_store();
    eepi_store_client *client = open_client();
    watch_all(client);
    uint64_t revision = put(client, "old", "x");
    expect(client, EEPI_STORE_CHANGED, "old", "x");
    kill(server, SIGSTOP);
    cr_assert_eq(waitpid(server, NULL, WUNTRACED), server, "all its threads stand still");
    uint64_t one = eepi_store_get(client, "old");
    uint64_t two = eepi_store_put(client, "lost", "x", 2, 0);
    kill_child(server);
    expect(client, EEPI_STORE_DISCONNECTED, "", NULL);
    eepi_store_reply reply = next(client);
    cr_assert(reply.kind == EEPI_STORE_REPLY && reply.id == one);
    cr_assert_eq(reply.status, EEP_ERR_UNREACHABLE);
    reply = next(client);
    cr_assert(reply.kind == EEPI_STORE_REPLY && reply.id == two);
    cr_assert_eq(reply.status, EEP_ERR_UNREACHABLE);
    cr_assert_str_eq(reply.key, "lost");
    cr_assert_eq(eepi_store_client_fd(client), -1);
    uint64_t late = eepi_store_watch(client, "late/");
    cr_assert_eq(wait_for(client, late).status, EEP_ERR_UNREACHABLE);
    server = fork_store();
    expect(client, EEPI_STORE_RECONNECTED, "", NULL);
    /* What an old revision named is not there: a new store's revisions are all higher. */
    cr_assert_eq(wait_for(client, eepi_store_cas(client, "old", revision, "y", 2)).status,
                 EEP_ERR_CONFLICT);
    cr_assert_gt(put(client, "new", "z"), revision);
    expect(client, EEPI_STORE_CHANGED, "new", "z");
    eepi_store_client_close(client);
    kill_child(server);
}

Test(store_faults, a_store_that_stops_in_order_is_survived_too)
{
    eep_store *store = open_store();
    eepi_store_client *client = open_client();
    for (int i = 0; i < 5; i++) {
        put(client, "k", "x");
        eep_store_close(store);
        expect(client, EEPI_STORE_DISCONNECTED, "", NULL);
        store = open_store();
        expect(client, EEPI_STORE_RECONNECTED, "", NULL);
    }
    eepi_store_client_close(client);
    eep_store_close(store);
}

Test(store_faults, a_client_waits_for_its_store)
{
    eepi_store_client *client = NULL;
    uint64_t start_us = eepi_now_us();
    cr_assert_eq(eepi_store_client_open(path, 50 * 1000, &client), EEP_ERR_UNREACHABLE);
    cr_assert_geq(eepi_now_us() - start_us, 50 * 1000);
    cr_assert_null(client);
    pid_t child = fork();
    if (child == 0) {
        bool served = eepi_store_client_open(path, BOUND_US, &client) == EEP_OK;
        eepi_store_client_close(client);
        _exit(served ? 0 : 1);
    }
    eep_store *store = open_store();
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    eep_store_close(store);
}

/* ---------------------------------------------------------------- paths */

static eep_status try_open(const char *where, char *error_out, size_t error_bytes)
{
    eep_store *store = NULL;
    eep_status status = eep_store_open(where, error_out, error_bytes, &store);
    cr_assert(status != EEP_OK || store);
    eep_store_close(store);
    return status;
}

Test(store_faults, a_living_store_is_not_replaced_a_stale_file_is)
{
    char error[256] = "";
    eep_store *store = open_store();
    cr_assert_eq(try_open(path, error, sizeof error), EEP_ERR_CONFLICT);
    cr_assert_not_null(strstr(error, path));
    eepi_store_client *client = open_client();
    put(client, "still", "there");
    eepi_store_client_close(client);
    eep_store_close(store);

    kill_child(fork_store());
    cr_assert_eq(access(path, F_OK), 0, "a killed store leaves its file");
    cr_assert_eq(try_open(path, NULL, 0), EEP_OK);
}

Test(store_faults, only_a_safe_path_is_served)
{
    char error[256] = "", longer[200];
    snprintf(longer, sizeof longer, "%s/%0120d", directory, 0);
    cr_assert_eq(try_open(longer, error, sizeof error), EEP_ERR_INVALID);
    cr_assert_eq(try_open("", NULL, 0), EEP_ERR_INVALID);
    cr_assert_eq(try_open("/nowhere/at/all", error, sizeof error), EEP_ERR_SYSTEM);
    cr_assert_eq(chmod(directory, 0755), 0);
    cr_assert_eq(try_open(path, error, sizeof error), EEP_ERR_INVALID);
    cr_assert_not_null(strstr(error, "0700"));
    cr_assert_not_null(strstr(error, "0755"));
    cr_assert_eq(chmod(directory, 0710), 0);
    cr_assert_eq(try_open(path, error, sizeof error), EEP_ERR_INVALID);
    cr_assert_eq(chmod(directory, 02700), 0); /* as a setgid folder hands it down */
    cr_assert_eq(try_open(path, error, sizeof error), EEP_OK, "%s", error);
    cr_assert_eq(chmod(directory, 0700), 0);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    cr_assert_geq(fd, 0);
    close(fd);
    cr_assert_eq(try_open(path, error, sizeof error), EEP_ERR_INVALID, "%s", error);
    cr_assert_eq(access(path, F_OK), 0, "a file that is no socket is left alone");
}

/* Root too: else whoever may write where its store is to be could serve it. */
Test(store_faults, a_client_does_not_trust_a_store_of_another_user)
{
    char theirs[108];
    int fd = -1;
    if (geteuid() != 0) {
        cr_skip_test("only root can become another user");
    }
    pid_t pid = foreign_listener(SOCK_STREAM, theirs);
    cr_expect_eq(eepi_store_socket_connect(theirs, &fd), EEP_ERR_STATE);
    foreign_end(pid, theirs);
}
