/* Windows of one machine: a memfd per window. A peer opens it through /proc/<pid>/fd, so no
 * descriptor has to be passed around; the memory lives as long as anybody maps it, whatever
 * happens to its owner. */
#include "transport/window.h"

#include "graphs/table_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct eepi_window {
    void *address;
    size_t bytes;
    int fd; /* -1: mapped from a peer */
};

typedef struct memfd_descriptor {
    int32_t pid, fd;
    uint64_t bytes;
} memfd_descriptor;
static_assert(sizeof(memfd_descriptor) <= EEPI_WINDOW_DESCRIPTOR_BYTES, "fits");

static eep_status map_fd(int fd, size_t bytes, eepi_window *window)
{
    window->address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (window->address == MAP_FAILED) {
        window->address = NULL;
        return EEP_ERR_NO_MEMORY;
    }
    window->bytes = bytes;
    return EEP_OK;
}

eep_status eepi_window_create(uint32_t seat, uint32_t generation, size_t bytes,
                              eepi_window **window_out)
{
    eepi_window *window = calloc(1, sizeof(*window));
    eepk_window_header *header;
    eep_status status = EEP_ERR_SYSTEM;

    if (!window)
        return EEP_ERR_NO_MEMORY;
    window->fd = memfd_create("eep-window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (window->fd < 0)
        goto fail;
    if (ftruncate(window->fd, (off_t)bytes) != 0 ||
        fallocate(window->fd, 0, 0, (off_t)bytes) != 0) {
        status = errno == ENOSPC || errno == ENOMEM ? EEP_ERR_NO_MEMORY : EEP_ERR_SYSTEM;
        goto fail;
    }
    /* nobody may shrink it under a peer that stores into it */
    if (fcntl(window->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        goto fail;
    status = map_fd(window->fd, bytes, window);
    if (status != EEP_OK)
        goto fail;
    header = window->address;
    header->magic = EEPK_WINDOW_MAGIC;
    header->version = 1;
    header->seat = seat;
    header->generation = generation;
    header->bytes = bytes;
    *window_out = window;
    return EEP_OK;
fail:
    eepi_window_close(window);
    return status;
}

eep_status eepi_window_map(const eepi_window_descriptor *descriptor, uint32_t seat,
                           uint32_t generation, size_t bytes, eepi_window **window_out)
{
    eepi_window *window = calloc(1, sizeof(*window));
    const eepk_window_header *header;
    memfd_descriptor from;
    struct stat info;
    char path[64];
    int fd;

    if (!window)
        return EEP_ERR_NO_MEMORY;
    window->fd = -1;
    memcpy(&from, descriptor->bytes, sizeof(from));
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", from.pid, from.fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || from.bytes != bytes || (uint64_t)info.st_size != bytes ||
        map_fd(fd, bytes, window) != EEP_OK)
        goto fail;
    close(fd);
    fd = -1;
    header = window->address;
    if (header->magic != EEPK_WINDOW_MAGIC || header->version != 1 || header->seat != seat ||
        header->generation != generation || header->bytes != bytes)
        goto fail;
    *window_out = window;
    return EEP_OK;
fail:
    if (fd >= 0)
        close(fd);
    eepi_window_close(window);
    return EEP_ERR_UNREACHABLE;
}

void eepi_window_close(eepi_window *window)
{
    if (!window)
        return;
    if (window->address)
        munmap(window->address, window->bytes);
    if (window->fd >= 0)
        close(window->fd);
    free(window);
}

void *eepi_window_address(const eepi_window *window)
{
    return window->address;
}

void eepi_window_describe(const eepi_window *window, eepi_window_descriptor *descriptor_out)
{
    memfd_descriptor to = {(int32_t)getpid(), window->fd, window->bytes};

    memset(descriptor_out, 0, sizeof(*descriptor_out));
    memcpy(descriptor_out->bytes, &to, sizeof(to));
}
