/* The CUDA backend: the table of device operations over the CUDA runtime, built as the plugin
 * libeep_cuda.so. Plain C; the kernels are in kernels.cu.
 *
 * The runtime is linked statically and finds the driver by itself, so the plugin loads on a machine
 * without one and says so when a device is opened. Many ranks may share a device and wait inside
 * kernels for each other. So all work is put into non-blocking streams, nothing here uses the
 * legacy default stream or waits for a whole device, and waits are polls with a deadline. What may
 * block behind other ranks' kernels is device_alloc and device_free (cudaMalloc, cudaFree): they
 * belong before the first step and after the last one. Each call leaves its device as the calling
 * thread's current one. */
#include "graphs/cuda/backend.h"
#include "graphs/cuda/kernels_cuda.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ALIGNMENT = 128,
    YIELD_POLLS = 256,
    SLEEP_NS = 20000,
    ZERO_TIMEOUT_US = 10000000,
    CLOSE_TIMEOUT_US = 60000000
};

typedef struct cuda_event {
    int ordinal;
    cudaEvent_t event;
} cuda_event;

static _Thread_local char failure[512];

const char *eepi_cuda_failure(void)
{
    return failure;
}

/* ------------------------------------------------------------------ the one check of results */

static eep_status status_of(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return EEP_OK;
    case cudaErrorMemoryAllocation:
        return EEP_ERR_NO_MEMORY;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
        return EEP_ERR_UNSUPPORTED;
    default:
        return EEP_ERR_DEVICE;
    }
}

eep_status eepi_cuda_fail(eep_status status, int ordinal, const char *format, ...)
{
    int used = snprintf(failure, sizeof(failure), "device %d: ", ordinal);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(failure + used, sizeof(failure) - (size_t)used, format, arguments);
    va_end(arguments);
    return status;
}

/* Every CUDA call passes through here; a failure is kept as text with the call in it. */
eep_status eepi_cuda_checked(cudaError_t error, const char *call, int ordinal)
{
    if (error == cudaSuccess)
        return EEP_OK;
    return eepi_cuda_fail(status_of(error), ordinal, "%s: %s (%s, %d)", call,
                          cudaGetErrorString(error), cudaGetErrorName(error), (int)error);
}

/* A new thread's current device is 0, whichever device the stream belongs to. */
eep_status eepi_cuda_use_device(int ordinal)
{
    int current = -1;
    eep_status status = EEPI_CUDA_CHECKED(ordinal, cudaGetDevice(&current));

    if (status == EEP_OK && current != ordinal)
        status = EEPI_CUDA_CHECKED(ordinal, cudaSetDevice(ordinal));
    return status;
}

/* ------------------------------------------------------------------ waits with a deadline */

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

typedef cudaError_t (*query_fn)(const void *object);

static cudaError_t query_stream(const void *stream)
{
    return cudaStreamQuery(((const cuda_stream *)stream)->stream);
}

static cudaError_t query_event(const void *event)
{
    return cudaEventQuery(((const cuda_event *)event)->event);
}

/* Poll: yield while it is worth it, then sleep briefly. Looks once more after the deadline. */
static eep_status poll_until(query_fn query, const void *object, const char *call, int ordinal,
                             uint64_t timeout_us)
{
    const struct timespec nap = {0, SLEEP_NS};
    uint64_t begin = now_us();

    for (uint32_t polls = 0;; polls++) {
        int late = now_us() - begin >= timeout_us;
        cudaError_t error = query(object);

        if (error != cudaErrorNotReady)
            return eepi_cuda_checked(error, call, ordinal);
        if (late) {
            return eepi_cuda_fail(EEP_ERR_TIMEOUT, ordinal, "%s: not ready after %llu us", call,
                                  (unsigned long long)timeout_us);
        }
        if (polls < YIELD_POLLS)
            sched_yield();
        else
            nanosleep(&nap, NULL);
    }
}

/* ------------------------------------------------------------------ device and memory */

static pthread_once_t environment_once = PTHREAD_ONCE_INIT;

/* Read by the driver when the first context of the process is made. 32 hardware queues: ranks that
 * wait on one device must not stand behind each other in one queue. Eager loading: a kernel that is
 * loaded at its first launch synchronises the device, behind the kernels that wait. */
static void set_environment(void)
{
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
    setenv("CUDA_MODULE_LOADING", "EAGER", 0);
}

/* Asking for the attributes loads a kernel and finds out whether there is code for this device. */
static eep_status load_kernels(int ordinal)
{
    struct cudaFuncAttributes attributes;
    eep_status status = EEP_OK;

    for (int id = 0; id < EEPI_NUM_KERNELS && status == EEP_OK; id++) {
        int threads = id == EEPI_KERNEL_route ? EEPI_ROUTE_THREADS : EEPI_COPY_THREADS;
        status = EEPI_CUDA_CHECKED(ordinal,
                                   cudaFuncGetAttributes(&attributes, eepi_cuda_kernels[id].cuda));
        if (status == EEP_OK && attributes.maxThreadsPerBlock < threads) {
            status = eepi_cuda_fail(
                EEP_ERR_UNSUPPORTED, ordinal, "%s was compiled for %d threads, not %d",
                eepi_cuda_kernels[id].name, attributes.maxThreadsPerBlock, threads);
        }
    }
    return status;
}

static eep_status check_device(int ordinal)
{
    int count = 0, unified = 0;
    eep_status status = EEPI_CUDA_CHECKED(ordinal, cudaGetDeviceCount(&count));

    if (status == EEP_OK && (ordinal < 0 || ordinal >= count)) {
        return eepi_cuda_fail(EEP_ERR_UNSUPPORTED, ordinal, "there are %d", count);
    }
    if (status == EEP_OK)
        status = EEPI_CUDA_CHECKED(
            ordinal, cudaDeviceGetAttribute(&unified, cudaDevAttrUnifiedAddressing, ordinal));
    if (status == EEP_OK && !unified) {
        return eepi_cuda_fail(EEP_ERR_UNSUPPORTED, ordinal, "no unified addressing");
    }
    return status;
}

static eep_status alloc_pinned(const cuda_device *d, size_t bytes, void **memory_out);

static eep_status run_clock_kernel(cuda_device *d, uint64_t *step_ns)
{
    cuda_stream stream = {d->ordinal, d->zeroing};
    void *parameters[1] = {&step_ns};
    struct dim3 one = {1, 1, 1};
    eep_status status = EEPI_CUDA_CHECKED(
        d->ordinal, cudaLaunchKernel(eepi_cuda_clock_kernel, one, one, parameters, 0, d->zeroing));

    if (status == EEP_OK)
        status = poll_until(query_stream, &stream, "cudaStreamQuery after the clock's kernel",
                            d->ordinal, ZERO_TIMEOUT_US);
    return status;
}

/* How many blocks run at once, and how finely %globaltimer goes: deadlines are in its steps. */
static eep_status find_facts(cuda_device *d)
{
    void *step_ns = NULL;
    int multiprocessors = 0;
    eep_status status = alloc_pinned(d, sizeof(uint64_t), &step_ns);

    if (status == EEP_OK)
        status = run_clock_kernel(d, step_ns);
    if (status == EEP_OK)
        status = EEPI_CUDA_CHECKED(
            d->ordinal,
            cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, d->ordinal));
    if (status == EEP_OK)
        d->facts = (eepi_device_facts){(uint32_t)multiprocessors, *(uint64_t *)step_ns};
    if (step_ns)
        (void)EEPI_CUDA_CHECKED(d->ordinal, cudaFreeHost(step_ns));
    if (status == EEP_OK && d->facts.clock_step_ns == UINT64_MAX) {
        status = eepi_cuda_fail(EEP_ERR_UNSUPPORTED, d->ordinal, "its clock stands still");
    }
    return status;
}

static eepi_device_facts cuda_facts(const void *device)
{
    return ((const cuda_device *)device)->facts;
}

static eep_status cuda_open(int ordinal, void **device_out, char *why_out, size_t why_bytes)
{
    cuda_device *device = calloc(1, sizeof(*device));
    eep_status status;

    if (!device) {
        snprintf(why_out, why_bytes, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    pthread_once(&environment_once, set_environment);
    failure[0] = '\0';
    device->ordinal = ordinal;
    status = check_device(ordinal);
    if (status == EEP_OK)
        status = EEPI_CUDA_CHECKED(ordinal, cudaSetDevice(ordinal));
    if (status == EEP_OK)
        status = load_kernels(ordinal);
    if (status == EEP_OK)
        status = EEPI_CUDA_CHECKED(
            ordinal, cudaStreamCreateWithFlags(&device->zeroing, cudaStreamNonBlocking));
    if (status == EEP_OK)
        status = find_facts(device);
    if (status != EEP_OK) {
        snprintf(why_out, why_bytes, "%s", failure);
        if (device->zeroing)
            (void)cudaStreamDestroy(device->zeroing);
        free(device);
        return status;
    }
    *device_out = device;
    return EEP_OK;
}

/* The context is the process's and may be in use elsewhere: it is not reset. */
static void cuda_close(void *device)
{
    cuda_device *d = device;

    if (eepi_cuda_use_device(d->ordinal) == EEP_OK)
        (void)EEPI_CUDA_CHECKED(d->ordinal, cudaStreamDestroy(d->zeroing));
    free(d);
}

static void cuda_free_memory(void *device, eep_memory kind, void *memory)
{
    const cuda_device *d = device;

    if (eepi_cuda_use_device(d->ordinal) != EEP_OK)
        return;
    if (kind == EEP_MEMORY_PINNED)
        (void)EEPI_CUDA_CHECKED(d->ordinal, cudaFreeHost(memory));
    else
        (void)EEPI_CUDA_CHECKED(d->ordinal, cudaFree(memory));
}

static eep_status alloc_pinned(const cuda_device *d, size_t bytes, void **memory_out)
{
    void *seen_by_device = NULL;
    eep_status status = EEPI_CUDA_CHECKED(
        d->ordinal, cudaHostAlloc(memory_out, bytes, cudaHostAllocMapped | cudaHostAllocPortable));

    if (status != EEP_OK)
        return status;
    memset(*memory_out, 0, bytes);
    status =
        EEPI_CUDA_CHECKED(d->ordinal, cudaHostGetDevicePointer(&seen_by_device, *memory_out, 0));
    if (status == EEP_OK && seen_by_device != *memory_out) {
        status = eepi_cuda_fail(EEP_ERR_UNSUPPORTED, d->ordinal,
                                "pinned memory at another address there");
    }
    return status;
}

eep_status eepi_cuda_zero(const cuda_device *d, void *memory, size_t bytes)
{
    cuda_stream zeroing = {d->ordinal, d->zeroing};
    eep_status status =
        EEPI_CUDA_CHECKED(d->ordinal, cudaMemsetAsync(memory, 0, bytes, d->zeroing));

    if (status == EEP_OK)
        status = poll_until(query_stream, &zeroing, "cudaStreamQuery after cudaMemsetAsync",
                            d->ordinal, ZERO_TIMEOUT_US);
    return status;
}

static eep_status alloc_device(const cuda_device *d, size_t bytes, void **memory_out)
{
    eep_status status = EEPI_CUDA_CHECKED(d->ordinal, cudaMalloc(memory_out, bytes));

    return status == EEP_OK ? eepi_cuda_zero(d, *memory_out, bytes) : status;
}

static eep_status cuda_alloc(void *device, eep_memory kind, size_t bytes, void **memory_out)
{
    const cuda_device *d = device;
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *memory = NULL;
    eep_status status;

    if (bytes == 0 || rounded < bytes)
        return EEP_ERR_INVALID;
    status = eepi_cuda_use_device(d->ordinal);
    if (status == EEP_OK)
        status = kind == EEP_MEMORY_PINNED ? alloc_pinned(d, rounded, &memory)
                                           : alloc_device(d, rounded, &memory);
    if (status == EEP_OK && (uintptr_t)memory % ALIGNMENT != 0) {
        status =
            eepi_cuda_fail(EEP_ERR_DEVICE, d->ordinal, "memory not aligned to %d bytes", ALIGNMENT);
    }
    if (status != EEP_OK) {
        if (memory)
            cuda_free_memory(device, kind, memory);
        return status;
    }
    *memory_out = memory;
    return EEP_OK;
}

/* ------------------------------------------------------------------ streams and events */

static eep_status cuda_stream_open(void *device, void **stream_out)
{
    cuda_stream *s = calloc(1, sizeof(*s));
    eep_status status;

    if (!s)
        return EEP_ERR_NO_MEMORY;
    s->ordinal = ((const cuda_device *)device)->ordinal;
    status = eepi_cuda_use_device(s->ordinal);
    if (status == EEP_OK)
        status = EEPI_CUDA_CHECKED(s->ordinal,
                                   cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    if (status != EEP_OK) {
        free(s);
        return status;
    }
    *stream_out = s;
    return EEP_OK;
}

/* Work that outlasts the bound is left to the runtime, which frees the stream behind it. */
static void cuda_stream_close(void *stream)
{
    cuda_stream *s = stream;

    if (eepi_cuda_use_device(s->ordinal) == EEP_OK) {
        eepi_cuda_capture_drop(s);
        (void)poll_until(query_stream, s, "cudaStreamQuery before cudaStreamDestroy", s->ordinal,
                         CLOSE_TIMEOUT_US);
        (void)EEPI_CUDA_CHECKED(s->ordinal, cudaStreamDestroy(s->stream));
    }
    free(s);
}

static eep_status cuda_stream_synchronize(void *stream, uint64_t timeout_us)
{
    const cuda_stream *s = stream;
    eep_status status = eepi_cuda_use_device(s->ordinal);

    if (status != EEP_OK)
        return status;
    return poll_until(query_stream, s, "cudaStreamQuery", s->ordinal, timeout_us);
}

static void *cuda_stream_native(void *stream)
{
    return ((const cuda_stream *)stream)->stream;
}

static eep_status cuda_stream_adopt(void *device, void *native, void **stream_out)
{
    cuda_stream *s = malloc(sizeof(*s));

    if (!s)
        return EEP_ERR_NO_MEMORY;
    s->ordinal = ((const cuda_device *)device)->ordinal;
    s->stream = native;
    *stream_out = s;
    return EEP_OK;
}

/* One that cannot be asked any more is not captured: what is done with it next says why. */
static int cuda_stream_is_captured(void *stream)
{
    const cuda_stream *s = stream;
    enum cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;

    return eepi_cuda_use_device(s->ordinal) == EEP_OK &&
           EEPI_CUDA_CHECKED(s->ordinal, cudaStreamIsCapturing(s->stream, &capture)) == EEP_OK &&
           capture != cudaStreamCaptureStatusNone;
}

static eep_status cuda_stream_wait_event(void *stream, void *event)
{
    const cuda_stream *s = stream;
    eep_status status = eepi_cuda_use_device(s->ordinal);

    if (status == EEP_OK)
        status = EEPI_CUDA_CHECKED(
            s->ordinal, cudaStreamWaitEvent(s->stream, ((const cuda_event *)event)->event, 0));
    return status;
}

static eep_status cuda_event_open(void *device, void **event_out)
{
    cuda_event *e = calloc(1, sizeof(*e));
    eep_status status;

    if (!e)
        return EEP_ERR_NO_MEMORY;
    e->ordinal = ((const cuda_device *)device)->ordinal;
    status = eepi_cuda_use_device(e->ordinal);
    if (status == EEP_OK)
        status = EEPI_CUDA_CHECKED(e->ordinal,
                                   cudaEventCreateWithFlags(&e->event, cudaEventDisableTiming));
    if (status != EEP_OK) {
        free(e);
        return status;
    }
    *event_out = e;
    return EEP_OK;
}

static void cuda_event_close(void *event)
{
    cuda_event *e = event;

    if (eepi_cuda_use_device(e->ordinal) == EEP_OK)
        (void)EEPI_CUDA_CHECKED(e->ordinal, cudaEventDestroy(e->event));
    free(e);
}

static eep_status cuda_event_record(void *event, void *stream)
{
    const cuda_stream *s = stream;
    eep_status status = eepi_cuda_use_device(s->ordinal);

    if (status == EEP_OK)
        status =
            EEPI_CUDA_CHECKED(s->ordinal, cudaEventRecord(((cuda_event *)event)->event, s->stream));
    return status;
}

static eep_status cuda_event_synchronize(void *event, uint64_t timeout_us)
{
    const cuda_event *e = event;
    eep_status status = eepi_cuda_use_device(e->ordinal);

    if (status != EEP_OK)
        return status;
    return poll_until(query_event, e, "cudaEventQuery", e->ordinal, timeout_us);
}

/* ------------------------------------------------------------------ work */

static eep_status cuda_copy(void *stream, void *to, const void *from, size_t bytes)
{
    const cuda_stream *s = stream;
    eep_status status = eepi_cuda_use_device(s->ordinal);

    if (status == EEP_OK)
        status = EEPI_CUDA_CHECKED(s->ordinal,
                                   cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, s->stream));
    return status;
}

/* The runtime reads as many argument bytes as the __global__ function takes, now. It knows the
 * kernels that were linked into this plugin; a program with a CUDA runtime of its own launches its
 * own kernels through that, into eep_stream_native, captured or not. */
static eep_status cuda_launch(void *stream, const eep_kernel *kernel, uint32_t num_blocks,
                              uint32_t num_threads, const void *args, size_t args_bytes)
{
    const cuda_stream *s = stream;
    _Alignas(16) uint8_t bytes[EEP_KERNEL_ARGS_MAX_BYTES];
    void *parameters[1] = {bytes};
    struct dim3 grid = {num_blocks, 1, 1}, block = {num_threads, 1, 1};
    eep_status status;

    if (!kernel->cuda) {
        return eepi_cuda_fail(EEP_ERR_UNSUPPORTED, s->ordinal, "kernel %s has no CUDA twin",
                              kernel->name);
    }
    if (args_bytes)
        memcpy(bytes, args, args_bytes);
    status = eepi_cuda_use_device(s->ordinal);
    if (status == EEP_OK)
        status =
            eepi_cuda_checked(cudaLaunchKernel(kernel->cuda, grid, block, parameters, 0, s->stream),
                              kernel->name, s->ordinal);
    return status;
}

/* A framework may capture in global mode, which forbids many calls in all threads of the process;
 * those of a thread in relaxed mode are exempt. */
static eep_status cuda_thread_begin(void *device)
{
    const cuda_device *d = device;
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    eep_status status = eepi_cuda_use_device(d->ordinal);

    if (status == EEP_OK)
        status = EEPI_CUDA_CHECKED(d->ordinal, cudaThreadExchangeStreamCaptureMode(&mode));
    return status;
}

static const eepi_device_ops cuda_ops = {
    .open = cuda_open,
    .close = cuda_close,
    .facts = cuda_facts,
    .alloc = cuda_alloc,
    .free = cuda_free_memory,
    .stream_open = cuda_stream_open,
    .stream_close = cuda_stream_close,
    .stream_synchronize = cuda_stream_synchronize,
    .stream_adopt = cuda_stream_adopt,
    .stream_disown = free,
    .stream_is_captured = cuda_stream_is_captured,
    .stream_native = cuda_stream_native,
    .stream_wait_event = cuda_stream_wait_event,
    .event_open = cuda_event_open,
    .event_close = cuda_event_close,
    .event_record = cuda_event_record,
    .event_synchronize = cuda_event_synchronize,
    .copy = cuda_copy,
    .launch = cuda_launch,
    .capture_begin = eepi_cuda_capture_begin,
    .capture_end = eepi_cuda_capture_end,
    .graph_replay = eepi_cuda_graph_replay,
    .graph_close = eepi_cuda_graph_close,
    .thread_begin = cuda_thread_begin,
    .share_make = eepi_cuda_share_make,
    .share_map = eepi_cuda_share_map,
    .share_close = eepi_cuda_share_close,
};

static int cuda_count(void)
{
    int count = 0;

    return EEPI_CUDA_CHECKED(0, cudaGetDeviceCount(&count)) == EEP_OK ? count : 0;
}

static const eepi_device_backend cuda_backend = {
    .version = EEPI_BACKEND_VERSION,
    .num_kernels = EEPI_NUM_KERNELS,
    .name = "cuda",
    .ops = &cuda_ops,
    .kernels = eepi_cuda_kernels,
    .count = cuda_count,
    .error_text = eepi_cuda_failure,
    .is_apart = 1,
};

/* The plugin's one exported symbol. */
const eepi_device_backend *eep_cuda_backend(void)
{
    return &cuda_backend;
}
