#include "membership/process.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Fields of /proc/<pid>/stat behind the command name, which may hold anything: find its last ')'. */
static int read_stat(int32_t pid, char *state_out, uint64_t *start_out, uint64_t *vsize_out)
{
    char path[64], text[1024], *at;
    unsigned long long start, vsize;
    size_t n;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    at = strrchr(text, ')');
    if (!at || sscanf(at + 1,
                      " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
                      "%*d %llu %llu",
                      state_out, &start, &vsize) != 3)
        return 0;
    *start_out = start;
    *vsize_out = vsize;
    return 1;
}

uint64_t eepi_process_start(int32_t pid)
{
    uint64_t start, vsize;
    char state;

    return read_stat(pid, &state, &start, &vsize) ? start : 0;
}

eepi_process_state eepi_process_look(int32_t pid, uint64_t start)
{
    uint64_t now_start, vsize;
    char state;

    if (!read_stat(pid, &state, &now_start, &vsize) || now_start != start || state == 'Z' ||
        state == 'X' || vsize == 0)
        return EEPI_PROCESS_ENDED;
    return EEPI_PROCESS_RUNS;
}

int eepi_process_watch(int32_t pid, uint64_t start)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    /* the pid may have been taken by another process before it was opened */
    if (fd >= 0 && eepi_process_start(pid) != start) {
        close(fd);
        return -1;
    }
    return fd;
}

void eepi_process_kill(int pidfd)
{
    if (pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}
