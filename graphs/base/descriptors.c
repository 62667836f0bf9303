/* SPDX-License-Identifier: Apache-2.0 */
/* How many descriptors this process has, and what to say when they run out. */
#include "graphs/base/descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

eepi_descriptors eepi_descriptors_look(void)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    eepi_descriptors seen = {0};
    DIR *entries = opendir("/proc/self/fd");

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    seen.limit = limit.rlim_cur;
    if (!entries) {
        seen.open = errno == EMFILE ? seen.limit : 0;
        return seen;
    }
    while (readdir(entries)) {
        seen.open++;
    }
    closedir(entries);
    seen.open -= 3; /* ".", ".." and the one that looked */
    return seen;
}

bool eepi_descriptors_lack(uint64_t need, const char *what, char *text_out, size_t text_bytes)
{
    eepi_descriptors seen = eepi_descriptors_look();

    if (seen.limit >= seen.open && seen.limit - seen.open >= need) {
        return false;
    }
    snprintf(
        text_out, text_bytes,
        "descriptors: limit %llu (RLIMIT_NOFILE), %llu are open, %s needs %llu more: raise the "
        "limit (ulimit -n)",
        (unsigned long long)seen.limit, (unsigned long long)seen.open, what,
        (unsigned long long)need);
    return true;
}

uint64_t eepi_descriptors_share(uint64_t part, uint64_t most)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur / part >= most) {
        return most;
    }
    return limit.rlim_cur / part + 1;
}

const char *eepi_descriptors_error(int error, char *text, size_t text_bytes)
{
    if (error == EMFILE) {
        eepi_descriptors seen = eepi_descriptors_look();
        snprintf(text, text_bytes,
                 "%s: descriptors: limit %llu (RLIMIT_NOFILE): raise it (ulimit -n)",
                 strerror(error), (unsigned long long)seen.limit);
    } else if (error == ENFILE) {
        snprintf(text, text_bytes, "%s: descriptors: limit of the machine (fs.file-max)",
                 strerror(error));
    } else {
        snprintf(text, text_bytes, "%s", strerror(error));
    }
    return text;
}
