/* SPDX-License-Identifier: Apache-2.0 */
/* The fake GPU imitates what the CUDA plugin must cope with. Each test is a process of its own, so
 * each makes its own first call. */
#include "tests/lib/fake_gpu_fixture.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STREAMS = 40 };

static void set_up(void)
{
    unsetenv("CUDA_DEVICE_MAX_CONNECTIONS");
    unsetenv("CUDA_MODULE_LOADING");
}

TestSuite(fake_gpu, .init = set_up, .timeout = 30);

/* ---------------------------------------------------------------- queues */

Test(fake_gpu, the_first_call_of_any_kind_reads_the_environment)
{
    cudaStream_t streams[MOST_STREAMS];
    int count = 0;

    OK(cudaGetDeviceCount(&count));
    cr_expect_eq(count, 1);
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 1);
    setenv("CUDA_MODULE_LOADING", "EAGER", 1);
    make_streams(streams, 9);
    cr_expect_eq(fake_gpu_count().queues, 8, "set too late");
    cr_expect_eq(fake_gpu_count().loads_eagerly, 0, "set too late");
    cr_expect_eq(fake_gpu_queue_of(streams[7]), 7);
    cr_expect_eq(fake_gpu_queue_of(streams[8]), 0, "in turn");
    cr_expect_eq(fake_gpu_count().streams_open, 9);
    OK(cudaStreamDestroy(streams[3]));
    cr_expect_eq(fake_gpu_count().streams_open, 8);
    cr_expect_eq(fake_gpu_count().most_streams, 9);
    FAILS(cudaStreamQuery(streams[3]), cudaErrorInvalidResourceHandle);
}

Test(fake_gpu, at_most_32_queues)
{
    cudaStream_t streams[MOST_STREAMS];

    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "100", 1);
    make_streams(streams, 33);
    cr_expect_eq(fake_gpu_count().queues, 32);
    cr_expect_eq(fake_gpu_queue_of(streams[32]), 0);
}

/* Two kernels of two streams, of which the first waits: side by side only in queues of their own.
 */
static int second_kernel_runs(const char *queues, int wait_ms)
{
    static gate first, second;
    cudaStream_t streams[2];
    int runs;

    choose_queues(queues);
    make_streams(streams, 2);
    OK(launch_gate(streams[0], &first));
    cr_assert(becomes(&first.entered, 1, LONG_MS));
    OK(launch_gate(streams[1], &second));
    runs = becomes(&second.entered, 1, wait_ms);
    FAILS(cudaStreamQuery(streams[0]), cudaErrorNotReady);
    FAILS(cudaStreamQuery(streams[1]), cudaErrorNotReady);
    let_go(&first);
    cr_assert(becomes(&second.entered, 1, LONG_MS));
    let_go(&second);
    OK(cudaStreamSynchronize(streams[0]));
    OK(cudaStreamSynchronize(streams[1]));
    return runs;
}

Test(fake_gpu, a_kernel_that_waits_holds_up_another_stream_of_its_queue)
{
    cr_expect_not(second_kernel_runs("1", SHORT_MS));
    cr_expect_eq(fake_gpu_count().shared_queue_waits, 1);
    cr_expect_eq(fake_gpu_count().most_kernels_at_once, 1);
}

Test(fake_gpu, kernels_in_queues_of_their_own_run_side_by_side)
{
    cr_expect(second_kernel_runs("2", LONG_MS));
    cr_expect_eq(fake_gpu_count().shared_queue_waits, 0);
    cr_expect_eq(fake_gpu_count().most_kernels_at_once, 2);
}

Test(fake_gpu, streams_are_dealt_by_chance_if_asked)
{
    cudaStream_t streams[MOST_STREAMS];
    int in_turn = 0;

    setenv("EEP_FAKE_GPU_DEAL_SEED", "7", 1);
    make_streams(streams, MOST_STREAMS);
    for (uint32_t i = 0; i < MOST_STREAMS; i++) {
        cr_expect_lt(fake_gpu_queue_of(streams[i]), 8);
        in_turn += fake_gpu_queue_of(streams[i]) == i % 8;
    }
    cr_expect_lt(in_turn, MOST_STREAMS / 2);
}

/* ---------------------------------------------------------------- order and events */

Test(fake_gpu, an_event_orders_streams_and_is_its_last_record)
{
    cudaStream_t streams[2];
    cudaEvent_t event;
    gate g = {0, 0};
    uint32_t *words;

    OK(cudaHostAlloc((void **)&words, 2 * sizeof *words, cudaHostAllocMapped));
    memset(words, 0, 2 * sizeof *words);
    make_streams(streams, 2);
    OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    OK(cudaEventQuery(event));
    OK(cudaStreamWaitEvent(streams[1], event, 0)); /* never recorded: nothing to wait for */
    OK(launch_add(streams[1], &words[1], 1));
    cr_assert(becomes(&words[1], 1, LONG_MS));
    OK(launch_gate(streams[0], &g));
    OK(cudaEventRecord(event, streams[0]));
    OK(cudaStreamWaitEvent(streams[1], event, 0));
    OK(cudaMemcpyAsync(&words[0], &words[1], sizeof *words, cudaMemcpyDefault, streams[1]));
    FAILS(cudaEventQuery(event), cudaErrorNotReady);
    cr_expect_not(becomes(&words[0], 1, SHORT_MS));
    let_go(&g);
    OK(cudaEventSynchronize(event));
    OK(cudaStreamSynchronize(streams[1]));
    cr_expect_eq(words[0], 1);
    cr_expect_eq(fake_gpu_count().pageable_copies, 0);
    OK(cudaEventDestroy(event));
}

Test(fake_gpu, copies_of_memory_that_cuda_does_not_know_are_counted)
{
    uint32_t heap = 5, *pinned;
    cudaStream_t stream;

    OK(cudaHostAlloc((void **)&pinned, sizeof *pinned, cudaHostAllocMapped));
    make_streams(&stream, 1);
    OK(cudaMemcpyAsync(pinned, &heap, sizeof heap, cudaMemcpyDefault, stream));
    OK(cudaStreamSynchronize(stream));
    cr_expect_eq(*pinned, 5);
    cr_expect_eq(fake_gpu_count().pageable_copies, 1);
}

/* ---------------------------------------------------------------- captures */

Test(fake_gpu, a_capture_keeps_arguments_by_value_and_replays_them)
{
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    size_t nodes = 0;
    uint32_t *word;

    OK(cudaMalloc((void **)&word, sizeof *word));
    make_streams(&stream, 1);
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    OK(cudaMemsetAsync(word, 0, sizeof *word, stream));
    OK(launch_add(stream, word, 2));
    OK(launch_add(stream, word, 3));
    OK(cudaStreamEndCapture(stream, &graph));
    OK(cudaGraphGetNodes(graph, NULL, &nodes));
    cr_expect_eq(nodes, 3);
    OK(cudaGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    OK(cudaGraphUpload(exec, stream));
    for (int i = 0; i < 2; i++) {
        OK(cudaGraphLaunch(exec, stream));
        OK(cudaStreamSynchronize(stream));
        cr_expect_eq(*word, 5);
    }
    OK(cudaGraphExecDestroy(exec));
}

/* Is a call that captures forbid allowed to this thread, in that mode of its own? */
static void *query_event(void *mode_of_thread)
{
    enum cudaStreamCaptureMode mode = *(enum cudaStreamCaptureMode *)mode_of_thread;
    cudaEvent_t event;
    cudaError_t error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);

    if (error == cudaSuccess) {
        error = cudaThreadExchangeStreamCaptureMode(&mode);
    }
    if (error == cudaSuccess) {
        error = cudaEventQuery(event);
    }
    OK(cudaEventDestroy(event));
    return (void *)(uintptr_t)error;
}

static cudaError_t query_in_thread(enum cudaStreamCaptureMode mode)
{
    pthread_t thread;
    void *result;

    cr_assert_eq(pthread_create(&thread, NULL, query_event, &mode), 0);
    cr_assert_eq(pthread_join(thread, &result), 0);
    return (cudaError_t)(uintptr_t)result;
}

Test(fake_gpu, a_global_capture_is_spoiled_by_another_thread_unless_that_is_relaxed)
{
    cudaStream_t stream;
    cudaGraph_t graph;

    make_streams(&stream, 1);
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    OK(query_in_thread(cudaStreamCaptureModeRelaxed));
    OK(query_in_thread(cudaStreamCaptureModeThreadLocal));
    OK(cudaStreamEndCapture(stream, &graph));
    OK(cudaGraphDestroy(graph));
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    FAILS(query_in_thread(cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
    FAILS(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    cr_expect_eq(fake_gpu_count().captures_spoiled, 1);
}

Test(fake_gpu, a_thread_local_capture_forbids_its_own_thread_alone)
{
    cudaStream_t stream;
    cudaGraph_t graph;
    enum cudaStreamCaptureStatus status;
    void *memory;

    make_streams(&stream, 1);
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    OK(query_in_thread(cudaStreamCaptureModeGlobal));
    OK(cudaStreamIsCapturing(stream, &status));
    cr_expect_eq(status, cudaStreamCaptureStatusActive);
    FAILS(cudaMalloc(&memory, 64), cudaErrorStreamCaptureUnsupported);
    OK(cudaStreamIsCapturing(stream, &status));
    cr_expect_eq(status, cudaStreamCaptureStatusInvalidated);
    FAILS(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    OK(cudaMalloc(&memory, 64));
    OK(cudaFree(memory));
    FAILS(cudaFree(memory), cudaErrorInvalidValue);
}
