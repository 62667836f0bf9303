/* SPDX-License-Identifier: Apache-2.0 */
/* A rank of an instance over several hosts. It steps until its standard input ends, calls small
 * collectives meanwhile, checks each row of each, and says on standard output what happens:
 *
 *   {"joined": RANK}
 *   {"steps": STEPS OK, "with": RANKS IN THE VIEW, "epoch": EPOCH, "longest_us": BETWEEN TWO STEPS,
 *    "collectives": THAT ENDED WELL}     at each change of the view, and four times a second
 *   {"ended": STEPS OK, "aborted": STEPS, "wrong": ROWS, "collectives": THAT ENDED WELL,
 *    "repeated": THAT WERE}
 *
 * With EEP_TEST_CLAIMS it takes its seat, says {"claimed": RANK}, and never joins.
 *
 * It ends with its standard input, whatever the others do then. With an argument FOLDER it ends
 * when there is FOLDER/end, and writes to FOLDER/rank-RANK-PID-NAMESPACE.json, with the inode of
 * its pid namespace: launchers lend and mix standard streams. Rank, size and store are what the
 * launcher says. Each rank has all experts, so that no weights move. */
#include "eep/collectives.h"
#include "eep/eep.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TELL_US = 250000 };
enum { LAYERS = 2, HIDDEN = 64, EXPERTS = 4, TOP_K = 2, TOKENS = 6 };
enum {
    SEAT_WAITS = 1500,
    SEAT_WAIT_US = 20000
}; /* until a killed process has given its seat back */
enum { STRIDE = 20000, MOST_RANKS = 8, PATIENT_US = 100000, PAUSE_US = 10000 };

#define OK(call) ((call) == EEP_OK ? (void)0 : fail(#call))

static void fail(const char *call)
{
    fprintf(stderr, "%s: %s\n", call, eep_error_text());
    exit(1);
}

typedef struct expert_args { /* expert e multiplies its rows by factor[layer][e] */
    const float *factor;     /* [EXPERTS], of each slot */
    const float *rows;
    const int32_t *slot_begin;
    float *results;
} expert_args;

static void run_experts(const void *args, eep_grid grid)
{
    const expert_args *a = args;

    for (uint32_t slot = grid.block; slot < EXPERTS; slot += grid.num_blocks) {
        for (int32_t i = a->slot_begin[slot] * HIDDEN; i < a->slot_begin[slot + 1] * HIDDEN; i++) {
            a->results[i] = a->rows[i] * a->factor[slot];
        }
    }
}

static const eep_kernel experts = EEP_KERNEL("experts", run_experts, NULL, NULL, 0);

/* Of the steps of a rank, all in memory that stays. */
typedef struct engine {
    eep_device *device;
    eep_stream *stream;
    eep_graph *graph;
    eep_context *context;
    float *x, *out, *middle, *weights;
    int32_t *topk, *num;
    int rank;
    FILE *says;
    const char *folder;              /* NULL: none */
    bool gathers_no_more;            /* atomic */
    uint64_t num_gathered;           /* atomic */
    uint64_t num_repeated, num_last; /* by its thread; the newest number */
    uint64_t num_wrong_gathers;
} engine;

static float factor_of(int layer, int expert)
{
    return (float)(1 + expert + layer);
}

static void *pinned(const engine *e, size_t bytes)
{
    void *memory;

    OK(eep_device_alloc(e->device, EEP_MEMORY_PINNED, bytes, &memory));
    memset(memory, 0, bytes);
    return memory;
}

static void open_engine(engine *e)
{
    eep_status status = EEP_ERR_SEAT_TAKEN;
    eep_config config;
    char why[300];

    OK(eep_device_open("host", 0, &e->device));
    OK(eep_stream_open(e->device, &e->stream));
    eep_config_init(&config);
    config.device = e->device;
    config.num_layers = LAYERS;
    config.num_experts = config.num_slots = EXPERTS;
    config.top_k = TOP_K;
    config.hidden = HIDDEN;
    config.num_max_tokens_per_rank = TOKENS;
    config.background_bytes_per_s = 0;
    config.log_level = EEP_LOG_INFO;
    for (int i = 0; i < SEAT_WAITS && status == EEP_ERR_SEAT_TAKEN; i++) {
        status = eep_open(&config, why, sizeof why, &e->context);
        if (status == EEP_ERR_SEAT_TAKEN) {
            usleep(SEAT_WAIT_US);
        }
    }
    if (status != EEP_OK) {
        fprintf(stderr, "eep_open: %s\n", why);
        exit(1);
    }
    e->rank = eep_rank(e->context);
}

static void open_says(engine *e)
{
    struct stat space = {0};
    char name[600];

    e->says = stdout;
    if (e->folder) {
        (void)!stat("/proc/self/ns/pid", &space);
        snprintf(name, sizeof name, "%s/rank-%d-%d-%llu.json", e->folder, e->rank, (int)getpid(),
                 (unsigned long long)space.st_ino);
        e->says = fopen(name, "w");
    }
    if (!e->says) {
        perror(e->folder);
        exit(1);
    }
    setvbuf(e->says, NULL, _IOLBF, 0);
}

/* The memory of a layer, and its weights: what each slot is to hold. */
static expert_args load_layer(engine *e, int layer)
{
    const size_t rows_bytes = eep_rows_capacity(e->context) * HIDDEN * sizeof(float);
    float *factor = pinned(e, EXPERTS * sizeof(float));
    const expert_args a = {factor, pinned(e, rows_bytes),
                           pinned(e, (EXPERTS + 1) * sizeof(int32_t)), pinned(e, rows_bytes)};

    for (int32_t slot = 0; slot < EXPERTS; slot++) {
        const eep_tensor tensor = {&factor[slot], sizeof *factor};
        factor[slot] = factor_of(layer, eep_slot_expert(e->context, layer, slot));
        OK(eep_slot_set(e->context, layer, slot, &tensor, 1));
    }
    return a;
}

static void put_layer(engine *e, int layer, const expert_args *a)
{
    eep_dispatch_args d = {.struct_bytes = sizeof d};
    eep_combine_args c = {.struct_bytes = sizeof c, .out_dtype = EEP_FP32};

    d.x = layer == 0 ? e->x : e->middle;
    d.topk_idx = e->topk;
    d.num_tokens = c.num_tokens = e->num;
    d.rows = (void *)(uintptr_t)a->rows;
    d.slot_begin = (int32_t *)(uintptr_t)a->slot_begin;
    c.rows = a->results;
    c.topk_weights = e->weights;
    c.out = layer == 0 ? e->middle : e->out;
    OK(eep_dispatch(e->context, layer, e->stream, &d));
    OK(eep_launch(e->stream, &experts, EXPERTS, 1, a, sizeof *a));
    OK(eep_combine(e->context, layer, e->stream, &c));
}

static void capture(engine *e)
{
    const size_t batch_bytes = (size_t)TOKENS * HIDDEN * sizeof(float);
    expert_args layer_args[LAYERS];

    e->x = pinned(e, batch_bytes);
    e->middle = pinned(e, batch_bytes);
    e->out = pinned(e, batch_bytes);
    e->weights = pinned(e, sizeof(float) * TOKENS * TOP_K);
    e->topk = pinned(e, sizeof(int32_t) * TOKENS * TOP_K);
    e->num = pinned(e, sizeof(int32_t));
    for (int layer = 0; layer < LAYERS; layer++) {
        layer_args[layer] = load_layer(e, layer);
    }
    OK(eep_capture_begin(e->stream));
    OK(eep_step_latch(e->context, e->stream));
    for (int layer = 0; layer < LAYERS; layer++) {
        put_layer(e, layer, &layer_args[layer]);
    }
    OK(eep_step_finish(e->context, e->stream));
    OK(eep_capture_end(e->stream, &e->graph));
}

static float input(const engine *e, uint64_t step, int token)
{
    return (float)((step * 7 + (uint64_t)token * 3 + (uint64_t)e->rank) % 1000);
}

static void fill(engine *e, uint64_t step)
{
    *e->num = TOKENS;
    for (int token = 0; token < TOKENS; token++) {
        for (int k = 0; k < TOP_K; k++) {
            e->topk[token * TOP_K + k] = (int32_t)((step + (uint64_t)token + 2 * (uint64_t)k) % 4);
            e->weights[token * TOP_K + k] = 0.5f;
        }
        for (int i = 0; i < HIDDEN; i++) {
            e->x[token * HIDDEN + i] = input(e, step, token);
        }
    }
}

/* Small whole numbers and halves: exact in any order of addition. */
static int num_wrong(const engine *e, uint64_t step)
{
    int wrong = 0;

    for (int token = 0; token < TOKENS; token++) {
        float right = input(e, step, token);
        for (int layer = 0; layer < LAYERS; layer++) {
            float sum = 0;
            for (int k = 0; k < TOP_K; k++) {
                sum += 0.5f * factor_of(layer, e->topk[token * TOP_K + k]) * right;
            }
            right = sum;
        }
        for (int i = 0; i < HIDDEN; i++) {
            if (e->out[token * HIDDEN + i] != right) {
                wrong++;
                break;
            }
        }
    }
    return wrong;
}

/* Each member gives its own length of its own byte. */
static void check_gathered(engine *e, const uint8_t *rows, const uint64_t *sizes,
                           const eep_collective_result *result)
{
    bool is_wrong = e->num_last != 0 && result->number != e->num_last + 1;

    for (int seat = 0; seat < MOST_RANKS; seat++) {
        const bool is_in = result->contributors[0] >> seat & 1u;
        is_wrong |= sizes[seat] != (is_in ? (uint64_t)STRIDE - (uint64_t)seat : 0);
        for (uint64_t i = 0; i < sizes[seat]; i++) {
            is_wrong |= rows[seat * STRIDE + i] != seat + 1;
        }
    }
    e->num_last = result->number;
    __atomic_fetch_add(&e->num_gathered, 1, __ATOMIC_RELAXED);
    e->num_wrong_gathers += is_wrong;
}

static void *gather(void *user)
{
    static uint8_t send[STRIDE], rows[MOST_RANKS * STRIDE];
    engine *e = user;

    memset(send, e->rank + 1, sizeof send);
    while (!__atomic_load_n(&e->gathers_no_more, __ATOMIC_ACQUIRE)) {
        uint64_t sizes[MOST_RANKS] = {0};
        eep_collective_result result;
        const eep_status status =
            eep_collective_allgather(e->context, send, STRIDE - (size_t)e->rank, rows, STRIDE,
                                     sizes, PATIENT_US, EEP_SIZED(&result));
        if (status == EEP_OK) {
            check_gathered(e, rows, sizes, &result);
        } else if (status == EEP_ERR_ABORTED) {
            e->num_repeated++;
        } else if (status != EEP_ERR_TIMEOUT) {
            break; /* this rank is out, or the others have ended: its steps say so */
        }
        nanosleep(&(struct timespec){0, PAUSE_US * 1000L}, NULL);
    }
    return NULL;
}

static bool is_over(const engine *e)
{
    char name[600];
    struct pollfd input_fd = {.fd = 0, .events = POLLIN};

    if (!e->folder) {
        return poll(&input_fd, 1, 0) != 0;
    }
    snprintf(name, sizeof name, "%s/end", e->folder);
    return access(name, F_OK) == 0;
}

/* What was told last, and the longest time between two steps that ended well since then. */
typedef struct story {
    uint64_t epoch, told_us, ended_us, longest_us;
} story;

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Behind a step that ended well: each view, and four times a second. */
static void tell(const engine *e, story *told, const eep_step *step, uint64_t num_ok)
{
    const uint64_t now = now_us(), gap = told->ended_us ? now - told->ended_us : 0;

    told->ended_us = now;
    told->longest_us = gap > told->longest_us ? gap : told->longest_us;
    if (step->epoch == told->epoch && now - told->told_us < TELL_US) {
        return;
    }
    fprintf(e->says,
            "{\"steps\": %llu, \"with\": %d, \"epoch\": %llu, \"longest_us\": %llu, "
            "\"collectives\": %llu}\n",
            (unsigned long long)num_ok, step->num_active, (unsigned long long)step->epoch,
            (unsigned long long)told->longest_us,
            (unsigned long long)__atomic_load_n(&e->num_gathered, __ATOMIC_RELAXED));
    *told = (story){step->epoch, now, now, 0};
}

int main(int argc, char **argv)
{
    engine e = {.folder = argc > 1 ? argv[1] : NULL};
    uint64_t num_ok = 0, num_aborted = 0, num_wrong_rows = 0;
    story told = {0};
    pthread_t gatherer;

    open_engine(&e);
    open_says(&e);
    capture(&e);
    if (getenv("EEP_TEST_CLAIMS")) {
        fprintf(e.says, "{\"claimed\": %d}\n", e.rank);
        for (fflush(e.says); !is_over(&e);) {
            nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        }
        return 0;
    }
    OK(eep_join(e.context));
    fprintf(e.says, "{\"joined\": %d}\n", e.rank);
    if (pthread_create(&gatherer, NULL, gather, &e) != 0) {
        return 3;
    }
    while (!is_over(&e)) {
        eep_step step;
        eep_status status = eep_step_begin(e.context, 50000, EEP_SIZED(&step));
        if (status == EEP_ERR_TIMEOUT) {
            continue;
        }
        if (status != EEP_OK && is_over(&e)) {
            break; /* others have ended before it */
        }
        if (status != EEP_OK) {
            fprintf(stderr, "rank %d: %s\n", e.rank, eep_error_text());
            return 2;
        }
        fill(&e, step.step);
        OK(eep_graph_replay(e.graph, e.stream));
        status = eep_step_end(e.context);
        if (status == EEP_ERR_ABORTED) {
            num_aborted++;
            continue;
        }
        if (status != EEP_OK && is_over(&e)) {
            break;
        }
        OK(status);
        num_ok++;
        num_wrong_rows += (uint64_t)num_wrong(&e, step.step);
        tell(&e, &told, &step, num_ok);
    }
    __atomic_store_n(&e.gathers_no_more, true, __ATOMIC_RELEASE);
    pthread_join(gatherer, NULL);
    num_wrong_rows += e.num_wrong_gathers;
    fprintf(e.says,
            "{\"ended\": %llu, \"aborted\": %llu, \"wrong\": %llu, \"collectives\": %llu, "
            "\"repeated\": %llu}\n",
            (unsigned long long)num_ok, (unsigned long long)num_aborted,
            (unsigned long long)num_wrong_rows, (unsigned long long)e.num_gathered,
            (unsigned long long)e.num_repeated);
    eep_close(e.context);
    return num_wrong_rows != 0;
}
