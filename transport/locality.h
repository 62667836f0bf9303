/* SPDX-License-Identifier: Apache-2.0 */
/* Where a device and the NICs of this machine are (hwloc): their NUMA node and package, how fast
 * their PCIe links are, and which NIC is nearest to a device. */
#ifndef EEPI_LOCALITY_H
#define EEPI_LOCALITY_H

#include "eep/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct eepi_locality eepi_locality;

typedef struct eepi_place {
    int numa_node, package; /* numbers of the operating system; -1: unknown */
    uint64_t
        pcie_bytes_per_s; /* each way, as the link is now (idle devices lower it); 0: unknown */
    char pci[16];         /* "0000:3b:00.0"; "": no PCI device */
} eepi_place;

/* Read the machine with its PCI devices: tens of milliseconds. `xml`, of `xml_bytes` with its NUL,
 * describes another machine in hwloc's format; NULL: this one. EEP_ERR_NO_MEMORY, or
 * EEP_ERR_UNSUPPORTED if hwloc cannot read it. Afterwards any number of threads may ask. */
EEP_MUST_CHECK eep_status eepi_locality_open(const char *xml, size_t xml_bytes,
                                             eepi_locality **locality_out);
void eepi_locality_close(eepi_locality *locality); /* NULL is ignored */

/* The PCI device with that number, as "0000:3b:00.0"; false: there is none, or hwloc was not
 * allowed to see it. */
bool eepi_locality_device(const eepi_locality *locality, const char *pci, eepi_place *place_out);
/* The RDMA device with that name, as "mlx5_0". */
bool eepi_locality_nic(const eepi_locality *locality, const char *name, eepi_place *place_out);
/* The name of the RDMA device that is nearest to a PCI device: the one that shares the closest PCIe
 * switch, else the NUMA node, else the package; the first in hwloc's order of equals. False: there
 * is no RDMA device, or no such PCI device. */
bool eepi_locality_nearest_nic(const eepi_locality *locality, const char *pci, char *name_out,
                               size_t name_bytes);
#endif
