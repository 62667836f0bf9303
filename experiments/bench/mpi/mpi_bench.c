/* SPDX-License-Identifier: Apache-2.0 */
/* A layer of libeep's beside the same over MPI_Alltoallv, in blocks that alternate. */
#include "experiments/bench/mpi/mpi_bench.h"

#include "experiments/bench/graphs.h"
#include "experiments/bench/mpi/mpi_exchange.h"
#include "experiments/bench/mpi/mpi_job.h"
#include "experiments/bench/mpi/mpi_network.h"
#include "experiments/bench/report.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 2, BLOCKS_FOR_BAR = 10, DISPATCH = 0, COMBINE = 1 };
typedef enum side { OURS, MPI, OURS_AGAIN, FP8, PHASES, MPI_PHASES, COPY, NUM_SIDES } side;
static const double bar_mpi = 2.0, bar_network = 1.0, bar_copy = 3.0, bar_fp8 = 1.5;

typedef struct bench {
    mpi_job job;
    int num_blocks, steps, num_layers;
    bench_world *bf16, *fp8;
    bench_rank *r, *r8;        /* this process's in each */
    eep_graph *whole, *phases; /* of `r`: without meetings and with them */
    mpi_exchange *mpi;
    size_t copy_bytes; /* this rank's share of what a phase must read and write */
    uint8_t *from[BENCH_SETS], *to[BENCH_SETS];
    double *us[NUM_SIDES]; /* [num_blocks]: a layer; of COPY a copy */
    double *phase_us[NUM_SIDES][2];
} bench;

const char *mpi_bench_missing(void)
{
    return NULL;
}

/* ------------------------------------------------------------------ one step of each side */

static void run_ours(bench *b)
{
    b->r->graph[BENCH_ELASTIC] = b->whole;
    (void)bench_step(b->r, BENCH_ELASTIC);
}

static void run_fp8(bench *b)
{
    (void)bench_step(b->r8, BENCH_ELASTIC);
}

static void run_mpi(bench *b)
{
    for (uint32_t layer = 0; layer < (uint32_t)b->num_layers; layer++) {
        mpi_exchange_dispatch(b->mpi, layer);
        mpi_exchange_combine(b->mpi, layer);
    }
}

static void run_phases(bench *b)
{
    mpi_job_times *times = &b->job.shared->times[b->job.rank];

    b->r->graph[BENCH_ELASTIC] = b->phases;
    (void)bench_step(b->r, BENCH_ELASTIC);
    bench_fetch_stamps(b->r);
    for (int layer = 0; layer < b->num_layers; layer++) {
        const uint64_t *at = b->r->stamps_host + (size_t)layer * BENCH_STAMPS_PER_LAYER;
        times->begin[DISPATCH][layer] = at[0];
        times->end[DISPATCH][layer] = at[BENCH_AFTER_UNPACK];
        times->begin[COMBINE][layer] = at[BENCH_BEFORE_COMBINE];
        times->end[COMBINE][layer] = at[BENCH_AFTER_REDUCE];
    }
}

static void run_mpi_phases(bench *b)
{
    mpi_job_times *times = &b->job.shared->times[b->job.rank];

    for (int layer = 0; layer < b->num_layers; layer++) {
        for (int phase = 0; phase < 2; phase++) {
            mpi_job_meet(&b->job);
            times->begin[phase][layer] = eepk_now_ns();
            if (phase == DISPATCH) {
                mpi_exchange_dispatch(b->mpi, (uint32_t)layer);
            } else {
                mpi_exchange_combine(b->mpi, (uint32_t)layer);
            }
            times->end[phase][layer] = eepk_now_ns();
        }
    }
}

/* What BF16 must move is the same in both phases. No two copies in a row use the same bytes. */
static void run_copies(bench *b)
{
    mpi_job_times *times = &b->job.shared->times[b->job.rank];

    for (int layer = 0; layer < b->num_layers; layer++) {
        mpi_job_meet(&b->job);
        times->begin[DISPATCH][layer] = eepk_now_ns();
        memcpy(b->to[layer % BENCH_SETS], b->from[layer % BENCH_SETS], b->copy_bytes);
        times->end[DISPATCH][layer] = times->begin[COMBINE][layer] = times->end[COMBINE][layer] =
            eepk_now_ns();
    }
}

static void (*const run_side[NUM_SIDES])(bench *) = {run_ours,   run_mpi,        run_ours,  run_fp8,
                                                     run_phases, run_mpi_phases, run_copies};

/* ------------------------------------------------------------------ blocks */

/* From the first rank's begin to the last one's end. Rank 0, all having met. */
static double span_us(const bench *b, int phase, int layer)
{
    uint64_t begin = UINT64_MAX, end = 0;

    for (int i = 0; i < b->job.num_ranks; i++) {
        const mpi_job_times *t = &b->job.shared->times[i];
        begin = t->begin[phase][layer] < begin ? t->begin[phase][layer] : begin;
        end = t->end[phase][layer] > end ? t->end[phase][layer] : end;
    }
    return (double)(end - begin) / 1000.0;
}

/* Medians over the steps and layers of a block. */
static void run_side_with_phases(bench *b, side s, double *us_out)
{
    const size_t n = (size_t)b->steps * (size_t)b->num_layers;
    double *us[2] = {calloc(n, sizeof(double)), calloc(n, sizeof(double))};

    if (!us[DISPATCH] || !us[COMBINE]) {
        bench_fatal("out of memory");
    }
    for (size_t i = 0; i < n; i += (size_t)b->num_layers) {
        run_side[s](b);
        mpi_job_meet(&b->job);
        for (int layer = 0; layer < b->num_layers; layer++) {
            us[DISPATCH][i + (size_t)layer] = span_us(b, DISPATCH, layer);
            us[COMBINE][i + (size_t)layer] = span_us(b, COMBINE, layer);
        }
        mpi_job_meet(&b->job);
    }
    for (int phase = 0; phase < 2; phase++) {
        us_out[phase] = bench_stats_of(us[phase], n).p50;
        free(us[phase]);
    }
}

/* A layer's time: of as many steps as a block has, all ranks meeting before and behind them. */
static double run_side_whole(bench *b, side s)
{
    uint64_t begin;

    mpi_job_meet(&b->job);
    begin = eepk_now_ns();
    for (int i = 0; i < b->steps; i++) {
        run_side[s](b);
    }
    mpi_job_meet(&b->job);
    return (double)(eepk_now_ns() - begin) / 1000.0 / b->steps / b->num_layers;
}

/* Sides in order, then in the reverse one: what drifts does not favour one. */
static void run_blocks(bench *b)
{
    for (int block = -WARM_UP; block < b->num_blocks; block++) {
        for (int i = 0; i < NUM_SIDES; i++) {
            const side s = (side)(block % 2 ? NUM_SIDES - 1 - i : i);
            double us[2] = {0, 0};
            if (s >= PHASES) {
                run_side_with_phases(b, s, us);
            } else {
                us[0] = run_side_whole(b, s);
            }
            if (block >= 0) {
                b->us[s][block] = us[0];
                b->phase_us[s][DISPATCH][block] = us[DISPATCH];
                b->phase_us[s][COMBINE][block] = us[COMBINE];
            }
        }
    }
}

/* ------------------------------------------------------------------ opening */

static bench_world *open_world(bench *b, eep_device *device, const mpi_bench_options *o, int fp8)
{
    const bench_setup setup = {.num_ranks = b->job.num_ranks,
                               .num_layers = o->layers,
                               .num_experts = o->experts,
                               .top_k = o->topk,
                               .hidden = o->hidden,
                               .num_tokens = o->tokens,
                               .fp8 = fp8,
                               .num_blocks = EEPI_COPY_BLOCKS_HOST,
                               .seed = 20260511,
                               .peers = &b->job.peers};
    bench_world *w = bench_world_open(device, false, &setup);

    bench_capture_step(&w->rank[b->job.rank], BENCH_ELASTIC);
    return w;
}

static void open_sides(bench *b, eep_device *device, const mpi_bench_options *o)
{
    const size_t n = (size_t)b->num_blocks;

    b->bf16 = open_world(b, device, o, 0);
    b->fp8 = open_world(b, device, o, 1);
    b->r = &b->bf16->rank[b->job.rank];
    b->r8 = &b->fp8->rank[b->job.rank];
    b->whole = b->r->graph[BENCH_ELASTIC];
    b->bf16->setup.stamps = BENCH_STAMP_PHASES;
    b->bf16->setup.meets = true;
    bench_capture_step(b->r, BENCH_ELASTIC);
    b->phases = b->r->graph[BENCH_ELASTIC];
    b->r->graph[BENCH_ELASTIC] = b->whole;
    b->mpi = mpi_exchange_open(b->r, o->mpi_huge);
    b->copy_bytes = (size_t)(b->bf16->bytes.dispatch_least / 2 / b->job.num_ranks);
    for (int set = 0; set < BENCH_SETS; set++) {
        b->from[set] = aligned_alloc(64, (b->copy_bytes + 63) / 64 * 64);
        b->to[set] = aligned_alloc(64, (b->copy_bytes + 63) / 64 * 64);
        if (!b->from[set] || !b->to[set]) {
            bench_fatal("out of memory");
        }
        bench_values_fill((uint64_t)set, (uint16_t *)(void *)b->from[set], b->copy_bytes / 2);
        memset(b->to[set], 0, b->copy_bytes);
    }
    for (int s = 0; s < NUM_SIDES; s++) {
        b->us[s] = calloc(n, sizeof(double));
        b->phase_us[s][DISPATCH] = calloc(n, sizeof(double));
        b->phase_us[s][COMBINE] = calloc(n, sizeof(double));
        if (!b->us[s] || !b->phase_us[s][DISPATCH] || !b->phase_us[s][COMBINE]) {
            bench_fatal("out of memory");
        }
    }
}

static void close_sides(bench *b)
{
    for (int s = 0; s < NUM_SIDES; s++) {
        free(b->us[s]);
        free(b->phase_us[s][DISPATCH]);
        free(b->phase_us[s][COMBINE]);
    }
    for (int set = 0; set < BENCH_SETS; set++) {
        free(b->from[set]);
        free(b->to[set]);
    }
    mpi_exchange_close(b->mpi);
    eep_graph_close(b->phases);
    b->r->graph[BENCH_ELASTIC] = b->whole;
    bench_world_close(b->fp8);
    bench_world_close(b->bf16);
}

/* Outputs that are not what they must be, or not MPI's. */
static uint64_t count_wrong(bench *b)
{
    const size_t n = (size_t)b->r->shape.num_max_tokens * b->r->shape.hidden;
    const uint16_t *ours = b->r->out, *theirs = mpi_exchange_out(b->mpi);
    uint64_t wrong = bench_check_step(b->r8, BENCH_ELASTIC);

    wrong += bench_check_step(b->r, BENCH_ELASTIC);
    run_mpi(b);
    for (size_t i = 0; i < n; i++) {
        wrong += ours[i] != theirs[i];
    }
    return wrong;
}

/* ------------------------------------------------------------------ reports */

static void put_stats(bench_report *report, const bench *b, const char *metric, const double *us)
{
    const size_t n = (size_t)b->num_blocks;
    double *sorted = malloc(n * sizeof *sorted);
    bench_stats s;

    if (!sorted) {
        bench_fatal("out of memory");
    }
    memcpy(sorted, us, n * sizeof *sorted);
    s = bench_stats_of(sorted, n);
    bench_report_stats(report, metric, "us", &s, BENCH_NO_BAR);
    free(sorted);
}

/* `above` of the blocks over `below` of the same blocks. The bar: the interval's near end is at
 * least `least`, or its far end at most `most`; 0: none. */
static void put_ratio(bench_report *report, const bench *b, const char *metric, const double *above,
                      const double *below, double least, double most)
{
    const size_t n = (size_t)b->num_blocks;
    double *ratio = malloc(n * sizeof *ratio);
    bench_verdict verdict = BENCH_NO_BAR;
    bench_stats s;

    if (!ratio) {
        bench_fatal("out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        ratio[i] = above[i] / below[i];
    }
    s = bench_stats_of(ratio, n);
    if ((least != 0 || most != 0) && n >= BLOCKS_FOR_BAR) {
        verdict = (least == 0 || s.low >= least) && (most == 0 || s.high <= most) ? BENCH_MET
                                                                                  : BENCH_MISSED;
    }
    bench_report_ratio(report, metric, n, s.p50, s.low, s.high, verdict);
    free(ratio);
}

static void put_all(bench_report *report, const bench *b)
{
    const bench_bytes *bytes = &b->bf16->bytes;
    double *const *phases = b->phase_us[PHASES], *const *theirs = b->phase_us[MPI_PHASES];
    const bool network = b->job.peers.network != NULL; /* it copies each row several times */
    const double copy = network ? 0 : bar_copy;

    put_stats(report, b, "layer", b->us[OURS]);
    put_stats(report, b, "layer_mpi", b->us[MPI]);
    put_stats(report, b, "layer_fp8", b->us[FP8]);
    put_ratio(report, b, "layer_again_over_layer", b->us[OURS_AGAIN], b->us[OURS], 0, 0);
    put_ratio(report, b, "mpi_over_libeep", b->us[MPI], b->us[OURS],
              network ? bar_network : bar_mpi, 0);
    put_ratio(report, b, "fp8_over_bf16", b->us[FP8], b->us[OURS], 0, bar_fp8);
    put_stats(report, b, "dispatch_span", phases[DISPATCH]);
    put_stats(report, b, "combine_span", phases[COMBINE]);
    put_stats(report, b, "dispatch_span_mpi", theirs[DISPATCH]);
    put_stats(report, b, "combine_span_mpi", theirs[COMBINE]);
    bench_report_value(report, "least_bytes", "bytes", bytes->dispatch_least);
    bench_report_value(report, "dispatch_path_bytes", "bytes", bytes->dispatch_path);
    bench_report_value(report, "combine_path_bytes", "bytes", bytes->combine_path);
    if (network) {
        bench_report_value(report, "dispatch_far_bytes", "bytes", bytes->dispatch_far);
    }
    put_stats(report, b, "least_copy", b->us[COPY]);
    put_ratio(report, b, "dispatch_over_copy", phases[DISPATCH], b->us[COPY], 0, copy);
    put_ratio(report, b, "combine_over_copy", phases[COMBINE], b->us[COPY], 0, copy);
}

static void fill_version(char *to, size_t bytes)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;

    MPI_Get_library_version(version, &length);
    snprintf(to, bytes, "%.*s", (int)strcspn(version, ",\n"), version);
}

/* 0, or MPI_BENCH_*. */
static int measure(bench *b, bench_report *report, const mpi_bench_options *o)
{
    uint64_t wrong = 0;

    b->job.shared->wrong[b->job.rank] = count_wrong(b);
    mpi_job_meet(&b->job);
    for (int i = 0; i < b->job.num_ranks; i++) {
        wrong += b->job.shared->wrong[i];
    }
    if (report) {
        bench_report_begin(report, "mpi",
                           "ranks %d, layers %d, experts %d, topk %d, hidden %d, tokens %d, "
                           "bf16, steps per block %d%s%s",
                           b->job.num_ranks, o->layers, o->experts, o->topk, o->hidden, o->tokens,
                           b->steps, o->mpi_huge ? ", huge pages for MPI" : "",
                           !o->network ? ""
                           : o->ucx    ? ", libeep over UCX's tcp, MPI over TCP"
                                       : ", both over TCP");
        bench_report_check(report, "outputs_wrong", (double)wrong, wrong == 0);
    }
    if (wrong) {
        return MPI_BENCH_FAILED;
    }
    run_blocks(b);
    if (report) {
        put_all(report, b);
    }
    return report && report->bars_missed ? MPI_BENCH_MISSED : 0;
}

int mpi_bench_run(const mpi_bench_options *o, int argc, char **argv)
{
    bench b = {.num_blocks = o->blocks, .steps = o->steps, .num_layers = o->layers};
    char version[128];
    bench_report report = {.commit = o->commit, .driver = version, .device = "host"};
    eep_device *device;
    int result;

    MPI_Init(NULL, NULL);
    mpi_job_open(&b.job);
    b.job.peers.network = o->network ? &mpi_network : NULL;
    fill_version(version, sizeof version);
    if (eep_device_open("host", 0, &device) != EEP_OK) {
        bench_fatal("no host device");
    }
    if (b.job.rank == 0 && bench_report_open(&report, o->csv, o->append, argc, argv) != 0) {
        bench_fatal("--csv: %s cannot be written", o->csv);
    }
    open_sides(&b, device, o);
    result = measure(&b, b.job.rank == 0 ? &report : NULL, o);
    MPI_Bcast(&result, 1, MPI_INT, 0, MPI_COMM_WORLD);
    close_sides(&b);
    if (b.job.rank == 0 && bench_report_close(&report) != 0) {
        bench_fatal("--csv: %s cannot be written", o->csv);
    }
    eep_device_close(device);
    MPI_Finalize();
    return result;
}
