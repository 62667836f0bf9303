/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at a process through /proc, and watching and killing it through a pidfd. */
#include "membership/process/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xxhash.h>

typedef enum stat_result { STAT_UNKNOWN, STAT_GONE, STAT_READ } stat_result;

/* Fields of /proc/<pid>/stat behind the command name, which may hold anything: find its last ')'.
 * Only the kernel's word that there is no such process is GONE: that we have no descriptor left,
 * for one, says nothing about the peer. */
typedef struct process_stat {
    char state;
    long num_threads; /* of a zombie: 1 once no other thread of it is left */
    uint64_t start, vsize;
} process_stat;

static stat_result read_stat(const char *path, process_stat *stat_out)
{
    char text[1024], *at;
    unsigned long long start, vsize;
    ssize_t n;
    int fd, error;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT || errno == ESRCH ? STAT_GONE : STAT_UNKNOWN;
    }
    n = read(fd, text, sizeof(text) - 1);
    error = errno;
    close(fd);
    if (n < 0) {
        return error == ESRCH ? STAT_GONE : STAT_UNKNOWN;
    }
    text[n] = '\0';
    at = strrchr(text, ')');
    if (!at || sscanf(at + 1,
                      " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld "
                      "%*d %llu %llu",
                      &stat_out->state, &stat_out->num_threads, &start, &vsize) != 4) {
        return STAT_UNKNOWN;
    }
    stat_out->start = start;
    stat_out->vsize = vsize;
    return STAT_READ;
}

static stat_result read_process(int32_t pid, process_stat *stat_out)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    return read_stat(path, stat_out);
}

/* A leader that ended alone shows no memory, though its process has it: does any other thread? What
 * cannot be read counts as one that has. */
static bool has_memory(int32_t pid)
{
    char path[64 + sizeof((struct dirent *)0)->d_name];
    const struct dirent *entry;
    process_stat stat;
    bool has = false;
    DIR *threads;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    threads = opendir(path);
    if (!threads) {
        return errno != ENOENT;
    }
    while (!has && (entry = readdir(threads)) != NULL) {
        stat_result result = STAT_GONE;
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof path, "/proc/%d/task/%s/stat", pid, entry->d_name);
            result = read_stat(path, &stat);
        }
        has = result == STAT_UNKNOWN ||
              (result == STAT_READ && stat.vsize != 0 && stat.state != 'Z' && stat.state != 'X');
    }
    closedir(threads);
    return has;
}

uint64_t eepi_process_home(void)
{
    struct {
        char boot[64], self[32];
        uint64_t device, inode, clock_device, clock_inode;
    } home = {0};
    char own[32];
    struct stat space, clock;
    bool has_clock;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, home.boot, sizeof home.boot - 1) : -1;

    if (fd >= 0) {
        close(fd);
    }
    snprintf(own, sizeof own, "%d", (int)getpid());
    if (got <= 0 || stat("/proc/self/ns/pid", &space) != 0 ||
        readlink("/proc/self", home.self, sizeof home.self - 1) <= 0 ||
        strcmp(home.self, own) != 0) {
        return 0;
    }
    memset(home.self, 0, sizeof home.self); /* the same for all processes of this namespace */
    has_clock = stat("/proc/self/ns/time", &clock) == 0;
    if (!has_clock && errno != ENOENT) { /* ENOENT: Linux before 5.6, which has none */
        return 0;
    }
    home.clock_device = has_clock ? clock.st_dev : 0;
    home.clock_inode = has_clock ? clock.st_ino : 0;
    home.device = space.st_dev;
    home.inode = space.st_ino;
    return XXH64(&home, sizeof home, 0) | 1;
}

uint64_t eepi_process_start(int32_t pid)
{
    process_stat stat;

    return read_process(pid, &stat) == STAT_READ ? stat.start : 0;
}

eepi_process_state eepi_process_look(int32_t pid, uint64_t start)
{
    process_stat stat;
    stat_result result = pid > 0 ? read_process(pid, &stat) : STAT_UNKNOWN;
    bool is_zombie;

    if (result == STAT_UNKNOWN) {
        return EEPI_PROCESS_RUNS;
    }
    if (result == STAT_GONE || stat.start != start || stat.state == 'X') {
        return EEPI_PROCESS_GONE;
    }
    is_zombie = stat.state == 'Z';
    if (is_zombie && stat.num_threads <= 1) {
        return EEPI_PROCESS_GONE;
    }
    return (is_zombie || stat.vsize == 0) && !has_memory(pid) ? EEPI_PROCESS_ENDING
                                                              : EEPI_PROCESS_RUNS;
}

int eepi_process_watch(int32_t pid, uint64_t start)
{
    int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

    /* the pid may have been taken by another process before it was opened */
    if (fd >= 0 && eepi_process_look(pid, start) == EEPI_PROCESS_GONE) {
        close(fd);
        return -1;
    }
    return fd;
}

bool eepi_process_kill(int pidfd)
{
    return syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0 || errno == ESRCH;
}
