/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a device that other processes, and other devices of this one, map and store into: what
 * windows are made of. The memory lives as long as anybody maps it, whatever happens to the process
 * that made it; nobody's death makes another's access fail.
 *
 * On the host backend it is a memfd, on CUDA memory of the driver's virtual memory management with
 * a file descriptor. Making, mapping and closing may wait for the device's work (they are counted
 * for that, eepi_share_cost_of), and EEP_ERR_STATE is what they return while the calling thread
 * captures a stream. Any thread. */
#ifndef EEPI_DEVICE_SHARE_H
#define EEPI_DEVICE_SHARE_H

#include "graphs/device/device_ops.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `bytes` of zeroed memory, with a descriptor that the share owns. EEP_ERR_NO_MEMORY,
 * EEP_ERR_UNSUPPORTED where the device cannot share, EEP_ERR_SYSTEM, EEP_ERR_DEVICE; why_out says
 * more. */
EEP_MUST_CHECK eep_status eepi_share_make(eep_device *device, size_t bytes, eepi_share *share_out,
                                          char *why_out, size_t why_bytes);
/* Map what another share's descriptor stands for (a copy of it; the caller's, and may be closed
 * afterwards). `mapped_bytes` is what the maker's share says. EEP_ERR_UNSUPPORTED: this device
 * cannot reach the memory's; EEP_ERR_INVALID: the descriptor is of something else. */
EEP_MUST_CHECK eep_status eepi_share_map(eep_device *device, int fd, size_t mapped_bytes,
                                         eepi_share *share_out, char *why_out, size_t why_bytes);
/* Where the device maps shares of its own process by themselves (cuda: a driver need not import
 * what this process exported): map the one that has `fd` and is open now, without a descriptor.
 * EEP_ERR_INVALID: there is none. The caller finds out whether it is the right one, as with a
 * descriptor whose number may be another file's by now. */
bool eepi_share_has_own(const eep_device *device);
EEP_MUST_CHECK eep_status eepi_share_map_own(eep_device *device, int fd, size_t mapped_bytes,
                                             eepi_share *share_out, char *why_out,
                                             size_t why_bytes);
/* A descriptor of memory that this process made, by which the driver of a network card maps it
 * (dma-buf, GPUDirect RDMA); close-on-exec, the caller's. It keeps the memory. EEP_ERR_UNSUPPORTED:
 * the device or its driver cannot, or what a card writes there could reach kernels out of order
 * (rule N4), or the memory is the host's; why_out says which. EEP_ERR_DEVICE. */
EEP_MUST_CHECK eep_status eepi_share_dmabuf(eep_device *device, const eepi_share *share,
                                            int *fd_out, char *why_out, size_t why_bytes);
/* Unmap; the memory goes with its last mapping and descriptor. No work that uses the address may be
 * in flight. A share that is all zero is ignored. */
void eepi_share_close(eep_device *device, eepi_share *share);

/* What these calls took so far on a device: a caller's step may have stood still for that long. */
typedef struct eepi_share_cost {
    uint64_t calls, total_us, longest_us;
} eepi_share_cost;
eepi_share_cost eepi_share_cost_of(const eep_device *device);

/* 1: the host's threads cannot load from and store into the device's memory and shares (cuda,
 * guarded). What differs between GPUs and the host is chosen by this, never by name, so that the
 * guarded device goes a GPU's ways. */
bool eepi_device_is_discrete(const eep_device *device);
/* Work that a process gave the device may go on after the end of the process, so that end proves
 * nothing of it (rule P8). So it is on every device that is discrete. */
bool eepi_device_outlives_process(const eep_device *device);
void eepi_device_set_outlives(eep_device *device);
/* Its memory is CUDA's. */
bool eepi_device_is_cuda(const eep_device *device);
/* Let a device of the host backend count as such, so that all that follows from it can be tried
 * without a GPU. Before a context is opened with it. */
void eepi_device_set_discrete(eep_device *device);

/* The host backend's, which is also how memory of host threads is shared on any device. */
EEP_MUST_CHECK eep_status eepi_host_share_make(void *device, size_t bytes, eepi_share *share_out,
                                               char *why_out, size_t why_bytes);
EEP_MUST_CHECK eep_status eepi_host_share_map(void *device, int fd, size_t mapped_bytes,
                                              eepi_share *share_out, char *why_out,
                                              size_t why_bytes);
void eepi_host_share_close(void *device, eepi_share *share);

#ifdef __cplusplus
}
#endif
#endif
