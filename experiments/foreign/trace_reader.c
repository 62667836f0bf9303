/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a foreign rank, and orders to it. */
#include "experiments/foreign/trace_reader.h"

#include "experiments/script/verbs.h"
#include "membership/core/core.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool trace_reader_open(trace_reader *self, const char *folder, int seat, pid_t pid)
{
    char path[PATH_MAX];
    struct stat found;
    snprintf(path, sizeof path, "%.3900s/rank-%d-%d.trace", folder, seat, (int)pid);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    void *mapped = MAP_FAILED;
    if (fstat(fd, &found) == 0 && (uint64_t)found.st_size >= eepi_trace_rows_offset()) {
        mapped = mmap(NULL, eepi_trace_rows_offset(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    eepi_trace_header *header = mapped;
    if (mapped == MAP_FAILED ||
        __atomic_load_n(&header->magic, __ATOMIC_ACQUIRE) != EEPI_TRACE_MAGIC) {
        if (mapped != MAP_FAILED) {
            munmap(mapped, eepi_trace_rows_offset());
        }
        close(fd);
        return false;
    }
    *self = (trace_reader){
        header, (const eepi_trace_row *)((const char *)mapped + EEPI_TRACE_HEADER_BYTES), fd, 0};
    return true;
}

void trace_reader_close(trace_reader *self)
{
    if (self->header) {
        munmap(self->header, eepi_trace_rows_offset());
        close(self->fd);
    }
    *self = (trace_reader){0};
}

bool trace_reader_next(trace_reader *self, eepi_trace_row *row_out)
{
    const uint64_t wanted = self->next + 1;
    if (!self->header) {
        return false;
    }
    const eepi_trace_row *row = &self->ring[self->next % EEPI_TRACE_RING];
    uint64_t number = __atomic_load_n(&row->number, __ATOMIC_ACQUIRE);
    if (number == wanted) {
        *row_out = *row;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        number = __atomic_load_n(&row->number, __ATOMIC_RELAXED);
    }
    /* overwritten by a newer one: it stands behind the ring */
    off_t at = (off_t)(eepi_trace_rows_offset() + self->next * sizeof *row_out);
    if (number > wanted && pread(self->fd, row_out, sizeof *row_out, at) != sizeof *row_out) {
        return false;
    }
    self->next += number >= wanted;
    return number >= wanted;
}

static bool arm(eepi_trace_orders *orders, const wire_die *message, bool can_halt)
{
    bool disarms = message->place >= NUM_PLACES;
    orders->stops = message->stops;
    __atomic_store_n(&orders->armed, disarms ? 0 : message->place + 1u, __ATOMIC_RELEASE);
    return can_halt || disarms;
}

bool trace_reader_tell(trace_reader *self, const wire_header *message)
{
    if (!self->header) {
        return false;
    }
    eepi_trace_orders *orders = &self->header->orders;
    switch (message->kind) {
    case WIRE_STOP:
        __atomic_fetch_or(&orders->leaves, EEPI_LEAVES | EEPI_LEAVES_AS_LAST, __ATOMIC_RELEASE);
        return true;
    case WIRE_DRAIN:
        __atomic_fetch_or(&orders->leaves, EEPI_LEAVES, __ATOMIC_RELEASE);
        return true;
    case WIRE_SLOW:
        __atomic_store_n(&orders->slow_milli,
                         (uint64_t)(((const wire_slow *)(const void *)message)->factor * 1e3),
                         __ATOMIC_RELEASE);
        return true;
    case WIRE_DIE:
        return arm(orders, (const wire_die *)(const void *)message, self->header->can_halt);
    default:
        return false;
    }
}
