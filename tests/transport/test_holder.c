/* SPDX-License-Identifier: Apache-2.0 */
/* The holder: what is held is sealed, and no client, whatever it sends or fails to read, disturbs
 * the others. */
#include "tests/lib/bulk_fixture.h"
#include "tests/lib/foreign.h"
#include "tests/lib/holder_player.h"
#include "graphs/base/own_user.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *path;

static void set_up(void)
{
    make_blobs();
    use_carrier(EEP_BULK_SHM);
    path = bulk_fixture_holder_path();
}

TestSuite(holder, .init = set_up, .fini = free_blobs, .timeout = 60);

static eepi_holder_message look_up(player *by, const char *name, int *fd_out)
{
    eepi_holder_message request = player_message(by, EEPI_HOLDER_LOOK_UP);
    snprintf(request.name, sizeof request.name, "%s", name);
    return player_ask(by, &request, -1, fd_out);
}

static void expect_hung_up(const player *of)
{
    eepi_holder_message message;
    int left = 1000;
    while (left-- > 0 && player_receive(of, &message, NULL)) {
    }
    cr_assert_gt(left, 0, "the holder does not hang up");
}

/* Rule: what peers can map is not theirs to write (must 7). */
Test(holder, what_is_looked_up_can_be_read_only)
{
    unsigned char *region = NULL;
    char again[64];
    int fd = make_region(&region), theirs = -1;
    player owner = player_open(path), other = player_open(path);
    cr_assert_eq(player_hold(&owner, "a", fd, SHM_REGION_BYTES), EEP_OK);
    eepi_holder_message answer = look_up(&other, "a", &theirs);
    cr_assert_eq(answer.status, EEP_OK);
    cr_assert_eq(answer.bytes, SHM_REGION_BYTES);
    cr_assert_eq(memcmp(answer.identity, owner.identity, sizeof answer.identity), 0);
    region[SHM_HEADER_BYTES] = 77; /* the owner writes on */
    const unsigned char *read_only = NULL;
    cr_assert_eq(eepi_shm_region_open(theirs, &read_only), EEP_OK);
    cr_assert_eq(read_only[SHM_HEADER_BYTES], 77);
    cr_expect_eq(mprotect((void *)(uintptr_t)read_only, SHM_REGION_BYTES, PROT_READ | PROT_WRITE),
                 -1);
    snprintf(again, sizeof again, "/proc/self/fd/%d", theirs);
    int reopened = open(again, O_RDWR | O_CLOEXEC);
    const int fds[] = {theirs, reopened};
    for (int i = 0; i < 2; i++) {
        cr_expect_eq(mmap(NULL, SHM_REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0),
                     MAP_FAILED, "mapping %d", i);
        cr_expect_eq(pwrite(fds[i], "x", 1, 0), -1, "writing %d", i);
        cr_expect_eq(ftruncate(fds[i], 4096), -1, "shrinking %d", i);
        cr_expect_eq(fcntl(fds[i], F_ADD_SEALS, F_SEAL_WRITE), -1, "sealing %d", i);
    }
}

Test(holder, takes_sealed_memory_only)
{
    static const int lacking[] = {0, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,
                                  F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SEAL};
    player owner = player_open(path);
    int ends[2];
    for (size_t i = 0; i < sizeof lacking / sizeof lacking[0]; i++) {
        int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        cr_assert_eq(ftruncate(fd, 4096), 0);
        cr_assert_eq(fcntl(fd, F_ADD_SEALS, lacking[i]), 0);
        cr_expect_eq(player_hold(&owner, "a", fd, 4096), EEP_ERR_INVALID, "case %zu", i);
        close(fd);
    }
    cr_assert_eq(pipe(ends), 0);
    cr_expect_eq(player_hold(&owner, "a", ends[0], 4096), EEP_ERR_INVALID);
    cr_expect_eq(player_hold(&owner, "a", -1, 4096), EEP_ERR_INVALID);
    unsigned char *region = NULL;
    int fd = make_region(&region);
    cr_expect_eq(player_hold(&owner, "a", fd, 4096), EEP_ERR_INVALID, "another size");
    cr_expect_eq(player_hold(&owner, "", fd, SHM_REGION_BYTES), EEP_ERR_INVALID);
    cr_expect_eq(player_hold(&owner, "a", fd, SHM_REGION_BYTES), EEP_OK);
    cr_expect_eq(player_hold(&owner, "a", fd, SHM_REGION_BYTES), EEP_ERR_CONFLICT);
}

Test(holder, a_name_is_its_clients_and_ends_with_it)
{
    unsigned char *region = NULL;
    int fd = make_region(&region);
    player owner = player_open(path), other = player_open(path);
    cr_assert_eq(player_hold(&owner, "a", fd, SHM_REGION_BYTES), EEP_OK);
    cr_expect_eq(player_hold(&other, "a", fd, SHM_REGION_BYTES), EEP_ERR_CONFLICT);
    eepi_holder_message release = player_message(&other, EEPI_HOLDER_RELEASE);
    strcpy(release.name, "a");
    cr_expect_eq(player_ask(&other, &release, -1, NULL).status, EEP_ERR_NOT_FOUND);
    close(owner.fd);
    int tries = 0;
    while (look_up(&other, "a", NULL).status != EEP_ERR_NOT_FOUND && tries++ < 10000) {
        poll(NULL, 0, 1);
    }
    cr_assert_lt(tries, 10000, "memory of a client that is gone is still held");
    cr_expect_eq(player_hold(&other, "a", fd, SHM_REGION_BYTES), EEP_OK);
    release = player_message(&other, EEPI_HOLDER_RELEASE);
    strcpy(release.name, "a");
    cr_expect_eq(player_ask(&other, &release, -1, NULL).status, EEP_OK);
    cr_expect_eq(look_up(&other, "a", NULL).status, EEP_ERR_NOT_FOUND);
}

Test(holder, another_version_is_told_so)
{
    player of = player_dial(path);
    eepi_holder_message hello = player_message(&of, EEPI_HOLDER_HELLO);
    hello.version = EEPI_HOLDER_VERSION + 1;
    eepi_holder_message answer = player_ask(&of, &hello, -1, NULL);
    cr_expect_eq(answer.status, EEP_ERR_UNSUPPORTED);
    cr_expect_eq(answer.version, EEPI_HOLDER_VERSION);
    expect_hung_up(&of);
    player twice = player_open(path), again = player_dial(path);
    hello = player_message(&again, EEPI_HOLDER_HELLO);
    memcpy(hello.identity, twice.identity, sizeof hello.identity);
    cr_expect_eq(player_ask(&again, &hello, -1, NULL).status, EEP_ERR_CONFLICT);
}

Test(holder, garbage_ends_its_own_connection_only)
{
    enum { BYTES = 5000 };
    unsigned char garbage[BYTES];
    unsigned seed = 7;
    player good = player_open(path);
    for (int round = 0; round < 300; round++) {
        player bad = round % 2 == 0 ? player_dial(path) : player_open(path);
        size_t bytes =
            round % 3 == 0 ? sizeof(eepi_holder_message) : 1 + (size_t)rand_r(&seed) % (BYTES - 1);
        for (size_t i = 0; i < bytes; i++) {
            garbage[i] = (unsigned char)rand_r(&seed);
        }
        if (round % 5 == 0) { /* a good beginning */
            eepi_holder_message message = player_message(&bad, (eepi_holder_kind)(round % 11));
            memset(message.name, 'x', sizeof message.name);
            memcpy(garbage, &message, sizeof message);
        }
        cr_assert_eq(eepi_holder_send(bad.fd, garbage, bytes, good.fd), 0);
        expect_hung_up(&bad);
        close(bad.fd);
    }
    cr_assert_eq(look_up(&good, "a", NULL).status, EEP_ERR_NOT_FOUND);
}

/* The holder's process keeps none of them, whatever they come with. */
Test(holder, descriptors_that_nobody_asked_for_are_closed)
{
    const int fds[] = {0, 1, 2};
    player good = player_open(path);
    int before = foreign_count_fds(holder_pid);
    for (int round = 0; round < 60; round++) {
        player bad = round % 2 == 0 ? player_open(path) : player_dial(path);
        eepi_holder_message message = player_message(&bad, round % 2 == 1   ? EEPI_HOLDER_HELLO
                                                           : round % 4 == 0 ? EEPI_HOLDER_LOOK_UP
                                                                            : EEPI_HOLDER_HOLD);
        message.identity[0] = (uint8_t)round;
        strcpy(message.name, "a");
        bool is_empty = round % 5 == 4;
        int num = is_empty ? 1 : message.kind == EEPI_HOLDER_HOLD ? 2 + round % 2 : 1 + round % 3;
        cr_assert_eq(foreign_send(bad.fd, &message, is_empty ? 0 : sizeof message, fds, num), 0);
        expect_hung_up(&bad);
        close(bad.fd);
    }
    cr_expect_eq(look_up(&good, "a", NULL).status, EEP_ERR_NOT_FOUND);
    cr_expect_leq(foreign_count_fds(holder_pid), before, "they are kept");
}

/* A close that waits for what a socket has not sent would stop the holder, or a rank. */
Test(holder, a_passed_socket_that_lingers_makes_nobody_wait)
{
    enum { LINGER_S = 4 };
    int ends[2], fds[3], passed = -1;
    bool lost = false;
    eepi_holder_message message = {.magic = EEPI_HOLDER_MAGIC};
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    for (int num = 1; num <= 3; num++) {
        for (int i = 0; i < num; i++) {
            fds[i] = foreign_lingering(LINGER_S);
        }
        cr_assert_eq(foreign_send(ends[0], &message, sizeof message, fds, num), 0);
        for (int i = 0; i < num; i++) {
            close(fds[i]); /* it is in the message still */
        }
        uint64_t begin_us = eepi_now_us();
        ssize_t bytes = eepi_holder_receive(ends[1], &message, sizeof message, &passed, &lost);
        cr_expect_eq(bytes, (ssize_t)sizeof message + (num > 1));
        cr_expect_eq(passed >= 0, num == 1);
        eepi_holder_drop_fd(passed);
        cr_expect_lt(eepi_now_us() - begin_us, LINGER_S * 500000u, "%d descriptors", num);
    }
    close(ends[0]);
    close(ends[1]);
}

Test(holder, a_client_does_not_trust_a_holder_of_another_user)
{
    char theirs[108];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (geteuid() != 0) {
        cr_skip_test("only root can become another user");
    }
    pid_t pid = foreign_listener(SOCK_SEQPACKET, theirs);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path, theirs, strlen(theirs) + 1);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_expect(!eepi_holder_is_trusted(fd));
    close(fd);
    foreign_end(pid, theirs);
}

/* There another user has the number of this one, which stands for all who are not mapped. */
Test(holder, nobody_is_trusted_by_the_number_of_all_who_are_not_mapped)
{
    static const char map[] = "65534 0 1";
    int ends[2], status = 0;
    if (geteuid() != 0) {
        cr_skip_test("only root can become another user");
    }
    pid_t child = fork();
    if (child == 0) {
        int made = seteuid(1) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0 &&
                   seteuid(0) == 0 && unshare(CLONE_NEWUSER) == 0;
        int fd = made ? open("/proc/self/uid_map", O_WRONLY) : -1;
        if (fd < 0 || write(fd, map, sizeof map - 1) < 0 || geteuid() != 65534) {
            _exit(2);
        }
        _exit(eepi_holder_is_trusted(ends[0]) || eepi_user_is_own(65534) || eepi_user_is_own(1));
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status));
    if (WEXITSTATUS(status) == 2) {
        cr_skip_test("no user namespace can be made here");
    }
    cr_expect_eq(WEXITSTATUS(status), 0);
    cr_expect(eepi_user_is_trusted(0) && eepi_user_is_own(0));
    cr_expect(!eepi_user_is_anybody(0) && !eepi_user_is_trusted(1));
}

Test(holder, who_does_not_read_is_let_go)
{
    player good = player_open(path), slow = player_open(path);
    eepi_holder_message request = player_message(&slow, EEPI_HOLDER_LOOK_UP);
    strcpy(request.name, "a");
    int sent = 0;
    for (int i = 0; i < 100000; i++) { /* what it has asked is never read */
        if (eepi_holder_send(slow.fd, &request, sizeof request, -1) == 0) {
            sent++;
        } else if (errno != EAGAIN) {
            break;
        }
        if (i % 50 == 0) {
            cr_assert_eq(look_up(&good, "a", NULL).status, EEP_ERR_NOT_FOUND);
        }
    }
    cr_assert(errno == EPIPE || errno == ECONNRESET, "%d requests, then %d", sent, errno);
    expect_hung_up(&slow);
}

/* A called client that stands still costs the caller an answer, and the holder nothing. */
Test(holder, who_calls_a_client_that_does_not_read_is_told)
{
    player caller = player_open(path), deaf = player_open(path);
    eep_status status = EEP_OK;
    for (int i = 0; i < 5000 && status == EEP_OK; i++) {
        eepi_holder_message request = player_message(&caller, EEPI_HOLDER_CONNECT);
        memcpy(request.identity, deaf.identity, sizeof request.identity);
        status = player_ask(&caller, &request, -1, NULL).status;
    }
    cr_expect_eq(status, EEP_ERR_UNREACHABLE, "%s", eep_strerror(status));
    eepi_holder_message request = player_message(&caller, EEPI_HOLDER_CONNECT);
    memcpy(request.identity, caller.identity, sizeof request.identity);
    cr_expect_eq(player_ask(&caller, &request, -1, NULL).status, EEP_ERR_INVALID);
    request.identity[0] ^= 1;
    request.id++;
    cr_expect_eq(player_ask(&caller, &request, -1, NULL).status, EEP_ERR_NOT_FOUND);
}

Test(holder, clients_and_what_they_hold_are_bounded)
{
    const eepi_holder_limits limits = {
        .max_clients = 3, .max_held_per_client = 2, .hello_us = 1000000};
    eepi_holder *holder = NULL;
    unsigned char *region = NULL;
    int fd = make_region(&region);
    int listen_fd = listen_as_holder();
    cr_assert_eq(eepi_holder_open(listen_fd, &limits, NULL, &holder), EEP_OK);
    player first = player_open(path), silent = player_dial(path), third = player_open(path);
    player fourth = player_dial(path);
    expect_hung_up(&fourth);
    cr_expect_eq(player_hold(&first, "a", fd, SHM_REGION_BYTES), EEP_OK);
    cr_expect_eq(player_hold(&first, "b", fd, SHM_REGION_BYTES), EEP_OK);
    cr_expect_eq(player_hold(&first, "c", fd, SHM_REGION_BYTES), EEP_ERR_NO_MEMORY);
    cr_expect_eq(player_hold(&third, "c", fd, SHM_REGION_BYTES), EEP_OK);
    expect_hung_up(&silent); /* it has said nothing for hello_us, and makes room */
    player fifth = player_open(path);
    cr_expect_eq(look_up(&fifth, "a", NULL).status, EEP_OK);
    eepi_holder_close(holder);
    expect_hung_up(&fifth);
    close(listen_fd);
}

/* Connections that are merely held, before a hello or behind one, leave room for ranks. */
Test(holder, guests_do_not_keep_ranks_out)
{
    enum { LIMIT = 64, GUESTS = 2 * LIMIT };
    struct rlimit limit, low;
    unsigned char *region = NULL;
    int fd = make_region(&region);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = (struct rlimit){LIMIT, limit.rlim_max};
    kill_holder();
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    holder_pid = start_holder();
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    player before = player_open(path);
    cr_assert_eq(player_hold(&before, "before", fd, SHM_REGION_BYTES), EEP_OK);
    for (int i = 0; i < GUESTS; i++) {
        player guest = player_dial(path);
        eepi_holder_message hello = player_message(&guest, EEPI_HOLDER_HELLO);
        memcpy(hello.identity, guest.identity, sizeof hello.identity);
        if (i % 2 == 0) {
            (void)eepi_holder_send(guest.fd, &hello, sizeof hello, -1);
        }
    }
    uint64_t begin_us = eepi_now_us();
    player later = player_open(path);
    cr_expect_eq(player_hold(&later, "later", fd, SHM_REGION_BYTES), EEP_OK);
    cr_expect_eq(look_up(&before, "later", NULL).status, EEP_OK, "who was there stays");
    cr_expect_eq(look_up(&later, "before", NULL).status, EEP_OK);
    cr_expect_lt(eepi_now_us() - begin_us, 2000000u);
}

/* A server that turns somebody away has not read what was sent to it meanwhile. */
Test(holder, the_last_word_of_who_has_closed_is_heard)
{
    eepi_holder_message hello = {.magic = EEPI_HOLDER_MAGIC}, answer = {.id = 7}, heard = {.id = 0};
    int ends[2], passed = -1;
    bool lost = false;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    cr_assert_eq(eepi_holder_send(ends[0], &hello, sizeof hello, -1), 0);
    cr_assert_eq(eepi_holder_send(ends[1], &answer, sizeof answer, -1), 0);
    close(ends[1]);
    cr_expect_eq(eepi_holder_receive(ends[0], &heard, sizeof heard, &passed, &lost), sizeof heard,
                 "%s", strerror(errno));
    cr_expect_eq(heard.id, 7);
    cr_expect_eq(eepi_holder_receive(ends[0], &heard, sizeof heard, &passed, &lost), 0);
    close(ends[0]);
}

Test(holder, who_is_turned_away_is_told)
{
    const eepi_holder_limits limits = {.max_clients = 1};
    eepi_holder *holder = NULL;
    eepi_holder_message answer;
    int listen_fd = listen_as_holder(), status = 0;
    cr_assert_eq(eepi_holder_open(listen_fd, &limits, NULL, &holder), EEP_OK);
    player first = player_open(path), second = player_dial(path);
    cr_assert(player_receive(&second, &answer, NULL));
    cr_expect(answer.id == 0 && answer.status == EEP_ERR_NO_MEMORY, "%d", answer.status);
    close(first.fd);
    if (geteuid() != 0) {
        cr_skip_test("only root can become another user");
    }
    char folder[108];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    cr_assert_eq(chmod(folder, 0755), 0);
    cr_assert_eq(chmod(path, 0777), 0);
    pid_t child = fork();
    if (child == 0) {
        if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) {
            _exit(2);
        }
        player other = player_dial(path);
        _exit(player_receive(&other, &answer, NULL) && answer.status == EEP_ERR_STATE ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect_eq(status, 0);
    eepi_holder_close(holder);
    close(listen_fd);
}

static int no_memory, num_failed; /* atomic: in the kernel, for who connects; and how often */

int accept4(int fd, __SOCKADDR_ARG address, socklen_t *restrict bytes, int flags)
{
    if (__atomic_load_n(&no_memory, __ATOMIC_ACQUIRE)) {
        __atomic_add_fetch(&num_failed, 1, __ATOMIC_RELEASE);
        errno = ENOMEM;
        return -1;
    }
    return (int)syscall(SYS_accept4, fd, address.__sockaddr__, bytes, flags);
}

/* A connection that waits and cannot be taken does not wake it for ever. */
Test(holder, that_can_take_nobody_looks_again_after_a_pause)
{
    eepi_holder *holder = NULL;
    int listen_fd = listen_as_holder();
    cr_assert_eq(eepi_holder_open(listen_fd, NULL, NULL, &holder), EEP_OK);
    __atomic_store_n(&no_memory, 1, __ATOMIC_RELEASE);
    player waits = player_dial(path);
    for (int i = 0; i < 10000 && __atomic_load_n(&num_failed, __ATOMIC_ACQUIRE) == 0; i++) {
        poll(NULL, 0, 1);
    }
    uint64_t begin_us = eepi_now_us();
    int before = __atomic_load_n(&num_failed, __ATOMIC_ACQUIRE);
    poll(NULL, 0, 100); /* the time over which it is watched */
    int tries = __atomic_load_n(&num_failed, __ATOMIC_ACQUIRE) - before;
    uint64_t watched_us = eepi_now_us() - begin_us;
    cr_expect(before > 0 && (uint64_t)tries * 5000 < watched_us, "%d tries in %u us", tries,
              (unsigned)watched_us);
    __atomic_store_n(&no_memory, 0, __ATOMIC_RELEASE);
    player later = player_open(path);
    close(later.fd);
    close(waits.fd);
    eepi_holder_close(holder);
    close(listen_fd);
}

/* Linux counts a user's descriptors that nobody has received yet against RLIMIT_NOFILE. */
static const char *ask_beyond_what_may_be_on_its_way(void)
{
    enum { MOST = 24 };
    eepi_holder_client client = {.is_known = true, .why = EEP_OK};
    struct rlimit limit = {MOST, MOST};
    int ends[2], many[2], sent = 0;
    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET, 0, many) != 0 ||
        setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return "no child of another user";
    }
    while (sent < 10 * MOST && eepi_holder_send(many[0], "", 1, ends[0]) == 0) {
        sent++;
    }
    if (errno != ETOOMANYREFS) {
        return "the kernel takes more";
    }
    client.fd = ends[0];
    if (eepi_holder_client_ask(&client, EEPI_HOLDER_HOLD, NULL, "a", 1, ends[0]) != 0) {
        return "it is said to be asked";
    }
    if (client.why != EEP_ERR_SYSTEM) {
        return "the cause is lost";
    }
    return strstr(eepi_shm_refusal(client.why), "on their way") ? "" : "it is not named";
}

Test(holder, too_many_descriptors_on_their_way_are_named)
{
    char said[64] = "";
    int pipe_fds[2];
    if (geteuid() != 0) {
        cr_skip_test("only root can become another user");
    }
    cr_assert_eq(pipe(pipe_fds), 0);
    pid_t child = fork();
    if (child == 0) {
        const char *text = ask_beyond_what_may_be_on_its_way();
        (void)!write(pipe_fds[1], text, strlen(text) + 1);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, NULL, 0), child);
    cr_assert_gt(read(pipe_fds[0], said, sizeof said - 1), 0);
    cr_expect_str_empty(said, "%s", said);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

Test(holder, says_so_when_its_descriptors_run_out)
{
    eepi_holder *holder = NULL;
    eepi_holder_message answer;
    struct rlimit limit;
    player clients[8];
    unsigned char *region = NULL;
    int listen_fd = listen_as_holder(), num = 0, fd = make_region(&region);
    cr_assert_eq(eepi_holder_open(listen_fd, NULL, NULL, &holder), EEP_OK);
    for (; num < 8; num++) { /* none of them is a guest, who would make room */
        char name[16];
        clients[num] = player_open(path);
        snprintf(name, sizeof name, "m%d", num);
        cr_assert_eq(player_hold(&clients[num], name, fd, SHM_REGION_BYTES), EEP_OK);
    }
    player extra = {.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)extra.fd + 1; /* nothing beyond it: the reserve is all there is */
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    cr_assert_eq(connect(extra.fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert(player_receive(&extra, &answer, NULL));
    cr_expect_eq(answer.status, EEP_ERR_SYSTEM);
    cr_expect_eq(look_up(&clients[0], "a", NULL).status, EEP_ERR_NOT_FOUND, "it goes on");
    limit.rlim_cur = before;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    player late = player_open(path);
    close(late.fd);
    eepi_holder_close(holder);
    close(listen_fd);
}

static eep_status take_attachment(void *user, const eepi_holder_message *message, int pidfd,
                                  int pulse_fd, int *passed_out)
{
    (void)message, (void)pulse_fd, (void)passed_out;
    ++*(int *)user;
    close(pidfd);
    return EEP_OK;
}

/* EEP_ERR_INVALID would be final: that rank would be told of to nobody. */
Test(holder, who_attaches_where_no_descriptor_is_left_is_to_try_again)
{
    int num_taken = 0;
    const eepi_holder_agent agent = {.attach = take_attachment, .user = &num_taken};
    eepi_holder *holder = NULL;
    eepi_holder_message answer;
    struct rlimit limit;
    unsigned char *region = NULL;
    int listen_fd = listen_as_holder(), fd = make_region(&region);
    cr_assert_eq(eepi_holder_open(listen_fd, NULL, &agent, &holder), EEP_OK);
    player rank = player_open(path);
    cr_assert_eq(player_hold(&rank, "pulse", fd, SHM_REGION_BYTES), EEP_OK);
    eepi_holder_message request = player_message(&rank, EEPI_HOLDER_ATTACH);
    memcpy(request.name, "pulse", sizeof "pulse");
    int free_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    cr_assert_geq(free_fd, 0);
    close(free_fd);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)free_fd;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    player_send(&rank, &request, fd);
    cr_assert(player_receive(&rank, &answer, NULL));
    cr_expect_eq(answer.status, EEP_ERR_SYSTEM, "%s", eep_strerror(answer.status));
    limit.rlim_cur = before;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_expect_eq(player_ask(&rank, &request, fd, NULL).status, EEP_OK);
    cr_expect_eq(num_taken, 1);
    close(rank.fd);
    eepi_holder_close(holder);
    close(listen_fd);
}

/* A path that is longer than a socket's address is reached all the same. */
Test(holder, the_path_follows_from_the_stores_and_may_be_long)
{
    char path_out[EEPI_HOLDER_PATH_BYTES], address[EEPI_HOLDER_ADDRESS_BYTES];
    char name[108], directory[300] = "/tmp/eep-holder-XXXXXX";
    int fd = -1;
    eepi_holder_path("/run/x/store", path_out);
    cr_expect_str_eq(path_out, "/run/x/store.holder");
    memset(name, 'n', 100);
    name[100] = '\0';
    eepi_holder_path(name, path_out);
    cr_expect_lt(strlen(path_out), 30, "%s", path_out);
    cr_assert_not_null(mkdtemp(directory));
    size_t used = strlen(directory);
    snprintf(directory + used, sizeof directory - used, "/%0*d", 150, 0);
    cr_assert_eq(mkdir(directory, 0700), 0);
    char long_path[400];
    snprintf(long_path, sizeof long_path, "%s/store.holder", directory);
    cr_assert(eepi_holder_reach(long_path, address, &fd));
    int made = open(address, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_expect_geq(made, 0, "%s", address);
    close(made);
    cr_expect_eq(unlink(long_path), 0);
    rmdir(directory);
    directory[used] = '\0';
    rmdir(directory);
    close(fd);
}
