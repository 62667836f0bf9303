/* SPDX-License-Identifier: Apache-2.0 */
/* eep-bench-bulk: how fast weights come from another process in shared memory and over UCX, in
 * turns within one run. Each is paired with the others of its round; shared memory runs twice in a
 * round (A/A). Rows go to a file, what they say to standard output. */
#include "experiments/bench/bulk/bulk_peer.h"
#include "experiments/bench/stats.h"
#include "experiments/base/output.h"
#include "transport/bulk/bulk.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/commit.h"
#include "experiments/base/args.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum {
    LANES = 4, /* fetches at a time, as the repair executor has them */
    TIMEOUT_US = 10000000,
    WARM_UP = 3
};
typedef enum side { SHM, UCX, SHM_AGAIN, NUM_SIDES } side;
static const char *const names[NUM_SIDES] = {"shm", "ucx", "shm again"};
/* Each side stands at each place, and behind each other one, equally often. */
static const side orders[][NUM_SIDES] = {{SHM, UCX, SHM_AGAIN}, {SHM_AGAIN, UCX, SHM},
                                         {UCX, SHM, SHM_AGAIN}, {SHM_AGAIN, SHM, UCX},
                                         {SHM, SHM_AGAIN, UCX}, {UCX, SHM_AGAIN, SHM}};
enum { NUM_ORDERS = sizeof orders / sizeof orders[0] };
static const size_t sizes[] = {64 * 1024, 1200000, 4700000, 32 * 1048576};
enum { NUM_SIZES = sizeof sizes / sizeof sizes[0] };

typedef struct copier {
    eepi_bulk *bulk;
    int ended, failed;
} copier;

static unsigned char *blob;

static int serve(void *user, const eepi_blob *what, uint64_t bytes, eepi_bulk_part *parts_out)
{
    (void)user;
    (void)bytes;
    parts_out[0] = (eepi_bulk_part){blob, sizes[what->expert]};
    return 1;
}

static void done(void *user, uint64_t transfer, eep_status status)
{
    copier *self = user;
    (void)transfer;
    self->ended++;
    self->failed += status != EEP_OK;
}

/* LANES fetches at once; returns microseconds until all have come. */
static double fetch_once(copier *self, const unsigned char *address, int size,
                         unsigned char *const *buffers)
{
    eepi_blob what = {.epoch = 1, .expert = size};
    const uint64_t begin = now_ns();
    self->ended = self->failed = 0;
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t transfer;
        if (eepi_bulk_fetch(self->bulk, address + 1, address[0], &what, buffers[lane], sizes[size],
                            TIMEOUT_US, &transfer) != EEP_OK) {
            exit(1);
        }
    }
    while (eepi_bulk_progress(self->bulk) != 0 || self->ended < LANES) {
        struct pollfd fd = {.fd = eepi_bulk_fd(self->bulk), .events = POLLIN};
        if (self->ended < LANES && eepi_bulk_progress(self->bulk) == 0) {
            poll(&fd, 1, 1000);
        }
    }
    const double us = (double)(now_ns() - begin) / 1000.0;
    for (int lane = 0; lane < LANES; lane++) {
        if (self->failed > 0 || memcmp(buffers[lane], blob, sizes[size]) != 0) {
            fprintf(stderr, "eep-bench-bulk: %d fetches failed, or wrong bytes\n", self->failed);
            exit(1);
        }
        memset(buffers[lane], 0, sizes[size]);
    }
    return us;
}

static void say(int size, double *const us[NUM_SIDES], size_t n)
{
    double *ratio = calloc(n, sizeof *ratio);
    for (int s = 0; s < NUM_SIDES; s++) {
        double *copy = calloc(n, sizeof *copy);
        memcpy(copy, us[s], n * sizeof *copy);
        bench_stats t = bench_stats_of(copy, n);
        printf("%9zu bytes x %d  %-9s  n %zu  us p50 %9.1f  p99 %9.1f  min %9.1f  max %9.1f  %5.2f "
               "GB/s\n",
               sizes[size], LANES, names[s], n, t.p50, t.p99, t.min, t.max,
               (double)(sizes[size] * LANES) / t.p50 / 1000.0);
        free(copy);
    }
    for (int s = UCX; s < NUM_SIDES; s++) {
        for (size_t i = 0; i < n; i++) {
            ratio[i] = us[s][i] / us[SHM][i];
        }
        bench_stats t = bench_stats_of(ratio, n);
        printf("%9zu bytes x %d  time of %s over shm, paired: median %.3f, 95 %% interval %.3f to "
               "%.3f\n",
               sizes[size], LANES, names[s], t.p50, t.low, t.high);
    }
    free(ratio);
}

static void measure(FILE *rows, copier *copiers,
                    unsigned char addresses[2][BULK_PEER_ADDRESS_BYTES], int rounds)
{
    unsigned char *buffers[LANES];
    double *us[NUM_SIDES];
    for (int lane = 0; lane < LANES; lane++) {
        buffers[lane] = calloc(1, sizes[NUM_SIZES - 1]);
    }
    for (int s = 0; s < NUM_SIDES; s++) {
        us[s] = calloc((size_t)rounds, sizeof(double));
    }
    fprintf(rows, "bytes,lanes,round,place,carrier,us\n");
    for (int size = 0; size < NUM_SIZES; size++) {
        for (int round = -WARM_UP; round < rounds; round++) {
            for (int place = 0; place < NUM_SIDES; place++) {
                const int s = orders[(round + NUM_ORDERS) % NUM_ORDERS][place], over = s == UCX;
                const double took = fetch_once(&copiers[over], addresses[over], size, buffers);
                if (round < 0) {
                    continue;
                }
                us[s][round] = took;
                fprintf(rows, "%zu,%d,%d,%d,%s,%.1f\n", sizes[size], LANES, round, place, names[s],
                        took);
            }
        }
        say(size, us, (size_t)rounds);
    }
    for (int lane = 0; lane < LANES; lane++) {
        free(buffers[lane]);
    }
    for (int s = 0; s < NUM_SIDES; s++) {
        free(us[s]);
    }
}

static void write_head(FILE *rows, int argc, char **argv)
{
    struct utsname machine;
    uname(&machine);
    fprintf(rows, "# commit %s\n# machine %s %s, %ld cores\n# command", commit_text(),
            machine.machine, machine.release, sysconf(_SC_NPROCESSORS_ONLN));
    for (int i = 0; i < argc; i++) {
        fprintf(rows, " %s", argv[i]);
    }
    fputc('\n', rows);
}

static int run(FILE *rows, int rounds)
{
    bulk_pair pair;
    copier both[2] = {{0}};
    int result = 1;
    if (bulk_pair_open(&pair, "eep-bench-bulk", serve, false)) {
        for (int i = 0; i < 2; i++) {
            both[i].bulk = bulk_peer_copier(i == 0 ? EEP_BULK_SHM : EEP_BULK_UCX, pair.holder_path,
                                            0, serve, NULL, done, &both[i]);
        }
        measure(rows, both, pair.peer.address, rounds);
        result = 0;
    }
    for (int i = 0; i < 2; i++) {
        eepi_bulk_close(both[i].bulk);
    }
    bulk_pair_close(&pair);
    return result;
}

typedef struct bulk_options {
    int rounds;
    const char *csv;
    args_given given;
} bulk_options;

#define AT(field) ARGS_AT(bulk_options, field)
static const args_row option_rows[] = {
    {"--rounds", ARGS_WHOLE, AT(rounds), 1, 100000, NULL, "N", "60",
     "fetches of each size by each carrier"},
    {"--csv", ARGS_TEXT, AT(csv), 0, 0, NULL, "FILE", "/dev/null",
     "rows, with how they were made; an older file is replaced"},
};
static const args_table table = {
    .program = "eep-bench-bulk",
    .synopsis = "[OPTION]...",
    .about = "Fetch weights from another process in shared memory and over UCX, in turns.",
    .section = {ARGS_SECTION(NULL, option_rows)},
    .given = offsetof(bulk_options, given),
};

int main(int argc, char **argv)
{
    bulk_options options = {0};
    int result = 0;
    output_begin();
    if (!args_begin(&table, &options, argc, argv, &result)) {
        return result;
    }
    FILE *rows = fopen(options.csv, "w");
    blob = malloc(sizes[NUM_SIZES - 1]);
    if (rows == NULL || blob == NULL) {
        perror(options.csv);
        return 1;
    }
    for (size_t i = 0; i < sizes[NUM_SIZES - 1]; i++) {
        blob[i] = (unsigned char)(i * 2654435761u >> 13);
    }
    write_head(rows, argc, argv);
    result = run(rows, options.rounds);
    if (fclose(rows) != 0) {
        perror(options.csv);
        result = 1;
    }
    free(blob);
    return result;
}
