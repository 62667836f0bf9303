/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for backups: reserved, grown, sealed; mapped for reading by others. */
#include "membership/backup/backup_memory.h"

#include "transport/holder/holder_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GROW_BYTES = 256 * 1024 };

static uint64_t rounded(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

eep_status eepi_backup_memory_open(uint64_t most_bytes, eepi_backup_memory *memory_out)
{
    const uint64_t most = rounded(most_bytes, GROW_BYTES);
    void *base = MAP_FAILED;
    int fd = memfd_create("eep-backup", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    eep_status status = EEP_ERR_SYSTEM;

    if (fd < 0) {
        return errno == ENOSYS ? EEP_ERR_UNSUPPORTED : EEP_ERR_SYSTEM;
    }
    if (most < most_bytes) {
        errno = ENOMEM;
        status = EEP_ERR_NO_MEMORY;
    } else {
        base = mmap(NULL, most, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        status = base != MAP_FAILED ? EEP_OK : EEP_ERR_NO_MEMORY;
    }
    if (status != EEP_OK) {
        int error = errno;
        close(fd);
        errno = error;
        return status;
    }
    *memory_out = (eepi_backup_memory){.base = base, .most_bytes = most, .fd = fd};
    return EEP_OK;
}

eep_status eepi_backup_memory_grow(eepi_backup_memory *memory, uint64_t bytes)
{
    const uint64_t had = memory->bytes, more = rounded(bytes, GROW_BYTES);

    if (bytes <= had) {
        return EEP_OK;
    }
    if (more > memory->most_bytes) {
        errno = ENOMEM;
        return EEP_ERR_NO_MEMORY;
    }
    /* which makes the file longer, and its pages: else the first write to one might fail */
    while (fallocate(memory->fd, 0, (off_t)had, (off_t)(more - had)) != 0) {
        if (errno != EINTR) {
            return errno == ENOSPC || errno == ENOMEM || errno == EFBIG ? EEP_ERR_NO_MEMORY
                                                                        : EEP_ERR_SYSTEM;
        }
    }
    if (mmap(memory->base + had, more - had, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             memory->fd, (off_t)had) == MAP_FAILED) {
        return errno == ENOMEM ? EEP_ERR_NO_MEMORY : EEP_ERR_SYSTEM;
    }
    memory->bytes = more;
    return EEP_OK;
}

eep_status eepi_backup_memory_protect(eepi_backup_memory *memory)
{
    /* Not a shared mapping: one that could be made writable again forbids the seal. The pages are
     * those of the file all the same, as nothing is written through it. */
    return mmap(memory->base, memory->bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, memory->fd, 0) !=
                   MAP_FAILED
               ? EEP_OK
               : EEP_ERR_SYSTEM;
}

eep_status eepi_backup_memory_write(eepi_backup_memory *memory, uint64_t offset, const void *bytes,
                                    uint64_t num_bytes)
{
    const unsigned char *from = bytes;

    while (num_bytes > 0) {
        ssize_t written = pwrite(memory->fd, from, num_bytes, (off_t)offset);
        if (written < 0 && errno != EINTR) {
            return EEP_ERR_SYSTEM;
        }
        if (written > 0) {
            from += written;
            offset += (uint64_t)written;
            num_bytes -= (uint64_t)written;
        }
    }
    return EEP_OK;
}

eep_status eepi_backup_memory_seal(eepi_backup_memory *memory, uint64_t bytes)
{
    const uint64_t whole = rounded(bytes, (uint64_t)sysconf(_SC_PAGESIZE));

    /* the addresses of what is given back stay ours */
    if (memory->bytes > whole &&
        mmap(memory->base + whole, memory->bytes - whole, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
        return EEP_ERR_SYSTEM;
    }
    if (ftruncate(memory->fd, (off_t)whole) != 0) {
        return EEP_ERR_SYSTEM;
    }
    if (fcntl(memory->fd, F_ADD_SEALS, EEPI_HOLDER_SEALS | F_SEAL_WRITE) != 0) {
        return errno == EINVAL ? EEP_ERR_UNSUPPORTED : EEP_ERR_SYSTEM;
    }
    memory->bytes = whole;
    return EEP_OK;
}

void eepi_backup_memory_close(eepi_backup_memory *memory)
{
    if (memory->base != NULL) {
        munmap(memory->base, memory->most_bytes);
    }
    if (memory->fd >= 0) {
        close(memory->fd);
    }
    *memory = (eepi_backup_memory){.fd = -1};
}

eep_status eepi_backup_memory_map(int fd, uint64_t bytes, const unsigned char **base_out)
{
    struct stat info;
    const int seals = fcntl(fd, F_GET_SEALS); /* first: what has seals answers fstat at once */
    void *base;

    /* It must not shrink: reading past its end would be a SIGBUS. Nor may its pages be missing or
     * written: what was checked stays so. */
    if (seals < 0 ||
        (seals & (EEPI_HOLDER_SEALS | F_SEAL_WRITE)) != (EEPI_HOLDER_SEALS | F_SEAL_WRITE) ||
        fstat(fd, &info) != 0 || bytes == 0 || (uint64_t)info.st_size != bytes) {
        return EEP_ERR_PROTOCOL;
    }
    base = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0); /* see eepi_backup_memory_protect */
    if (base == MAP_FAILED) {
        return EEP_ERR_SYSTEM;
    }
    *base_out = base;
    return EEP_OK;
}

void eepi_backup_memory_unmap(const unsigned char *base, uint64_t bytes)
{
    munmap((void *)(uintptr_t)base, bytes);
}

int eepi_backup_memory_duplicate(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

void eepi_backup_memory_forget_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}
