/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/bulk_fixture.h"

#include "repair/checksum.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
/* The worker of a closed copier lives on to the end of the process (bulk_ucx_parked.c). UCX keeps
 * its endpoints in memory of its own mapping, where a leak checker does not look for what they
 * refer to. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:ucs_calloc\nleak:ucs_malloc\n";
}
#endif

unsigned char *small_blob, *large_blob;
pid_t holder_pid;
static eep_bulk carrier_in_use = EEP_BULK_UCX;
static char holder_path[EEPI_HOLDER_ADDRESS_BYTES], directory[64];

void use_carrier(eep_bulk carrier)
{
    carrier_in_use = carrier;
    if (carrier == EEP_BULK_SHM && directory[0] == '\0') {
        snprintf(directory, sizeof directory, "/tmp/eep-bulk-XXXXXX");
        cr_assert_not_null(mkdtemp(directory));
        snprintf(holder_path, sizeof holder_path, "%s/holder", directory);
        holder_pid = start_holder();
    }
}

const char *bulk_fixture_holder_path(void)
{
    return holder_path;
}

int listen_as_holder(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, holder_path, strlen(holder_path) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(holder_path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(fd, 128), 0);
    return fd;
}

/* The socket takes connections before the process runs. */
pid_t start_holder(void)
{
    int fd = listen_as_holder();
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        eepi_holder *holder = NULL;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (eepi_holder_open(fd, NULL, NULL, &holder) != EEP_OK) {
            _exit(1);
        }
        for (;;) {
            pause();
        }
    }
    close(fd);
    return pid;
}

void kill_holder(void)
{
    int state = 0;
    cr_assert_eq(kill(holder_pid, SIGKILL), 0);
    cr_assert_eq(waitpid(holder_pid, &state, 0), holder_pid);
}

static void end_holder(void)
{
    if (directory[0] == '\0') {
        return;
    }
    kill(holder_pid, SIGKILL);
    unlink(holder_path);
    rmdir(directory);
}

static unsigned char pattern(uint64_t i)
{
    return (unsigned char)((i * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

void make_blobs(void)
{
    small_blob = malloc(SMALL_BYTES);
    large_blob = malloc(LARGE_BYTES);
    cr_assert(small_blob != NULL && large_blob != NULL);
    for (uint64_t i = 0; i < SMALL_BYTES; i++) {
        small_blob[i] = pattern(i);
    }
    for (uint64_t i = 0; i < LARGE_BYTES; i++) {
        large_blob[i] = pattern(i + 12345);
    }
}

void free_blobs(void)
{
    end_holder();
    free(small_blob);
    free(large_blob);
}

int bulk_fixture_serve(void *user, const eepi_blob *blob, uint64_t bytes, eepi_bulk_part *parts_out)
{
    (void)bytes;
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

void bulk_fixture_land(void *user, uint64_t transfer, uint64_t offset, const void *data,
                       uint64_t bytes)
{
    node *of = user;
    (void)transfer;
    cr_assert_eq(offset % EEPI_CHECKSUM_BLOCK_BYTES, 0, "it is summed by blocks");
    memcpy(of->landing + offset, data, bytes);
    of->landed += bytes;
}

void bulk_fixture_done(void *user, uint64_t transfer, eep_status status)
{
    node *of = user;
    of->ended++;
    of->transfer = transfer;
    of->status = status;
}

void bulk_fixture_note(void *user, const char *text)
{
    node *of = user;
    of->notes++;
    snprintf(of->note, sizeof of->note, "%s", text);
}

int open_node(node *of)
{
    char error[256] = "";
    memset(of, 0, sizeof *of);
    eepi_bulk_config config = {.carrier = carrier_in_use,
                               .holder_path = holder_path,
                               .serve = bulk_fixture_serve,
                               .land = bulk_fixture_land,
                               .done = bulk_fixture_done,
                               .note = bulk_fixture_note,
                               .user = of};
    if (eepi_bulk_open(&config, error, sizeof error, &of->bulk) != EEP_OK) {
        fprintf(stderr, "eepi_bulk_open: %s\n", error);
        return -1;
    }
    eepi_bulk_address(of->bulk, &of->address, &of->address_bytes);
    return 0;
}

uint64_t fetch(node *by, const void *address, size_t address_bytes, uint64_t epoch, int expert,
               void *buffer, size_t bytes, uint64_t timeout_us)
{
    eepi_blob blob = {.epoch = epoch, .layer = 0, .expert = expert};
    uint64_t transfer = 0;
    eep_status status = eepi_bulk_fetch(by->bulk, address, address_bytes, &blob, buffer, bytes,
                                        timeout_us, &transfer);
    return status == EEP_OK ? transfer : 0;
}

/* Progress one or two nodes (`b` may be NULL) until a has had `ended` ends; 0 if that came. */
int run_until(node *a, node *b, int ended)
{
    uint64_t deadline_us = eepi_now_us() + WAIT_MS * 1000;
    while (a->ended < ended) {
        int work = eepi_bulk_progress(a->bulk);
        if (b != NULL) {
            work |= eepi_bulk_progress(b->bulk);
        }
        if (eepi_now_us() > deadline_us) {
            return -1;
        }
        struct pollfd fds[2] = {{.fd = eepi_bulk_fd(a->bulk), .events = POLLIN}, {.fd = -1}};
        if (b != NULL) {
            fds[1] = (struct pollfd){.fd = eepi_bulk_fd(b->bulk), .events = POLLIN};
        }
        if (!work && a->ended < ended && poll(fds, 2, WAIT_MS) == 0) {
            return -1;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- peers in processes */

static size_t read_in_time(int fd, void *to, size_t capacity)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    if (poll(&poll_fd, 1, WAIT_MS) != 1) {
        return 0;
    }
    ssize_t bytes = read(fd, to, capacity);
    return bytes > 0 ? (size_t)bytes : 0;
}

static void serve_until_killed(int report_fd)
{
    node self;
    if (open_node(&self) != 0 ||
        write(report_fd, self.address, self.address_bytes) != (ssize_t)self.address_bytes) {
        _exit(1);
    }
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
        memcmp(buffer, expert == 1 ? small_blob : large_blob, bytes) != 0) {
        _exit(1);
    }
    if (write(report_fd, "y", 1) != 1) {
        _exit(1);
    }
    pause();
    _exit(0);
}

/* Make a process that, once told, serves (`expert` 0) or fetches that expert. */
peer make_peer(int expert)
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
        ssize_t bytes = read(go[0], address, sizeof address);
        if (bytes <= 0) {
            _exit(0);
        }
        if (expert == 0) {
            serve_until_killed(report[1]);
        }
        request_once(address, (size_t)bytes, expert, report[1]);
    }
    close(go[0]);
    close(report[1]);
    made.go_fd = go[1];
    made.report_fd = report[0];
    return made;
}

void begin_server(peer *server)
{
    cr_assert_eq(write(server->go_fd, "g", 1), 1);
    server->address_bytes =
        read_in_time(server->report_fd, server->address, sizeof server->address);
    cr_assert_gt(server->address_bytes, 0, "the server did not start");
}

void begin_requester(const peer *requester, const node *server)
{
    cr_assert_eq(write(requester->go_fd, server->address, server->address_bytes),
                 (ssize_t)server->address_bytes);
}

void stop_peer(const peer *victim)
{
    int state = 0;
    cr_assert_eq(kill(victim->pid, SIGSTOP), 0);
    cr_assert_eq(waitpid(victim->pid, &state, WUNTRACED), victim->pid);
    cr_assert(WIFSTOPPED(state), "state %x", (unsigned)state);
}

void kill_peer(const peer *victim)
{
    int state = 0;
    cr_assert_eq(kill(victim->pid, SIGKILL), 0);
    cr_assert_eq(waitpid(victim->pid, &state, 0), victim->pid);
    cr_assert(WIFSIGNALED(state) && WTERMSIG(state) == SIGKILL, "state %x", (unsigned)state);
    close(victim->go_fd);
    close(victim->report_fd);
}

void fetch_small_from(node *by, const void *address, size_t address_bytes)
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

/* Progress both until the first byte of the large blob has landed in `buffer` (zeroed before). */
void run_until_first_chunk(node *by, node *server, const unsigned char *buffer)
{
    uint64_t deadline_us = eepi_now_us() + WAIT_MS * 1000;
    while (buffer[0] != large_blob[0] || buffer[1] != large_blob[1]) {
        eepi_bulk_progress(by->bulk);
        if (server != NULL) {
            eepi_bulk_progress(server->bulk);
        }
        cr_assert_lt(eepi_now_us(), deadline_us);
    }
}

/* Progress a server until it was asked once more. */
void run_until_served(node *server, int served)
{
    uint64_t deadline_us = eepi_now_us() + WAIT_MS * 1000;
    while (server->served < served) {
        eepi_bulk_progress(server->bulk);
        cr_assert_lt(eepi_now_us(), deadline_us);
    }
}

int open_descriptors(void)
{
    int count = 0;
    DIR *open_now = opendir("/proc/self/fd");
    cr_assert_not_null(open_now);
    while (readdir(open_now) != NULL) {
        count++;
    }
    closedir(open_now);
    return count;
}
