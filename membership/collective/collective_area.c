/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for collectives: a memfd, opened by peers through /proc. */
#include "membership/collective/collective_area.h"

#include "graphs/base/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { AREA_BYTES = EEPI_COLLECTIVE_DATA_AT + 2 * EEP_COLLECTIVE_MAX_BYTES };

static eep_status failed(const char *call, char *why_out, size_t why_bytes)
{
    const int error = errno;
    char text[160];

    snprintf(why_out, why_bytes, "%s of memory for collectives: %s", call,
             eepi_descriptors_error(error, text, sizeof text));
    return error == ENOSPC || error == ENOMEM ? EEP_ERR_NO_MEMORY : EEP_ERR_SYSTEM;
}

static eepi_collective_memory identity(int32_t seat, uint32_t generation)
{
    return (eepi_collective_memory){.magic = EEPI_COLLECTIVE_MAGIC,
                                    .version = EEPI_COLLECTIVE_VERSION,
                                    .seat = (uint32_t)seat,
                                    .generation = generation,
                                    .slot_bytes = EEP_COLLECTIVE_MAX_BYTES};
}

static eep_status map(eepi_collective_area *area, int fd, char *why_out, size_t why_bytes)
{
    void *address = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (address == MAP_FAILED) {
        return failed("mmap", why_out, why_bytes);
    }
    area->memory = address;
    return EEP_OK;
}

/* Nobody may shrink it under a peer that reads it. The heads have real memory from the start. */
static eep_status size(int fd, char *why_out, size_t why_bytes)
{
    if (ftruncate(fd, AREA_BYTES) != 0) {
        return failed("ftruncate", why_out, why_bytes);
    }
    if (fallocate(fd, 0, 0, EEPI_COLLECTIVE_DATA_AT) != 0) {
        return failed("fallocate", why_out, why_bytes);
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return failed("sealing", why_out, why_bytes);
    }
    return EEP_OK;
}

eep_status eepi_collective_area_make(int32_t seat, uint32_t generation, char *why_out,
                                     size_t why_bytes, eepi_collective_area **area_out)
{
    eepi_collective_area *area = calloc(1, sizeof *area);
    eep_status status;

    if (!area) {
        snprintf(why_out, why_bytes, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    area->generation = generation;
    area->fd = memfd_create("eep-collective", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    status = area->fd < 0 ? failed("memfd_create", why_out, why_bytes)
                          : size(area->fd, why_out, why_bytes);
    if (status == EEP_OK) {
        status = map(area, area->fd, why_out, why_bytes);
    }
    if (status != EEP_OK) {
        eepi_collective_area_close(area);
        return status;
    }
    *area->memory = identity(seat, generation);
    *area_out = area;
    return EEP_OK;
}

/* Real memory before the first store: a page that cannot be had would be a SIGBUS. */
eep_status eepi_collective_area_reserve(eepi_collective_area *area, uint64_t number, size_t bytes)
{
    const off_t at = (off_t)(eepi_contribution_bytes(area, number) - (uint8_t *)area->memory);
    char why[160];

    if (bytes <= area->reserved[number % 2]) {
        return EEP_OK;
    }
    if (fallocate(area->fd, 0, at, (off_t)bytes) != 0) {
        return failed("fallocate", why, sizeof why);
    }
    area->reserved[number % 2] = bytes;
    return EEP_OK;
}

static bool is_the_one(const eepi_collective_memory *memory, int32_t seat, uint32_t generation)
{
    return memory->magic == EEPI_COLLECTIVE_MAGIC && memory->version == EEPI_COLLECTIVE_VERSION &&
           memory->seat == (uint32_t)seat && memory->generation == generation &&
           memory->slot_bytes == EEP_COLLECTIVE_MAX_BYTES;
}

static eep_status map_from(eepi_collective_area *area, int32_t pid, int32_t fd, char *why_out,
                           size_t why_bytes)
{
    char path[64];
    struct stat file;
    eep_status status;
    int copy;

    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    copy = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (copy < 0) {
        status = failed("open", why_out, why_bytes);
        return errno == EMFILE || errno == ENFILE ? status : EEP_ERR_UNREACHABLE;
    }
    if (fstat(copy, &file) != 0 || file.st_size != AREA_BYTES) {
        snprintf(why_out, why_bytes, "%s is no memory for collectives", path);
        status = EEP_ERR_UNREACHABLE;
    } else {
        status = map(area, copy, why_out, why_bytes);
    }
    close(copy);
    return status;
}

eep_status eepi_collective_area_map(int32_t pid, int32_t fd, int32_t seat, uint32_t generation,
                                    char *why_out, size_t why_bytes,
                                    eepi_collective_area **area_out)
{
    eepi_collective_area *area = calloc(1, sizeof *area);
    eep_status status;

    if (!area) {
        snprintf(why_out, why_bytes, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    area->fd = -1;
    area->generation = generation;
    status = map_from(area, pid, fd, why_out, why_bytes);
    if (status == EEP_OK && !is_the_one(area->memory, seat, generation)) {
        snprintf(why_out, why_bytes, "process %d holds other memory there", pid);
        status = EEP_ERR_UNREACHABLE;
    }
    if (status != EEP_OK) {
        eepi_collective_area_close(area);
        return status;
    }
    *area_out = area;
    return EEP_OK;
}

/* Its pages are taken as they are written. */
eep_status eepi_collective_area_mirror(int32_t seat, uint32_t generation,
                                       eepi_collective_area **area_out)
{
    eepi_collective_area *area = calloc(1, sizeof *area);
    void *address = MAP_FAILED;

    if (area) {
        area->mirror = calloc(1, sizeof *area->mirror);
        address = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    if (!area || address == MAP_FAILED || !area->mirror) {
        if (address != MAP_FAILED) {
            munmap(address, AREA_BYTES);
        }
        free(area ? area->mirror : NULL);
        free(area);
        return EEP_ERR_NO_MEMORY;
    }
    area->fd = -1;
    area->generation = generation;
    area->memory = address;
    *area->memory = identity(seat, generation);
    *area_out = area;
    return EEP_OK;
}

void eepi_collective_area_close(eepi_collective_area *area)
{
    if (!area) {
        return;
    }
    if (area->memory) {
        munmap(area->memory, AREA_BYTES);
    }
    if (area->fd >= 0) {
        close(area->fd);
    }
    free(area->mirror);
    free(area);
}
