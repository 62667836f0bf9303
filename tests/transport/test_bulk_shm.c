/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk copies in shared memory: the holder's death and return, hostile peers, peers that stand
 * still, and what a copier leaves behind. */
#include "tests/lib/bulk_fixture.h"
#include "tests/lib/foreign.h"
#include "tests/lib/holder_player.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void set_up(void)
{
    make_blobs();
    use_carrier(EEP_BULK_SHM);
}

TestSuite(bulk_shm, .init = set_up, .fini = free_blobs, .timeout = 60);

/* ---------------------------------------------------------------- the holder's death */

Test(bulk_shm, transfers_go_on_while_the_holder_is_dead_and_new_ones_wait_for_it)
{
    node self;
    peer server = make_peer(0), other = make_peer(0);
    begin_server(&server);
    begin_server(&other);
    cr_assert_eq(open_node(&self), 0);
    unsigned char *large = calloc(1, LARGE_BYTES), *small = calloc(1, SMALL_BYTES);
    cr_assert_gt(
        fetch(&self, server.address, server.address_bytes, 1, 2, large, LARGE_BYTES, FETCH_US), 0);
    run_until_first_chunk(&self, NULL, large);
    kill_holder();
    cr_assert_eq(run_until(&self, NULL, 1), 0);
    cr_assert_eq(self.status, EEP_OK, "%s", eep_strerror(self.status));
    cr_assert_eq(memcmp(large, large_blob, LARGE_BYTES), 0);
    fetch_small_from(&self, server.address, server.address_bytes); /* it is connected */
    /* Nobody to be introduced by: bounded by the fetch's own time. */
    cr_assert_gt(fetch(&self, other.address, other.address_bytes, 1, 1, small, SMALL_BYTES, 200000),
                 0);
    cr_assert_eq(run_until(&self, NULL, 3), 0);
    cr_assert_eq(self.status, EEP_ERR_UNREACHABLE, "%s", eep_strerror(self.status));
    cr_assert_gt(
        fetch(&self, other.address, other.address_bytes, 1, 1, small, SMALL_BYTES, FETCH_US), 0);
    holder_pid = start_holder();
    cr_assert_eq(run_until(&self, NULL, 4), 0);
    cr_assert_eq(self.status, EEP_OK, "%s", eep_strerror(self.status));
    cr_assert_eq(memcmp(small, small_blob, SMALL_BYTES), 0);
    kill_peer(&server);
    kill_peer(&other);
    eepi_bulk_close(self.bulk);
    free(large);
    free(small);
}

Test(bulk_shm, ranks_come_back_to_each_new_holder)
{
    enum { DEATHS = 10 };
    node self, servers[DEATHS];
    cr_assert_eq(open_node(&self), 0);
    for (int i = 0; i < DEATHS; i++) {
        cr_assert_eq(open_node(&servers[i]), 0);
    }
    unsigned char *small = calloc(1, SMALL_BYTES);
    for (int i = 0; i < DEATHS; i++) { /* each fetch needs the new holder */
        kill_holder();
        holder_pid = start_holder();
        cr_assert_gt(fetch(&self, servers[i].address, servers[i].address_bytes, 1, 1, small,
                           SMALL_BYTES, FETCH_US),
                     0);
        cr_assert_eq(run_until(&self, &servers[i], i + 1), 0);
        cr_assert_eq(self.status, EEP_OK, "death %d: %s", i, eep_strerror(self.status));
        eepi_bulk_close(servers[i].bulk);
    }
    eepi_bulk_close(self.bulk);
    free(small);
}

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

Test(bulk_shm, open_without_a_holder_ends_and_says_what_to_do)
{
    char error[6000] = "";
    node of = {0};
    eepi_bulk_config config = {.carrier = EEP_BULK_AUTO,
                               .holder_path = "/tmp/eep-no-such-holder/h",
                               .serve = bulk_fixture_serve,
                               .done = bulk_fixture_done,
                               .user = &of};
    const double before_s = cpu_s();
    cr_assert_eq(eepi_bulk_open(&config, error, sizeof error, &of.bulk), EEP_ERR_UNREACHABLE);
    cr_expect_lt(cpu_s() - before_s, 0.5, "it looked again and again instead of sleeping");
    cr_expect(strstr(error, config.holder_path) && strstr(error, "--bulk ucx"), "%s", error);
    config.holder_path = NULL;
    cr_assert_eq(eepi_bulk_open(&config, error, sizeof error, &of.bulk), EEP_ERR_INVALID);
}

/* Be the holder for `us`, and on until `least` connections came and the last one was answered: take
 * every hello, and answer each request to hold memory with `status`. Returns how many came. */
static int be_holder(int listen_fd, node *of, int least, uint64_t us, eep_status status)
{
    const uint64_t begin_us = eepi_now_us();
    int fd = -1, num = 0;
    bool is_answered = false;
    while (eepi_now_us() < begin_us + us ||
           ((num < least || !is_answered) && eepi_now_us() < begin_us + FETCH_US)) {
        int next = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), passed = -1;
        bool lost = false;
        eepi_holder_message message;
        eepi_bulk_progress(of->bulk);
        if (next >= 0) {
            num++;
            close(fd);
            fd = next;
            is_answered = false;
        }
        if (fd < 0 ||
            eepi_holder_receive(fd, &message, sizeof message, &passed, &lost) != sizeof message) {
            continue;
        }
        eepi_holder_drop_fd(passed);
        is_answered |= message.kind == EEPI_HOLDER_HOLD;
        message.status = message.kind == EEPI_HOLDER_HOLD ? status : EEP_OK;
        message.kind = EEPI_HOLDER_ANSWER;
        (void)eepi_holder_send(fd, &message, sizeof message, -1);
    }
    close(fd);
    return num;
}

/* Such as one without descriptors left. It is not asked a thousand times a second, and somebody
 * hears of it, once. */
Test(bulk_shm, a_holder_that_refuses_memory_is_asked_ever_more_slowly)
{
    node self;
    cr_assert_eq(open_node(&self), 0);
    kill_holder();
    int listen_fd = listen_as_holder();
    int num = be_holder(listen_fd, &self, 2, 300000, EEP_ERR_SYSTEM);
    cr_expect(num >= 2 && num <= 9, "%d connections in 0.3 s", num); /* after 1, 2, 4 .. 200 ms */
    cr_expect_eq(self.notes, 1);
    cr_expect(strstr(self.note, bulk_fixture_holder_path()) && strstr(self.note, "RLIMIT_NOFILE"),
              "%s", self.note);
    cr_expect_eq(be_holder(listen_fd, &self, 1, 250000, EEP_OK), 1);
    cr_expect_eq(self.notes, 1);
    close(listen_fd);
    unlink(bulk_fixture_holder_path());
    listen_fd = listen_as_holder();          /* it is asked as soon as ever, and heard of again */
    const uint64_t begin_us = eepi_now_us(); /* 31 ms between six; 1 s, were it as slow as before */
    num = be_holder(listen_fd, &self, 6, 0, EEP_ERR_SYSTEM);
    cr_expect_geq(num, 6, "%d connections", num);
    cr_expect_lt(eepi_now_us() - begin_us, 900000);
    cr_expect_eq(self.notes, 2);
    eepi_bulk_close(self.bulk);
    close(listen_fd);
    holder_pid = start_holder();
}

/* ---------------------------------------------------------------- hostile peers */

static void send_to(int fd, const shm_wire *message)
{
    cr_assert_eq(eepi_holder_send(fd, message, sizeof *message, -1), 0);
}

static void progress_some(node *of)
{
    for (int i = 0; i < 50; i++) {
        eepi_bulk_progress(of->bulk);
    }
}

Test(bulk_shm, chunks_that_do_not_fit_never_touch_memory)
{
    enum { CHUNK = SHM_SLOT_BYTES, BYTES = CHUNK + 1000 };
    static const struct {
        uint64_t offset, bytes, total, later;
        uint32_t slot;
    } bad[] = {
        {0, CHUNK, BYTES + 1, 0, 0},              /* another total */
        {CHUNK, CHUNK, BYTES, 0, 0},              /* past the end */
        {(uint64_t)2 * CHUNK, 8, BYTES, 0, 0},    /* behind the end */
        {UINT64_MAX - CHUNK + 1, 8, BYTES, 0, 0}, /* wraps around */
        {8, CHUNK, BYTES, 0, 0},                  /* not on a boundary */
        {CHUNK, 999, BYTES, 0, 0},                /* too few */
        {0, CHUNK, BYTES, 0, SHM_SLOTS},          /* no such slot */
        {0, CHUNK, BYTES, 2, 0},                  /* not what is in the slot */
        {0, CHUNK, BYTES, 0, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        node self;
        unsigned char *region = NULL, *buffer = calloc(1, BYTES);
        player raw = player_open(bulk_fixture_holder_path());
        shm_address address = player_be_copier(&raw, &region);
        cr_assert_eq(open_node(&self), 0);
        memset(region + SHM_HEADER_BYTES, 0xee, CHUNK);
        eepi_bulk_part part = {large_blob, CHUNK};
        uint64_t sequence = eepi_shm_slot_write(region, 0, &part, 1, 0, CHUNK, true);
        shm_wire message = {.wire = {.magic = BULK_MAGIC, .kind = BULK_CHUNK, .epoch = 5}};
        message.wire.transfer =
            fetch(&self, &address, sizeof address, 5, 1, buffer, BYTES, FETCH_US);
        int fd = player_called(&raw, self.bulk);
        shm_wire stale = message;
        stale.wire.epoch = 4;
        stale.wire.bytes = CHUNK;
        stale.wire.total = BYTES;
        stale.sequence = sequence;
        send_to(fd, &stale);
        message.wire.offset = bad[i].offset;
        message.wire.bytes = bad[i].bytes;
        message.wire.total = bad[i].total;
        message.slot = bad[i].slot;
        message.sequence = sequence + bad[i].later;
        send_to(fd, &message);
        cr_assert_eq(run_until(&self, NULL, 1), 0, "case %zu", i);
        cr_assert_eq(self.status, bad[i].later ? EEP_ERR_UNREACHABLE : EEP_ERR_PROTOCOL,
                     "case %zu: %s", i, eep_strerror(self.status));
        for (size_t at = 0; at < BYTES && bad[i].later == 0; at++) {
            cr_assert(buffer[at] == 0, "case %zu wrote byte %zu", i, at);
        }
        eepi_bulk_close(self.bulk);
        free(buffer);
    }
}

/* Rule R1: only who was asked answers. The epoch and the number of a transfer can be guessed. */
Test(bulk_shm, chunks_and_ends_of_others_are_dropped)
{
    enum { BYTES = 1000 };
    node self;
    unsigned char *regions[2], buffer[2][BYTES] = {{0}};
    player asked = player_open(bulk_fixture_holder_path());
    player other = player_open(bulk_fixture_holder_path());
    shm_address address = player_be_copier(&asked, &regions[0]);
    shm_address others = player_be_copier(&other, &regions[1]);
    cr_assert_eq(open_node(&self), 0);
    shm_wire message = {
        .wire = {
            .magic = BULK_MAGIC, .kind = BULK_CHUNK, .epoch = 5, .bytes = BYTES, .total = BYTES}};
    uint64_t second = fetch(&self, &others, sizeof others, 5, 1, buffer[1], BYTES, FETCH_US);
    message.wire.transfer =
        fetch(&self, &address, sizeof address, 5, 1, buffer[0], BYTES, FETCH_US);
    cr_assert(second != 0 && message.wire.transfer != 0);
    int others_fd = player_called(&other, self.bulk);
    int fd = player_called(&asked, self.bulk);
    int calling = player_call(&other, (const shm_address *)self.address);
    eepi_bulk_part part = {large_blob, BYTES};
    message.sequence = eepi_shm_slot_write(regions[1], 0, &part, 1, 0, BYTES, true);
    send_to(others_fd, &message); /* asked for something else */
    send_to(calling, &message);   /* asked for nothing at all */
    shm_wire end = message;
    end.wire.kind = BULK_END;
    end.wire.status = EEP_ERR_NOT_FOUND;
    send_to(others_fd, &end);
    progress_some(&self);
    cr_assert_eq(self.ended, 0, "%s", eep_strerror(self.status));
    for (size_t at = 0; at < BYTES; at++) {
        cr_assert(buffer[0][at] == 0 && buffer[1][at] == 0, "byte %zu was written", at);
    }
    message.sequence = eepi_shm_slot_write(regions[0], 0, &part, 1, 0, BYTES, true);
    send_to(fd, &message);
    cr_assert_eq(run_until(&self, NULL, 1), 0);
    cr_assert_eq(self.status, EEP_OK, "%s", eep_strerror(self.status));
    cr_assert_eq(memcmp(buffer[0], large_blob, BYTES), 0);
    eepi_bulk_close(self.bulk);
}

Test(bulk_shm, garbage_on_a_connection_ends_that_connection_only)
{
    unsigned char garbage[300];
    unsigned seed = 3;
    node self, server;
    unsigned char *small = calloc(1, SMALL_BYTES);
    cr_assert_eq(open_node(&self), 0);
    cr_assert_eq(open_node(&server), 0);
    player raw = player_open(bulk_fixture_holder_path());
    for (int round = 0; round < 100; round++) {
        eepi_holder_message request = player_message(&raw, EEPI_HOLDER_CONNECT);
        memcpy(request.identity, ((const shm_address *)server.address)->identity,
               sizeof request.identity);
        int fd = -1;
        cr_assert_eq(player_ask(&raw, &request, -1, &fd).status, EEP_OK);
        progress_some(&server);
        foreign_allow_fds(); /* as with an older kernel */
        for (size_t i = 0; i < sizeof garbage; i++) {
            garbage[i] = (unsigned char)rand_r(&seed);
        }
        shm_wire wild = {.wire = {.magic = BULK_MAGIC, .kind = (uint32_t)round % 7}};
        if (round % 2 == 0) { /* a message in form, with anything in it */
            memcpy(garbage, &wild.wire, 2 * sizeof(uint32_t));
            cr_assert_eq(eepi_holder_send(fd, garbage, sizeof(shm_wire), -1), 0);
        } else {
            cr_assert_eq(eepi_holder_send(fd, garbage, 1 + (size_t)round, raw.fd), 0);
        }
        progress_some(&server);
        close(fd);
    }
    cr_assert_gt(
        fetch(&self, server.address, server.address_bytes, 1, 1, small, SMALL_BYTES, FETCH_US), 0);
    cr_assert_eq(run_until(&self, &server, 1), 0);
    cr_assert_eq(self.status, EEP_OK, "%s", eep_strerror(self.status));
    cr_assert_eq(memcmp(small, small_blob, SMALL_BYTES), 0);
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
    free(small);
}

/* The message itself is one that is served: what ends the connection is what comes with it. */
Test(bulk_shm, descriptors_end_the_connection_and_are_closed)
{
    const int fds[] = {0, 1};
    node server;
    cr_assert_eq(open_node(&server), 0);
    player raw = player_open(bulk_fixture_holder_path());
    int before = 0;
    for (int round = 0; round < 60; round++) {
        eepi_holder_message request = player_message(&raw, EEPI_HOLDER_CONNECT);
        shm_wire cancel = {.wire = {.magic = BULK_MAGIC, .kind = BULK_CANCEL, .transfer = 77}};
        struct pollfd end = {.events = POLLIN};
        memcpy(request.identity, ((const shm_address *)server.address)->identity,
               sizeof request.identity);
        cr_assert_eq(player_ask(&raw, &request, -1, &end.fd).status, EEP_OK);
        progress_some(&server);
        int refused = foreign_send(end.fd, &cancel, sizeof cancel, fds, 1);
        cr_assert(refused == EPERM || refused == 0, "%d", refused); /* by a newer kernel */
        foreign_allow_fds();
        if (refused != 0) {
            cr_assert_eq(foreign_send(end.fd, &cancel, round % 3 == 0 ? 0 : sizeof cancel, fds,
                                      1 + round % 2),
                         0);
        }
        for (int i = 0; i < 1000 && poll(&end, 1, 1) == 0; i++) {
            eepi_bulk_progress(server.bulk);
        }
        cr_expect(end.revents & POLLHUP, "round %d: the connection goes on", round);
        close(end.fd);
        if (round == 0) {
            before = foreign_count_fds(getpid());
        }
    }
    cr_expect_leq(foreign_count_fds(getpid()), before, "they are kept");
    eepi_bulk_close(server.bulk);
}

/* A holder that lets a rank in and then answers nothing is no success. */
Test(bulk_shm, each_reason_why_a_holder_took_nothing_has_words)
{
    cr_expect(strstr(eepi_shm_refusal(EEP_OK), "has not answered since"), "%s",
              eepi_shm_refusal(EEP_OK));
    for (int why = 1; why < 64; why++) {
        cr_expect_str_neq(eepi_shm_refusal((eep_status)why), eep_strerror(EEP_OK), "%d", why);
    }
}

/* ---------------------------------------------------------------- slots */

static bool read_slot(const unsigned char *region, int slot, uint64_t sequence, void *to,
                      size_t bytes)
{
    const void *data = eepi_shm_slot_begin(region, slot, sequence);
    if (data != NULL) {
        memcpy(to, data, bytes);
    }
    return data != NULL && eepi_shm_slot_end(region, slot, sequence);
}

Test(bulk_shm, a_slot_that_was_written_over_is_no_chunk)
{
    unsigned char *region = NULL, to[64] = {0};
    int fd = make_region(&region);
    const unsigned char *read_only = NULL;
    cr_assert_eq(eepi_shm_region_open(fd, &read_only), EEP_OK);
    const eepi_bulk_part parts[] = {{small_blob, 10}, {small_blob + 10, 100}};
    uint64_t first = eepi_shm_slot_write(region, 3, parts, 2, 5, 60, false);
    cr_assert(read_slot(read_only, 3, first, to, 60));
    cr_assert_eq(memcmp(to, small_blob + 5, 60), 0);
    uint64_t second = eepi_shm_slot_write(region, 3, parts, 2, 0, 60, true);
    cr_assert(!read_slot(read_only, 3, first, to, 60));
    cr_assert(read_slot(read_only, 3, second, to, 60));
    cr_assert_eq(memcmp(to, small_blob, 60), 0);
}

static struct {
    unsigned char *region, *half;
    eepi_bulk_part next;
} meeting;

/* The reader has come to the second half of its buffer: another chunk takes the slot. */
static void write_over(int number)
{
    (void)number;
    (void)eepi_shm_slot_write(meeting.region, 0, &meeting.next, 1, 0, meeting.next.bytes, true);
    if (mprotect(meeting.half, SHM_SLOT_BYTES / 2, PROT_READ | PROT_WRITE) != 0) {
        _exit(3);
    }
}

/* A slot is taken back from a requester that stands still, which may be in the middle of its
 * copy: what it has then is parts of two chunks. */
Test(bulk_shm, a_slot_that_is_written_over_while_it_is_read_is_no_chunk)
{
    struct sigaction handler = {.sa_handler = write_over}, before;
    const unsigned char *read_only = NULL;
    const eepi_bulk_part first = {large_blob, SHM_SLOT_BYTES};
    int fd = make_region(&meeting.region);
    cr_assert_eq(eepi_shm_region_open(fd, &read_only), EEP_OK);
    unsigned char *to =
        mmap(NULL, SHM_SLOT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(to, MAP_FAILED);
    meeting.half = to + SHM_SLOT_BYTES / 2;
    meeting.next = (eepi_bulk_part){large_blob + SHM_SLOT_BYTES, SHM_SLOT_BYTES};
    cr_assert_eq(mprotect(meeting.half, SHM_SLOT_BYTES / 2, PROT_NONE), 0);
    uint64_t sequence = eepi_shm_slot_write(meeting.region, 0, &first, 1, 0, SHM_SLOT_BYTES, true);
    cr_assert_eq(sigaction(SIGSEGV, &handler, &before), 0);
    bool is_whole = read_slot(read_only, 0, sequence, to, SHM_SLOT_BYTES);
    cr_assert_eq(sigaction(SIGSEGV, &before, NULL), 0);
    cr_assert_neq(memcmp(to, large_blob, SHM_SLOT_BYTES), 0, "they did not meet");
    cr_assert(!is_whole);
    cr_assert_neq(memcmp(to, meeting.next.data, SHM_SLOT_BYTES), 0, "they did not meet");
}

/* Requesters that take all slots and stand still do not keep others from theirs. */
Test(bulk_shm, stopped_requesters_do_not_hold_the_slots)
{
    enum { STOPPED = SHM_SLOTS / SHM_CHUNKS_IN_FLIGHT + 1 };
    node self, server;
    peer stopped[STOPPED];
    for (int i = 0; i < STOPPED; i++) {
        stopped[i] = make_peer(2);
    }
    cr_assert_eq(open_node(&server), 0);
    for (int i = 0; i < STOPPED; i++) {
        begin_requester(&stopped[i], &server);
        run_until_served(&server, i + 1);
        stop_peer(&stopped[i]);
        progress_some(&server);
    }
    cr_assert_eq(open_node(&self), 0);
    unsigned char *small = calloc(1, SMALL_BYTES);
    cr_assert_gt(
        fetch(&self, server.address, server.address_bytes, 1, 1, small, SMALL_BYTES, FETCH_US), 0);
    cr_assert_eq(run_until(&self, &server, 1), 0);
    cr_assert_eq(self.status, EEP_OK, "%s", eep_strerror(self.status));
    cr_assert_eq(memcmp(small, small_blob, SMALL_BYTES), 0);
    for (int i = 0; i < STOPPED; i++) {
        kill_peer(&stopped[i]);
    }
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
    free(small);
}

/* ---------------------------------------------------------------- descriptors */

Test(bulk_shm, two_thousand_copiers_leave_no_descriptor)
{
    int before = open_descriptors();
    for (int round = 0; round < 2000; round++) {
        node of;
        cr_assert_eq(open_node(&of), 0, "round %d", round);
        eepi_bulk_close(of.bulk);
    }
    cr_assert_eq(open_descriptors(), before);
}

Test(bulk_shm, names_the_limit_when_descriptors_run_out)
{
    char error[512] = "";
    struct rlimit limit;
    int failed = 0, before = open_descriptors();
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int extra = 0; extra < 5; extra++) {
        limit.rlim_cur = (rlim_t)(before - 3 + extra); /* less . .. and its own */
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        node of = {0};
        eepi_bulk_config config = {.carrier = EEP_BULK_SHM,
                                   .holder_path = bulk_fixture_holder_path(),
                                   .serve = bulk_fixture_serve,
                                   .done = bulk_fixture_done,
                                   .user = &of};
        eep_status status = eepi_bulk_open(&config, error, sizeof error, &of.bulk);
        if (status == EEP_OK) {
            eepi_bulk_close(of.bulk);
            continue;
        }
        failed++;
        cr_assert(strstr(error, "RLIMIT_NOFILE") != NULL, "%d more: %s", extra, error);
        cr_assert_eq(status, EEP_ERR_SYSTEM, "%d more: %s", extra, error);
    }
    cr_assert_gt(failed, 1, "no limit was low enough");
}

/* What a forked child has copies of ends when its parent closes it. */
Test(bulk_shm, a_forked_child_keeps_no_connection_alive)
{
    node self, server;
    unsigned char *large = calloc(1, LARGE_BYTES);
    cr_assert_eq(open_node(&self), 0);
    cr_assert_eq(open_node(&server), 0);
    cr_assert_gt(
        fetch(&self, server.address, server.address_bytes, 1, 2, large, LARGE_BYTES, FETCH_US), 0);
    run_until_first_chunk(&self, &server, large);
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        for (;;) {
            pause();
        }
    }
    eepi_bulk_close(server.bulk);
    uint64_t begin_us = eepi_now_us();
    cr_assert_eq(run_until(&self, NULL, 1), 0);
    cr_assert_eq(self.status, EEP_ERR_UNREACHABLE, "%s", eep_strerror(self.status));
    cr_assert_lt(eepi_now_us() - begin_us, FETCH_US / 2);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    eepi_bulk_close(self.bulk);
    free(large);
}
