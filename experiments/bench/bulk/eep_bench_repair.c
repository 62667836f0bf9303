/* SPDX-License-Identifier: Apache-2.0 */
/* eep-bench-repair: how fast the repair executor fills slots from another process, unpaced, over
 * one carrier: fetched in segments, checked, and placed. experiments/measure/bulk_rate.py compares
 * it with ucx_perftest. */
#include "experiments/base/args.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/output.h"
#include "experiments/bench/bulk/bulk_peer.h"
#include "repair/checksum.h"
#include "repair/executor/executor.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { TIMEOUT_US = 60000000, BLOB_PERIOD = 4093 };

typedef struct repair_options {
    int bulk, experts, mb, rounds;
    bool bind;
    args_given given;
} repair_options;

static repair_options options;
static unsigned char *weights, *slots; /* [experts] of so many MB each */

typedef struct repair {
    eep_device *device;
    eepi_executor *executor;
    eepi_bulk *bulk;
    eepi_view *view;
    const bulk_peer *from;
    bool over;
    eep_status status;
    eep_tensor slot;
} repair;

static size_t expert_bytes(void)
{
    return (size_t)options.mb * 1000000;
}

/* Twice as many experts as slots, so that each round fills each slot with another one. */
static unsigned char *weights_of(int expert)
{
    return weights + (size_t)(expert % options.experts) * expert_bytes();
}

static int serve(void *user, const eepi_blob *what, uint64_t bytes, eepi_bulk_part *parts_out)
{
    (void)user;
    (void)bytes;
    parts_out[0] = (eepi_bulk_part){weights_of(what->expert), expert_bytes()};
    return 1;
}

static void landed(void *user, uint64_t transfer, uint64_t offset, const void *data, uint64_t bytes)
{
    repair *r = user;
    eepi_executor_landed(r->executor, transfer, offset, data, bytes);
}

static void fetched(void *user, uint64_t transfer, eep_status status)
{
    repair *r = user;
    eepi_executor_fetched(r->executor, r->bulk, transfer, status);
}

static const eep_tensor *slot_of(void *user, int32_t layer, int32_t slot)
{
    repair *r = user;
    (void)layer;
    r->slot = (eep_tensor){slots + (size_t)slot * expert_bytes(), expert_bytes()};
    return &r->slot;
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
    const unsigned char *address = ((repair *)user)->from->address[options.bulk];
    (void)seat;
    *address_out = address + 1;
    return address[0];
}

static void done(void *user, uint64_t digest, eep_status status, uint64_t bytes, const char *why)
{
    repair *r = user;
    (void)digest;
    (void)bytes;
    r->over = true;
    r->status = status;
    if (status != EEP_OK) {
        fprintf(stderr, "eep-bench-repair: %s\n", why);
    }
}

/* Rank 0 has all slots to fill, rank 1 a backup of everything. */
static void make_view(repair *r)
{
    const eepi_view_shape shape = {.max_ranks = 2,
                                   .num_layers = 1,
                                   .num_experts = 2 * options.experts,
                                   .num_slots = options.experts};
    r->view = eepi_view_new(&shape);
    if (!r->view) {
        perror("eep-bench-repair");
        exit(1);
    }
    r->view->phase = EEPI_VIEW_REPAIRING;
    r->view->cause = EEPI_VIEW_FAULT;
    for (int seat = 0; seat < 2; seat++) {
        eepi_view_seat_at(r->view, seat)->generation = 1;
        eepi_view_seat_at(r->view, seat)->state = EEP_SEAT_ACTIVE;
    }
    for (int expert = 0; expert < 2 * options.experts; expert++) {
        *eepi_view_checksum_at(r->view, 0, expert) =
            eepi_checksum_bytes(weights_of(expert), expert_bytes());
        eepi_view_set_backup(r->view, 1, 0, expert, true);
    }
}

/* Returns the seconds that it takes to fill all slots. */
static double fill_once(repair *r, int round)
{
    const uint64_t begin = now_ns();
    for (int slot = 0; slot < options.experts; slot++) {
        *eepi_view_slot_at(r->view, 0, 0, slot) =
            (eepi_view_slot){.expert = (uint16_t)(slot + round % 2 * options.experts),
                             .source = 1,
                             .state = EEPI_SLOT_FILLING};
    }
    r->view->epoch = (uint64_t)round + 2;
    eepi_view_seal(r->view);
    r->over = false;
    eepi_executor_start(r->executor, r->bulk, r->view, now_ns() / 1000);
    while (!r->over) {
        struct pollfd fd = {.fd = eepi_bulk_fd(r->bulk), .events = POLLIN};
        for (int i = 0; i < 64 && eepi_bulk_progress(r->bulk) != 0; i++) {
        }
        eepi_executor_tick(r->executor, r->bulk, now_ns() / 1000);
        if (!r->over && eepi_executor_wake_us(r->executor) > 0 &&
            eepi_bulk_progress(r->bulk) == 0) {
            poll(&fd, 1, 100);
        }
    }
    return (double)(now_ns() - begin) / 1e9;
}

static double cpu_s(int who)
{
    struct rusage use;
    getrusage(who, &use);
    return (double)use.ru_utime.tv_sec + (double)use.ru_stime.tv_sec +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static int measure(repair *r, bulk_pair *pair)
{
    const double total = (double)expert_bytes() * options.experts;
    eepi_executor_config config = {.device = r->device,
                                   .num_tensors = 1,
                                   .tensor_bytes = {expert_bytes()},
                                   .num_layers = 1,
                                   .num_slots = options.experts,
                                   .fetch_timeout_us = TIMEOUT_US,
                                   .segments_per_source =
                                       eepi_bulk_facts_of(r->bulk).fetches_per_peer,
                                   .background_bytes_per_s = 1,
                                   .slot = slot_of,
                                   .backup = no_backup,
                                   .address = address_of,
                                   .done = done,
                                   .user = r};
    if (eepi_executor_open(&config, &r->executor) != EEP_OK) {
        return 1;
    }
    make_view(r);
    (void)fill_once(r, 0); /* connections, and pages that are touched for the first time */
    const double before = cpu_s(RUSAGE_SELF);
    for (int round = 1; round <= options.rounds && r->status == EEP_OK; round++) {
        const double took = fill_once(r, round);
        printf("%.0f bytes in %d experts  %.6f s  %.1f MB/s\n", total, options.experts, took,
               total / took / 1e6);
    }
    const double own = cpu_s(RUSAGE_SELF) - before;
    bulk_pair_end_peer(pair);
    printf("cpu  receiver %.3f s/GB  sender %.3f s/GB\n", own / total / options.rounds * 1e9,
           cpu_s(RUSAGE_CHILDREN) / total / (options.rounds + 1) * 1e9);
    return r->status != EEP_OK;
}

static int run(void)
{
    bulk_pair pair;
    repair r = {.from = &pair.peer};
    int result = 1;
    if (bulk_pair_open(&pair, "eep-bench-repair", serve, options.bind)) {
        if (eep_device_open("host", 0, &r.device) == EEP_OK) {
            r.bulk = bulk_peer_copier(options.bulk == 0 ? EEP_BULK_SHM : EEP_BULK_UCX,
                                      pair.holder_path, 0, serve, landed, fetched, &r);
            result = measure(&r, &pair);
        }
        if (result != 0) {
            fprintf(stderr, "eep-bench-repair: it could not be measured\n");
        }
    }
    eepi_bulk_close(r.bulk);
    eepi_executor_close(r.executor);
    eep_device_close(r.device);
    bulk_pair_close(&pair);
    free(r.view);
    return result;
}

#define AT(field) ARGS_AT(repair_options, field)
static const args_row option_rows[] = {
    {"--bulk", ARGS_CHOICE, AT(bulk), 0, 0, "shm|ucx", "KIND", "shm", "what carries the weights"},
    {"--experts", ARGS_WHOLE, AT(experts), 1, 256, NULL, "N", "16", "slots to fill"},
    {"--mb", ARGS_WHOLE, AT(mb), 1, 256, NULL, "MB", "8", "size of an expert, in 1,000,000 bytes"},
    {"--rounds", ARGS_WHOLE, AT(rounds), 1, 1000, NULL, "N", "5", "all slots are filled so often"},
    {"--bind", ARGS_FLAG, AT(bind), 0, 0, NULL, NULL, NULL,
     "bind either process to a core of its own"},
};
static const args_table table = {
    .program = "eep-bench-repair",
    .synopsis = "[OPTION]...",
    .about = "Fill slots with weights of another process, as fast as can be.",
    .section = {ARGS_SECTION(NULL, option_rows)},
    .given = offsetof(repair_options, given),
};

int main(int argc, char **argv)
{
    int result = 0;
    output_begin();
    if (!args_begin(&table, &options, argc, argv, &result)) {
        return result;
    }
    const size_t total = expert_bytes() * (size_t)options.experts;
    weights = malloc(total);
    slots = calloc(1, total);
    if (!weights || !slots) {
        perror("eep-bench-repair");
        return 1;
    }
    for (size_t i = 0; i < total; i++) {
        weights[i] = (unsigned char)(i * 2654435761u >> 13 ^ i % BLOB_PERIOD);
    }
    result = run();
    free(weights);
    free(slots);
    return result;
}
