/* SPDX-License-Identifier: Apache-2.0 */
/* How backups lie in a region of memory that one rank fills and others read:
 *
 *     0      backup_head      whose instance, the shapes, where the entries are
 *     4096   expert, expert   the tensors of each, every one at a multiple of 64 bytes
 *     ...    backup_entry[]   which expert lies where, in order of (layer, expert)
 *
 * Pure functions on bytes. A reader checks all of it before it uses any (a region's writer is a
 * process of the same user, and may be of another version). */
#ifndef EEPI_BACKUP_INDEX_H
#define EEPI_BACKUP_INDEX_H

#include "eep/eep.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EEPI_BACKUP_ALIGN = 64, EEPI_BACKUP_HEAD_BYTES = 4096 };

/* What is the same in all regions of an instance. */
typedef struct eepi_backup_layout {
    uint64_t instance;
    int32_t num_layers, num_experts;
    int32_t num_tensors; /* of an expert */
    uint32_t reserved;   /* 0 */
    uint64_t tensor_bytes[EEP_MAX_TENSORS];
} eepi_backup_layout;

typedef struct eepi_backup_entry {
    int32_t layer, expert;
    uint64_t offset;   /* of its first tensor */
    uint64_t checksum; /* of its tensors, one after the other */
} eepi_backup_entry;
static_assert(sizeof(eepi_backup_entry) == 24, "it lies in memory that others read");

typedef struct eepi_backup_head {
    uint32_t magic, version;
    uint64_t bytes; /* of the region */
    uint64_t entries_offset;
    uint64_t num_entries;
    eepi_backup_layout layout;
} eepi_backup_head;
static_assert(sizeof(eepi_backup_head) == 120, "it lies in memory that others read");

/* Bytes that an expert takes, with the room that aligns its tensors. */
uint64_t eepi_backup_stride(const eepi_backup_layout *layout);
/* Bytes of a region of so many experts. */
uint64_t eepi_backup_region_bytes(const eepi_backup_layout *layout, uint64_t num_entries);
/* Name the tensors of the expert that begins at `first`. */
void eepi_backup_tensors(const eepi_backup_layout *layout, const void *first,
                         eep_tensor *tensors_out);
/* The head of a region whose experts lie one behind the other; its entries are sorted. */
eepi_backup_head eepi_backup_head_of(const eepi_backup_layout *layout, eepi_backup_entry *entries,
                                     uint64_t num_entries);
/* Check a region of `bytes` bytes and copy its entries, which the caller frees. EEP_ERR_PROTOCOL
 * with a reason: it is none, of another instance or shape (tensor_bytes of `layout` may be 0: not
 * known yet), or out of bounds anywhere. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_backup_index_read(const void *region, uint64_t bytes,
                                                 const eepi_backup_layout *layout,
                                                 eepi_backup_entry **entries_out,
                                                 uint64_t *num_entries_out, const char **why_out);
/* The entry of an expert; NULL: there is none. */
const eepi_backup_entry *eepi_backup_index_find(const eepi_backup_entry *entries,
                                                uint64_t num_entries, int32_t layer,
                                                int32_t expert);
#endif
