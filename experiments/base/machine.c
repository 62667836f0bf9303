/* SPDX-License-Identifier: Apache-2.0 */
/* What the processors did meanwhile, for this program and for others. */
#include "experiments/base/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static double used_by(int who)
{
    struct rusage usage = {0};
    return getrusage(who, &usage) == 0 ? seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime)
                                       : 0;
}

char machine_process_state(pid_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    size_t bytes = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    text[bytes] = '\0';
    const char *end = strrchr(text, ')'); /* of the name, which may hold anything */
    return end && end[1] == ' ' ? end[2] : '\0';
}

/* utime and stime: fields 14 and 15, behind a name that may hold anything but its last ')'. */
static double ticks_of(pid_t pid)
{
    char path[40], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    text[size] = '\0';
    const char *rest = strrchr(text, ')');
    if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                        &system) != 2) {
        return 0; /* it has just been reaped: it is among the ended children next time */
    }
    return (double)(user + system);
}

bool machine_time_now(const pid_t *pids, size_t num, machine_time *time_out)
{
    double ticks[8] = {0}, all = 0; /* user nice system idle iowait irq softirq steal */
    double per_s = (double)sysconf(_SC_CLK_TCK);
    FILE *file = fopen("/proc/stat", "re");
    int found = 0;
    if (file) {
        found = fscanf(file, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &ticks[0], &ticks[1], &ticks[2],
                       &ticks[3], &ticks[4], &ticks[5], &ticks[6], &ticks[7]);
        fclose(file);
    }
    if (found != 8 || per_s <= 0) {
        return false;
    }
    for (int i = 0; i < 8; i++) {
        all += ticks[i];
    }
    double own = 0;
    for (size_t i = 0; i < num; i++) {
        bool counted = pids[i] <= 0;
        for (size_t k = 0; k < i && !counted; k++) {
            counted = pids[k] == pids[i];
        }
        own += counted ? 0 : ticks_of(pids[i]);
    }
    *time_out =
        (machine_time){.all = all / per_s,
                       .busy = (all - ticks[3] - ticks[4]) / per_s,
                       .own = own / per_s + used_by(RUSAGE_SELF) + used_by(RUSAGE_CHILDREN)};
    return true;
}

/* Clocks of processes and of the machine differ by a tick or two. */
static double share(double part, double whole)
{
    double is = part / whole;
    return is < 0 ? 0 : is > 1 ? 1 : is;
}

machine_use machine_use_between(const machine_time *begin, const machine_time *end)
{
    double all = end->all - begin->all, own = end->own - begin->own;
    if (all <= 0) {
        return (machine_use){0};
    }
    return (machine_use){.num_cpus = (int)sysconf(_SC_NPROCESSORS_ONLN),
                         .own = share(own, all),
                         .others = share(end->busy - begin->busy - own, all)};
}
