/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of a region of backups, written and checked. */
#include "membership/backup/backup_index.h"

#include <stdlib.h>
#include <string.h>

#define BACKUP_MAGIC 0x504b4245u /* "EBKP", little-endian */
enum { BACKUP_VERSION = 2 };

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + EEPI_BACKUP_ALIGN - 1) / EEPI_BACKUP_ALIGN * EEPI_BACKUP_ALIGN;
}

uint64_t eepi_backup_stride(const eepi_backup_layout *layout)
{
    uint64_t bytes = 0;

    for (int i = 0; i < layout->num_tensors; i++) {
        bytes += aligned(layout->tensor_bytes[i]);
    }
    return bytes;
}

uint64_t eepi_backup_region_bytes(const eepi_backup_layout *layout, uint64_t num_entries)
{
    return EEPI_BACKUP_HEAD_BYTES +
           num_entries * (eepi_backup_stride(layout) + sizeof(eepi_backup_entry));
}

void eepi_backup_tensors(const eepi_backup_layout *layout, const void *first,
                         eep_tensor *tensors_out)
{
    unsigned char *at = (unsigned char *)(uintptr_t)first;

    for (int i = 0; i < layout->num_tensors; i++) {
        tensors_out[i] = (eep_tensor){at, layout->tensor_bytes[i]};
        at += aligned(layout->tensor_bytes[i]);
    }
}

static int compare(const void *one, const void *two)
{
    const eepi_backup_entry *a = one, *b = two;

    if (a->layer != b->layer) {
        return a->layer < b->layer ? -1 : 1;
    }
    return (a->expert > b->expert) - (a->expert < b->expert);
}

eepi_backup_head eepi_backup_head_of(const eepi_backup_layout *layout, eepi_backup_entry *entries,
                                     uint64_t num_entries)
{
    qsort(entries, num_entries, sizeof *entries, compare);
    return (eepi_backup_head){.magic = BACKUP_MAGIC,
                              .version = BACKUP_VERSION,
                              .bytes = eepi_backup_region_bytes(layout, num_entries),
                              .entries_offset =
                                  EEPI_BACKUP_HEAD_BYTES + num_entries * eepi_backup_stride(layout),
                              .num_entries = num_entries,
                              .layout = *layout};
}

static bool has_layout(const eepi_backup_layout *found, const eepi_backup_layout *layout)
{
    const bool is_known = layout->num_tensors != 0;

    return found->instance == layout->instance && found->num_layers == layout->num_layers &&
           found->num_experts == layout->num_experts && found->num_tensors >= 1 &&
           found->num_tensors <= EEP_MAX_TENSORS && found->reserved == 0 &&
           (!is_known ||
            (found->num_tensors == layout->num_tensors &&
             memcmp(found->tensor_bytes, layout->tensor_bytes, sizeof found->tensor_bytes) == 0));
}

/* Each tensor, and so their sum, stays within the region: no sum can overflow. */
static bool has_sane_tensors(const eepi_backup_layout *found, uint64_t bytes)
{
    for (int i = 0; i < EEP_MAX_TENSORS; i++) {
        if (i < found->num_tensors ? found->tensor_bytes[i] == 0 || found->tensor_bytes[i] > bytes
                                   : found->tensor_bytes[i] != 0) {
            return false;
        }
    }
    return eepi_backup_stride(found) <= bytes;
}

static const char *check_entries(const eepi_backup_head *head, const eepi_backup_entry *entries)
{
    const uint64_t stride = eepi_backup_stride(&head->layout);

    for (uint64_t i = 0; i < head->num_entries; i++) {
        const eepi_backup_entry *e = &entries[i];
        if (e->layer < 0 || e->layer >= head->layout.num_layers || e->expert < 0 ||
            e->expert >= head->layout.num_experts || e->checksum == 0) {
            return "it names an expert that there is not";
        }
        if (i > 0 && compare(e - 1, e) >= 0) {
            return "its experts are not in order";
        }
        if (e->offset < EEPI_BACKUP_HEAD_BYTES || e->offset % EEPI_BACKUP_ALIGN != 0 ||
            e->offset > head->bytes || stride > head->bytes - e->offset) {
            return "an expert lies outside of it";
        }
    }
    return NULL;
}

static const char *check_head(const eepi_backup_head *head, uint64_t bytes,
                              const eepi_backup_layout *layout)
{
    if (head->magic != BACKUP_MAGIC || head->version != BACKUP_VERSION) {
        return "it holds no backups, or in another version's layout";
    }
    if (head->bytes > bytes || head->bytes < EEPI_BACKUP_HEAD_BYTES) {
        return "its length is wrong";
    }
    if (!has_layout(&head->layout, layout)) {
        return "it is of another instance, or of other shapes";
    }
    if (!has_sane_tensors(&head->layout, head->bytes)) {
        return "its tensors do not fit into it";
    }
    if (head->num_entries >
            (uint64_t)head->layout.num_layers * (uint64_t)head->layout.num_experts ||
        head->entries_offset > head->bytes || head->entries_offset % 8 != 0 ||
        head->num_entries * sizeof(eepi_backup_entry) > head->bytes - head->entries_offset) {
        return "its index lies outside of it";
    }
    return NULL;
}

eep_status eepi_backup_index_read(const void *region, uint64_t bytes,
                                  const eepi_backup_layout *layout, eepi_backup_entry **entries_out,
                                  uint64_t *num_entries_out, const char **why_out)
{
    eepi_backup_head head; /* a copy: what was checked is what is used */
    eepi_backup_entry *entries = NULL;

    if (bytes < EEPI_BACKUP_HEAD_BYTES) {
        *why_out = "it is too short";
        return EEP_ERR_PROTOCOL;
    }
    memcpy(&head, region, sizeof head);
    *why_out = check_head(&head, bytes, layout);
    if (*why_out == NULL) {
        entries = calloc(head.num_entries + 1, sizeof *entries);
        if (entries == NULL) {
            *why_out = "no memory for its index";
            return EEP_ERR_NO_MEMORY;
        }
        memcpy(entries, (const unsigned char *)region + head.entries_offset,
               head.num_entries * sizeof *entries);
        *why_out = check_entries(&head, entries);
    }
    if (*why_out != NULL) {
        free(entries);
        return EEP_ERR_PROTOCOL;
    }
    *entries_out = entries;
    *num_entries_out = head.num_entries;
    return EEP_OK;
}

const eepi_backup_entry *eepi_backup_index_find(const eepi_backup_entry *entries,
                                                uint64_t num_entries, int32_t layer, int32_t expert)
{
    const eepi_backup_entry key = {.layer = layer, .expert = expert};

    return num_entries == 0 ? NULL : bsearch(&key, entries, num_entries, sizeof *entries, compare);
}
