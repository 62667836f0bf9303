/* SPDX-License-Identifier: Apache-2.0 */
/* What the product calls of the system for agents, linked with --wrap: memory that two processes
 * share by a descriptor, sets of descriptors, and connections. What is not simulated goes on to the
 * system, as checkpoint files in memory do. */
#include "tests/sim/parts/sim_lines.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

typedef struct shared_memory {
    struct shared_memory *next;
    uint8_t *bytes;
    size_t size;
} shared_memory;

static shared_memory *all;

void sim_descriptors_open(void)
{
    all = NULL;
}

/* ------------------------------------------------------------------ shared memory */

int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags)
{
    shared_memory *memory;

    if (strcmp(name, "eep-board") != 0 && strcmp(name, "eep-pulse") != 0) {
        return __real_memfd_create(name, flags);
    }
    memory = calloc(1, sizeof *memory);
    memory->next = all;
    all = memory;
    return sim_fd_new(SIM_FD_MEMORY, memory);
}

static shared_memory *memory_of(int fd)
{
    return sim_fd_kind_of(fd) == SIM_FD_MEMORY ? sim_fd_what(fd) : NULL;
}

int __real_ftruncate64(int fd, off_t size);
int __wrap_ftruncate64(int fd, off_t size);
int __wrap_ftruncate64(int fd, off_t size)
{
    shared_memory *memory = memory_of(fd);

    if (!memory) {
        return __real_ftruncate64(fd, size);
    }
    memory->size = (size_t)size;
    memory->bytes = calloc(1, memory->size);
    return 0;
}

void *__real_mmap64(void *address, size_t size, int rights, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int rights, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int rights, int flags, int fd, off_t offset)
{
    const shared_memory *memory = memory_of(fd);

    return memory ? memory->bytes : __real_mmap64(address, size, rights, flags, fd, offset);
}

/* That of the world stays until its end. */
int __real_munmap(void *address, size_t size);
int __wrap_munmap(void *address, size_t size);
int __wrap_munmap(void *address, size_t size)
{
    for (const shared_memory *memory = all; memory; memory = memory->next) {
        if (memory->bytes == address) {
            return 0;
        }
    }
    return __real_munmap(address, size);
}

int __real_fstat64(int fd, struct stat *info);
int __wrap_fstat64(int fd, struct stat *info);
int __wrap_fstat64(int fd, struct stat *info)
{
    const shared_memory *memory = memory_of(fd);

    if (!memory) {
        return __real_fstat64(fd, info);
    }
    memset(info, 0, sizeof *info);
    info->st_size = (off_t)memory->size;
    return 0;
}

/* ------------------------------------------------------------------ sets of descriptors */

int __wrap_epoll_create1(int flags);
int __wrap_epoll_create1(int flags)
{
    (void)flags;
    return sim_fd_new(SIM_FD_SET, NULL);
}

/* A set has one descriptor, or none. */
int __wrap_epoll_ctl(int set, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int set, int operation, int fd, struct epoll_event *event)
{
    (void)event;
    sim_fd_put_into_set(set, operation == EPOLL_CTL_ADD ? fd : -1);
    return 0;
}

/* ------------------------------------------------------------------ connections */

int __wrap_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol)
{
    (void)domain, (void)type, (void)protocol;
    return sim_fd_new(SIM_FD_NONE, NULL);
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t bytes);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
    const int line =
        sim_line_connect(((const struct sockaddr_un *)(const void *)address)->sun_path);

    (void)bytes;
    if (line < 0) {
        return -1;
    }
    sim_fd_become(fd, line);
    return 0;
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
    (void)address, (void)bytes, (void)flags;
    return sim_line_accept(fd);
}
