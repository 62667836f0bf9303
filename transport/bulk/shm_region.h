/* SPDX-License-Identifier: Apache-2.0 */
/* The memory in which a copier's chunks travel within a host: a memfd that its owner alone can
 * write, since it is sealed before its descriptor leaves the process; peers map it for reading.
 *
 *     0        magic, version, number of slots, bytes of a slot
 *     64 + 64i the sequence of slot i: even, of the chunk that is in it; odd, while it is written
 *     4096     slot 0, slot 1, ...
 *
 * The sequence is what makes it safe to take a slot back from a peer that stands still or is gone:
 * a reader looks at it again after its copy, and a chunk that was written over meanwhile counts as
 * lost. The functions that order this are eepi_shm_slot_write, eepi_shm_slot_begin and
 * eepi_shm_slot_end. */
#ifndef EEPI_SHM_REGION_H
#define EEPI_SHM_REGION_H

#include "transport/bulk/bulk_base.h"

enum {
    SHM_SLOTS = 32,
    SHM_SLOT_BYTES = 512 * 1024,
    SHM_HEADER_BYTES = 4096,
    SHM_REGION_BYTES = SHM_HEADER_BYTES + SHM_SLOTS * SHM_SLOT_BYTES
};

/* Make a region, map it for writing, seal it. The caller unmaps and closes. EEP_ERR_UNSUPPORTED:
 * this kernel lacks the seal (Linux 5.1); EEP_ERR_SYSTEM, errno says why. */
EEP_MUST_CHECK eep_status eepi_shm_region_make(int *fd_out, unsigned char **region_out);
/* Map another copier's region for reading, and read its pages only. EEP_ERR_PROTOCOL: not a sealed
 * region of this layout; EEP_ERR_SYSTEM. The descriptor stays the caller's. */
EEP_MUST_CHECK eep_status eepi_shm_region_open(int fd, const unsigned char **region_out);
void eepi_shm_region_unmap(const unsigned char *region);

/* Owner: write a slot with the first `bytes` bytes from `offset` of the pieces, after which nobody
 * who still reads the slot's last content believes it. Returns its new sequence. `past_caches`: a
 * line that the peer has read is not fetched from the cache of its core (past_caches.h). */
uint64_t eepi_shm_slot_write(unsigned char *region, int slot, const eepi_bulk_part *parts,
                             int num_parts, uint64_t offset, uint64_t bytes, bool past_caches);
/* Peer: the bytes of a slot, which are read next; NULL: it is not the chunk of that sequence. */
const void *eepi_shm_slot_begin(const unsigned char *region, int slot, uint64_t sequence);
/* Peer: all that was read since eepi_shm_slot_begin was of that chunk. */
bool eepi_shm_slot_end(const unsigned char *region, int slot, uint64_t sequence);
#endif
