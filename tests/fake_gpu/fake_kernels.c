/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels: which host body stands for which __global__ function. nvcc's objects register their
 * functions by name when they are loaded; the bodies of that name are added by the tables beside
 * them (bodies_*.c). A test adds kernels that have no __global__ function. */
#include "tests/fake_gpu/fake_internal.h"

#include <stdbool.h>
#include <string.h>

enum { MOST_TABLES = 16, MOST_THREADS = 1024, MOST_KERNELS = 1024 };

/* Under the lock. They live as long as this library, which eep-info loads and lets go. */
static fake_kernel kernel_pool[MOST_KERNELS];
static uint32_t num_kernels;
static fake_kernel *kernels;
static struct {
    const fake_gpu_body *bodies;
    uint32_t num_bodies;
} tables[MOST_TABLES];
static uint32_t num_tables;

/* With the lock held. */
static fake_kernel *add(const void *function, const char *name, const fake_gpu_body *body)
{
    fake_kernel *kernel;

    FAKE_REQUIRE(num_kernels < MOST_KERNELS);
    kernel = &kernel_pool[num_kernels++];
    kernel->function = function;
    kernel->name = name;
    kernel->body = body;
    kernel->next = kernels;
    kernels = kernel;
    return kernel;
}

const void *fake_gpu_add_kernel(const fake_gpu_body *body)
{
    pthread_mutex_lock(&fake.lock);
    (void)add(body, body->name, body);
    pthread_mutex_unlock(&fake.lock);
    return body;
}

void fake_gpu_add_bodies(const fake_gpu_body *bodies, uint32_t num_bodies)
{
    pthread_mutex_lock(&fake.lock);
    FAKE_REQUIRE(num_tables < MOST_TABLES);
    tables[num_tables].bodies = bodies;
    tables[num_tables++].num_bodies = num_bodies;
    pthread_mutex_unlock(&fake.lock);
}

static const fake_gpu_body *body_of(const char *name)
{
    for (uint32_t i = 0; i < num_tables; i++) {
        for (uint32_t j = 0; j < tables[i].num_bodies; j++) {
            if (strcmp(tables[i].bodies[j].name, name) == 0) {
                return &tables[i].bodies[j];
            }
        }
    }
    return NULL;
}

/* Each function that is launched has at least as many bytes as a body. */
static bool is_marked(const void *function)
{
    return (uintptr_t)function % _Alignof(fake_gpu_body) == 0 &&
           memcmp((const char *)function + offsetof(fake_gpu_body, mark), FAKE_GPU_MARK,
                  sizeof FAKE_GPU_MARK) == 0;
}

/* With the lock held. */
static fake_kernel *find(const void *function)
{
    const fake_gpu_body *body = function;
    fake_kernel *kernel = kernels;

    while (kernel && kernel->function != function) {
        kernel = kernel->next;
    }
    if (!kernel && is_marked(function)) {
        kernel = add(body, body->name, body);
    }
    if (kernel && !kernel->body) {
        kernel->body = body_of(kernel->name);
    }
    return kernel;
}

/* Waits for the device; a capture does not mind. */
static cudaError_t load_now(fake_kernel *kernel)
{
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    cudaError_t error = cudaThreadExchangeStreamCaptureMode(&mode);

    if (error == cudaSuccess) {
        error = fake_device_wide_begin("the first use of a kernel");
    }
    if (error == cudaSuccess) {
        __atomic_store_n(&kernel->is_loaded, 1, __ATOMIC_RELEASE);
        fake_device_wide_end();
    }
    (void)cudaThreadExchangeStreamCaptureMode(&mode);
    return error;
}

/* All are loaded from the beginning, or each when it is used first. */
static cudaError_t load(const void *function, fake_kernel **kernel_out)
{
    cudaError_t error = fake_enter(FAKE_WORKS);
    fake_kernel *kernel;

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    kernel = find(function);
    pthread_mutex_unlock(&fake.lock);
    if (!kernel) {
        return cudaErrorInvalidDeviceFunction;
    }
    if (!kernel->body) {
        fake_die("kernel %s has no host body here", kernel->name);
    }
    if (!fake.count.loads_eagerly && !__atomic_load_n(&kernel->is_loaded, __ATOMIC_ACQUIRE)) {
        error = load_now(kernel);
    }
    if (error == cudaSuccess) {
        *kernel_out = kernel;
    }
    return error;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *function)
{
    fake_kernel *kernel;
    cudaError_t error = load(function, &kernel);

    if (error != cudaSuccess) {
        return error;
    }
    memset(attributes, 0, sizeof *attributes);
    attributes->maxThreadsPerBlock = MOST_THREADS;
    attributes->binaryVersion = 90;
    attributes->numRegs = 32;
    return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void *function, struct dim3 grid, struct dim3 block,
                             void **parameters, size_t shared_bytes, cudaStream_t stream)
{
    fake_work work = {.kind = FAKE_KERNEL, .num_blocks = grid.x};
    fake_kernel *kernel;
    cudaError_t error = load(function, &kernel);

    if (error != cudaSuccess) {
        return error;
    }
    if (grid.x == 0 || grid.y != 1 || grid.z != 1 || block.x == 0 || block.x > MOST_THREADS ||
        block.y != 1 || block.z != 1 || shared_bytes != 0) {
        return cudaErrorInvalidConfiguration;
    }
    FAKE_REQUIRE(kernel->body->args_bytes <= sizeof work.args);
    work.kernel = kernel;
    if (kernel->body->args_bytes) {
        memcpy(work.args, parameters[0], kernel->body->args_bytes);
    }
    return fake_put(stream, &work, "cudaLaunchKernel");
}

/* ------------------------------------------------------------------ what nvcc's objects call */

void **__cudaRegisterFatBinary(void *binary);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int thread_limit, void *tid, void *bid, struct dim3 *block,
                            struct dim3 *grid, int *warp_size);
cudaError_t __cudaPopCallConfiguration(struct dim3 *grid, struct dim3 *block, size_t *shared_bytes,
                                       void *stream);
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, struct dim3 grid, struct dim3 block,
                               void **parameters, size_t shared_bytes, cudaStream_t stream);

void **__cudaRegisterFatBinary(void *binary)
{
    static void *handle;

    handle = binary;
    return &handle;
}

void __cudaRegisterFatBinaryEnd(void **handle)
{
    (void)handle;
}

/* Its functions live in a library that is about to go; none of those of this project does. */
void __cudaUnregisterFatBinary(void **handle)
{
    (void)handle;
}

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int thread_limit, void *tid, void *bid, struct dim3 *block,
                            struct dim3 *grid, int *warp_size)
{
    (void)handle;
    (void)device;
    (void)thread_limit;
    (void)tid;
    (void)bid;
    (void)block;
    (void)grid;
    (void)warp_size;
    pthread_mutex_lock(&fake.lock);
    (void)add(host, name, NULL);
    pthread_mutex_unlock(&fake.lock);
}

/* Launches by <<< >>> come through these; the plugins make none. */
cudaError_t __cudaPopCallConfiguration(struct dim3 *grid, struct dim3 *block, size_t *shared_bytes,
                                       void *stream)
{
    (void)grid;
    (void)block;
    (void)shared_bytes;
    (void)stream;
    fake_die("a launch by <<< >>>");
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function)
{
    (void)kernel;
    (void)function;
    return cudaErrorNotSupported;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, struct dim3 grid, struct dim3 block,
                               void **parameters, size_t shared_bytes, cudaStream_t stream)
{
    (void)kernel;
    (void)grid;
    (void)block;
    (void)parameters;
    (void)shared_bytes;
    (void)stream;
    return cudaErrorNotSupported;
}
