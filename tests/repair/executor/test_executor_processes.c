/* SPDX-License-Identifier: Apache-2.0 */
/* The repair executor over real processes: one that has the expert is killed in the middle of the
 * copy, over each carrier. */
#include "repair/checksum.h"
#include "repair/executor/executor.h"
#include "repair/executor/slot_fill.h"
#include "tests/lib/bulk_fixture.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { SEATS = 4, LARGE = 2, UNDER_WAY = EEPI_SEGMENTS_PER_SOURCE * EEPI_SEGMENT_BYTES };

typedef struct repair {
    eep_device *device;
    eepi_executor *executor;
    eepi_bulk *bulk;
    eepi_view *view;
    peer peers[SEATS];
    unsigned char *slot;
    eep_tensor tensor;
    int done, fetched;
    eep_status status;
    uint64_t bytes;
    char why[400];
} repair;

static void landed(void *user, uint64_t transfer, uint64_t offset, const void *data, uint64_t bytes)
{
    repair *r = user;

    eepi_executor_landed(r->executor, transfer, offset, data, bytes);
}

static void ended(void *user, uint64_t transfer, eep_status status)
{
    repair *r = user;

    r->fetched += status == EEP_OK;
    eepi_executor_fetched(r->executor, r->bulk, transfer, status);
}

static int serve_nothing(void *user, const eepi_blob *blob, uint64_t bytes,
                         eepi_bulk_part *parts_out)
{
    (void)user;
    (void)blob;
    (void)bytes;
    (void)parts_out;
    return 0;
}

static const eep_tensor *slot_of(void *user, int32_t layer, int32_t slot)
{
    (void)layer;
    (void)slot;
    return &((repair *)user)->tensor;
}

static const eep_tensor *no_backup(void *user, int32_t layer, int32_t expert)
{
    (void)user;
    (void)layer;
    (void)expert;
    return NULL;
}

static size_t address_of(void *user, int32_t seat, const void **address_out)
{
    repair *r = user;

    *address_out = r->peers[seat].address;
    return r->peers[seat].address_bytes;
}

static void done(void *user, uint64_t digest, eep_status status, uint64_t bytes, const char *why)
{
    repair *r = user;

    (void)digest;
    r->done++;
    r->status = status;
    r->bytes = bytes;
    strncpy(r->why, why, sizeof r->why - 1);
}

/* Rank 0 fills its slot with the large blob, which the others have. */
static void begin(repair *r, eep_bulk carrier)
{
    const eepi_view_shape shape = {
        .max_ranks = SEATS, .num_layers = 1, .num_experts = LARGE + 1, .num_slots = LARGE + 1};
    eepi_executor_config config = {.num_tensors = 1,
                                   .tensor_bytes = {LARGE_BYTES},
                                   .num_layers = 1,
                                   .num_slots = LARGE + 1,
                                   .background_bytes_per_s = 1,
                                   .fetch_timeout_us = FETCH_US,
                                   .slot = slot_of,
                                   .backup = no_backup,
                                   .address = address_of,
                                   .done = done,
                                   .user = r};
    eepi_bulk_config bulk = {.carrier = carrier,
                             .holder_path = bulk_fixture_holder_path(),
                             .serve = serve_nothing,
                             .land = landed,
                             .done = ended,
                             .user = r};

    r->slot = malloc(LARGE_BYTES);
    memset(r->slot, 0, LARGE_BYTES);
    r->tensor = (eep_tensor){r->slot, LARGE_BYTES};
    r->view = eepi_view_new(&shape);
    r->view->phase = EEPI_VIEW_REPAIRING;
    r->view->cause = EEPI_VIEW_FAULT;
    r->view->epoch = 2;
    for (int seat = 0; seat < SEATS; seat++) {
        eepi_view_seat_at(r->view, seat)->generation = 1;
        eepi_view_seat_at(r->view, seat)->state = EEP_SEAT_ACTIVE;
        eepi_view_set_backup(r->view, seat, 0, LARGE, seat > 0);
    }
    *eepi_view_slot_at(r->view, 0, 0, 0) =
        (eepi_view_slot){.expert = LARGE, .source = 1, .state = EEPI_SLOT_FILLING};
    *eepi_view_checksum_at(r->view, 0, LARGE) = eepi_checksum_bytes(large_blob, LARGE_BYTES);
    eepi_view_seal(r->view);
    cr_assert_eq(eep_device_open("host", 0, &r->device), EEP_OK);
    config.device = r->device;
    cr_assert_eq(eepi_bulk_open(&bulk, NULL, 0, &r->bulk), EEP_OK);
    cr_assert_eq(eepi_executor_open(&config, &r->executor), EEP_OK);
    eepi_executor_start(r->executor, r->bulk, r->view, eepi_now_us());
}

/* Go on until so many segments have come, or all is done. */
static void run_to(repair *r, int fetched)
{
    const uint64_t until_us = eepi_now_us() + WAIT_MS * 1000;

    while (!r->done && r->fetched < fetched) {
        struct pollfd fd = {.fd = eepi_bulk_fd(r->bulk), .events = POLLIN};
        cr_assert_lt(eepi_now_us(), until_us, "%d segments came", r->fetched);
        const int work = eepi_bulk_progress(r->bulk);
        eepi_executor_tick(r->executor, r->bulk, eepi_now_us());
        if (!work && !r->done && eepi_executor_wake_us(r->executor) > 0) {
            poll(&fd, 1, 10);
        }
    }
}

static void end(repair *r)
{
    eepi_bulk_close(r->bulk);
    eepi_executor_close(r->executor);
    eep_device_close(r->device);
    free(r->view);
    free(r->slot);
}

static void kill_in_the_middle(eep_bulk carrier, int num_killed)
{
    repair r = {0};

    use_carrier(carrier);
    for (int seat = 1; seat < SEATS; seat++) {
        r.peers[seat] = make_peer(0);
    }
    for (int seat = 1; seat < SEATS; seat++) {
        begin_server(&r.peers[seat]);
    }
    begin(&r, carrier);
    run_to(&r, 6);
    cr_assert_eq(r.done, 0, "the copy is not in its middle");
    for (int seat = 1; seat <= num_killed; seat++) {
        kill_peer(&r.peers[seat]);
    }
    run_to(&r, LARGE_BYTES);
    cr_assert_eq(r.done, 1);
    if (num_killed < SEATS - 1) {
        cr_assert_eq(r.status, EEP_OK, "%s", r.why);
        cr_assert_eq(memcmp(r.slot, large_blob, LARGE_BYTES), 0);
        cr_expect_leq(r.bytes, LARGE_BYTES + num_killed * UNDER_WAY, "what had arrived is kept");
    } else {
        cr_assert_eq(r.status, EEP_ERR_UNCOVERED);
        cr_expect(strstr(r.why, "rank 1: ") && strstr(r.why, "rank 2: ") &&
                      strstr(r.why, "rank 3: "),
                  "%s", r.why);
    }
    for (int seat = num_killed + 1; seat < SEATS; seat++) {
        kill_peer(&r.peers[seat]);
    }
    end(&r);
}

TestSuite(executor_processes, .init = make_blobs, .fini = free_blobs);

Test(executor_processes, a_source_killed_in_mid_copy_costs_what_was_under_way_shm)
{
    kill_in_the_middle(EEP_BULK_SHM, 1);
}

Test(executor_processes, a_source_killed_in_mid_copy_costs_what_was_under_way_ucx)
{
    kill_in_the_middle(EEP_BULK_UCX, 1);
}

Test(executor_processes, two_of_three_sources_killed_in_mid_copy)
{
    kill_in_the_middle(EEP_BULK_SHM, 2);
}

Test(executor_processes, all_sources_killed_in_mid_copy_are_named)
{
    kill_in_the_middle(EEP_BULK_SHM, SEATS - 1);
}
