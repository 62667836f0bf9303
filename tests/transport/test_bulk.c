/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk copies: right bytes, every way for a fetch to end, and survivors of killed and stopped
 * peers. */
#include "tests/lib/bulk_fixture.h"
#include "transport/bulk/bulk_ucx.h"
#include "transport/bulk/shm_region.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------- tests */

TestSuite(ucx, .init = make_blobs, .fini = free_blobs, .timeout = 60);
TestSuite(shm, .init = make_blobs, .fini = free_blobs, .timeout = 60);

/* A test that runs over each carrier, as shm::name and ucx::name. */
#define OVER_BOTH(name)                                                                            \
    static void name(void);                                                                        \
    Test(ucx, name)                                                                                \
    {                                                                                              \
        use_carrier(EEP_BULK_UCX);                                                                 \
        name();                                                                                    \
    }                                                                                              \
    Test(shm, name)                                                                                \
    {                                                                                              \
        use_carrier(EEP_BULK_SHM);                                                                 \
        name();                                                                                    \
    }                                                                                              \
    static void name(void)

OVER_BOTH(fetches_the_right_bytes_in_three_parts)
{
    node self;
    peer server = make_peer(0);
    begin_server(&server);
    cr_assert_eq(open_node(&self), 0);
    for (int i = 0; i < 3; i++) {
        fetch_small_from(&self, server.address, server.address_bytes);
    }
    kill_peer(&server);
    eepi_bulk_close(self.bulk);
}

OVER_BOTH(fetches_many_at_once_both_ways)
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
    for (int i = 0; i < 2 * FETCHES; i++) {
        cr_assert_eq(memcmp(buffers + (size_t)i * SMALL_BYTES, small_blob, SMALL_BYTES), 0);
    }
    free(buffers);
    eepi_bulk_close(a.bulk);
    eepi_bulk_close(b.bulk);
}

OVER_BOTH(fetches_from_itself)
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

OVER_BOTH(names_what_is_wrong_with_a_request)
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
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
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

OVER_BOTH(fetches_ranges_across_parts_and_chunks)
{
    enum { CHUNK = SHM_SLOT_BYTES, UCX_CHUNK = BULK_UCX_CHUNK_BYTES };
    static const struct {
        uint64_t offset, bytes;
    } ranges[] = {
        {0, 1},                 /* the first byte */
        {300000, 7},            /* the end of the first part, the second, the third */
        {SMALL_BYTES - 1, 1},   /* the last byte */
        {1, CHUNK},             /* as long as a chunk, not where one begins */
        {299000, CHUNK + 4097}, /* two chunks over three parts */
        {CHUNK, SMALL_BYTES - CHUNK},
        {1, UCX_CHUNK},
        {299000, UCX_CHUNK + 4097},
        {UCX_CHUNK, SMALL_BYTES - UCX_CHUNK},
    };
    node self, server;
    cr_assert_eq(open_node(&self), 0);
    cr_assert_eq(open_node(&server), 0);
    unsigned char *buffer = malloc(SMALL_BYTES);
    for (int local = 0; local < 2; local++) {
        const node *of = local ? &self : &server;
        for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
            const eepi_blob blob = {
                .epoch = 1, .expert = 1, .offset = ranges[i].offset, .total = SMALL_BYTES};
            uint64_t transfer;
            const int ended = self.ended;
            memset(buffer, 0x5a, SMALL_BYTES);
            cr_assert_eq(eepi_bulk_fetch(self.bulk, of->address, of->address_bytes, &blob, buffer,
                                         ranges[i].bytes, FETCH_US, &transfer),
                         EEP_OK);
            cr_assert_eq(run_until(&self, &server, ended + 1), 0);
            cr_assert_eq(self.status, EEP_OK, "range %zu: %s", i, eep_strerror(self.status));
            cr_assert_eq(memcmp(buffer, small_blob + ranges[i].offset, ranges[i].bytes), 0);
            cr_assert(ranges[i].bytes == SMALL_BYTES || buffer[ranges[i].bytes] == 0x5a);
        }
    }
    free(buffer);
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
}

/* What a requester says of a range is not believed. `total` 0 in a case: as much as is asked for.
 */
OVER_BOTH(ranges_that_do_not_lie_within_the_blob_are_refused)
{
    static const struct {
        uint64_t offset, bytes, total;
        eep_status status;
    } cases[] = {
        {SMALL_BYTES - 1, 2, 0, EEP_ERR_PROTOCOL},  /* a byte too many */
        {SMALL_BYTES, 1, 0, EEP_ERR_PROTOCOL},      /* behind the end */
        {UINT64_MAX - 16, 16, 0, EEP_ERR_PROTOCOL}, /* far behind */
        {0, 16, SMALL_BYTES + 1, EEP_ERR_PROTOCOL}, /* another blob than the server has */
        {0, 16, SMALL_BYTES - 1, EEP_ERR_PROTOCOL}, {0, SMALL_BYTES, SMALL_BYTES, EEP_OK},
    };
    node self, server;
    cr_assert_eq(open_node(&self), 0);
    cr_assert_eq(open_node(&server), 0);
    unsigned char *buffer = malloc(SMALL_BYTES);
    uint64_t transfer;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const eepi_blob blob = {
            .epoch = 1, .expert = 1, .offset = cases[i].offset, .total = cases[i].total};
        cr_assert_eq(eepi_bulk_fetch(self.bulk, server.address, server.address_bytes, &blob, buffer,
                                     cases[i].bytes, FETCH_US, &transfer),
                     EEP_OK);
        cr_assert_eq(run_until(&self, &server, (int)i + 1), 0);
        cr_assert_eq(self.status, cases[i].status, "case %zu: %s", i, eep_strerror(self.status));
    }
    const eepi_blob wraps = {.expert = 1, .offset = UINT64_MAX - 3};
    const eepi_blob ends_behind = {.expert = 1, .offset = 8, .total = 16};
    cr_expect_eq(eepi_bulk_fetch(self.bulk, server.address, server.address_bytes, &wraps, buffer, 8,
                                 FETCH_US, &transfer),
                 EEP_ERR_INVALID);
    cr_expect_eq(eepi_bulk_fetch(self.bulk, server.address, server.address_bytes, &ends_behind,
                                 buffer, 9, FETCH_US, &transfer),
                 EEP_ERR_INVALID);
    free(buffer);
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
}

OVER_BOTH(one_fetch_is_cancelled_and_the_others_go_on)
{
    node self, server;
    cr_assert_eq(open_node(&self), 0);
    cr_assert_eq(open_node(&server), 0);
    unsigned char *large = calloc(1, LARGE_BYTES), *small = calloc(1, SMALL_BYTES);
    uint64_t old =
        fetch(&self, server.address, server.address_bytes, 6, 2, large, LARGE_BYTES, FETCH_US);
    run_until_first_chunk(&self, &server, large);
    eepi_bulk_cancel(self.bulk, old);
    cr_assert_eq(self.ended, 0, "done comes from progress only");
    memset(large, 0xa5, LARGE_BYTES);
    cr_assert_eq(run_until(&self, NULL, 1), 0);
    cr_assert(self.transfer == old && self.status == EEP_ERR_ABORTED);
    eepi_bulk_cancel(self.bulk, old); /* it has ended: nothing happens */
    cr_assert_gt(
        fetch(&self, server.address, server.address_bytes, 6, 1, small, SMALL_BYTES, FETCH_US), 0);
    cr_assert_eq(run_until(&self, &server, 2), 0);
    cr_assert_eq(self.status, EEP_OK);
    cr_assert_eq(memcmp(small, small_blob, SMALL_BYTES), 0);
    for (size_t i = 0; i < LARGE_BYTES; i++) {
        cr_assert(large[i] == 0xa5, "byte %zu landed after the cancel", i);
    }
    free(large);
    free(small);
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
}

OVER_BOTH(without_a_buffer_the_owner_lands_each_byte_once)
{
    node self, server;
    cr_assert_eq(open_node(&self), 0);
    cr_assert_eq(open_node(&server), 0);
    self.landing = calloc(1, SMALL_BYTES);
    const node *from[] = {&server, &self};
    for (int i = 0; i < 2; i++) {
        self.landed = 0;
        memset(self.landing, 0, SMALL_BYTES);
        cr_assert_gt(fetch(&self, from[i]->address, from[i]->address_bytes, 6, 1, NULL, SMALL_BYTES,
                           FETCH_US),
                     0);
        cr_assert_eq(run_until(&self, &server, i + 1), 0);
        cr_assert_eq(self.status, EEP_OK);
        cr_assert_eq(self.landed, SMALL_BYTES);
        cr_assert_eq(memcmp(self.landing, small_blob, SMALL_BYTES), 0);
    }
    free(self.landing);
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
}

OVER_BOTH(without_a_buffer_no_byte_lands_after_a_cancel)
{
    node self, server;
    cr_assert_eq(open_node(&self), 0);
    cr_assert_eq(open_node(&server), 0);
    unsigned char *small = calloc(1, SMALL_BYTES);
    self.landing = calloc(1, LARGE_BYTES);
    uint64_t old =
        fetch(&self, server.address, server.address_bytes, 6, 2, NULL, LARGE_BYTES, FETCH_US);
    run_until_first_chunk(&self, &server, self.landing);
    eepi_bulk_cancel(self.bulk, old);
    const uint64_t landed = self.landed;
    cr_assert_lt(landed, LARGE_BYTES);
    /* Its chunks are before these on the same connection. */
    cr_assert_gt(
        fetch(&self, server.address, server.address_bytes, 6, 1, small, SMALL_BYTES, FETCH_US), 0);
    cr_assert_eq(run_until(&self, &server, 2), 0);
    cr_assert_eq(memcmp(small, small_blob, SMALL_BYTES), 0);
    cr_assert_eq(self.landed, landed);
    free(small);
    free(self.landing);
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
}

OVER_BOTH(cancel_before_lets_no_byte_land_afterwards)
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
    for (size_t i = 0; i < LARGE_BYTES; i++) {
        cr_assert(large[i] == 0xa5, "byte %zu landed after the cancel", i);
    }
    free(large);
    free(small);
    eepi_bulk_close(self.bulk);
    eepi_bulk_close(server.bulk);
}

OVER_BOTH(close_ends_what_is_running)
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

OVER_BOTH(survives_servers_killed_in_mid_transfer)
{
    node self;
    peer victims[ROUNDS], other = make_peer(0);
    for (int round = 0; round < ROUNDS; round++) {
        victims[round] = make_peer(0);
    }
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
        if (round % 2 == 1) {
            run_until_first_chunk(&self, NULL, large);
        }
        for (int i = 0; i < round; i++) {
            eepi_bulk_progress(self.bulk);
        }
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

OVER_BOTH(survives_requesters_killed_in_mid_transfer)
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
        for (int i = 0; i < round; i++) {
            eepi_bulk_progress(self.bulk);
        }
        kill_peer(&victims[round]);
        uint64_t deadline_us = eepi_now_us() + WAIT_MS * 1000;
        begin_requester(&others[round], &self);
        struct pollfd fds[2] = {{.fd = eepi_bulk_fd(self.bulk), .events = POLLIN},
                                {.fd = others[round].report_fd, .events = POLLIN}};
        do {
            while (eepi_bulk_progress(self.bulk) != 0) {
            }
            cr_assert_lt(eepi_now_us(), deadline_us, "round %d", round);
        } while (poll(fds, 2, WAIT_MS) > 0 && fds[1].revents == 0);
        cr_assert_eq(fds[1].revents & POLLIN, POLLIN, "round %d: wrong bytes or none", round);
        kill_peer(&others[round]);
    }
    eepi_bulk_close(self.bulk);
}

/* Each is killed a little later after it was told to begin: before it connects, while it does, with
 * the server's answer to that under way, and after. Connected by worker addresses, UCX 1.13 ended
 * the server here (bulk_ucx_endpoint.c). */
OVER_BOTH(survives_requesters_killed_while_they_connect)
{
    enum { REQUESTERS = 60, STEP_US = 150 };
    peer victims[REQUESTERS];
    node server, self;
    for (int i = 0; i < REQUESTERS; i++) {
        victims[i] = make_peer(2);
    }
    cr_assert_eq(open_node(&server), 0);
    for (int i = 0; i < REQUESTERS; i++) {
        begin_requester(&victims[i], &server);
        uint64_t until_us = eepi_now_us() + (uint64_t)i * STEP_US;
        while (eepi_now_us() < until_us) {
            (void)eepi_bulk_progress(server.bulk);
        }
        kill_peer(&victims[i]);
        for (int turn = 0; turn < 200; turn++) {
            (void)eepi_bulk_progress(server.bulk);
        }
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

OVER_BOTH(a_stopped_server_times_out_and_may_be_killed_later)
{
    node self;
    peer other = make_peer(0), stopped = make_peer(0);
    begin_server(&other);
    begin_server(&stopped);
    cr_assert_eq(open_node(&self), 0);
    unsigned char *large = calloc(1, LARGE_BYTES);
    fetch_small_from(&self, stopped.address, stopped.address_bytes); /* connecting takes its time */
    cr_assert_gt(
        fetch(&self, stopped.address, stopped.address_bytes, 1, 2, large, LARGE_BYTES, 1000000), 0);
    run_until_first_chunk(&self, NULL, large);
    stop_peer(&stopped);
    cr_assert_eq(run_until(&self, NULL, 2), 0);
    cr_assert_eq(self.status, EEP_ERR_TIMEOUT, "%s", eep_strerror(self.status));
    fetch_small_from(&self, other.address, other.address_bytes);
    kill_peer(&stopped);
    eepi_bulk_forget(self.bulk, stopped.address, stopped.address_bytes);
    cr_assert_gt(
        fetch(&self, stopped.address, stopped.address_bytes, 1, 2, large, LARGE_BYTES, FETCH_US),
        0);
    cr_assert_eq(run_until(&self, NULL, 4), 0);
    cr_assert_eq(self.status, EEP_ERR_UNREACHABLE, "%s", eep_strerror(self.status));
    fetch_small_from(&self, other.address, other.address_bytes);
    kill_peer(&other);
    free(large);
    eepi_bulk_close(self.bulk);
}

OVER_BOTH(closes_in_bounded_time_beside_a_stopped_requester)
{
    node self;
    peer stopped = make_peer(2);
    cr_assert_eq(open_node(&self), 0);
    begin_requester(&stopped, &self);
    run_until_served(&self, 1);
    stop_peer(&stopped);
    for (int i = 0; i < 1000; i++) {
        eepi_bulk_progress(self.bulk);
    }
    uint64_t begin_us = eepi_now_us();
    eepi_bulk_close(self.bulk);
    cr_assert_lt(eepi_now_us() - begin_us, WAIT_MS * 1000u);
    kill_peer(&stopped);
}
