/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory of the host backend: a memfd. It lives as long as anybody maps it or holds a
 * descriptor of it, whatever happens to its maker. */
#include "graphs/device/device_share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static eep_status failed(const char *call, char *why_out, size_t why_bytes)
{
    int error = errno;

    snprintf(why_out, why_bytes, "%s: %s", call, strerror(error));
    return error == ENOSPC || error == ENOMEM ? EEP_ERR_NO_MEMORY : EEP_ERR_SYSTEM;
}

static eep_status map(int fd, size_t bytes, eepi_share *share, char *why_out, size_t why_bytes)
{
    void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (address == MAP_FAILED) {
        return failed("mmap", why_out, why_bytes);
    }
    share->address = address;
    share->mapped_bytes = bytes;
    return EEP_OK;
}

/* Real memory from the start: a store into a page that cannot be had would be a SIGBUS. */
static eep_status reserve(int fd, size_t bytes, char *why_out, size_t why_bytes)
{
    if (ftruncate(fd, (off_t)bytes) != 0) {
        return failed("ftruncate of a memfd", why_out, why_bytes);
    }
    if (fallocate(fd, 0, 0, (off_t)bytes) != 0) {
        return failed("fallocate of a memfd", why_out, why_bytes);
    }
    /* nobody may shrink it under a peer that stores into it */
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return failed("sealing a memfd", why_out, why_bytes);
    }
    return EEP_OK;
}

eep_status eepi_host_share_make(void *device, size_t bytes, eepi_share *share_out, char *why_out,
                                size_t why_bytes)
{
    eepi_share share = {.fd = memfd_create("eep-window", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    eep_status status;

    (void)device;
    if (share.fd < 0) {
        return failed("memfd_create", why_out, why_bytes);
    }
    status = reserve(share.fd, bytes, why_out, why_bytes);
    if (status == EEP_OK) {
        status = map(share.fd, bytes, &share, why_out, why_bytes);
    }
    if (status != EEP_OK) {
        close(share.fd);
        return status;
    }
    *share_out = share;
    return EEP_OK;
}

eep_status eepi_host_share_map(void *device, int fd, size_t mapped_bytes, eepi_share *share_out,
                               char *why_out, size_t why_bytes)
{
    eepi_share share = {.fd = -1};
    struct stat info;
    eep_status status;

    (void)device;
    if (fstat(fd, &info) != 0) {
        return failed("fstat", why_out, why_bytes);
    }
    if (!S_ISREG(info.st_mode) || (uint64_t)info.st_size != mapped_bytes) {
        snprintf(why_out, why_bytes, "not a shared region of %zu bytes", mapped_bytes);
        return EEP_ERR_INVALID;
    }
    status = map(fd, mapped_bytes, &share, why_out, why_bytes);
    if (status == EEP_OK) {
        *share_out = share;
    }
    return status;
}

void eepi_host_share_close(void *device, eepi_share *share)
{
    (void)device;
    (void)munmap(share->address, share->mapped_bytes);
    if (share->fd >= 0) {
        close(share->fd);
    }
}
