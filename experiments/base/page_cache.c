/* SPDX-License-Identifier: Apache-2.0 */
/* posix_fadvise and mincore over the files of a folder. */
#include "experiments/base/page_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Pages that the files have, and those of them that are in the cache. */
typedef struct page_counts {
    uint64_t all, cached;
} page_counts;

typedef int (*file_call)(int fd, size_t bytes, page_counts *counts);

/* Written pages only go once they are on the disk. */
static int drop(int fd, size_t bytes, page_counts *counts)
{
    (void)bytes;
    (void)counts;
    if (fdatasync(fd) != 0) {
        return -1;
    }
    errno = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return errno ? -1 : 0;
}

/* A mapping that nobody reads takes no page into the cache. */
static int count(int fd, size_t bytes, page_counts *counts)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), num = (bytes + page - 1) / page;
    unsigned char *resident = malloc(num);
    void *mapped = resident ? mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    int result = mapped == MAP_FAILED ? -1 : mincore(mapped, bytes, resident);
    counts->all += num;
    for (size_t i = 0; result == 0 && i < num; i++) {
        counts->cached += resident[i] & 1;
    }
    if (mapped != MAP_FAILED) {
        munmap(mapped, bytes);
    }
    free(resident);
    return result;
}

static int visit(int folder, const char *name, file_call call, page_counts *counts)
{
    struct stat info;
    int fd = openat(folder, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    int result = fd < 0 ? -1 : fstat(fd, &info);
    if (result == 0 && S_ISREG(info.st_mode) && info.st_size > 0) {
        result = call(fd, (size_t)info.st_size, counts);
    }
    if (fd >= 0) {
        int kept = errno;
        close(fd);
        errno = kept;
    }
    return result;
}

static int visit_all(const char *dir, file_call call, page_counts *counts)
{
    DIR *entries = opendir(dir);
    int result = entries ? 0 : -1;
    for (struct dirent *entry = NULL; result == 0 && (entry = readdir(entries));) {
        result = visit(dirfd(entries), entry->d_name, call, counts);
    }
    if (entries) {
        int kept = errno;
        closedir(entries);
        errno = kept;
    }
    return result;
}

int page_cache_drop(const char *dir)
{
    return visit_all(dir, drop, &(page_counts){0});
}

double page_cache_share(const char *dir)
{
    page_counts counts = {0};
    if (visit_all(dir, count, &counts) != 0) {
        return -1;
    }
    return counts.all ? (double)counts.cached / (double)counts.all : 1;
}
