/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a host's agents, locked and counted. */
#include "membership/agent/agent_lock.h"

#include "membership/process/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_BYTES = 128, TRIES = 100 };

typedef struct agent_line {
    uint64_t generation, start, home;
    int32_t pid;
} agent_line;

/* What is not ours, or half written, counts as nothing. */
static agent_line read_line(int fd)
{
    agent_line line = {0};
    char text[LINE_BYTES] = "";

    if (pread(fd, text, sizeof text - 1, 0) <= 0 ||
        sscanf(text, "%20" SCNu64 " %" SCNd32 " %20" SCNu64 " %20" SCNu64, &line.generation,
               &line.pid, &line.start, &line.home) != 4) {
        return (agent_line){0};
    }
    return line;
}

static eep_status write_line(int fd, const agent_line *line)
{
    char text[LINE_BYTES];
    const int bytes =
        snprintf(text, sizeof text, "%020" PRIu64 " %010" PRId32 " %020" PRIu64 " %020" PRIu64 "\n",
                 line->generation, line->pid, line->start, line->home);

    return pwrite(fd, text, (size_t)bytes, 0) == bytes ? EEP_OK : EEP_ERR_SYSTEM;
}

static bool has_ended(const agent_line *line)
{
    return line->pid > 0 && line->home == eepi_process_home() &&
           eepi_process_look(line->pid, line->start) == EEPI_PROCESS_GONE;
}

static eep_status count(int fd, const char *file, uint64_t *generation_out, char *error_out,
                        size_t error_bytes)
{
    const bool has_lock = flock(fd, LOCK_EX | LOCK_NB) == 0;
    const agent_line before = read_line(fd); /* behind the lock: whoever had it has counted */
    const agent_line own = {.generation = before.generation + 1,
                            .start = eepi_process_start((int32_t)getpid()),
                            .home = eepi_process_home(),
                            .pid = (int32_t)getpid()};

    if (!has_lock && !has_ended(&before)) {
        snprintf(error_out, error_bytes,
                 "an agent serves this host: process %" PRId32 " has the lock of %s", before.pid,
                 file);
        return EEP_ERR_CONFLICT;
    }
    if (write_line(fd, &own) != EEP_OK) {
        snprintf(error_out, error_bytes, "cannot write %s: %s", file, strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    *generation_out = own.generation;
    return EEP_OK;
}

eep_status eepi_agent_lock_raise(eepi_agent_lock *lock, uint64_t generation)
{
    agent_line line = read_line(lock->fd);

    line.generation = lock->generation = generation;
    return write_line(lock->fd, &line);
}

/* The path leads to that file still: nobody has removed it since it was opened. */
static bool is_at(const char *file, int fd)
{
    struct stat there, here;

    return fstat(fd, &here) == 0 && lstat(file, &there) == 0 && here.st_dev == there.st_dev &&
           here.st_ino == there.st_ino;
}

static bool name_file(const char *path, char file_out[PATH_MAX])
{
    errno = ENAMETOOLONG;
    return snprintf(file_out, PATH_MAX, "%s.agent", path) < PATH_MAX;
}

static eep_status try_take(const char *file, eepi_agent_lock *lock_out, char *error_out,
                           size_t error_bytes)
{
    struct stat info;
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
    eep_status status = EEP_ERR_SYSTEM;

    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        snprintf(error_out, error_bytes, "cannot open %s: %s%s", file,
                 fd < 0 ? strerror(errno) : "no plain file",
                 fd < 0 && errno == ENOENT
                     ? " (its folder is this host's own: make it with install -d -m 0700)"
                     : "");
    } else {
        status = count(fd, file, &lock_out->generation, error_out, error_bytes);
    }
    if (status == EEP_OK) {
        lock_out->fd = fd;
    } else if (fd >= 0) {
        close(fd);
    }
    return status;
}

eep_status eepi_agent_lock_take(const char *path, eepi_agent_lock *lock_out, char *error_out,
                                size_t error_bytes)
{
    char file[PATH_MAX];

    if (!name_file(path, file)) {
        snprintf(error_out, error_bytes, "%.200s.agent: %s", path, strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    for (int i = 0; i < TRIES; i++) {
        const eep_status status = try_take(file, lock_out, error_out, error_bytes);
        if (status != EEP_OK || is_at(file, lock_out->fd)) {
            return status;
        }
        close(lock_out->fd); /* an agent that closed has removed it meanwhile */
        lock_out->fd = -1;
    }
    snprintf(error_out, error_bytes, "%.200s is removed all the time", file);
    return EEP_ERR_SYSTEM;
}

void eepi_agent_lock_release(eepi_agent_lock *lock, const char *path, bool removes)
{
    char file[PATH_MAX];

    if (lock->fd < 0) {
        return;
    }
    if (removes && name_file(path, file) && is_at(file, lock->fd)) {
        unlink(file);
    }
    close(lock->fd);
    lock->fd = -1;
}
