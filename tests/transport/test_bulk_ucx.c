/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk copies over UCX: hostile messages, the process that UCX is loaded into, the job's variables,
 * and workers of closed copiers. */
#include "tests/lib/bulk_fixture.h"
#include "transport/bulk/bulk_ucx.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucs/debug/log_def.h>
#include <unistd.h>

TestSuite(bulk_ucx, .init = make_blobs, .fini = free_blobs, .timeout = 60);

/* A line of UCX's to a standard error whose reader has stopped is dropped. */
Test(bulk_ucx, a_stopped_standard_error_holds_up_nobody)
{
    int ends[2], status = 0;
    char told[64] = "";
    node self;
    cr_assert_eq(open_node(&self), 0); /* so that UCX is there */
    eepi_bulk_close(self.bulk);
    cr_assert_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        alarm(5);
        ucs_log_dispatch("module", 7, "call", UCS_LOG_LEVEL_FATAL, NULL, "said");
        fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK);
        while (write(STDERR_FILENO, told, sizeof told) > 0) {
            ;
        }
        fcntl(STDERR_FILENO, F_SETFL, 0);
        ucs_log_dispatch("module", 7, "call", UCS_LOG_LEVEL_FATAL, NULL, "not said");
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect_eq(status, 0, "status %#x: it waits for a reader", (unsigned)status);
    cr_assert_gt(read(ends[0], told, sizeof told - 1), 0);
    cr_expect(strstr(told, "module:7 said\n") != NULL, "'%s'", told);
    close(ends[0]);
    close(ends[1]);
}

/* A copier that has another one's port after it does not answer for it. */
Test(bulk_ucx, an_address_of_before_is_refused)
{
    node self, server;
    unsigned char buffer[64];
    cr_assert_eq(open_node(&self), 0);
    cr_assert_eq(open_node(&server), 0);
    bulk_address before = *(const bulk_address *)server.address;
    before.nonce++;
    cr_assert_gt(fetch(&self, &before, sizeof before, 1, 1, buffer, sizeof buffer, FETCH_US), 0);
    cr_assert_eq(run_until(&self, &server, 1), 0);
    cr_expect_eq(self.status, EEP_ERR_UNREACHABLE, "%s", eep_strerror(self.status));
    cr_expect_eq(server.served, 0);
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
}

static in_port_t port_of(const node *n)
{
    return ((const bulk_address *)n->address)->socket.sin_port;
}

/* The worker of a closed copier that nobody has progressed for long is taken over, or has its time
 * still before it: it is not destroyed for its age. */
Test(bulk_ucx, a_worker_that_was_not_progressed_lives_on)
{
    enum { LONG_US = 60 * 1000 * 1000 };
    node first, second;
    cr_assert_eq(open_node(&first), 0);
    cr_assert_eq(open_node(&second), 0);
    in_port_t port = port_of(&first), other = port_of(&second);
    bulk_ucx *workers[] = {(bulk_ucx *)first.bulk, (bulk_ucx *)second.bulk};
    eepi_bulk_close(first.bulk);
    eepi_bulk_close(second.bulk);
    for (int i = 0; i < 2; i++) {
        workers[i]->parked_us -= LONG_US;
        workers[i]->progressed_us -= LONG_US;
    }
    cr_assert_eq(open_node(&second), 0);
    cr_expect_eq(port_of(&second), other); /* the newest first */
    cr_assert_eq(open_node(&first), 0);
    cr_expect_eq(port_of(&first), port, "the other one was destroyed");
    eepi_bulk_close(first.bulk);
    eepi_bulk_close(second.bulk);
}

/* A copier is closed while others of the same process have just begun to connect to it. Without
 * bulk_ucx_parked.c UCX 1.13 ends the process in nearly every run of this; with it in about one of
 * twenty on a busy machine, by other assertions about several workers in one process. So it is not
 * run (docs/STATUS.md, known limits). */
Test(bulk_ucx, closes_while_peers_begin_to_connect)
{
    enum { PEERS = 6, TRIES = 40 };
    if (!getenv("EEP_TEST_UCX")) {
        cr_skip_test("UCX 1.13: see above; EEP_TEST_UCX=1 runs it");
    }
    unsigned char *buffer = malloc(LARGE_BYTES);
    node peers[PEERS], server;
    cr_assert(buffer != NULL);
    for (int i = 0; i < PEERS; i++) {
        cr_assert_eq(open_node(&peers[i]), 0);
    }
    for (int try = 0; try < TRIES; try++) {
        cr_assert_eq(open_node(&server), 0);
        for (int i = 0; i < PEERS; i++) {
            cr_assert_neq(fetch(&peers[i], server.address, server.address_bytes, 1, 2, buffer,
                                LARGE_BYTES, 50000),
                          0);
        }
        for (int turn = 0; turn < 1 + try; turn++) {
            for (int i = 0; i < PEERS; i++) {
                (void)eepi_bulk_progress(peers[i].bulk);
            }
            (void)eepi_bulk_progress(server.bulk);
        }
        eepi_bulk_close(server.bulk);
        for (int i = 0; i < PEERS; i++) {
            cr_assert_eq(run_until(&peers[i], NULL, try + 1), 0);
        }
    }
    for (int i = 0; i < PEERS; i++) {
        eepi_bulk_close(peers[i].bulk);
    }
    free(buffer);
}

/* ---------------------------------------------------------------- hostile messages */

/* A copier that is played by the test: it listens, is asked, and answers what it likes. */
typedef struct raw_worker {
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_listener_h listener;
    ucp_conn_request_h call; /* somebody who connects */
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

static void on_call(ucp_conn_request_h request, void *raw)
{
    ((raw_worker *)raw)->call = request;
}

static void raw_open(raw_worker *raw)
{
    ucp_config_t *config = NULL;
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES,
                           .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP};
    ucp_worker_params_t worker = {0};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    *raw = (raw_worker){0};
    cr_assert_eq(eepi_ucx_config("lo", false, &config), UCS_OK);
    cr_assert_eq(ucp_init(&params, config, &raw->context), UCS_OK);
    ucp_config_release(config);
    cr_assert_eq(ucp_worker_create(raw->context, &worker, &raw->worker), UCS_OK);
    ucp_am_handler_param_t handler = {.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID |
                                                    UCP_AM_HANDLER_PARAM_FIELD_CB,
                                      .id = BULK_AM_ID,
                                      .cb = ignore_message};
    cr_assert_eq(ucp_worker_set_am_recv_handler(raw->worker, &handler), UCS_OK);
    ucp_listener_params_t listener = {
        .field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
        .sockaddr = {.addr = (const struct sockaddr *)&at, .addrlen = sizeof at},
        .conn_handler = {.cb = on_call, .arg = raw},
    };
    ucp_listener_attr_t attributes = {.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR};
    cr_assert_eq(ucp_listener_create(raw->worker, &listener, &raw->listener), UCS_OK);
    cr_assert_eq(ucp_listener_query(raw->listener, &attributes), UCS_OK);
    memcpy(&raw->address.socket, &attributes.sockaddr, sizeof raw->address.socket);
}

/* Take the connection of who has asked for something. */
static void raw_accept(raw_worker *raw, node *from)
{
    uint64_t deadline_us = eepi_now_us() + WAIT_MS * 1000;
    while (raw->call == NULL) {
        ucp_worker_progress(raw->worker);
        eepi_bulk_progress(from->bulk);
        cr_assert_lt(eepi_now_us(), deadline_us);
    }
    ucp_ep_params_t ep = {.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST |
                                        UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE,
                          .conn_request = raw->call,
                          .err_mode = UCP_ERR_HANDLING_MODE_PEER};
    cr_assert_eq(ucp_ep_create(raw->worker, &ep, &raw->ep), UCS_OK);
}

/* Connect to a copier, which has asked for nothing. */
static void raw_connect(raw_worker *raw, const node *to)
{
    const bulk_address *at = to->address;
    ucp_ep_params_t ep = {
        .field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR |
                      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE,
        .flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER,
        .sockaddr = {.addr = (const struct sockaddr *)&at->socket, .addrlen = sizeof at->socket},
        .err_mode = UCP_ERR_HANDLING_MODE_PEER};
    cr_assert_eq(ucp_ep_create(raw->worker, &ep, &raw->ep), UCS_OK);
}

/* Send one message and progress both sides until it is out. */
static void raw_send(raw_worker *raw, node *to, const void *header, size_t header_bytes,
                     const void *data, size_t bytes)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
                                 .flags = UCP_AM_SEND_FLAG_EAGER | UCP_AM_SEND_FLAG_REPLY};
    ucs_status_ptr_t request =
        ucp_am_send_nbx(raw->ep, BULK_AM_ID, header, header_bytes, data, bytes, &param);
    cr_assert_not(UCS_PTR_IS_ERR(request));
    uint64_t deadline_us = eepi_now_us() + WAIT_MS * 1000;
    while (UCS_PTR_IS_PTR(request) && ucp_request_check_status(request) == UCS_INPROGRESS) {
        ucp_worker_progress(raw->worker);
        eepi_bulk_progress(to->bulk);
        cr_assert_lt(eepi_now_us(), deadline_us);
    }
    if (UCS_PTR_IS_PTR(request)) {
        ucp_request_free(request);
    }
}

static void raw_close(raw_worker *raw)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
                                 .flags = UCP_EP_CLOSE_FLAG_FORCE};
    ucs_status_ptr_t request = ucp_ep_close_nbx(raw->ep, &param);
    while (UCS_PTR_IS_PTR(request) && ucp_request_check_status(request) == UCS_INPROGRESS) {
        ucp_worker_progress(raw->worker);
    }
    if (UCS_PTR_IS_PTR(request)) {
        ucp_request_free(request);
    }
    ucp_listener_destroy(raw->listener);
    ucp_worker_destroy(raw->worker);
    ucp_cleanup(raw->context);
}

Test(bulk_ucx, chunks_that_do_not_fit_never_touch_memory)
{
    enum { CHUNK = BULK_UCX_CHUNK_BYTES, BYTES = CHUNK + 1000 };
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
    raw_open(&raw);
    unsigned char *payload = malloc(CHUNK);
    memset(payload, 0xee, CHUNK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        unsigned char *buffer = calloc(1, BYTES);
        bulk_wire wire = good;
        wire.transfer =
            fetch(&self, &raw.address, sizeof raw.address, 5, 1, buffer, BYTES, FETCH_US);
        cr_assert_gt(wire.transfer, 0);
        if (raw.ep == NULL) {
            raw_accept(&raw, &self);
        }
        bulk_wire stale = wire, foreign = wire;
        stale.epoch = 4;
        foreign.magic++;
        raw_send(&raw, &self, &stale, sizeof stale, payload, CHUNK);
        raw_send(&raw, &self, &foreign, sizeof foreign, payload, CHUNK);
        raw_send(&raw, &self, &wire, sizeof wire - 1, payload, CHUNK);
        wire.offset = bad[i].offset;
        wire.bytes = bad[i].bytes;
        wire.total = bad[i].total;
        raw_send(&raw, &self, &wire, sizeof wire, payload, bad[i].payload);
        cr_assert_eq(run_until(&self, NULL, (int)i + 1), 0, "case %zu", i);
        cr_assert_eq(self.status, EEP_ERR_PROTOCOL, "case %zu", i);
        for (size_t at = 0; at < BYTES; at++) {
            cr_assert(buffer[at] == 0, "case %zu wrote byte %zu", i, at);
        }
        free(buffer);
    }
    unsigned char *buffer = calloc(1, BYTES);
    bulk_wire wire = good;
    wire.transfer = fetch(&self, &raw.address, sizeof raw.address, 5, 1, buffer, BYTES, FETCH_US);
    raw_send(&raw, &self, &wire, sizeof wire, payload, CHUNK);
    raw_send(&raw, &self, &wire, sizeof wire, payload, CHUNK);
    cr_assert_eq(run_until(&self, NULL, self.ended + 1), 0);
    cr_assert_eq(self.status, EEP_ERR_PROTOCOL, "the same chunk twice");
    free(buffer);
    free(payload);
    raw_close(&raw);
    eepi_bulk_close(self.bulk);
}

Test(bulk_ucx, leaves_no_signal_handler_of_ucx)
{
    node self;
    cr_assert_eq(open_node(&self), 0);
    for (int number = 1; number < SIGRTMIN; number++) {
        struct sigaction action;
        Dl_info info;
        if (sigaction(number, NULL, &action) != 0 ||
            dladdr((void *)(uintptr_t)action.sa_handler, &info) == 0) {
            continue;
        }
        cr_assert_null(strstr(info.dli_fname, "libuc"), "signal %d: %s", number, info.dli_fname);
    }
    eepi_bulk_close(self.bulk);
}

/* Rule R1: only who was asked answers. The epoch and the number of a transfer can be guessed. */
Test(bulk_ucx, chunks_and_ends_of_others_are_dropped)
{
    enum { BYTES = 1000 };
    node self;
    raw_worker asked, other;
    unsigned char buffer[BYTES] = {0}, payload[BYTES];
    memset(payload, 0xee, sizeof payload);
    cr_assert_eq(open_node(&self), 0);
    raw_open(&asked);
    raw_open(&other);
    raw_connect(&other, &self);
    bulk_wire wire = {.magic = BULK_MAGIC,
                      .kind = BULK_CHUNK,
                      .epoch = 5,
                      .bytes = BYTES,
                      .total = BYTES,
                      .status = EEP_ERR_NOT_FOUND};
    wire.transfer =
        fetch(&self, &asked.address, sizeof asked.address, 5, 1, buffer, BYTES, FETCH_US);
    cr_assert_gt(wire.transfer, 0);
    raw_accept(&asked, &self);
    raw_send(&other, &self, &wire, sizeof wire, payload, BYTES);
    wire.kind = BULK_END;
    raw_send(&other, &self, &wire, sizeof wire, NULL, 0);
    for (int i = 0; i < 1000; i++) {
        ucp_worker_progress(other.worker);
        eepi_bulk_progress(self.bulk);
    }
    cr_assert_eq(self.ended, 0, "%s", eep_strerror(self.status));
    for (size_t at = 0; at < BYTES; at++) {
        cr_assert(buffer[at] == 0, "byte %zu was written", at);
    }
    wire.kind = BULK_CHUNK;
    raw_send(&asked, &self, &wire, sizeof wire, payload, BYTES);
    uint64_t deadline_us = eepi_now_us() + WAIT_MS * 1000;
    while (self.ended == 0) {
        ucp_worker_progress(asked.worker);
        eepi_bulk_progress(self.bulk);
        cr_assert_lt(eepi_now_us(), deadline_us);
    }
    cr_assert_eq(self.status, EEP_OK, "%s", eep_strerror(self.status));
    cr_assert_eq(memcmp(buffer, payload, BYTES), 0);
    raw_close(&asked);
    raw_close(&other);
    eepi_bulk_close(self.bulk);
}

/* UCX_ variables are somebody else's; ours begin with EEP_UCX_. */
Test(bulk_ucx, takes_no_variable_that_is_the_jobs)
{
    static const char *const theirs[][2] = {
        {"UCX_NET_DEVICES", "mlx5_0:1"},    {"UCX_TLS", "rc,cuda"},
        {"UCX_SOCKADDR_TLS_PRIORITY", "x"}, {"UCX_TCP_SEG_SIZE", "64"},
        {"UCX_MAX_EAGER_LANES", "0"},       {"UCX_PROTO_ENABLE", "y"},
        {"UCX_KEEPALIVE_INTERVAL", "1ms"}};
    node a, b;
    unsigned char *buffer = malloc(SMALL_BYTES);
    for (size_t i = 0; i < sizeof theirs / sizeof theirs[0]; i++) {
        setenv(theirs[i][0], theirs[i][1], 1);
    }
    cr_assert_eq(open_node(&a), 0);
    cr_assert_eq(open_node(&b), 0);
    cr_assert_gt(fetch(&a, b.address, b.address_bytes, 1, 1, buffer, SMALL_BYTES, FETCH_US), 0);
    cr_assert_eq(run_until(&a, &b, 1), 0);
    cr_assert_eq(a.status, EEP_OK, "%s", eep_strerror(a.status));
    cr_assert_eq(memcmp(buffer, small_blob, SMALL_BYTES), 0);
    free(buffer);
    eepi_bulk_close(a.bulk);
    eepi_bulk_close(b.bulk);
}

static eep_status open_fails(eepi_bulk_config config, char *error, size_t error_bytes)
{
    node of = {0};
    eepi_bulk *bulk = NULL;
    config.carrier = EEP_BULK_UCX;
    config.serve = bulk_fixture_serve;
    config.done = bulk_fixture_done;
    config.user = &of;
    eep_status status = eepi_bulk_open(&config, error, error_bytes, &bulk);
    cr_assert_neq(status, EEP_OK);
    cr_assert_null(bulk, "outputs are written only on success");
    return status;
}

Test(bulk_ucx, names_the_variable_or_interface_that_leaves_no_lane)
{
    char error[512] = "";
    setenv("EEP_UCX_NET_DEVICES", "mlx5_0:1", 1);
    cr_assert_eq(open_fails((eepi_bulk_config){0}, error, sizeof error), EEP_ERR_UNSUPPORTED);
    cr_assert(strstr(error, "EEP_UCX_NET_DEVICES=mlx5_0:1") != NULL, "%s", error);
    unsetenv("EEP_UCX_NET_DEVICES");
    cr_assert_eq(open_fails((eepi_bulk_config){.interface = "nosuch0"}, error, sizeof error),
                 EEP_ERR_INVALID);
    cr_assert(strstr(error, "\"nosuch0\"") != NULL, "%s", error);
}

/* Workers of closed copiers are kept for a while, but not without a bound. */
Test(bulk_ucx, opening_and_closing_for_ever_takes_a_bounded_number_of_descriptors)
{
    int before = open_descriptors();
    for (int round = 0; round < 200; round++) {
        node of;
        cr_assert_eq(open_node(&of), 0, "round %d", round);
        eepi_bulk_close(of.bulk);
    }
    cr_assert_lt(open_descriptors() - before, 200);
}

/* UCX may end the process where a worker is destroyed while somebody connects to it. So none is
 * destroyed to make room: those of closed copiers are there for the next ones, whose addresses are
 * others all the same. */
Test(bulk_ucx, a_closed_copiers_worker_is_the_next_ones)
{
    enum { COPIERS = 20, OWN = 2 };
    unsigned char buffer[64];
    node of[COPIERS];
    bulk_address before[COPIERS];
    for (int i = 0; i < COPIERS; i++) {
        cr_assert_eq(open_node(&of[i]), 0);
        before[i] = *(const bulk_address *)of[i].address;
    }
    int at_most = open_descriptors();
    for (int i = 0; i < COPIERS; i++) {
        eepi_bulk_close(of[i].bulk);
    }
    cr_expect_geq(open_descriptors(), at_most - COPIERS * OWN, "some were destroyed at once");
    for (int i = 0; i < COPIERS; i++) {
        cr_assert_eq(open_node(&of[i]), 0);
    }
    cr_expect_leq(open_descriptors(), at_most, "others were made");
    unsigned char *small = calloc(1, SMALL_BYTES);
    cr_assert_gt(
        fetch(&of[0], of[1].address, of[1].address_bytes, 1, 1, small, SMALL_BYTES, FETCH_US), 0);
    cr_assert_eq(run_until(&of[0], &of[1], 1), 0);
    cr_expect_eq(of[0].status, EEP_OK, "%s", eep_strerror(of[0].status));
    cr_expect_eq(memcmp(small, small_blob, SMALL_BYTES), 0);
    free(small);
    for (int i = 0; i < COPIERS; i++) { /* who listens there now is one of the others */
        const bulk_address *now = of[0].address;
        if (before[i].socket.sin_port == now->socket.sin_port) {
            continue;
        }
        node *there = &of[1];
        while (((const bulk_address *)there->address)->socket.sin_port !=
               before[i].socket.sin_port) {
            cr_assert_lt(there - of, COPIERS - 1, "nobody has the port");
            there++;
        }
        int ended = of[0].ended, served = there->served;
        cr_assert_gt(
            fetch(&of[0], &before[i], sizeof before[i], 1, 1, buffer, sizeof buffer, FETCH_US), 0);
        cr_assert_eq(run_until(&of[0], there, ended + 1), 0);
        cr_expect_eq(of[0].status, EEP_ERR_UNREACHABLE, "%d: %s", i, eep_strerror(of[0].status));
        cr_expect_eq(there->served, served);
    }
    for (int i = 0; i < COPIERS; i++) {
        eepi_bulk_close(of[i].bulk);
    }
}

Test(bulk_ucx, names_the_limit_when_descriptors_run_out)
{
    char error[512] = "";
    struct rlimit limit;
    node first;
    cr_assert_eq(open_node(&first), 0);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    for (int extra = 0; extra < 9; extra++) {
        limit.rlim_cur = (rlim_t)(open_descriptors() - 2 + extra); /* less . .. and its own */
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        eepi_bulk *bulk = NULL;
        eepi_bulk_config config = {.carrier = EEP_BULK_UCX,
                                   .serve = bulk_fixture_serve,
                                   .done = bulk_fixture_done,
                                   .user = &first};
        eep_status status = eepi_bulk_open(&config, error, sizeof error, &bulk);
        if (status == EEP_OK) {
            eepi_bulk_close(bulk);
            continue;
        }
        cr_assert_eq(status, EEP_ERR_SYSTEM, "%d more: %s", extra, error);
        cr_assert(strstr(error, "RLIMIT_NOFILE") != NULL, "%d more: %s", extra, error);
    }
    cr_assert_neq(error[0], '\0', "no limit was low enough");
    limit.rlim_cur = before;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    eepi_bulk_close(first.bulk);
}
