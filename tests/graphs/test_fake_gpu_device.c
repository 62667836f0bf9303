/* SPDX-License-Identifier: Apache-2.0 */
/* The fake GPU's device as a whole: calls that wait for all of it, loading, contexts, memory pools,
 * and hangs that are named. Each test is a process of its own. */
#include "tests/lib/fake_gpu_fixture.h"

#include <cuda.h>
#include <cudaTypedefs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void set_up(void)
{
    choose_queues("32");
}

TestSuite(fake_gpu_device, .init = set_up, .timeout = 30);

/* ---------------------------------------------------------------- calls that wait for all */

typedef struct other_thread { /* does one call */
    pthread_t thread;
    void *memory; /* to free */
    cudaStream_t stream;
    uint32_t *word; /* to add to, in the stream */
    uint32_t is_done;
} other_thread;

static void *free_memory(void *argument)
{
    other_thread *other = argument;

    OK(cudaFree(other->memory));
    __atomic_store_n(&other->is_done, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void *add_one(void *argument)
{
    other_thread *other = argument;

    OK(launch_add(other->stream, other->word, 1));
    __atomic_store_n(&other->is_done, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void start(other_thread *other, void *(*body)(void *))
{
    cr_assert_eq(pthread_create(&other->thread, NULL, body, other), 0);
}

Test(fake_gpu_device, a_free_waits_for_running_kernels_and_launches_wait_for_it)
{
    static gate g;
    static uint32_t word;
    other_thread frees = {.memory = NULL}, launches = {.word = &word};
    cudaStream_t streams[2];
    cudaEvent_t event;
    uint64_t calls;

    OK(cudaMalloc(&frees.memory, 4096));
    make_streams(streams, 2);
    launches.stream = streams[1];
    calls = fake_gpu_count().device_wide_calls;
    OK(launch_gate(streams[0], &g));
    cr_assert(becomes(&g.entered, 1, LONG_MS));
    start(&frees, free_memory);
    while (fake_gpu_count().device_wide_calls == calls) {
        sched_yield();
    }
    start(&launches, add_one);
    while (fake_gpu_count().launches_held == 0) {
        sched_yield();
    }
    cr_expect_not(becomes(&frees.is_done, 1, SHORT_MS), "a kernel runs");
    cr_expect_not(becomes(&launches.is_done, 1, SHORT_MS), "the free has the lock");
    /* what is not device-wide goes on meanwhile */
    OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    OK(cudaEventRecord(event, streams[1]));
    OK(cudaMallocAsync(&launches.memory, 64, streams[1]));
    OK(cudaFreeAsync(launches.memory, streams[1]));
    OK(cudaEventDestroy(event));
    FAILS(cudaStreamQuery(streams[0]), cudaErrorNotReady);
    let_go(&g);
    cr_assert_eq(pthread_join(frees.thread, NULL), 0);
    cr_assert_eq(pthread_join(launches.thread, NULL), 0);
    OK(cudaStreamSynchronize(streams[1]));
    cr_expect_eq(word, 1);
    cr_expect_eq(fake_gpu_count().device_wide_calls_while_busy, 1);
    cr_expect_eq(fake_gpu_count().launches_held, 1);
    cr_expect_gt(fake_gpu_count().longest_device_wide_us, SHORT_MS * 1000);
}

Test(fake_gpu_device, the_first_use_of_a_kernel_waits_unless_all_are_loaded_eagerly)
{
    static uint32_t word;
    struct cudaFuncAttributes attributes;
    cudaStream_t stream;

    setenv("CUDA_MODULE_LOADING", "LAZY", 1);
    make_streams(&stream, 1);
    OK(launch_add(stream, &word, 1));
    cr_expect_eq(fake_gpu_count().device_wide_calls, 1);
    OK(launch_add(stream, &word, 1));
    cr_expect_eq(fake_gpu_count().device_wide_calls, 1);
    OK(cudaStreamSynchronize(stream));
    cr_expect_eq(word, 2);
    FAILS(cudaFuncGetAttributes(&attributes, &fake_gpu_count), cudaErrorInvalidDeviceFunction);
}

Test(fake_gpu_device, eager_loading_makes_no_launch_wait)
{
    static uint32_t word;
    cudaStream_t stream;

    make_streams(&stream, 1);
    OK(launch_add(stream, &word, 1));
    cr_expect_eq(fake_gpu_count().device_wide_calls, 0);
    OK(cudaStreamSynchronize(stream));
}

/* ---------------------------------------------------------------- hangs are named */

static int end_pipe[2];

static void say_end(const char *message)
{
    (void)!write(end_pipe[1], message, strlen(message));
    _exit(7);
}

Test(fake_gpu_device, a_wait_beyond_the_bound_ends_the_program_and_says_who_waits)
{
    static gate never;
    char said[512] = "";
    int status = 0;

    cr_assert_eq(pipe(end_pipe), 0);
    pid_t child = fork();
    if (child == 0) {
        cudaStream_t stream;
        void *memory;
        (void)!freopen("/dev/null", "w", stderr);
        fake_gpu_set_bound_ms(50);
        fake_gpu_set_end(say_end);
        if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess &&
            launch_gate(stream, &never) == cudaSuccess) {
            (void)cudaMalloc(&memory, 64);
        }
        _exit(1);
    }
    cr_assert_gt(child, 0);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 7, "%x", status);
    cr_assert_gt(read(end_pipe[0], said, sizeof said - 1), 0);
    cr_expect(strstr(said, "cudaMalloc has waited 50 ms for the device to be idle"), "'%s'", said);
}

Test(fake_gpu_device, a_child_of_a_process_that_called_cuda_gets_nothing)
{
    int status = 0, count;

    OK(cudaGetDeviceCount(&count));
    pid_t child = fork();
    if (child == 0) {
        _exit(cudaGetDeviceCount(&count) == cudaErrorInitializationError ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect_eq(status, 0);
}

/* ---------------------------------------------------------------- contexts */

static PFN_cuMemAddressReserve_v10020 reserve;
static PFN_cuMemAddressFree_v10020 let_reserved_go;

static void find(const char *name, unsigned version, void *to)
{
    enum cudaDriverEntryPointQueryResult found;
    void *function;

    OK(cudaGetDriverEntryPointByVersion(name, &function, version, cudaEnableDefault, &found));
    cr_assert_eq(found, cudaDriverEntryPointSuccess);
    memcpy(to, &function, sizeof function);
}

/* The driver's answer in a new thread, before and after the thread has a context. */
static void *reserve_in_new_thread(void *unused)
{
    CUdeviceptr address;
    int device = -1;

    (void)unused;
    OK(cudaGetDevice(&device));
    cr_expect_eq(device, 0, "said without a context");
    cr_expect_not(fake_gpu_has_context());
    cr_expect_eq(reserve(&address, 2 << 20, 0, 0, 0), CUDA_ERROR_INVALID_CONTEXT);
    OK(cudaSetDevice(0));
    cr_expect(fake_gpu_has_context());
    cr_assert_eq(reserve(&address, 2 << 20, 0, 0, 0), CUDA_SUCCESS);
    cr_assert_eq(let_reserved_go(address, 2 << 20), CUDA_SUCCESS);
    return NULL;
}

Test(fake_gpu_device, the_drivers_calls_need_a_context_in_their_own_thread)
{
    pthread_t thread;

    find("cuMemAddressReserve", 10020, &reserve);
    find("cuMemAddressFree", 10020, &let_reserved_go);
    OK(cudaSetDevice(0));
    cr_assert_eq(pthread_create(&thread, NULL, reserve_in_new_thread, NULL), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_expect_eq(fake_gpu_count().calls_without_context, 1);
    FAILS(cudaSetDevice(1), cudaErrorInvalidDevice);
}

static void *make_stream(void *unused)
{
    cudaStream_t stream;

    (void)unused;
    make_streams(&stream, 1);
    cr_expect(fake_gpu_has_context());
    return NULL;
}

Test(fake_gpu_device, a_call_that_works_on_the_device_gives_its_thread_a_context)
{
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, make_stream, NULL), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_expect_not(fake_gpu_has_context());
}

/* The same process maps its own memory once more, unless it is not to. */
Test(fake_gpu_device, memory_of_ones_own_can_be_refused)
{
    PFN_cuMemCreate_v10020 create;
    PFN_cuMemExportToShareableHandle_v10020 export;
    PFN_cuMemImportFromShareableHandle_v10020 import;
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .requestedHandleTypes =
                                          CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE}};
    CUmemGenericAllocationHandle made, again;
    int fd;

    find("cuMemCreate", 10020, &create);
    find("cuMemExportToShareableHandle", 10020, &export);
    find("cuMemImportFromShareableHandle", 10020, &import);
    OK(cudaSetDevice(0));
    cr_assert_eq(create(&made, 2 << 20, &properties, 0), CUDA_SUCCESS);
    cr_assert_eq(export(&fd, made, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0), CUDA_SUCCESS);
    cr_expect_eq(import(&again, (void *)(uintptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
                 CUDA_SUCCESS);
    cr_expect_eq(fake_driver.handles, 2);
    fake_driver.refuses_own_import = 1;
    cr_expect_eq(import(&again, (void *)(uintptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
                 CUDA_ERROR_NOT_SUPPORTED);
    cr_expect_eq(fake_gpu_count().imports_of_own_memory, 2);
}

/* ---------------------------------------------------------------- pools */

Test(fake_gpu_device, a_pool_keeps_what_was_freed_until_it_is_trimmed)
{
    struct cudaMemPoolProps properties = {.allocType = cudaMemAllocationTypePinned,
                                          .location = {.type = cudaMemLocationTypeDevice}};
    uint64_t keep = UINT64_MAX, reserved = 0, calls;
    cudaMemPool_t pool;
    cudaStream_t stream;
    void *memory;

    make_streams(&stream, 1);
    OK(cudaMemPoolCreate(&pool, &properties));
    OK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
    calls = fake_gpu_count().device_wide_calls;
    OK(cudaMallocFromPoolAsync(&memory, 1000, pool, stream));
    OK(cudaMemsetAsync(memory, 0, 1000, stream));
    OK(cudaFreeAsync(memory, stream));
    OK(cudaStreamSynchronize(stream));
    cr_expect_eq(fake_gpu_count().device_wide_calls, calls);
    OK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
    cr_expect_eq(reserved, 1024);
    cr_expect_eq(fake_gpu_count().pool_bytes_reserved, 1024);
    OK(cudaMemPoolTrimTo(pool, 0));
    cr_expect_eq(fake_gpu_count().pool_bytes_reserved, 0);
    cr_expect_eq(fake_gpu_count().device_wide_calls, calls + 1);
    OK(cudaMemPoolDestroy(pool));
}
