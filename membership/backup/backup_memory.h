/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for backups: a memfd that its owner fills, then seals for all, itself included. */
#ifndef EEPI_BACKUP_MEMORY_H
#define EEPI_BACKUP_MEMORY_H

#include "eep/status.h"

#include <stdint.h>

/* Memory under way. `base` stays where it is until the memory is unmapped. */
typedef struct eepi_backup_memory {
    unsigned char *base;
    uint64_t most_bytes; /* of address space */
    uint64_t bytes;      /* that can be used now */
    int fd;
} eepi_backup_memory;

/* Reserve addresses for as much; no memory yet. EEP_ERR_NO_MEMORY, EEP_ERR_UNSUPPORTED (this kernel
 * cannot seal), EEP_ERR_SYSTEM; errno says why. */
EEP_MUST_CHECK eep_status eepi_backup_memory_open(uint64_t most_bytes,
                                                  eepi_backup_memory *memory_out);
/* Make that many bytes usable. They are there when this returns, so that nobody meets a SIGBUS.
 * EEP_ERR_NO_MEMORY: there is not as much memory; EEP_ERR_SYSTEM; errno says why. */
EEP_MUST_CHECK eep_status eepi_backup_memory_grow(eepi_backup_memory *memory, uint64_t bytes);
/* From now on its addresses can only be read. */
EEP_MUST_CHECK eep_status eepi_backup_memory_protect(eepi_backup_memory *memory);
/* Then this alone writes it. */
EEP_MUST_CHECK eep_status eepi_backup_memory_write(eepi_backup_memory *memory, uint64_t offset,
                                                   const void *bytes, uint64_t num_bytes);
/* Nobody can write it ever again. What lies behind the first `bytes` bytes is given back. */
EEP_MUST_CHECK eep_status eepi_backup_memory_seal(eepi_backup_memory *memory, uint64_t bytes);
/* Unmap and close. */
void eepi_backup_memory_close(eepi_backup_memory *memory);

/* Map another rank's memory for reading. EEP_ERR_PROTOCOL: it is not sealed, or has another size;
 * EEP_ERR_SYSTEM. The descriptor stays the caller's. */
EEP_MUST_CHECK eep_status eepi_backup_memory_map(int fd, uint64_t bytes,
                                                 const unsigned char **base_out);
void eepi_backup_memory_unmap(const unsigned char *base, uint64_t bytes);
/* Another descriptor of it; -1: none is left. */
int eepi_backup_memory_duplicate(int fd);
/* Of a duplicate, or of memory that was handed on. */
void eepi_backup_memory_forget_fd(int fd);
#endif
