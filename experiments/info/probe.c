/* SPDX-License-Identifier: Apache-2.0 */
/* Probes: copies large enough that caches do not hold them, timed by the monotonic clock. */
#include "experiments/info/probe.h"

#include "graphs/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROBE_BYTES ((size_t)64 << 20)
enum { ROUNDS = 5, PIECE_BYTES = 1 << 20 };

static uint64_t faster(uint64_t best, uint64_t from_ns)
{
    const uint64_t ns = eepi_now_ns() - from_ns;
    const uint64_t rate = ns ? (uint64_t)((double)PROBE_BYTES * 1e9 / (double)ns) : 0;

    return rate > best ? rate : best;
}

static uint64_t copy_rate(void *to, const void *from)
{
    uint64_t best = 0;

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t from_ns = eepi_now_ns();
        memcpy(to, from, PROBE_BYTES);
        best = faster(best, from_ns);
    }
    return best;
}

/* As a rank copies weights that its peer has put into shared memory. */
static uint64_t shared_rate(void *to)
{
    uint64_t rate = 0;
    int fd = memfd_create("eep-probe", MFD_CLOEXEC), state = -1;
    void *shared = MAP_FAILED;
    pid_t writer;

    if (fd >= 0 && ftruncate(fd, (off_t)PROBE_BYTES) == 0) {
        shared = mmap(NULL, PROBE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (shared != MAP_FAILED) {
        writer = fork();
        if (writer == 0) {
            memset(shared, 1, PROBE_BYTES);
            _exit(0);
        }
        if (writer > 0 && waitpid(writer, &state, 0) == writer && state == 0) {
            rate = copy_rate(to, shared);
        }
        munmap(shared, PROBE_BYTES);
    }
    if (fd >= 0) {
        close(fd);
    }
    return rate;
}

static bool write_all(int fd, const char *from)
{
    for (size_t done = 0; done < PROBE_BYTES;) {
        ssize_t n = write(fd, from + done, PROBE_BYTES - done);
        if (n <= 0) {
            return false;
        }
        done += (size_t)n;
    }
    return fsync(fd) == 0;
}

/* Into one piece of memory over and over, so that the file and not the memory is measured. */
static uint64_t read_rate(int fd, char *to)
{
    const uint64_t from_ns = eepi_now_ns();

    for (size_t done = 0; done < PROBE_BYTES;) {
        ssize_t n = pread(fd, to, PIECE_BYTES, (off_t)done);
        if (n <= 0) {
            return 0;
        }
        done += (size_t)n;
    }
    return faster(0, from_ns);
}

static eep_status probe_file(const char *folder, const char *from, char *to, probe_rates *rates)
{
    char path[PATH_MAX];
    eep_status status = EEP_ERR_SYSTEM;
    int fd, error;

    if (snprintf(path, sizeof path, "%s/eep-probe.XXXXXX", folder) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return EEP_ERR_SYSTEM;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        return EEP_ERR_SYSTEM;
    }
    (void)unlink(path); /* gone with the descriptor, whatever happens to this process */
    if (write_all(fd, from)) {
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        rates->file_read = read_rate(fd, to);
        rates->file_again = read_rate(fd, to);
        status = EEP_OK;
    }
    error = errno;
    close(fd);
    errno = error;
    return status;
}

eep_status probe_run(const char *folder, probe_rates *rates_out)
{
    probe_rates rates = {0};
    char *from = malloc(PROBE_BYTES), *to = malloc(PROBE_BYTES);
    eep_status status = EEP_ERR_NO_MEMORY;

    if (from && to) {
        memset(from, 1, PROBE_BYTES);
        memset(to, 2, PROBE_BYTES);
        rates.memory_copy = copy_rate(to, from);
        rates.shared_copy = shared_rate(to);
        status = probe_file(folder, from, to, &rates);
    }
    free(from);
    free(to);
    if (status == EEP_OK) {
        *rates_out = rates;
    }
    return status;
}
