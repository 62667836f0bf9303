/* Bulk copies: right bytes, every way for a fetch to end, and survivors of killed and stopped
 * peers. Waits are on descriptors, with a bound that no healthy run comes near; a lost wake-up
 * therefore fails. */
#include "transport/bulk_internal.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    WAIT_MS = 30000,           /* longest wait for anything */
    FETCH_US = 3000000,        /* timeout of fetches that are to end earlier */
    ROUNDS = 20,               /* kills per test */
    SMALL_BYTES = 1200007,     /* expert 1: three pieces, none of them a multiple of a chunk */
    LARGE_BYTES = 32 * 1048576 /* expert 2: one piece, cannot be in flight all at once */
};

#if defined(__SANITIZE_ADDRESS__)
/* The worker of a closed copier lives on to the end of the process (bulk_parked.c). UCX keeps its
 * endpoints in memory of its own mapping, where a leak checker does not look for what they refer
 * to. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:ucs_calloc\nleak:ucs_malloc\n";
}
#endif

static unsigned char *small_blob, *large_blob;

static unsigned char pattern(uint64_t i)
{
    return (unsigned char)((i * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static void make_blobs(void)
{
    small_blob = malloc(SMALL_BYTES);
    large_blob = malloc(LARGE_BYTES);
    cr_assert(small_blob != NULL && large_blob != NULL);
    for (uint64_t i = 0; i < SMALL_BYTES; i++)
        small_blob[i] = pattern(i);
    for (uint64_t i = 0; i < LARGE_BYTES; i++)
        large_blob[i] = pattern(i + 12345);
}

static void free_blobs(void)
{
    free(small_blob);
    free(large_blob);
}

/* One bulk and what its `done` and `serve` were called with. */
typedef struct node {
    eepi_bulk *bulk;
    const void *address;
    size_t address_bytes;
    int served;
    int ended;
    uint64_t transfer;
    eep_status status;
} node;

static int serve(void *user, const eepi_blob *blob, eepi_bulk_part *parts_out)
{
    ((node *)user)->served++;
    if (blob->expert == 1) {
        parts_out[0] = (eepi_bulk_part){small_blob, 300001};
        parts_out[1] = (eepi_bulk_part){small_blob + 300001, 5};
        parts_out[2] = (eepi_bulk_part){small_blob + 300006, SMALL_BYTES - 300006};
        return 3;
    }
    if (blob->expert == 2) {
        parts_out[0] = (eepi_bulk_part){large_blob, LARGE_BYTES};
        return 1;
    }
    return blob->expert == 3 ? EEPI_BULK_PARTS + 1 : 0;
}

static void done(void *user, uint64_t transfer, eep_status status)
{
    node *of = user;
    of->ended++;
    of->transfer = transfer;
    of->status = status;
}

static int open_node(node *of)
{
    char error[256] = "";
    memset(of, 0, sizeof(*of));
    if (eepi_bulk_open(serve, NULL, done, of, error, sizeof(error), &of->bulk) != EEP_OK) {
        fprintf(stderr, "eepi_bulk_open: %s\n", error);
        return -1;
    }
    eepi_bulk_address(of->bulk, &of->address, &of->address_bytes);
    return 0;
}

static uint64_t fetch(node *by, const void *address, size_t address_bytes, uint64_t epoch,
                      int expert, void *buffer, size_t bytes, uint64_t timeout_us)
{
    eepi_blob blob = {.epoch = epoch, .layer = 0, .expert = expert};
    uint64_t transfer = 0;
    eep_status status = eepi_bulk_fetch(by->bulk, address, address_bytes, &blob, buffer, bytes,
                                        timeout_us, &transfer);
    return status == EEP_OK ? transfer : 0;
}

/* Progress one or two nodes (`b` may be NULL) until a has had `ended` ends; 0 if that came. */
static int run_until(node *a, node *b, int ended)
{
    uint64_t deadline_us = eepi_bulk_now_us() + WAIT_MS * 1000;
    while (a->ended < ended) {
        int work = eepi_bulk_progress(a->bulk);
        if (b != NULL)
            work |= eepi_bulk_progress(b->bulk);
        if (eepi_bulk_now_us() > deadline_us)
            return -1;
        struct pollfd fds[2] = {{.fd = eepi_bulk_fd(a->bulk), .events = POLLIN}, {.fd = -1}};
        if (b != NULL)
            fds[1] = (struct pollfd){.fd = eepi_bulk_fd(b->bulk), .events = POLLIN};
        if (!work && a->ended < ended && poll(fds, 2, WAIT_MS) == 0)
            return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- peers in processes */

/* A process made before this one opens UCX (its thread and sockets do not survive a fork), which
 * waits until it is told to begin. */
typedef struct peer {
    pid_t pid;
    int go_fd, report_fd;
    size_t address_bytes;
    unsigned char address[BULK_ADDRESS_MAX_BYTES];
} peer;

static size_t read_in_time(int fd, void *to, size_t capacity)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    if (poll(&poll_fd, 1, WAIT_MS) != 1)
        return 0;
    ssize_t bytes = read(fd, to, capacity);
    return bytes > 0 ? (size_t)bytes : 0;
}

static void serve_until_killed(int report_fd)
{
    node self;
    if (open_node(&self) != 0 ||
        write(report_fd, self.address, self.address_bytes) != (ssize_t)self.address_bytes)
        _exit(1);
    for (;;) {
        struct pollfd fd = {.fd = eepi_bulk_fd(self.bulk), .events = POLLIN};
        while (eepi_bulk_progress(self.bulk) != 0) {
        }
        poll(&fd, 1, -1);
    }
}

/* Fetch `expert` from that address and report whether the bytes are right. */
static void request_once(const unsigned char *address, size_t address_bytes, int expert,
                         int report_fd)
{
    node self;
    size_t bytes = expert == 1 ? SMALL_BYTES : LARGE_BYTES;
    unsigned char *buffer = malloc(bytes);
    if (buffer == NULL || open_node(&self) != 0 ||
        fetch(&self, address, address_bytes, 1, expert, buffer, bytes, FETCH_US) == 0 ||
        run_until(&self, NULL, 1) != 0 || self.status != EEP_OK ||
        memcmp(buffer, expert == 1 ? small_blob : large_blob, bytes) != 0)
        _exit(1);
    if (write(report_fd, "y", 1) != 1)
        _exit(1);
    pause();
    _exit(0);
}

/* Make a process that, once told, serves (`expert` 0) or fetches that expert. */
static peer make_peer(int expert)
{
    peer made = {0};
    int go[2], report[2];
    cr_assert_eq(pipe(go), 0);
    cr_assert_eq(pipe(report), 0);
    made.pid = fork();
    cr_assert_geq(made.pid, 0);
    if (made.pid == 0) {
        unsigned char address[BULK_ADDRESS_MAX_BYTES];
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(go[1]);
        close(report[0]);
        ssize_t bytes = read(go[0], address, sizeof(address));
        if (bytes <= 0)
            _exit(0);
        if (expert == 0)
            serve_until_killed(report[1]);
        request_once(address, (size_t)bytes, expert, report[1]);
    }
    close(go[0]);
    close(report[1]);
    made.go_fd = go[1];
    made.report_fd = report[0];
    return made;
}

static void begin_server(peer *server)
{
    cr_assert_eq(write(server->go_fd, "g", 1), 1);
    server->address_bytes =
        read_in_time(server->report_fd, server->address, sizeof(server->address));
    cr_assert_gt(server->address_bytes, 0, "the server did not start");
}

static void begin_requester(const peer *requester, const node *server)
{
    cr_assert_eq(write(requester->go_fd, server->address, server->address_bytes),
                 (ssize_t)server->address_bytes);
}

static void stop_peer(const peer *victim)
{
    int state = 0;
    cr_assert_eq(kill(victim->pid, SIGSTOP), 0);
    cr_assert_eq(waitpid(victim->pid, &state, WUNTRACED), victim->pid);
    cr_assert(WIFSTOPPED(state), "state %x", (unsigned)state);
}

static void kill_peer(const peer *victim)
{
    int state = 0;
    cr_assert_eq(kill(victim->pid, SIGKILL), 0);
    cr_assert_eq(waitpid(victim->pid, &state, 0), victim->pid);
    cr_assert(WIFSIGNALED(state) && WTERMSIG(state) == SIGKILL, "state %x", (unsigned)state);
    close(victim->go_fd);
    close(victim->report_fd);
}

static void fetch_small_from(node *by, const void *address, size_t address_bytes)
{
    unsigned char *buffer = calloc(1, SMALL_BYTES);
    int ended = by->ended;
    uint64_t transfer = fetch(by, address, address_bytes, 1, 1, buffer, SMALL_BYTES, FETCH_US);
    cr_assert_gt(transfer, 0);
    cr_assert_eq(run_until(by, NULL, ended + 1), 0);
    cr_assert_eq(by->status, EEP_OK, "%s", eep_strerror(by->status));
    cr_assert_eq(by->transfer, transfer);
    cr_assert_eq(memcmp(buffer, small_blob, SMALL_BYTES), 0);
    free(buffer);
}

/* ---------------------------------------------------------------- tests */

TestSuite(bulk, .init = make_blobs, .fini = free_blobs, .timeout = 60);

Test(bulk, fetches_the_right_bytes_in_three_parts)
{
    node self;
    peer server = make_peer(0);
    begin_server(&server);
    cr_assert_eq(open_node(&self), 0);
    for (int i = 0; i < 3; i++)
        fetch_small_from(&self, server.address, server.address_bytes);
    kill_peer(&server);
    eepi_bulk_close(self.bulk);
}

Test(bulk, fetches_many_at_once_both_ways)
{
    enum { FETCHES = 12 };
    node a, b;
    cr_assert_eq(open_node(&a), 0);
    cr_assert_eq(open_node(&b), 0);
    unsigned char *buffers = calloc(2 * FETCHES, SMALL_BYTES);
    for (int i = 0; i < FETCHES; i++) {
        unsigned char *to = buffers + (size_t)2 * i * SMALL_BYTES;
        cr_assert_gt(fetch(&a, b.address, b.address_bytes, 1, 1, to, SMALL_BYTES, FETCH_US), 0);
        to += SMALL_BYTES;
        cr_assert_gt(fetch(&b, a.address, a.address_bytes, 1, 1, to, SMALL_BYTES, FETCH_US), 0);
    }
    cr_assert_eq(run_until(&a, &b, FETCHES), 0);
    cr_assert_eq(run_until(&b, &a, FETCHES), 0);
    for (int i = 0; i < 2 * FETCHES; i++)
        cr_assert_eq(memcmp(buffers + (size_t)i * SMALL_BYTES, small_blob, SMALL_BYTES), 0);
    free(buffers);
    eepi_bulk_close(a.bulk);
    eepi_bulk_close(b.bulk);
}

Test(bulk, fetches_from_itself)
{
    node self;
    cr_assert_eq(open_node(&self), 0);
    fetch_small_from(&self, self.address, self.address_bytes);
    unsigned char buffer[16];
    cr_assert_gt(fetch(&self, self.address, self.address_bytes, 1, 9, buffer, 16, FETCH_US), 0);
    cr_assert_eq(self.ended, 1, "done comes from progress only");
    cr_assert_eq(run_until(&self, NULL, 2), 0);
    cr_assert_eq(self.status, EEP_ERR_NOT_FOUND);
    eepi_bulk_close(self.bulk);
}

Test(bulk, names_what_is_wrong_with_a_request)
{
    node self, server;
    cr_assert_eq(open_node(&self), 0);
    cr_assert_eq(open_node(&server), 0);
    static const struct {
        int expert;
        size_t bytes;
        eep_status status;
    } cases[] = {
        {9, 4096, EEP_ERR_NOT_FOUND},           /* no such blob */
        {3, 4096, EEP_ERR_NOT_FOUND},           /* more parts than there can be */
        {1, SMALL_BYTES - 1, EEP_ERR_PROTOCOL}, /* longer than asked for */
        {1, SMALL_BYTES + 1, EEP_ERR_PROTOCOL}, /* shorter */
    };
    unsigned char *buffer = malloc(SMALL_BYTES + 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_gt(fetch(&self, server.address, server.address_bytes, 1, cases[i].expert, buffer,
                           cases[i].bytes, FETCH_US),
                     0);
        cr_assert_eq(run_until(&self, &server, (int)i + 1), 0);
        cr_assert_eq(self.status, cases[i].status, "case %zu: %s", i, eep_strerror(self.status));
    }
    eepi_blob blob = {0};
    uint64_t transfer = 77;
    cr_assert_eq(eepi_bulk_fetch(self.bulk, server.address, server.address_bytes, &blob, buffer, 0,
                                 FETCH_US, &transfer),
                 EEP_ERR_INVALID);
    cr_assert_eq(eepi_bulk_fetch(self.bulk, server.address, BULK_ADDRESS_MAX_BYTES + 1, &blob,
                                 buffer, 1, FETCH_US, &transfer),
                 EEP_ERR_INVALID);
    cr_assert_eq(transfer, 77, "outputs are written only on success");
    free(buffer);
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
}

/* Progress both until the first byte of the large blob has landed in `buffer` (zeroed before). */
static void run_until_first_chunk(node *by, node *server, const unsigned char *buffer)
{
    uint64_t deadline_us = eepi_bulk_now_us() + WAIT_MS * 1000;
    while (buffer[0] != large_blob[0] || buffer[1] != large_blob[1]) {
        eepi_bulk_progress(by->bulk);
        if (server != NULL)
            eepi_bulk_progress(server->bulk);
        cr_assert_lt(eepi_bulk_now_us(), deadline_us);
    }
}

Test(bulk, cancel_before_lets_no_byte_land_afterwards)
{
    node self, server;
    cr_assert_eq(open_node(&self), 0);
    cr_assert_eq(open_node(&server), 0);
    unsigned char *large = calloc(1, LARGE_BYTES), *small = calloc(1, SMALL_BYTES);
    uint64_t old =
        fetch(&self, server.address, server.address_bytes, 6, 2, large, LARGE_BYTES, FETCH_US);
    cr_assert_gt(old, 0);
    run_until_first_chunk(&self, &server, large);
    eepi_bulk_cancel_before(self.bulk, 6);
    cr_assert_eq(self.ended, 0, "epoch 6 is not below 6");
    eepi_bulk_cancel_before(self.bulk, 7);
    cr_assert_eq(self.ended, 1);
    cr_assert_eq(self.transfer, old);
    cr_assert_eq(self.status, EEP_ERR_ABORTED);
    memset(large, 0xa5, LARGE_BYTES);
    /* A fetch of the new epoch comes after the old one's chunks on the same endpoint. */
    cr_assert_gt(
        fetch(&self, server.address, server.address_bytes, 7, 1, small, SMALL_BYTES, FETCH_US), 0);
    cr_assert_eq(run_until(&self, &server, 2), 0);
    cr_assert_eq(self.status, EEP_OK);
    cr_assert_eq(memcmp(small, small_blob, SMALL_BYTES), 0);
    for (size_t i = 0; i < LARGE_BYTES; i++)
        cr_assert(large[i] == 0xa5, "byte %zu landed after the cancel", i);
    free(large);
    free(small);
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
}

Test(bulk, close_ends_what_is_running)
{
    node self, server;
    cr_assert_eq(open_node(&self), 0);
    cr_assert_eq(open_node(&server), 0);
    unsigned char *large = calloc(1, LARGE_BYTES);
    cr_assert_gt(
        fetch(&self, server.address, server.address_bytes, 1, 2, large, LARGE_BYTES, FETCH_US), 0);
    run_until_first_chunk(&self, &server, large);
    eepi_bulk_close(self.bulk);
    cr_assert_eq(self.ended, 1);
    cr_assert_eq(self.status, EEP_ERR_ABORTED);
    node other;
    cr_assert_eq(open_node(&other), 0);
    cr_assert_gt(
        fetch(&other, server.address, server.address_bytes, 1, 2, large, LARGE_BYTES, FETCH_US), 0);
    cr_assert_eq(run_until(&other, &server, 1), 0);
    cr_assert_eq(other.status, EEP_OK);
    free(large);
    eepi_bulk_close(server.bulk);
    eepi_bulk_close(other.bulk);
}

/* Whoever has a copier's port after it does not answer for it. */
Test(bulk, an_address_of_before_is_refused)
{
    node self, server;
    unsigned char buffer[64];
    cr_assert_eq(open_node(&self), 0);
    cr_assert_eq(open_node(&server), 0);
    bulk_address before = *(const bulk_address *)server.address;
    before.mark++;
    cr_assert_gt(fetch(&self, &before, sizeof(before), 1, 1, buffer, sizeof(buffer), FETCH_US), 0);
    cr_assert_eq(run_until(&self, &server, 1), 0);
    cr_expect_eq(self.status, EEP_ERR_UNREACHABLE, "%s", eep_strerror(self.status));
    cr_expect_eq(server.served, 0);
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
}

/* A copier is closed while others of the same process have just begun to connect to it. Without
 * bulk_parked.c UCX 1.13 ends the process in nearly every run of this; with it in about one of
 * twenty on a busy machine, by other assertions about several workers in one process. So it is not
 * run (docs/STATUS.md, known limits). */
Test(bulk, closes_while_peers_begin_to_connect)
{
    enum { PEERS = 6, TRIES = 40 };
    if (!getenv("EEP_TEST_UCX"))
        cr_skip_test("UCX 1.13: see above; EEP_TEST_UCX=1 runs it");
    unsigned char *buffer = malloc(LARGE_BYTES);
    node peers[PEERS], server;
    cr_assert(buffer != NULL);
    for (int i = 0; i < PEERS; i++)
        cr_assert_eq(open_node(&peers[i]), 0);
    for (int try = 0; try < TRIES; try++) {
        cr_assert_eq(open_node(&server), 0);
        for (int i = 0; i < PEERS; i++)
            cr_assert_neq(fetch(&peers[i], server.address, server.address_bytes, 1, 2, buffer,
                                LARGE_BYTES, 50000),
                          0);
        for (int turn = 0; turn < 1 + try; turn++) {
            for (int i = 0; i < PEERS; i++)
                (void)eepi_bulk_progress(peers[i].bulk);
            (void)eepi_bulk_progress(server.bulk);
        }
        eepi_bulk_close(server.bulk);
        for (int i = 0; i < PEERS; i++)
            cr_assert_eq(run_until(&peers[i], NULL, try + 1), 0);
    }
    for (int i = 0; i < PEERS; i++)
        eepi_bulk_close(peers[i].bulk);
    free(buffer);
}

Test(bulk, survives_servers_killed_in_mid_transfer)
{
    node self;
    peer victims[ROUNDS], other = make_peer(0);
    for (int round = 0; round < ROUNDS; round++)
        victims[round] = make_peer(0);
    begin_server(&other);
    cr_assert_eq(open_node(&self), 0);
    unsigned char *large = malloc(LARGE_BYTES);
    for (int round = 0; round < ROUNDS; round++) {
        peer *victim = &victims[round];
        int ended = self.ended;
        begin_server(victim);
        memset(large, 0, 2);
        cr_assert_gt(fetch(&self, victim->address, victim->address_bytes, 1, 2, large, LARGE_BYTES,
                           FETCH_US),
                     0);
        /* Killed before the connection, between its messages, or while chunks come in. */
        if (round % 2 == 1)
            run_until_first_chunk(&self, NULL, large);
        for (int i = 0; i < round; i++)
            eepi_bulk_progress(self.bulk);
        cr_assert_eq(self.ended, ended, "round %d: ended before the kill", round);
        kill_peer(victim);
        cr_assert_eq(run_until(&self, NULL, ended + 1), 0, "round %d", round);
        cr_assert(self.status == EEP_ERR_UNREACHABLE || self.status == EEP_ERR_TIMEOUT,
                  "round %d: %s", round, eep_strerror(self.status));
        fetch_small_from(&self, other.address, other.address_bytes);
    }
    kill_peer(&other);
    free(large);
    eepi_bulk_close(self.bulk);
}

/* Progress a server until it was asked once more. */
static void run_until_served(node *server, int served)
{
    uint64_t deadline_us = eepi_bulk_now_us() + WAIT_MS * 1000;
    while (server->served < served) {
        eepi_bulk_progress(server->bulk);
        cr_assert_lt(eepi_bulk_now_us(), deadline_us);
    }
}

Test(bulk, survives_requesters_killed_in_mid_transfer)
{
    node self;
    peer victims[ROUNDS], others[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        victims[round] = make_peer(2);
        others[round] = make_peer(1);
    }
    cr_assert_eq(open_node(&self), 0);
    for (int round = 0; round < ROUNDS; round++) {
        begin_requester(&victims[round], &self);
        run_until_served(&self, self.served + 1);
        for (int i = 0; i < round; i++)
            eepi_bulk_progress(self.bulk);
        kill_peer(&victims[round]);
        uint64_t deadline_us = eepi_bulk_now_us() + WAIT_MS * 1000;
        begin_requester(&others[round], &self);
        struct pollfd fds[2] = {{.fd = eepi_bulk_fd(self.bulk), .events = POLLIN},
                                {.fd = others[round].report_fd, .events = POLLIN}};
        do {
            while (eepi_bulk_progress(self.bulk) != 0) {
            }
            cr_assert_lt(eepi_bulk_now_us(), deadline_us, "round %d", round);
        } while (poll(fds, 2, WAIT_MS) > 0 && fds[1].revents == 0);
        cr_assert_eq(fds[1].revents & POLLIN, POLLIN, "round %d: wrong bytes or none", round);
        kill_peer(&others[round]);
    }
    eepi_bulk_close(self.bulk);
}

/* Each is killed a little later after it was told to begin: before it connects, while it does, with
 * the server's answer to that under way, and after. Connected by worker addresses, UCX 1.13 ended
 * the server here (bulk_endpoint.c). */
Test(bulk, survives_requesters_killed_while_they_connect)
{
    enum { REQUESTERS = 60, STEP_US = 150 };
    peer victims[REQUESTERS];
    node server, self;
    for (int i = 0; i < REQUESTERS; i++)
        victims[i] = make_peer(2);
    cr_assert_eq(open_node(&server), 0);
    for (int i = 0; i < REQUESTERS; i++) {
        begin_requester(&victims[i], &server);
        uint64_t until_us = eepi_bulk_now_us() + (uint64_t)i * STEP_US;
        while (eepi_bulk_now_us() < until_us)
            (void)eepi_bulk_progress(server.bulk);
        kill_peer(&victims[i]);
        for (int turn = 0; turn < 200; turn++)
            (void)eepi_bulk_progress(server.bulk);
    }
    cr_assert_eq(open_node(&self), 0);
    unsigned char *buffer = calloc(1, SMALL_BYTES);
    cr_assert_gt(
        fetch(&self, server.address, server.address_bytes, 1, 1, buffer, SMALL_BYTES, FETCH_US), 0);
    cr_assert_eq(run_until(&self, &server, 1), 0);
    cr_expect_eq(self.status, EEP_OK, "%s", eep_strerror(self.status));
    free(buffer);
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
}

Test(bulk, a_stopped_server_times_out_and_may_be_killed_later)
{
    node self;
    peer other = make_peer(0), stopped = make_peer(0);
    begin_server(&other);
    begin_server(&stopped);
    cr_assert_eq(open_node(&self), 0);
    unsigned char *large = calloc(1, LARGE_BYTES);
    cr_assert_gt(
        fetch(&self, stopped.address, stopped.address_bytes, 1, 2, large, LARGE_BYTES, 200000), 0);
    run_until_first_chunk(&self, NULL, large);
    stop_peer(&stopped);
    cr_assert_eq(run_until(&self, NULL, 1), 0);
    cr_assert_eq(self.status, EEP_ERR_TIMEOUT, "%s", eep_strerror(self.status));
    fetch_small_from(&self, other.address, other.address_bytes);
    kill_peer(&stopped);
    eepi_bulk_forget(self.bulk, stopped.address, stopped.address_bytes);
    cr_assert_gt(
        fetch(&self, stopped.address, stopped.address_bytes, 1, 2, large, LARGE_BYTES, FETCH_US),
        0);
    cr_assert_eq(run_until(&self, NULL, 3), 0);
    cr_assert_eq(self.status, EEP_ERR_UNREACHABLE, "%s", eep_strerror(self.status));
    fetch_small_from(&self, other.address, other.address_bytes);
    kill_peer(&other);
    free(large);
    eepi_bulk_close(self.bulk);
}

Test(bulk, closes_in_bounded_time_beside_a_stopped_requester)
{
    node self;
    peer stopped = make_peer(2);
    cr_assert_eq(open_node(&self), 0);
    begin_requester(&stopped, &self);
    run_until_served(&self, 1);
    stop_peer(&stopped);
    for (int i = 0; i < 1000; i++)
        eepi_bulk_progress(self.bulk);
    uint64_t begin_us = eepi_bulk_now_us();
    eepi_bulk_close(self.bulk);
    cr_assert_lt(eepi_bulk_now_us() - begin_us, WAIT_MS * 1000u);
    kill_peer(&stopped);
}

/* ---------------------------------------------------------------- hostile messages */

typedef struct raw_worker {
    ucp_context_h context;
    ucp_worker_h worker;
    int listener; /* of nobody: what is asked of it is never answered */
    bulk_address address;
    ucp_ep_h ep;
} raw_worker;

/* UCX 1.13 crashes on a message without a handler. */
static ucs_status_t ignore_message(void *arg, const void *header, size_t header_bytes, void *data,
                                   size_t bytes, const ucp_am_recv_param_t *param)
{
    (void)arg, (void)header, (void)header_bytes, (void)data, (void)bytes, (void)param;
    return UCS_OK;
}

static void raw_open(raw_worker *raw, const node *to)
{
    ucp_config_t *config = NULL;
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES,
                           .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP};
    ucp_worker_params_t worker = {0};
    cr_assert_eq(ucp_config_read(NULL, NULL, &config), UCS_OK);
    cr_assert_eq(ucp_config_modify(config, "TLS", "tcp"), UCS_OK);
    cr_assert_eq(ucp_init(&params, config, &raw->context), UCS_OK);
    ucp_config_release(config);
    cr_assert_eq(ucp_worker_create(raw->context, &worker, &raw->worker), UCS_OK);
    socklen_t length = sizeof(raw->address.socket);
    raw->address = (bulk_address){
        .socket = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}}};
    raw->listener = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(raw->listener, (struct sockaddr *)&raw->address.socket, length), 0);
    cr_assert_eq(listen(raw->listener, 16), 0);
    cr_assert_eq(getsockname(raw->listener, (struct sockaddr *)&raw->address.socket, &length), 0);
    ucp_am_handler_param_t handler = {.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID |
                                                    UCP_AM_HANDLER_PARAM_FIELD_CB,
                                      .id = BULK_AM_ID,
                                      .cb = ignore_message};
    cr_assert_eq(ucp_worker_set_am_recv_handler(raw->worker, &handler), UCS_OK);
    const bulk_address *at = to->address;
    ucp_ep_params_t ep = {
        .field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR |
                      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE,
        .flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER,
        .sockaddr = {.addr = (const struct sockaddr *)&at->socket, .addrlen = sizeof(at->socket)},
        .err_mode = UCP_ERR_HANDLING_MODE_PEER};
    cr_assert_eq(ucp_ep_create(raw->worker, &ep, &raw->ep), UCS_OK);
}

/* Send one message and progress both sides until it is out. */
static void raw_send(raw_worker *raw, node *to, const void *header, size_t header_bytes,
                     const void *data, size_t bytes)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
                                 .flags = UCP_AM_SEND_FLAG_EAGER};
    ucs_status_ptr_t request =
        ucp_am_send_nbx(raw->ep, BULK_AM_ID, header, header_bytes, data, bytes, &param);
    cr_assert_not(UCS_PTR_IS_ERR(request));
    uint64_t deadline_us = eepi_bulk_now_us() + WAIT_MS * 1000;
    while (UCS_PTR_IS_PTR(request) && ucp_request_check_status(request) == UCS_INPROGRESS) {
        ucp_worker_progress(raw->worker);
        eepi_bulk_progress(to->bulk);
        cr_assert_lt(eepi_bulk_now_us(), deadline_us);
    }
    if (UCS_PTR_IS_PTR(request))
        ucp_request_free(request);
}

static void raw_close(raw_worker *raw)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
                                 .flags = UCP_EP_CLOSE_FLAG_FORCE};
    ucs_status_ptr_t request = ucp_ep_close_nbx(raw->ep, &param);
    while (UCS_PTR_IS_PTR(request) && ucp_request_check_status(request) == UCS_INPROGRESS)
        ucp_worker_progress(raw->worker);
    if (UCS_PTR_IS_PTR(request))
        ucp_request_free(request);
    close(raw->listener);
    ucp_worker_destroy(raw->worker);
    ucp_cleanup(raw->context);
}

Test(bulk, chunks_that_do_not_fit_never_touch_memory)
{
    enum { CHUNK = EEPI_BULK_CHUNK_BYTES, BYTES = CHUNK + 1000 };
    static const bulk_wire good = {
        .magic = BULK_MAGIC, .kind = BULK_CHUNK, .epoch = 5, .bytes = CHUNK, .total = BYTES};
    static const struct {
        uint64_t offset, bytes, total, payload;
    } bad[] = {
        {0, CHUNK, BYTES + 1, CHUNK},              /* another total */
        {CHUNK, CHUNK, BYTES, CHUNK},              /* past the end */
        {2 * CHUNK, 8, BYTES, 8},                  /* behind the end */
        {UINT64_MAX - CHUNK + 1, CHUNK, BYTES, 8}, /* wraps around */
        {8, CHUNK, BYTES, CHUNK},                  /* not on a boundary */
        {CHUNK, 1000, BYTES, 999},                 /* less payload than it says */
        {CHUNK, 999, BYTES, 1000},                 /* more */
    };
    node self;
    raw_worker raw;
    cr_assert_eq(open_node(&self), 0);
    raw_open(&raw, &self);
    unsigned char *payload = malloc(CHUNK);
    memset(payload, 0xee, CHUNK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        unsigned char *buffer = calloc(1, BYTES);
        bulk_wire wire = good;
        wire.transfer =
            fetch(&self, &raw.address, sizeof(raw.address), 5, 1, buffer, BYTES, FETCH_US);
        cr_assert_gt(wire.transfer, 0);
        bulk_wire stale = wire, foreign = wire;
        stale.epoch = 4;
        foreign.magic++;
        raw_send(&raw, &self, &stale, sizeof(stale), payload, CHUNK);
        raw_send(&raw, &self, &foreign, sizeof(foreign), payload, CHUNK);
        raw_send(&raw, &self, &wire, sizeof(wire) - 1, payload, CHUNK);
        wire.offset = bad[i].offset;
        wire.bytes = bad[i].bytes;
        wire.total = bad[i].total;
        raw_send(&raw, &self, &wire, sizeof(wire), payload, bad[i].payload);
        cr_assert_eq(run_until(&self, NULL, (int)i + 1), 0, "case %zu", i);
        cr_assert_eq(self.status, EEP_ERR_PROTOCOL, "case %zu", i);
        for (size_t at = 0; at < BYTES; at++)
            cr_assert(buffer[at] == 0, "case %zu wrote byte %zu", i, at);
        free(buffer);
    }
    unsigned char *buffer = calloc(1, BYTES);
    bulk_wire wire = good;
    wire.transfer = fetch(&self, &raw.address, sizeof(raw.address), 5, 1, buffer, BYTES, FETCH_US);
    raw_send(&raw, &self, &wire, sizeof(wire), payload, CHUNK);
    raw_send(&raw, &self, &wire, sizeof(wire), payload, CHUNK);
    cr_assert_eq(run_until(&self, NULL, self.ended + 1), 0);
    cr_assert_eq(self.status, EEP_ERR_PROTOCOL, "the same chunk twice");
    free(buffer);
    free(payload);
    raw_close(&raw);
    eepi_bulk_close(self.bulk);
}

Test(bulk, leaves_no_signal_handler_of_ucx)
{
    node self;
    cr_assert_eq(open_node(&self), 0);
    for (int number = 1; number < SIGRTMIN; number++) {
        struct sigaction action;
        Dl_info info;
        if (sigaction(number, NULL, &action) != 0 ||
            dladdr((void *)(uintptr_t)action.sa_handler, &info) == 0)
            continue;
        cr_assert_null(strstr(info.dli_fname, "libuc"), "signal %d: %s", number, info.dli_fname);
    }
    eepi_bulk_close(self.bulk);
}
