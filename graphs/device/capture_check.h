/* SPDX-License-Identifier: Apache-2.0 */
/* What a graph may hold (must 1): addresses of memory that stays where it is, and constants. While
 * a stream is captured, device.c shows every launch and copy to these functions. */
#ifndef EEPI_CAPTURE_CHECK_H
#define EEPI_CAPTURE_CHECK_H

#include "eep/device.h"

/* The memory of a device that stays. All functions: any thread. */
typedef struct eepi_registered eepi_registered;

/* NULL: no memory. */
eepi_registered *eepi_registered_open(void);
void eepi_registered_close(eepi_registered *registered);
/* `is_ours`: of eep_device_alloc; else the caller's, which is only named. */
EEP_MUST_CHECK eep_status eepi_registered_add(eepi_registered *registered, const void *memory,
                                              size_t bytes, int is_ours);
/* Forget the newest range of the caller's that begins there; EEP_ERR_NOT_FOUND: there is none. */
eep_status eepi_registered_remove(eepi_registered *registered, const void *memory);
/* Ours that begins there is not used by the caller any more. EEP_OK: free it, its range is
 * forgotten. EEP_ERR_STATE: somebody holds it, and the last release frees it. EEP_ERR_NOT_FOUND:
 * there is none. */
EEP_MUST_CHECK eep_status eepi_registered_give_up(eepi_registered *registered, const void *memory,
                                                  eep_memory kind);
/* Ours that has the address stays until it is released as often. No effect on other memory. */
void eepi_registered_hold(eepi_registered *registered, const void *address);
/* The memory to free now, and its kind; NULL: none. */
void *eepi_registered_release(eepi_registered *registered, const void *address,
                              eep_memory *kind_out);

/* What one capture has recorded so far, later its graph's. One thread at a time. */
typedef struct eepi_captured_address {
    const void *address;
    uint64_t serial; /* of the memory that had it then */
} eepi_captured_address;
typedef struct eepi_captured {
    eepi_captured_address *address; /* [num] */
    size_t num, capacity;
    uint64_t fingerprint; /* of all names, grids and declared arguments, in order; never 0 */
    uint64_t removals;    /* of `registered`, when the addresses were last found there */
} eepi_captured;

void eepi_captured_free(eepi_captured *captured);
/* Take one node's arguments. EEP_ERR_INVALID: one of them is neither the address of memory that
 * stays (or NULL) nor declared constant; `why_out` says which. Those of a kernel without declared
 * arguments are its owner's business. */
EEP_MUST_CHECK eep_status eepi_captured_add_launch(eepi_captured *captured,
                                                   eepi_registered *registered,
                                                   const eep_kernel *kernel, uint32_t num_blocks,
                                                   const void *args, size_t args_bytes,
                                                   char *why_out, size_t why_bytes);
EEP_MUST_CHECK eep_status eepi_captured_add_copy(eepi_captured *captured,
                                                 eepi_registered *registered, const void *to,
                                                 const void *from, size_t bytes, char *why_out,
                                                 size_t why_bytes);
/* Are all addresses still memory that stays? EEP_ERR_STATE: one was freed; `why_out` names it.
 * Looks only if something was freed since the last look. */
EEP_MUST_CHECK eep_status eepi_captured_check(eepi_captured *captured, eepi_registered *registered,
                                              char *why_out, size_t why_bytes);
#endif
