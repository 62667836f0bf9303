/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a device that is registered with an RDMA device (GPUDirect RDMA), so that the card
 * writes into a window without a copy in host memory. It is registered by its dma-buf, which needs
 * no module of the kernel beside the card's and the GPU's.
 *
 * What a card writes there answers a read of this very rank: the right that is registered is that
 * of local writes alone. So no peer's card ever writes into a window by itself, and the gate stays
 * what fences a peer (rules N1 and N7). */
#ifndef EEPI_NIC_MEMORY_H
#define EEPI_NIC_MEMORY_H

#include "graphs/device/device_share.h"
#include "transport/ports.h"

typedef struct eepi_nic_memory eepi_nic_memory;

/* Register a share that this process made with RDMA device `nic` of the list. Share and list stay
 * open longer. EEP_ERR_UNSUPPORTED: the device, its driver or libibverbs cannot; EEP_ERR_SYSTEM:
 * the card's driver refuses; EEP_ERR_DEVICE; EEP_ERR_NO_MEMORY. why_out gets one line that names
 * the cause. May wait for the device, and not while the thread captures (device_share.h). Any
 * thread. */
EEP_MUST_CHECK eep_status eepi_nic_memory_open(const eepi_ports *ports, int nic, eep_device *device,
                                               const eepi_share *share, char *why_out,
                                               size_t why_bytes, eepi_nic_memory **memory_out);
/* Nothing that the card was asked to write there is under way. NULL is ignored. */
void eepi_nic_memory_close(eepi_nic_memory *memory);
#endif
