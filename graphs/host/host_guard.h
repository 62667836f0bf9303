/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that the CPU may touch only while a device's work runs: what makes a host device treat its
 * EEP_MEMORY_DEVICE memory as a GPU treats its own.
 *
 *     base                used                                              base + RESERVED_BYTES
 *      | allocation | allocation |  reserved, no access ...                           |
 *      <-- one mprotect: access from the first enter to the last leave -->
 *
 * Streams count themselves in and out around kernels and copies. So an access from outside faults
 * whenever nothing of this device runs; beside running work it goes unseen. */
#ifndef EEPI_HOST_GUARD_H
#define EEPI_HOST_GUARD_H

#include "eep/status.h"

#include <stddef.h>

typedef struct eepi_host_guard eepi_host_guard;

/* Reserve addresses. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_host_guard_open(eepi_host_guard **guard_out);
/* Gives all memory back; nothing of the device may run or be watched. NULL is ignored. */
void eepi_host_guard_close(eepi_host_guard *guard);

/* Zeroed memory on pages of its own. It is given back by close alone and its addresses are not
 * given again, so that a late use meets nobody else's data. EEP_ERR_NO_MEMORY. Any thread. */
EEP_MUST_CHECK eep_status eepi_host_guard_alloc(eepi_host_guard *guard, size_t bytes,
                                                void **memory_out);

/* The same for memory of another's making, until it is unwatched. EEP_ERR_NO_MEMORY. Any thread. */
EEP_MUST_CHECK eep_status eepi_host_guard_watch(eepi_host_guard *guard, void *memory, size_t bytes);
void eepi_host_guard_unwatch(eepi_host_guard *guard, void *memory);

/* Work of the device begins, and ends. NULL is ignored: that device has no guard. Any thread. */
void eepi_host_guard_enter(eepi_host_guard *guard);
void eepi_host_guard_leave(eepi_host_guard *guard);
#endif
