/* SPDX-License-Identifier: Apache-2.0 */
/* The region: made and sealed by its owner, mapped for reading by peers; writing and reading a
 * slot. */
#include "transport/bulk/shm_region.h"

#include "transport/holder/holder_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REGION_MAGIC 0x52534545u /* "EESR", little-endian */

typedef struct region_header {
    uint32_t magic, version, num_slots, slot_bytes;
} region_header;

static const region_header layout = {REGION_MAGIC, 1, SHM_SLOTS, SHM_SLOT_BYTES};

eep_status eepi_shm_region_make(int *fd_out, unsigned char **region_out)
{
    int fd = memfd_create("eep-bulk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *region = MAP_FAILED;
    eep_status status = fd < 0 && errno == ENOSYS ? EEP_ERR_UNSUPPORTED : EEP_ERR_SYSTEM;
    if (fd < 0 || ftruncate(fd, SHM_REGION_BYTES) != 0) {
        goto fail;
    }
    region = mmap(NULL, SHM_REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (region == MAP_FAILED) {
        goto fail;
    }
    memcpy(region, &layout, sizeof layout);
    /* From here on this mapping is the only one that can write. */
    if (fcntl(fd, F_ADD_SEALS, EEPI_HOLDER_SEALS) != 0) {
        status = errno == EINVAL ? EEP_ERR_UNSUPPORTED : EEP_ERR_SYSTEM;
        goto fail;
    }
    *fd_out = fd;
    *region_out = region;
    return EEP_OK;
fail:;
    int error = errno;
    if (region != MAP_FAILED) {
        munmap(region, SHM_REGION_BYTES);
    }
    if (fd >= 0) {
        close(fd);
    }
    errno = error;
    return status;
}

eep_status eepi_shm_region_open(int fd, const unsigned char **region_out)
{
    struct stat info;
    region_header header;
    int seals = fcntl(fd, F_GET_SEALS);
    /* It must not shrink: reading past its end would be a SIGBUS. */
    if (fstat(fd, &info) != 0 || info.st_size != SHM_REGION_BYTES || seals < 0 ||
        (seals & EEPI_HOLDER_SEALS) != EEPI_HOLDER_SEALS) {
        return EEP_ERR_PROTOCOL;
    }
    void *region = mmap(NULL, SHM_REGION_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    if (region == MAP_FAILED) {
        return EEP_ERR_SYSTEM;
    }
    memcpy(&header, region, sizeof header);
    if (memcmp(&header, &layout, sizeof layout) != 0) {
        munmap(region, SHM_REGION_BYTES);
        return EEP_ERR_PROTOCOL;
    }
    *region_out = region;
    return EEP_OK;
}

void eepi_shm_region_unmap(const unsigned char *region)
{
    if (region != NULL) {
        munmap((void *)(uintptr_t)region, SHM_REGION_BYTES);
    }
}

static uint64_t *sequence_at(const unsigned char *region, int slot)
{
    return (uint64_t *)(uintptr_t)(region + 64 + (size_t)64 * (size_t)slot);
}

static unsigned char *slot_at(const unsigned char *region, int slot)
{
    return (unsigned char *)(uintptr_t)region + SHM_HEADER_BYTES +
           (size_t)slot * (size_t)SHM_SLOT_BYTES;
}

/* The odd sequence is stored before any byte of the slot (partner: eepi_shm_slot_end), the even one
 * after all of them. */
uint64_t eepi_shm_slot_write(unsigned char *region, int slot, const eepi_bulk_part *parts,
                             int num_parts, uint64_t offset, uint64_t bytes, bool past_caches)
{
    uint64_t *sequence = sequence_at(region, slot);
    uint64_t next = __atomic_load_n(sequence, __ATOMIC_RELAXED) + 2;
    __atomic_store_n(sequence, next - 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    eepi_bulk_gather(slot_at(region, slot), parts, num_parts, offset, bytes, past_caches);
    __atomic_store_n(sequence, next, __ATOMIC_RELEASE);
    return next;
}

/* The sequence is loaded before any byte, and again after all of them (partner:
 * eepi_shm_slot_write): the same both times, no byte between was another chunk's. */
const void *eepi_shm_slot_begin(const unsigned char *region, int slot, uint64_t sequence)
{
    return __atomic_load_n(sequence_at(region, slot), __ATOMIC_ACQUIRE) == sequence
               ? slot_at(region, slot)
               : NULL;
}

bool eepi_shm_slot_end(const unsigned char *region, int slot, uint64_t sequence)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return __atomic_load_n(sequence_at(region, slot), __ATOMIC_RELAXED) == sequence;
}
