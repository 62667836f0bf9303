/* SPDX-License-Identifier: Apache-2.0 */
/* Rows go into a ring that is mapped from the file; a thread writes them out behind it. */
#include "membership/trace/trace_rows.h"

#include "graphs/base/clock.h"
#include "graphs/base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PERIOD_NS = 10000000, COUNT_PERIODS = 10, BATCH = 240, DEFAULT_MB = 256, MOST_MB = 1 << 20 };

struct eepi_trace {
    eepi_trace_config config;
    int fd;
    uint64_t most_rows; /* in the file */
    eepi_trace_header *header;
    eepi_trace_row *ring;
    pthread_t writer;
    bool runs, stop; /* stop: atomic */
};

static uint64_t most_rows(void)
{
    const char *text = getenv("EEP_TRACE_MB");
    char *end = NULL;
    long mb = text && *text ? strtol(text, &end, 10) : DEFAULT_MB;

    if ((end && *end != '\0') || mb < 1 || mb > MOST_MB) {
        mb = DEFAULT_MB;
    }
    return ((uint64_t)mb << 20) / sizeof(eepi_trace_row);
}

/* Rows that are whole, from the first that is not written on; a batch at most. */
static int take(eepi_trace *trace, eepi_trace_row *rows)
{
    const uint64_t from = trace->header->written;
    int num = 0;

    while (num < BATCH) {
        const eepi_trace_row *row = &trace->ring[(from + (uint64_t)num) % EEPI_TRACE_RING];
        if (__atomic_load_n(&row->number, __ATOMIC_ACQUIRE) != from + (uint64_t)num + 1) {
            break;
        }
        rows[num++] = *row;
    }
    return num;
}

/* What does not go into the file stays in the ring, until newer rows take its place. */
static bool write_rows(eepi_trace *trace)
{
    eepi_trace_row rows[BATCH];
    const int num = take(trace, rows);
    const uint64_t from = trace->header->written;
    const size_t bytes = (size_t)num * sizeof rows[0];

    if (num == 0) {
        return false;
    }
    if (from + (uint64_t)num > trace->most_rows ||
        pwrite(trace->fd, rows, bytes, (off_t)(eepi_trace_rows_offset() + from * sizeof rows[0])) !=
            (ssize_t)bytes) {
        trace->most_rows = from; /* the disk is full, or the limit reached */
        return false;
    }
    __atomic_store_n(&trace->header->written, from + (uint64_t)num, __ATOMIC_RELEASE);
    return true;
}

static void *run(void *user)
{
    eepi_trace *trace = user;
    const struct timespec pause = {0, PERIOD_NS};

    for (uint64_t i = 0; !__atomic_load_n(&trace->stop, __ATOMIC_ACQUIRE); i++) {
        while (write_rows(trace)) {
        }
        if (i % COUNT_PERIODS == 0) {
            eep_counters counters;
            (void)EEP_SIZED(&counters);
            trace->config.count(trace->config.user, &counters);
            trace->header->counters = counters;
        }
        nanosleep(&pause, NULL);
    }
    while (write_rows(trace)) {
    }
    return NULL;
}

static eepi_trace *fail(eepi_trace *trace, char *why, size_t why_bytes, const char *path)
{
    snprintf(why, why_bytes, "EEP_TRACE: %.400s: %s", path, strerror(errno));
    if (trace) {
        if (trace->header && trace->header != MAP_FAILED) {
            munmap(trace->header, eepi_trace_rows_offset());
        }
        if (trace->fd >= 0) {
            close(trace->fd);
        }
    }
    free(trace);
    return NULL;
}

static void fill_header(eepi_trace *trace)
{
    struct timespec real;

    clock_gettime(CLOCK_REALTIME, &real);
    *trace->header = (eepi_trace_header){
        .row_bytes = sizeof(eepi_trace_row),
        .ring_rows = EEPI_TRACE_RING,
        .seat = trace->config.seat,
        .generation = trace->config.generation,
        .pid = (int32_t)getpid(),
        .max_ranks = trace->config.max_ranks,
        .opened_ns = eepi_now_ns(),
        .realtime_ns = (uint64_t)real.tv_sec * 1000000000u + (uint64_t)real.tv_nsec,
    };
    __atomic_store_n(&trace->header->magic, EEPI_TRACE_MAGIC, __ATOMIC_RELEASE);
}

eepi_trace *eepi_trace_open(const eepi_trace_config *config, char *why, size_t why_bytes)
{
    const char *folder = getenv("EEP_TRACE");
    const size_t mapped = eepi_trace_rows_offset();
    char path[PATH_MAX];
    eepi_trace *trace;

    why[0] = '\0';
    if (!folder || !*folder) {
        return NULL;
    }
    (void)mkdir(folder, 0700);
    snprintf(path, sizeof path, "%.3900s/rank-%d-%d.trace", folder, config->seat, (int)getpid());
    trace = calloc(1, sizeof *trace);
    if (!trace) {
        return fail(trace, why, why_bytes, path);
    }
    trace->config = *config;
    trace->most_rows = most_rows();
    trace->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (trace->fd < 0 || ftruncate(trace->fd, (off_t)mapped) != 0) {
        return fail(trace, why, why_bytes, path);
    }
    /* its pages are there from now on: a row makes no fault */
    trace->header =
        mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, trace->fd, 0);
    if (trace->header == MAP_FAILED) {
        return fail(trace, why, why_bytes, path);
    }
    trace->ring = (eepi_trace_row *)((uint8_t *)trace->header + EEPI_TRACE_HEADER_BYTES);
    fill_header(trace);
    if (eepi_thread_start(&trace->writer, "eep-trace", EEPI_STACK_BYTES, run, trace) != EEP_OK) {
        return fail(trace, why, why_bytes, path);
    }
    trace->runs = true;
    return trace;
}

void eepi_trace_close(eepi_trace *trace)
{
    if (!trace) {
        return;
    }
    __atomic_store_n(&trace->stop, true, __ATOMIC_RELEASE);
    pthread_join(trace->writer, NULL);
    munmap(trace->header, eepi_trace_rows_offset());
    close(trace->fd);
    free(trace);
}

void eepi_trace_put(eepi_trace *trace, const eepi_trace_row *row)
{
    eepi_trace_header *header = trace ? trace->header : NULL;
    eepi_trace_row *to;
    uint64_t n;

    if (!trace) {
        return;
    }
    n = __atomic_load_n(&header->head, __ATOMIC_RELAXED);
    do { /* the writer is behind by a whole ring: the row is lost, and the file says so */
        if (n - __atomic_load_n(&header->written, __ATOMIC_ACQUIRE) >= EEPI_TRACE_RING) {
            __atomic_fetch_add(&header->dropped, 1, __ATOMIC_RELAXED);
            return;
        }
    } while (!__atomic_compare_exchange_n(&header->head, &n, n + 1, 1, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    to = &trace->ring[n % EEPI_TRACE_RING];
    to->time_ns = row->time_ns;
    to->begin_ns = row->begin_ns;
    to->step = row->step;
    to->epoch = row->epoch;
    to->value = row->value;
    to->about_seat = row->about_seat;
    to->about_generation = row->about_generation;
    to->status = row->status;
    to->kind = row->kind;
    __atomic_store_n(&to->number, n + 1, __ATOMIC_RELEASE);
}

eepi_trace_header *eepi_trace_header_of(eepi_trace *trace)
{
    return trace ? trace->header : NULL;
}
