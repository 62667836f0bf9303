/* SPDX-License-Identifier: Apache-2.0 */
/* The host's device and its memory: members of the table of operations (device_ops.h). */
#ifndef EEPI_HOST_MEMORY_H
#define EEPI_HOST_MEMORY_H

#include "graphs/device/device_ops.h"

EEP_MUST_CHECK eep_status eepi_host_open(int ordinal, void **device_out, char *why_out,
                                         size_t why_bytes);
EEP_MUST_CHECK eep_status eepi_host_guarded_open(int ordinal, void **device_out, char *why_out,
                                                 size_t why_bytes);
void eepi_host_close(void *device);
EEP_MUST_CHECK eep_status eepi_host_alloc(void *device, eep_memory kind, size_t bytes,
                                          void **memory_out);
void eepi_host_free(void *device, eep_memory kind, void *memory);
EEP_MUST_CHECK eep_status eepi_host_guarded_share_make(void *device, size_t bytes,
                                                       eepi_share *share_out, char *why_out,
                                                       size_t why_bytes);
EEP_MUST_CHECK eep_status eepi_host_guarded_share_map(void *device, int fd, size_t mapped_bytes,
                                                      eepi_share *share_out, char *why_out,
                                                      size_t why_bytes);
void eepi_host_guarded_share_close(void *device, eepi_share *share);
#endif
