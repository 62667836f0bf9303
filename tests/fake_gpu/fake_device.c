/* SPDX-License-Identifier: Apache-2.0 */
/* The device: what it says of itself, the names of errors, and calls that wait for all of it. */
#include "tests/fake_gpu/fake_internal.h"

#include <string.h>

static const char *holder;     /* the device-wide call under way; under the lock */
static uint64_t held_since_us; /* that call's begin */

/* ------------------------------------------------------------------ device-wide calls */

static void keep_longest(uint64_t *longest_us, uint64_t begin_us)
{
    uint64_t us = eepi_now_us() - begin_us;

    if (us > *longest_us) {
        *longest_us = us;
    }
}

static void wait_for_holder(const char *call)
{
    uint64_t until_us = fake_bound_us();

    while (holder) {
        if (!fake_sleep(until_us) && holder && eepi_now_us() >= until_us) {
            fake_hang("%s has waited %u ms for the end of %s, which waits for the whole device",
                      call, fake.bound_ms, holder);
        }
    }
}

void fake_launch_may_go(const char *call)
{
    uint64_t begin_us = eepi_now_us();

    if (!holder) {
        return;
    }
    fake.count.launches_held++;
    wait_for_holder(call);
    keep_longest(&fake.count.longest_launch_held_us, begin_us);
}

cudaError_t fake_device_wide_begin(const char *call)
{
    cudaError_t error = fake_enter(FAKE_WORKS);
    uint64_t begin_us = eepi_now_us(), until_us;

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    error = fake_capture_allows();
    if (error != cudaSuccess) {
        pthread_mutex_unlock(&fake.lock);
        return error;
    }
    fake.count.device_wide_calls++;
    fake.count.device_wide_calls_while_busy += fake_kernels_pending() > 0;
    wait_for_holder(call);
    holder = call;
    held_since_us = begin_us;
    until_us = fake_bound_us();
    while (fake_entries_pending() > 0) {
        if (!fake_sleep(until_us) && fake_entries_pending() > 0 && eepi_now_us() >= until_us) {
            fake_hang("%s has waited %u ms for the device to be idle, and launches wait for it",
                      call, fake.bound_ms);
        }
    }
    pthread_mutex_unlock(&fake.lock);
    return cudaSuccess;
}

void fake_device_wide_end(void)
{
    pthread_mutex_lock(&fake.lock);
    keep_longest(&fake.count.longest_device_wide_us, held_since_us);
    holder = NULL;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
    fake_report();
}

cudaError_t cudaDeviceSynchronize(void)
{
    cudaError_t error = fake_device_wide_begin("cudaDeviceSynchronize");

    if (error == cudaSuccess) {
        fake_device_wide_end();
    }
    return error;
}

/* ------------------------------------------------------------------ what it says of itself */

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    cudaError_t error = fake_enter(FAKE_ASKS);

    if (error != cudaSuccess) {
        return error;
    }
    if (device != 0) {
        return cudaErrorInvalidDevice;
    }
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
        *value = FAKE_GPU_MULTIPROCESSORS;
        break;
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
        *value = 1024;
        break;
    case cudaDevAttrWarpSize:
        *value = 32;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = 9;
        break;
    case cudaDevAttrAsyncEngineCount:
        *value = 3;
        break;
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrMemoryPoolsSupported:
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrStreamPrioritiesSupported:
        *value = 1;
        break;
    default:
        *value = 0;
    }
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    cudaError_t error = fake_enter(FAKE_ASKS);

    if (error != cudaSuccess) {
        return error;
    }
    if (device != 0) {
        return cudaErrorInvalidDevice;
    }
    memset(properties, 0, sizeof *properties);
    strcpy(properties->name, "fake GPU");
    properties->multiProcessorCount = FAKE_GPU_MULTIPROCESSORS;
    properties->maxThreadsPerBlock = 1024;
    properties->warpSize = 32;
    properties->major = 9;
    properties->totalGlobalMem = (size_t)1 << 36;
    properties->unifiedAddressing = 1;
    properties->canMapHostMemory = 1;
    return cudaSuccess;
}

/* ------------------------------------------------------------------ errors */

/* X(error, what it means) */
#define ERRORS(X)                                                                                  \
    X(cudaSuccess, "no error")                                                                     \
    X(cudaErrorInvalidValue, "invalid argument")                                                   \
    X(cudaErrorMemoryAllocation, "out of memory")                                                  \
    X(cudaErrorInitializationError, "initialization error")                                        \
    X(cudaErrorInvalidConfiguration, "invalid configuration argument")                             \
    X(cudaErrorInvalidDeviceFunction, "invalid device function")                                   \
    X(cudaErrorInvalidDevice, "invalid device ordinal")                                            \
    X(cudaErrorInvalidResourceHandle, "invalid resource handle")                                   \
    X(cudaErrorIllegalState, "the operation cannot be performed in the present state")             \
    X(cudaErrorNotReady, "device not ready")                                                       \
    X(cudaErrorNotSupported, "operation not supported")                                            \
    X(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")       \
    X(cudaErrorStreamCaptureInvalidated,                                                           \
      "operation failed due to a previous error during capture")                                   \
    X(cudaErrorStreamCaptureUnmatched, "the capture was not initiated in this stream")             \
    X(cudaErrorStreamCaptureWrongThread, "attempt to terminate a thread-local capture sequence "   \
                                         "from another thread")

const char *cudaGetErrorName(cudaError_t error)
{
    switch ((int)error) {
#define NAME_OF(name, text)                                                                        \
    case name:                                                                                     \
        return #name;
        ERRORS(NAME_OF)
#undef NAME_OF
    default:
        return "an error that the fake does not know";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch ((int)error) {
#define TEXT_OF(name, text)                                                                        \
    case name:                                                                                     \
        return text;
        ERRORS(TEXT_OF)
#undef TEXT_OF
    default:
        return "an error that the fake does not know";
    }
}
