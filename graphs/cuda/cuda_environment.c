/* SPDX-License-Identifier: Apache-2.0 */
/* The process's environment, before the first call of CUDA, and how many queues followed from it.
 */
#include "graphs/cuda/cuda_environment.h"
#include "graphs/cuda/cuda_backend.h"

#include <stdbool.h>
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

enum { DRIVER_NOT_INITIALIZED = 3 /* CUDA_ERROR_NOT_INITIALIZED */ };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint32_t num_queues;

/* Has another part of the process called CUDA before us? No call here may do so by itself: the
 * driver is asked only if somebody has loaded it, and this function initialises nothing. */
static bool is_initialised(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    int (*get_count)(int *count);
    void *symbol;
    int count, yes = 0;

    if (!driver) {
        return false;
    }
    symbol = dlsym(driver, "cuDeviceGetCount");
    memcpy(&get_count, &symbol, sizeof symbol);
    if (symbol) {
        yes = get_count(&count) != DRIVER_NOT_INITIALIZED;
    }
    dlclose(driver);
    return yes;
}

/* What CUDA makes of the variable; of nothing or nonsense its default. */
static uint32_t queues_of(const char *text)
{
    char *end;
    long value = text && *text ? strtol(text, &end, 10) : 0;

    if (value <= 0 || *end != '\0') {
        return EEPI_CUDA_DEFAULT_QUEUES;
    }
    return value < EEPI_CUDA_MOST_QUEUES ? (uint32_t)value : EEPI_CUDA_MOST_QUEUES;
}

static void prepare(void)
{
    if (!getenv(EEPI_CUDA_QUEUES_VARIABLE) && is_initialised()) {
        num_queues = EEPI_CUDA_DEFAULT_QUEUES; /* too late to ask for more */
    }
    eepi_cuda_environment_set();
    if (num_queues == 0) {
        num_queues = queues_of(getenv(EEPI_CUDA_QUEUES_VARIABLE));
    }
}

void eepi_cuda_prepare_process(void)
{
    pthread_once(&once, prepare);
}

uint32_t eepi_cuda_num_queues(void)
{
    eepi_cuda_prepare_process();
    return num_queues;
}
