/* SPDX-License-Identifier: Apache-2.0 */
/* The process: its first call, its lock, its counters, and how it ends when something hangs. */
#include "tests/fake_gpu/fake_internal.h"

#include <stdbool.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_QUEUES = 8, DEFAULT_BOUND_MS = 20000, LINE_BYTES = 1536 };

fake_process fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .bound_ms = DEFAULT_BOUND_MS};
static pthread_once_t first_call = PTHREAD_ONCE_INIT;
static pid_t process; /* that made the first call */
static int report_fd = -1;
static void (*end_of_test)(const char *message);
static _Thread_local int has_context;

/* ------------------------------------------------------------------ time and waiting */

uint64_t fake_bound_us(void)
{
    return eepi_now_us() + fake.bound_ms * 1000ull;
}

int fake_sleep(uint64_t until_us)
{
    struct timespec until = {(time_t)(until_us / 1000000u), (long)(until_us % 1000000u) * 1000};

    return pthread_cond_timedwait(&fake.changed, &fake.lock, &until) == 0;
}

/* ------------------------------------------------------------------ the end */

static pthread_mutex_t ending = PTHREAD_MUTEX_INITIALIZER; /* the first one has the last word */

static _Noreturn void end(const char *message)
{
    fprintf(stderr, "fake GPU: %s\n", message);
    fflush(stderr);
    if (end_of_test) {
        end_of_test(message);
    }
    abort();
}

void fake_die(const char *format, ...)
{
    char message[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    end(message);
}

void fake_hang(const char *format, ...)
{
    char message[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    pthread_mutex_unlock(&fake.lock);
    pthread_mutex_lock(&ending);
    fprintf(stderr, "fake GPU: what stands in the queues:\n");
    fake_gpu_print_queues(stderr);
    fake_gpu_print(stderr);
    fake_report();
    end(message);
}

void fake_gpu_set_bound_ms(uint32_t bound_ms)
{
    (void)fake_enter(FAKE_ASKS);
    fake.bound_ms = bound_ms;
}

void fake_gpu_set_end(void (*to)(const char *message))
{
    end_of_test = to;
}

/* ------------------------------------------------------------------ counters */

fake_gpu_counters fake_gpu_count(void)
{
    fake_gpu_counters count;

    pthread_mutex_lock(&fake.lock);
    count = fake.count;
    pthread_mutex_unlock(&fake.lock);
    return count;
}

static int print_line(char *line, size_t bytes)
{
    fake_gpu_counters count = fake_gpu_count();
    int used = snprintf(line, bytes, "fake_gpu pid=%d", (int)getpid());

#define PRINT_COUNTER(name)                                                                        \
    used += snprintf(line + used, bytes - (size_t)used, " " #name "=%llu",                         \
                     (unsigned long long)count.name);
    FAKE_GPU_COUNTERS(PRINT_COUNTER)
#undef PRINT_COUNTER
    used += snprintf(line + used, bytes - (size_t)used, "\n");
    return used;
}

void fake_gpu_print(FILE *to)
{
    char line[LINE_BYTES];

    print_line(line, sizeof line);
    fputs(line, to);
}

/* Over the line before it, which is never longer: counters grow, but for the few of what is open.
 */
void fake_report(void)
{
    char line[LINE_BYTES];
    int length;

    if (report_fd < 0) {
        return;
    }
    length = print_line(line, sizeof line);
    if (pwrite(report_fd, line, (size_t)length, 0) != length || ftruncate(report_fd, length) != 0) {
        fprintf(stderr, "fake GPU: the report: %s\n", strerror(errno));
    }
}

static void report_at_exit(void)
{
    if (report_fd >= 0) {
        fake_report();
    } else {
        fake_gpu_print(stderr);
    }
}

static void open_report(void)
{
    const char *to = getenv("EEP_FAKE_GPU_REPORT");
    char path[4096];

    if (!to || !*to) {
        return;
    }
    if (strcmp(to, "stderr") != 0) {
        snprintf(path, sizeof path, "%s.%d", to, (int)getpid());
        report_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (report_fd < 0) {
            fprintf(stderr, "fake GPU: %s: %s\n", path, strerror(errno));
        }
        fake_report();
    }
    atexit(report_at_exit);
}

/* ------------------------------------------------------------------ calls, and their contexts */

static uint32_t number_of(const char *variable, uint32_t otherwise)
{
    const char *text = getenv(variable);

    return text && *text ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
}

/* What is in the environment now counts; what is set later comes too late. */
static void read_environment(void)
{
    uint32_t queues = number_of("CUDA_DEVICE_MAX_CONNECTIONS", DEFAULT_QUEUES);
    const char *loading = getenv("CUDA_MODULE_LOADING");
    pthread_condattr_t attributes;

    FAKE_REQUIRE(pthread_condattr_init(&attributes) == 0 &&
                 pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
                 pthread_cond_init(&fake.changed, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
    fake.count.queues = queues < 1                      ? 1
                        : queues > FAKE_GPU_MOST_QUEUES ? FAKE_GPU_MOST_QUEUES
                                                        : queues;
    fake.count.loads_eagerly = loading && strcmp(loading, "EAGER") == 0;
    fake.bound_ms = number_of("EEP_FAKE_GPU_BOUND_MS", DEFAULT_BOUND_MS);
    if (number_of("EEP_FAKE_GPU_REFUSE_OWN_IMPORT", 0)) {
        fake_driver.refuses_own_import = 1;
    }
    if (number_of("EEP_FAKE_GPU_ALLOW_NO_CONTEXT", 0)) {
        fake_driver.allows_no_context = 1;
    }
    if (number_of("EEP_FAKE_GPU_GPU_DIRECT", 0)) {
        fake_driver.has_gpu_direct = fake_driver.has_dmabuf = 1;
        fake_driver.writes_ordering = CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER;
    }
    fake.deal_seed = number_of("EEP_FAKE_GPU_DEAL_SEED", 0);
    process = getpid();
    open_report();
}

cudaError_t fake_enter(fake_need need)
{
    pthread_once(&first_call, read_environment);
    if (process != getpid()) {
        __atomic_fetch_add(&fake.count.calls_after_fork, 1, __ATOMIC_RELAXED);
        return cudaErrorInitializationError;
    }
    if (need == FAKE_WORKS) {
        has_context = 1;
    }
    return cudaSuccess;
}

bool fake_gpu_has_context(void)
{
    return has_context;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    cudaError_t error = fake_enter(FAKE_ASKS);

    if (error == cudaSuccess) {
        *count = 1;
    }
    return error;
}

/* A thread without a context is told 0, too. */
cudaError_t cudaGetDevice(int *device)
{
    cudaError_t error = fake_enter(FAKE_ASKS);

    if (error == cudaSuccess) {
        *device = 0;
    }
    return error;
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t error = fake_enter(FAKE_ASKS);

    if (error != cudaSuccess) {
        return error;
    }
    return device == 0 ? fake_enter(FAKE_WORKS) : cudaErrorInvalidDevice;
}
