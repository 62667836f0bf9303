/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend: the table of device operations over the CUDA runtime, built as the plugin
 * libeep_cuda.so. Plain C; the kernels are in cuda_kernels.cu.
 *
 * The runtime is linked statically and finds the driver by itself, so the plugin loads on a machine
 * without one and says so when a device is opened. Many ranks may share a device and wait inside
 * kernels for each other. So all work is put into non-blocking streams, two of a rank; nothing here
 * uses the legacy default stream or waits for a whole device while a rank waits (cuda_quiet.c,
 * cuda_memory.c, cuda_pinned.c), and waits are polls with a deadline (cuda_streams.c). Each call
 * leaves its device as the calling thread's current one. */
#include "graphs/cuda/cuda_backend.h"
#include "graphs/cuda/cuda_driver.h"
#include "graphs/cuda/cuda_kernels.h"
#include "graphs/cuda/cuda_environment.h"
#include "graphs/kernels/table_layout.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARKED_PART = 8 /* of a device's memory, at most, in windows that nobody uses */ };

/* ------------------------------------------------------------------ devices */

/* What a device is found to be once per process: a rank that joins others has nothing to run for
 * it. */
typedef struct cuda_known {
    int is_known;
    eepi_device_facts facts;
    size_t total_bytes;
} cuda_known;

static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER;
static cuda_known known[EEPI_CUDA_MAX_ORDINALS];

/* Asking for the attributes loads a kernel and finds out whether there is code for this device. */
static eep_status load_kernels(int ordinal)
{
    struct cudaFuncAttributes attributes;
    eep_status status = EEP_OK;

    for (int id = 0; id < EEPI_NUM_KERNELS && status == EEP_OK; id++) {
        int threads = id == EEPI_KERNEL_route   ? EEPI_ROUTE_THREADS
                      : id == EEPI_KERNEL_place ? EEPI_PLACE_THREADS
                                                : EEPI_COPY_THREADS;
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

    if (status == EEP_OK &&
        (ordinal < 0 || ordinal >= count || ordinal >= EEPI_CUDA_MAX_ORDINALS)) {
        return eepi_cuda_fail(EEP_ERR_UNSUPPORTED, ordinal, "there are %d", count);
    }
    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(
            ordinal, cudaDeviceGetAttribute(&unified, cudaDevAttrUnifiedAddressing, ordinal));
    }
    if (status == EEP_OK && !unified) {
        return eepi_cuda_fail(EEP_ERR_UNSUPPORTED, ordinal, "no unified addressing");
    }
    return status;
}

static eep_status run_clock_kernel(cuda_device *d, uint64_t *step_ns)
{
    void *parameters[1] = {&step_ns};
    struct dim3 one = {1, 1, 1};
    eep_status status =
        EEPI_CUDA_CHECKED(d->ordinal, cudaLaunchKernel(eepi_cuda_clock_kernel, one, one, parameters,
                                                       0, d->auxiliary.stream));

    return status == EEP_OK ? eepi_cuda_stream_synchronize(&d->auxiliary, EEPI_CUDA_COPY_BOUND_US)
                            : status;
}

/* Where the device is; "" where the runtime does not say: nobody depends on it. */
static void find_pci(int ordinal, char *text, size_t bytes)
{
    int domain = 0, bus = 0, device = 0; /* at 0:0 there is a bridge */

    text[0] = '\0';
    if (cudaDeviceGetAttribute(&domain, cudaDevAttrPciDomainId, ordinal) == cudaSuccess &&
        cudaDeviceGetAttribute(&bus, cudaDevAttrPciBusId, ordinal) == cudaSuccess &&
        cudaDeviceGetAttribute(&device, cudaDevAttrPciDeviceId, ordinal) == cudaSuccess &&
        (bus | device) != 0) {
        snprintf(text, bytes, "%04x:%02x:%02x.0", (unsigned)domain & 0xffff, (unsigned)bus & 0xff,
                 (unsigned)device & 0xff);
    }
}

/* Zeros where the driver does not say: it only stands in messages. An instance of MIG has its own.
 */
static void find_uuid(int ordinal, uint8_t to[16])
{
    cuda_driver driver;
    CUuuid uuid;

    memset(to, 0, sizeof uuid.bytes);
    if (eepi_cuda_find_driver(ordinal, &driver) == EEP_OK &&
        driver.cuDeviceGetUuid(&uuid, ordinal) == CUDA_SUCCESS) {
        memcpy(to, uuid.bytes, sizeof uuid.bytes);
    }
}

/* How many blocks run at once, and how finely %globaltimer goes: deadlines are in its steps. */
static eep_status find_facts(cuda_device *d, cuda_known *k)
{
    void *step_ns = NULL;
    size_t free_bytes = 0;
    int multiprocessors = 0;
    eep_status status = eepi_cuda_pinned_alloc(d->ordinal, EEPK_LINE_BYTES, &step_ns);

    if (status != EEP_OK) {
        return status;
    }
    status = run_clock_kernel(d, step_ns);
    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(
            d->ordinal,
            cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, d->ordinal));
    }
    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(d->ordinal, cudaMemGetInfo(&free_bytes, &k->total_bytes));
    }
    if (status == EEP_OK) {
        k->facts = (eepi_device_facts){(uint32_t)multiprocessors, *(uint64_t *)step_ns,
                                       eepi_cuda_num_queues(), EEPI_CUDA_QUEUES_VARIABLE};
        find_pci(d->ordinal, k->facts.pci, sizeof k->facts.pci);
        find_uuid(d->ordinal, k->facts.uuid);
        if (k->facts.clock_step_ns == UINT64_MAX) {
            status = eepi_cuda_fail(EEP_ERR_UNSUPPORTED, d->ordinal, "its clock stands still");
        }
    }
    if (status != EEP_ERR_TIMEOUT) { /* else the kernel may write yet */
        eepi_cuda_pinned_free(step_ns);
    }
    k->is_known = status == EEP_OK;
    return status;
}

static eep_status know_device(cuda_device *d)
{
    cuda_known *k = &known[d->ordinal];
    eep_status status = EEP_OK;

    pthread_mutex_lock(&known_lock);
    if (!k->is_known) {
        status = find_facts(d, k);
    }
    d->facts = k->facts;
    d->parked_most_bytes = k->total_bytes / PARKED_PART;
    pthread_mutex_unlock(&known_lock);
    return status;
}

static eepi_device_facts cuda_facts(const void *device)
{
    return ((const cuda_device *)device)->facts;
}

/* Before the first rank waits: all that one which joins later would have to wait for. */
static eep_status open_parts(cuda_device *d)
{
    int ordinal = d->ordinal;
    eep_status status = check_device(ordinal);

    if (status == EEP_OK) {
        status = eepi_cuda_use_device(ordinal);
    }
    if (status == EEP_OK) {
        status = load_kernels(ordinal);
    }
    if (status == EEP_OK) {
        status = eepi_cuda_pool_of(ordinal, &d->pool);
    }
    if (status == EEP_OK) {
        status = eepi_cuda_pinned_reserve(ordinal);
    }
    if (status == EEP_OK) {
        status = eepi_cuda_stream_make(ordinal, 1, &d->auxiliary);
    }
    if (status == EEP_OK) {
        status = know_device(d);
    }
    return status;
}

/* The context is the process's and may be in use elsewhere: it is not reset. */
static void cuda_close(void *device)
{
    cuda_device *d = device;
    int ordinal = d->ordinal;

    if (d->auxiliary.stream) {
        eepi_cuda_stream_end(&d->auxiliary);
    }
    free(d);
    eepi_cuda_device_closed();
    (void)!eepi_cuda_use_device(ordinal);
}

static eep_status cuda_open(int ordinal, void **device_out, char *why_out, size_t why_bytes)
{
    cuda_device *device = calloc(1, sizeof *device);
    eep_status status;

    if (!device) {
        snprintf(why_out, why_bytes, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    eepi_cuda_prepare_process();
    eepi_cuda_forget_failure();
    device->ordinal = ordinal;
    eepi_cuda_device_opened();
    status = open_parts(device);
    if (status != EEP_OK) {
        snprintf(why_out, why_bytes, "%s", eepi_cuda_failure());
        cuda_close(device);
        return status;
    }
    *device_out = device;
    return EEP_OK;
}

static void *cuda_auxiliary(void *device)
{
    return &((cuda_device *)device)->auxiliary;
}

/* ------------------------------------------------------------------ work */

static eep_status cuda_copy(void *stream, void *to, const void *from, size_t bytes)
{
    const cuda_stream *s = stream;
    eep_status status = eepi_cuda_use_device(s->ordinal);

    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(s->ordinal,
                                   cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, s->stream));
    }
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
        return eepi_cuda_fail(EEP_ERR_UNSUPPORTED, s->ordinal, "kernel %s has no CUDA body",
                              kernel->name);
    }
    if (args_bytes) {
        memcpy(bytes, args, args_bytes);
    }
    status = eepi_cuda_use_device(s->ordinal);
    if (status == EEP_OK) {
        status =
            eepi_cuda_checked(cudaLaunchKernel(kernel->cuda, grid, block, parameters, 0, s->stream),
                              kernel->name, s->ordinal);
    }
    return status;
}

/* A framework may capture in global mode, which forbids many calls in all threads of the process;
 * those of a thread in relaxed mode are exempt. */
static eep_status cuda_thread_begin(void *device, int *before_out)
{
    const cuda_device *d = device;
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    eep_status status = eepi_cuda_use_device(d->ordinal);

    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(d->ordinal, cudaThreadExchangeStreamCaptureMode(&mode));
        *before_out = (int)mode;
    }
    return status;
}

static void cuda_thread_end(void *device, int before)
{
    enum cudaStreamCaptureMode mode = (enum cudaStreamCaptureMode)before;

    (void)EEPI_CUDA_CHECKED(((const cuda_device *)device)->ordinal,
                            cudaThreadExchangeStreamCaptureMode(&mode));
}

static const eepi_device_ops cuda_ops = {
    .open = cuda_open,
    .close = cuda_close,
    .facts = cuda_facts,
    .alloc = eepi_cuda_alloc,
    .free = eepi_cuda_free,
    .auxiliary = cuda_auxiliary,
    .set_waiters = eepi_cuda_set_waiters,
    .late_calls = eepi_cuda_late_calls,
    .stream_open = eepi_cuda_stream_open,
    .stream_close = eepi_cuda_stream_close,
    .stream_synchronize = eepi_cuda_stream_synchronize,
    .stream_await_word = eepi_cuda_stream_await_word,
    .stream_adopt = eepi_cuda_stream_adopt,
    .stream_disown = free,
    .stream_is_captured = eepi_cuda_stream_is_captured,
    .stream_native = eepi_cuda_stream_native,
    .stream_wait_event = eepi_cuda_stream_wait_event,
    .event_open = eepi_cuda_event_open,
    .event_close = eepi_cuda_event_close,
    .event_record = eepi_cuda_event_record,
    .event_synchronize = eepi_cuda_event_synchronize,
    .copy = cuda_copy,
    .launch = cuda_launch,
    .capture_begin = eepi_cuda_capture_begin,
    .capture_end = eepi_cuda_capture_end,
    .graph_replay = eepi_cuda_graph_replay,
    .graph_close = eepi_cuda_graph_close,
    .thread_begin = cuda_thread_begin,
    .thread_end = cuda_thread_end,
    .share_make = eepi_cuda_share_make,
    .share_map = eepi_cuda_share_map,
    .share_map_own = eepi_cuda_share_map_own,
    .share_close = eepi_cuda_share_close,
    .share_dmabuf = eepi_cuda_share_dmabuf,
};

static int cuda_count(void)
{
    int count = 0;

    eepi_cuda_prepare_process();
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
    .is_discrete = true,
};

/* The plugin's one exported symbol, and its first call: whatever comes of it, the environment is
 * set before. */
const eepi_device_backend *eep_cuda_backend(void)
{
    eepi_cuda_prepare_process();
    return &cuda_backend;
}
