/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend as it is, over a GPU made of host threads (tests/fake_gpu): what ranks that
 * share a device must not do to each other there. Each test is a process of its own, so the first
 * call of CUDA is the test's. */
#include "graphs/cuda/cuda_environment.h"
#include "graphs/device/device_share.h"
#include "graphs/device/tables.h"
#include "repair/executor/executor.h"
#include "tests/fake_gpu/fake_gpu.h"
#include "transport/window/window.h"
#include "tests/lib/window_fixture.h"

#include <stdbool.h>
#include <criterion/criterion.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SYNC_US = 10000000,
    KIB = 1024,
    MIB = KIB * KIB,
    WINDOW_BYTES = 3 * 4096,
    HOST_BYTES = 4096
};

static void no_variables(void)
{
    unsetenv(EEPI_CUDA_QUEUES_VARIABLE);
    unsetenv("CUDA_MODULE_LOADING");
    unsetenv("EEP_CUDA_PINNED_MB");
    setenv("EEP_FAKE_GPU_BOUND_MS", "3000", 1); /* a test that hangs says of what */
}

TestSuite(cuda_backend, .timeout = 60, .init = no_variables);

/* ------------------------------------------------------------------ what tests need of a GPU */

/* Queries of streams, by whomever: this definition comes before the fake's. */
static uint32_t num_queries;

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    static cudaError_t (*query)(cudaStream_t stream);

    if (!query) {
        void *symbol = dlsym(RTLD_NEXT, "cudaStreamQuery");
        memcpy(&query, &symbol, sizeof symbol);
    }
    __atomic_fetch_add(&num_queries, 1, __ATOMIC_RELAXED);
    return query(stream);
}

static eep_device *open_device(void)
{
    eep_device *device;

    cr_assert_eq(eep_device_open("cuda", 0, &device), EEP_OK, "%s", eep_device_error_text());
    return device;
}

static void sleep_us(uint64_t us)
{
    struct timespec time = {(time_t)(us / 1000000u), (long)(us % 1000000u) * 1000};

    nanosleep(&time, NULL);
}

/* A step's graph, as far as the host is concerned. */
typedef struct wait_args {
    const uint64_t *go; /* runs until this is not 0, */
    uint64_t run_us;    /* and then for so long; */
    uint64_t *word;     /* then this is `value`, */
    uint64_t value;
    uint64_t rest_us; /* and it runs for so long yet */
} wait_args;

static void wait_host(const void *args, eep_grid grid)
{
    const wait_args *a = args;

    (void)grid;
    while (a->go && __atomic_load_n(a->go, __ATOMIC_ACQUIRE) == 0) {
        sleep_us(200);
    }
    sleep_us(a->run_us);
    if (a->word) {
        __atomic_store_n(a->word, a->value, __ATOMIC_RELEASE);
    }
    sleep_us(a->rest_us);
}

static eep_kernel wait_kernel(void)
{
    static const fake_gpu_body body = {"wait", wait_host, sizeof(wait_args)};
    static const void *function;

    if (!function) {
        function = fake_gpu_add_kernel(&body);
    }
    return (eep_kernel)EEP_KERNEL("wait", wait_host, function, NULL, 0);
}

static void launch_wait(eep_stream *stream, wait_args args)
{
    const eep_kernel kernel = wait_kernel();

    cr_assert_eq(eep_launch(stream, &kernel, 1, 1, &args, sizeof args), EEP_OK);
}

static void *alloc(eep_device *device, eep_memory kind, size_t bytes)
{
    void *memory;

    cr_assert_eq(eep_device_alloc(device, kind, bytes, &memory), EEP_OK, "%s",
                 eepi_device_failure(device));
    return memory;
}

static void smallest(eep_config *config, eep_device *device)
{
    eep_config_init(config);
    config->rank = 0;
    config->max_ranks = config->num_ranks = config->num_layers = 1;
    config->num_experts = config->num_slots = config->top_k = 1;
    config->hidden = 16;
    config->num_max_tokens_per_rank = 1;
    config->device = device;
    config->store_path = "/nowhere";
}

/* ------------------------------------------------------------------ the environment */

/* A1. A count of devices is a program's first call, and an initialisation. */
Test(cuda_backend, environment_is_set_before_the_first_call)
{
    cr_assert_eq(eep_device_count("cuda"), 1);
    cr_expect_eq(fake_gpu_count().queues, 32);
    cr_expect_eq(fake_gpu_count().loads_eagerly, 1);
    eep_device *device = open_device();
    cr_expect_eq(eepi_device_facts_of(device).num_queues, 32);
    cr_expect_eq(eepi_device_most_waiters(device), 16);
    eep_device_close(device);
}

static void expect_room_for(eep_device *device, uint32_t num_ranks)
{
    for (uint32_t i = 0; i < num_ranks; i++) {
        cr_assert_eq(eepi_device_take_waiter(device), EEP_OK, "%u", i);
    }
    cr_expect_eq(eepi_device_take_waiter(device), EEP_ERR_UNSUPPORTED);
    for (uint32_t i = 0; i < num_ranks; i++) {
        eepi_device_release_waiter(device);
    }
}

/* Two ranks in one queue wait for each other. */
Test(cuda_backend, room_for_ranks_follows_from_the_queues)
{
    setenv(EEPI_CUDA_QUEUES_VARIABLE, "6", 1);
    eep_device *device = open_device();
    cr_expect_eq(fake_gpu_count().queues, 6, "what the user has set stays");
    cr_expect_eq(eepi_device_facts_of(device).num_queues, 6);
    expect_room_for(device, 3);

    char error[512] = "";
    eep_context *context;
    eep_config config;
    smallest(&config, device);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(eepi_device_take_waiter(device), EEP_OK);
    }
    cr_expect_eq(eep_open(&config, error, sizeof error, &context), EEP_ERR_UNSUPPORTED);
    cr_expect(strstr(error, EEPI_CUDA_QUEUES_VARIABLE), "'%s'", error);
    for (int i = 0; i < 3; i++) {
        eepi_device_release_waiter(device);
    }
    eep_device_close(device);
}

/* Somebody else was first, with nothing set: CUDA's own number counts. */
Test(cuda_backend, queues_of_a_process_that_used_cuda_before)
{
    void *driver = dlopen(LOADED_DRIVER, RTLD_NOW);
    cr_assert_not_null(driver, "%s", dlerror());
    eep_device *device = open_device();
    cr_expect_eq(eepi_device_facts_of(device).num_queues, EEPI_CUDA_DEFAULT_QUEUES);
    expect_room_for(device, EEPI_CUDA_DEFAULT_QUEUES / 2);
    eep_device_close(device);
    dlclose(driver);
}

/* ------------------------------------------------------------------ streams */

static const eepi_view_shape view_shape = {1, 1, 1, 1};

/* A2. All that a rank does, in two streams. */
Test(cuda_backend, two_streams_a_rank)
{
    eep_device *device = open_device();
    eep_stream *step, *next;
    eepi_tables *tables;
    eepi_executor *executor;
    eepk_shape shape;
    const char *why;
    eep_config config;
    eepi_executor_config repairs = {.device = device,
                                    .num_tensors = 1,
                                    .tensor_bytes = {4096},
                                    .num_layers = view_shape.num_layers,
                                    .num_slots = view_shape.num_slots,
                                    .background_bytes_per_s = 1};
    smallest(&config, device);
    cr_assert_eq(eepi_shape_make(&config, &shape, &why), EEP_OK, "%s", why);
    cr_assert_eq(eep_stream_open(device, &step), EEP_OK);
    cr_assert_eq(eepi_device_take_waiter(device), EEP_OK);
    cr_assert_eq(eepi_tables_open(device, &shape, NULL, &tables), EEP_OK);
    cr_assert_eq(eepi_executor_open(&repairs, &executor), EEP_OK);
    cr_expect_eq(fake_gpu_count().streams_open, 2);
    cr_expect_eq(fake_gpu_count().pageable_copies, 0);
    eepi_executor_close(executor);
    eepi_tables_close(tables);

    /* a stream that is closed while ranks wait serves the next one, in the same queue */
    void *native = eep_stream_native(step);
    eep_stream_close(step);
    cr_assert_eq(eep_stream_open(device, &next), EEP_OK);
    cr_expect_eq(eep_stream_native(next), native);
    eep_stream_close(next);
    eepi_device_release_waiter(device);
    cr_expect_eq(fake_gpu_count().streams_open, 1, "the auxiliary one");
    eep_device_close(device);
    cr_expect_eq(fake_gpu_count().streams_open, 0);
    cr_expect_eq(fake_gpu_count().most_streams, 2);
}

Test(cuda_backend, a_step_has_the_highest_priority)
{
    eep_device *device = open_device();
    eep_stream *step, *auxiliary;
    int of_step = 0, of_auxiliary = 0;
    cr_assert_eq(eep_stream_open(device, &step), EEP_OK);
    cr_assert_eq(eepi_device_auxiliary(device, &auxiliary), EEP_OK);
    cudaStreamGetPriority(eep_stream_native(step), &of_step);
    cudaStreamGetPriority(eep_stream_native(auxiliary), &of_auxiliary);
    cr_expect_lt(of_step, of_auxiliary, "lower numbers go first");
    eep_stream_close(step);
    eep_device_close(device);
}

/* ------------------------------------------------------------------ nothing waits for the device
 */

static void use_and_give_back(eep_device *device, const eepi_window_descriptor *peer,
                              const eepi_window_spec *spec)
{
    eepi_window_spec own_spec = *spec;
    eepi_window *own, *mapped;
    eep_stream *stream;
    eep_event *event;
    eep_graph *graph;
    char why[256] = "";
    void *memory[8];

    for (int i = 0; i < 8; i++) {
        memory[i] = alloc(device, i % 2 ? EEP_MEMORY_PINNED : EEP_MEMORY_DEVICE, MIB);
    }
    cr_assert_eq(eep_stream_open(device, &stream), EEP_OK);
    cr_assert_eq(eep_event_open(device, &event), EEP_OK);
    cr_assert_eq(eep_capture_begin(stream), EEP_OK);
    cr_assert_eq(eep_copy_async(stream, memory[0], memory[1], MIB), EEP_OK);
    cr_assert_eq(eep_capture_end(stream, &graph), EEP_OK);
    cr_assert_eq(eep_graph_replay(graph, stream), EEP_OK);
    cr_assert_eq(eep_event_record(event, stream), EEP_OK);
    cr_assert_eq(eep_event_synchronize(event, SYNC_US), EEP_OK);
    own_spec.seat++;
    cr_assert_eq(window_make(device, &own_spec, why, sizeof why, &own), EEP_OK, "%s", why);
    cr_assert_eq(window_map_whole(device, peer, spec, why, sizeof why, &mapped), EEP_OK, "%s", why);
    eepi_window_close(mapped);
    eepi_window_close(own);
    eep_graph_close(graph);
    eep_event_close(event);
    eep_stream_close(stream);
    for (int i = 0; i < 8; i++) {
        eep_device_free(device, i % 2 ? EEP_MEMORY_PINNED : EEP_MEMORY_DEVICE, memory[i]);
    }
}

/* A3. One rank waits in a kernel; others come and go meanwhile. */
Test(cuda_backend, nothing_waits_for_the_device_while_ranks_wait)
{
    const eepi_window_spec spec = {1, 1, WINDOW_BYTES, HOST_BYTES};
    eepi_window_descriptor descriptor;
    eep_device *device = open_device();
    eepi_window *window;
    eep_stream *step;
    char why[256] = "";
    uint64_t *go = alloc(device, EEP_MEMORY_PINNED, sizeof *go);
    cr_assert_eq(eep_stream_open(device, &step), EEP_OK);
    cr_assert_eq(window_make(device, &spec, why, sizeof why, &window), EEP_OK, "%s", why);
    eepi_window_describe(window, &descriptor);
    cr_assert_eq(eepi_device_take_waiter(device), EEP_OK);
    launch_wait(step, (wait_args){.go = go});

    for (int i = 0; i < 5; i++) {
        eep_device *other = open_device();
        cr_assert_eq(eepi_device_take_waiter(other), EEP_OK);
        use_and_give_back(other, &descriptor, &spec);
        eepi_device_release_waiter(other);
        eep_device_close(other);
    }
    cr_expect_eq(fake_gpu_count().device_wide_calls_while_busy, 0);
    cr_expect_eq(fake_gpu_count().launches_held, 0);
    cr_expect_eq(eepi_device_late_calls(device), 0);
    cr_expect_leq(fake_gpu_count().most_streams, 4);

    __atomic_store_n(go, 1, __ATOMIC_RELEASE);
    cr_assert_eq(eep_stream_synchronize(step, SYNC_US), EEP_OK);
    cr_expect_gt(fake_driver.mappings, EEPK_COLOURS, "windows were put away");
    eepi_device_release_waiter(device);
    cr_expect_eq(fake_driver.mappings, EEPK_COLOURS, "nobody waits: they are gone");
    eepi_window_close(window);
    eep_stream_close(step);
    eep_device_free(device, EEP_MEMORY_PINNED, go);
    eep_device_close(device);
    cr_expect_eq(fake_driver.mappings + fake_driver.handles + fake_driver.addresses, 0);
    cr_expect_eq(fake_gpu_count().streams_open, 0);
    cr_expect_eq(fake_gpu_count().allocations_open, 0);
    cr_expect_eq(fake_gpu_count().pool_bytes_reserved, 0);
}

/* A process with one rank puts away little: each return of a peer would cost a window otherwise.
 * What is larger is unmapped at once, and waits for that rank's step at most. */
Test(cuda_backend, a_rank_that_is_alone_puts_away_little)
{
    const eepi_window_spec spec = {1, 1, WINDOW_BYTES, HOST_BYTES};
    eep_device *device = open_device();
    eepi_window *window;
    char why[256] = "";
    cr_assert_eq(eepi_device_take_waiter(device), EEP_OK);
    cr_assert_eq(window_make(device, &spec, why, sizeof why, &window), EEP_OK, "%s", why);
    eepi_window_close(window);
    cr_expect_eq(fake_driver.mappings, EEPK_COLOURS, "a step may be in flight");
    eepi_device_release_waiter(device);
    cr_expect_eq(fake_driver.mappings + fake_driver.handles + fake_driver.addresses, 0);
    eep_device_close(device);
}

/* What cannot be put off is counted: more pinned memory than was reserved. */
Test(cuda_backend, pinned_memory_beyond_the_reserve_is_counted)
{
    setenv("EEP_CUDA_PINNED_MB", "4", 1);
    eep_device *device = open_device();
    void *few = alloc(device, EEP_MEMORY_PINNED, MIB);
    cr_assert_eq(eepi_device_take_waiter(device), EEP_OK);
    cr_assert_eq(eepi_device_take_waiter(device), EEP_OK);
    void *some = alloc(device, EEP_MEMORY_PINNED, 2 * MIB);
    cr_expect_eq(eepi_device_late_calls(device), 0);
    void *much = alloc(device, EEP_MEMORY_PINNED, 9 * MIB);
    cr_expect_eq(eepi_device_late_calls(device), 1);
    eep_device_free(device, EEP_MEMORY_PINNED, much);
    void *again = alloc(device, EEP_MEMORY_PINNED, 9 * MIB);
    cr_expect_eq(again, much);
    cr_expect_eq(eepi_device_late_calls(device), 1);
    eep_device_free(device, EEP_MEMORY_PINNED, few);
    eep_device_free(device, EEP_MEMORY_PINNED, some);
    eep_device_free(device, EEP_MEMORY_PINNED, again);
    eepi_device_release_waiter(device);
    eepi_device_release_waiter(device);
    eep_device_close(device);
    cr_expect_eq(fake_gpu_count().allocations_open, 0);
}

/* A variable that is no number of megabytes is refused by name, and never taken for the default. */
Test(cuda_backend, a_reserve_that_is_no_number_is_refused)
{
    static const char *const wrong[] = {"abc", "-1", "64MB", "1048577", "99999999999999999999",
                                        " "};
    char text[64];
    eep_device *device = NULL;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        setenv("EEP_CUDA_PINNED_MB", wrong[i], 1);
        cr_expect_eq(eep_device_open("cuda", 0, &device), EEP_ERR_INVALID, "%s", wrong[i]);
        snprintf(text, sizeof text, "EEP_CUDA_PINNED_MB is \"%s\": it must be a whole number",
                 wrong[i]);
        cr_expect(strstr(eep_error_text(), text), "%s", eep_error_text());
    }
    cr_expect_eq(fake_gpu_count().allocations_open, 0);
    setenv("EEP_CUDA_PINNED_MB", "", 1); /* as if it were not set */
    eep_device_close(open_device());
}

/* ------------------------------------------------------------------ memory against an oracle */

enum { PIECES = 64, ROUNDS = 400 };

typedef struct piece {
    uint8_t *at;
    size_t bytes;
    uint8_t mark;
} piece;

static bool is_all(const piece *p, uint8_t value)
{
    for (size_t i = 0; i < p->bytes; i++) {
        if (p->at[i] != value) {
            return false;
        }
    }
    return true;
}

/* Each piece is clear when it comes and holds what was written when it goes: none lies in another.
 * The fake's device memory is the host's. */
static void come_and_go(eep_device *device, uint32_t random)
{
    piece pieces[PIECES] = {{0}};

    for (int i = 0; i < ROUNDS + PIECES; i++) {
        piece *p = &pieces[i % PIECES];
        eep_memory kind = i % 2 ? EEP_MEMORY_PINNED : EEP_MEMORY_DEVICE;

        random = random * 1664525u + 1013904223u;
        if (p->at) {
            cr_assert(is_all(p, p->mark));
            eep_device_free(device, kind, p->at);
            p->at = NULL;
        }
        if (i >= ROUNDS) {
            continue;
        }
        p->bytes = 1 + (random >> 8) % (random & 1 ? 256 * KIB : 300);
        p->at = alloc(device, kind, p->bytes);
        p->mark = (uint8_t)(1 + i % 255);
        cr_assert_eq((uintptr_t)p->at % 128, 0);
        cr_assert(is_all(p, 0), "%zu bytes, round %d", p->bytes, i);
        memset(p->at, p->mark, p->bytes);
    }
}

Test(cuda_backend, memory_is_clear_and_nobody_elses)
{
    setenv("EEP_CUDA_PINNED_MB", "2", 1);
    eep_device *device = open_device();
    come_and_go(device, 1);
    eep_device_close(device);
    cr_expect_eq(fake_gpu_count().allocations_open, 0);
}

static void *one_rank(void *seed)
{
    for (uint32_t i = 0; i < 3; i++) {
        eep_device *device = open_device();
        eep_stream *stream;
        cr_assert_eq(eepi_device_take_waiter(device), EEP_OK);
        cr_assert_eq(eep_stream_open(device, &stream), EEP_OK);
        come_and_go(device, *(uint32_t *)seed + i);
        eep_stream_close(stream);
        eepi_device_release_waiter(device);
        eep_device_close(device);
    }
    return NULL;
}

Test(cuda_backend, ranks_as_threads_come_and_go)
{
    enum { RANKS = 6 };
    uint32_t seeds[RANKS];
    pthread_t threads[RANKS];
    for (uint32_t i = 0; i < RANKS; i++) {
        seeds[i] = 100 * i;
        cr_assert_eq(pthread_create(&threads[i], NULL, one_rank, &seeds[i]), 0);
    }
    for (uint32_t i = 0; i < RANKS; i++) {
        pthread_join(threads[i], NULL);
    }
    cr_expect_eq(fake_gpu_count().allocations_open, 0);
    cr_expect_eq(fake_gpu_count().streams_open, 0);
    cr_expect_leq(fake_gpu_count().most_streams, 2 * RANKS);
}

/* ------------------------------------------------------------------ threads and windows */

static void *map_in_a_new_thread(void *argument)
{
    eep_device *device = argument;
    const eepi_window_spec spec = {1, 1, WINDOW_BYTES, HOST_BYTES};
    eepi_window *window = NULL;
    static char why[256];

    if (window_make(device, &spec, why, sizeof why, &window) != EEP_OK) {
        return why;
    }
    eepi_window_close(window);
    return NULL;
}

/* A8. A service thread's first call is one of the driver's. */
Test(cuda_backend, every_thread_has_a_context)
{
    eep_device *device = open_device();
    pthread_t thread;
    void *why = NULL;
    cr_assert_eq(pthread_create(&thread, NULL, map_in_a_new_thread, device), 0);
    cr_assert_eq(pthread_join(thread, &why), 0);
    cr_expect_null(why, "%s", (char *)why);
    cr_expect_eq(fake_gpu_count().calls_without_context, 0);
    eep_device_close(device);
}

/* A9. Whether a driver imports what its own process exported is not known. */
Test(cuda_backend, own_windows_are_not_imported)
{
    setenv("EEP_FAKE_GPU_REFUSE_OWN_IMPORT", "1", 1);
    const eepi_window_spec spec = {1, 1, WINDOW_BYTES, HOST_BYTES},
                           next = {1, 2, WINDOW_BYTES, HOST_BYTES};
    eep_device *owner = open_device(), *peer = open_device();
    eepi_window_descriptor descriptor;
    eepi_window *window, *mapped, *successor, *none = NULL;
    char why[512] = "";
    cr_assert_eq(window_make(owner, &spec, why, sizeof why, &window), EEP_OK, "%s", why);
    eepi_window_describe(window, &descriptor);
    cr_assert_eq(window_map_whole(peer, &descriptor, &spec, why, sizeof why, &mapped), EEP_OK, "%s",
                 why);
    cr_expect_eq(fake_gpu_count().imports_of_own_memory, 0);
    cr_expect_eq(window_memory(mapped), window_memory(window));
    cr_expect_eq(eepi_window_header(mapped)->generation, 1);
    cr_expect_eq(fake_driver.mappings, EEPK_COLOURS);

    /* the owner closes and another window takes its descriptors' numbers: it is not the one */
    eepi_window_close(window);
    cr_expect_eq(fake_driver.mappings, EEPK_COLOURS, "the peer may store into it yet");
    cr_assert_eq(window_make(owner, &next, why, sizeof why, &successor), EEP_OK);
    cr_expect_neq(window_memory(successor), window_memory(mapped));
    cr_expect_eq(window_map_whole(peer, &descriptor, &spec, why, sizeof why, &none),
                 EEP_ERR_UNREACHABLE);
    cr_expect_null(none);
    memset(window_memory(mapped), 1, WINDOW_BYTES);
    cr_expect_eq(*(uint64_t *)window_memory(successor), 0);
    eepi_window_close(mapped);
    cr_expect_eq(fake_driver.mappings, EEPK_COLOURS, "gone with its last user");
    eepi_window_close(successor);
    cr_expect_eq(fake_driver.mappings + fake_driver.handles + fake_driver.addresses, 0);
    eep_device_close(owner);
    eep_device_close(peer);
}

/* ------------------------------------------------------------------ the end of a step */

/* A10. The driver's lock is asked for a thousand times a second, not in each poll. */
Test(cuda_backend, step_end_polls_the_word)
{
    eep_device *device = open_device();
    eep_stream *step;
    uint64_t *word = alloc(device, EEP_MEMORY_PINNED, sizeof *word);
    cr_assert_eq(eep_stream_open(device, &step), EEP_OK);

    launch_wait(step, (wait_args){.run_us = 50000, .word = word, .value = 7});
    num_queries = 0;
    cr_assert_eq(eepi_stream_await_word(step, word, 7, SYNC_US), EEP_OK);
    cr_expect_eq(*word, 7);
    cr_expect_leq(num_queries, 50 + 20 + 300, "%u", num_queries);
    cr_expect_eq(cudaStreamQuery(eep_stream_native(step)), cudaSuccess);
    eep_stream_close(step);
    eep_device_free(device, EEP_MEMORY_PINNED, word);
    eep_device_close(device);
}

/* The stream is empty afterwards, whatever the word says and whenever. */
Test(cuda_backend, step_end_waits_for_the_stream)
{
    eep_device *device = open_device();
    eep_stream *step;
    uint64_t *word = alloc(device, EEP_MEMORY_PINNED, 2 * sizeof *word), *go = word + 1;
    cr_assert_eq(eep_stream_open(device, &step), EEP_OK);

    launch_wait(step, (wait_args){.word = word, .value = 7, .rest_us = 20000});
    cr_assert_eq(eepi_stream_await_word(step, word, 7, SYNC_US), EEP_OK);
    cr_expect_eq(cudaStreamQuery(eep_stream_native(step)), cudaSuccess, "nodes behind the word");
    launch_wait(step, (wait_args){.run_us = 5000});
    cr_assert_eq(eepi_stream_await_word(step, word, 8, SYNC_US), EEP_OK, "a word that never comes");
    cr_assert_eq(eepi_stream_await_word(step, word, 8, SYNC_US), EEP_OK, "an empty stream");

    launch_wait(step, (wait_args){.go = go, .word = word, .value = 9, .rest_us = 30000});
    cr_expect_eq(eepi_stream_await_word(step, word, 9, 20000), EEP_ERR_TIMEOUT, "before the word");
    __atomic_store_n(go, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != 9) {
        sleep_us(100);
    }
    cr_expect_eq(eepi_stream_await_word(step, word, 9, 5000), EEP_ERR_TIMEOUT, "behind it");
    cr_assert_eq(eepi_stream_await_word(step, word, 9, SYNC_US), EEP_OK);
    eep_stream_close(step);
    eep_device_free(device, EEP_MEMORY_PINNED, word);
    eep_device_close(device);
}
