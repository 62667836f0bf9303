/* SPDX-License-Identifier: Apache-2.0 */
/* Locality, from hwloc's tree with its I/O objects. */
#include "transport/locality.h"

#include <hwloc.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct eepi_locality {
    hwloc_topology_t machine;
};

/* What hwloc would load as plugins to look at devices: those of GPUs make contexts on them in this
 * process, and libpciaccess keeps memory for ever. The kernel's files say all that is asked. */
static void leave_out_plugins(hwloc_topology_t machine)
{
    static const char *const plugins[] = {"pci",  "opencl", "cuda",     "nvml",
                                          "rsmi", "gl",     "levelzero"};

    for (size_t i = 0; i < sizeof plugins / sizeof plugins[0];
         i++) { /* fails for what is not there */
        (void)hwloc_topology_set_components(machine, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST,
                                            plugins[i]);
    }
}

static bool load(hwloc_topology_t machine, const char *xml, size_t xml_bytes)
{
    if (xml &&
        (xml_bytes > INT_MAX || hwloc_topology_set_xmlbuffer(machine, xml, (int)xml_bytes) != 0)) {
        return false;
    }
    leave_out_plugins(machine);
    return hwloc_topology_set_io_types_filter(machine, HWLOC_TYPE_FILTER_KEEP_IMPORTANT) == 0 &&
           hwloc_topology_load(machine) == 0;
}

eep_status eepi_locality_open(const char *xml, size_t xml_bytes, eepi_locality **locality_out)
{
    eepi_locality *locality = calloc(1, sizeof *locality);

    if (!locality) {
        return EEP_ERR_NO_MEMORY;
    }
    if (hwloc_topology_init(&locality->machine) != 0) {
        free(locality);
        return EEP_ERR_NO_MEMORY;
    }
    if (!load(locality->machine, xml, xml_bytes)) {
        eepi_locality_close(locality);
        return EEP_ERR_UNSUPPORTED;
    }
    *locality_out = locality;
    return EEP_OK;
}

void eepi_locality_close(eepi_locality *locality)
{
    if (locality) {
        hwloc_topology_destroy(locality->machine);
        free(locality);
    }
}

static int os_number_above(hwloc_obj_t object, hwloc_obj_type_t type)
{
    hwloc_obj_t ancestor = object;

    while (ancestor && ancestor->type != type) {
        ancestor = ancestor->parent;
    }
    return ancestor ? (int)ancestor->os_index : -1;
}

/* Memory hangs beside the tree of cores: the one node of the part of the tree where the object is
 * attached, if it is one. */
static int numa_node_of(const eepi_locality *locality, hwloc_obj_t object)
{
    hwloc_obj_t place = hwloc_get_non_io_ancestor_obj(locality->machine, object);
    const bool is_one = place && place->nodeset && hwloc_bitmap_weight(place->nodeset) == 1;

    return is_one ? hwloc_bitmap_first(place->nodeset) : -1;
}

static eepi_place place_of(const eepi_locality *locality, hwloc_obj_t object)
{
    eepi_place place = {.numa_node = numa_node_of(locality, object),
                        .package = os_number_above(object, HWLOC_OBJ_PACKAGE)};
    hwloc_obj_t pci = object;

    while (pci && pci->type != HWLOC_OBJ_PCI_DEVICE) {
        pci = pci->parent;
    }
    if (pci) {
        const struct hwloc_pcidev_attr_s *at = &pci->attr->pcidev;
        place.pcie_bytes_per_s = at->linkspeed > 0 ? (uint64_t)((double)at->linkspeed * 1e9) : 0;
        snprintf(place.pci, sizeof place.pci, "%04x:%02x:%02x.%01x", (unsigned)at->domain, at->bus,
                 at->dev, at->func);
    }
    return place;
}

static hwloc_obj_t pci_device(const eepi_locality *locality, const char *pci)
{
    unsigned domain, bus, device, function;

    if (sscanf(pci, "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4) {
        return NULL;
    }
    return hwloc_get_pcidev_by_busid(locality->machine, domain, bus, device, function);
}

static bool is_rdma(hwloc_obj_t object)
{
    return object->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS;
}

bool eepi_locality_device(const eepi_locality *locality, const char *pci, eepi_place *place_out)
{
    hwloc_obj_t device = pci_device(locality, pci);

    if (!device) {
        return false;
    }
    *place_out = place_of(locality, device);
    return true;
}

bool eepi_locality_nic(const eepi_locality *locality, const char *name, eepi_place *place_out)
{
    hwloc_obj_t nic = NULL;

    while ((nic = hwloc_get_next_osdev(locality->machine, nic)) != NULL) {
        if (is_rdma(nic) && nic->name && strcmp(nic->name, name) == 0) {
            *place_out = place_of(locality, nic);
            return true;
        }
    }
    return false;
}

/* How far two objects are apart: the steps up from `from` to the first object above both. */
static int steps_up(hwloc_obj_t from, hwloc_obj_t to)
{
    int steps = 0;

    for (hwloc_obj_t above = from; above; above = above->parent) {
        for (hwloc_obj_t other = to; other; other = other->parent) {
            if (other == above) {
                return steps;
            }
        }
        steps++;
    }
    return steps;
}

bool eepi_locality_nearest_nic(const eepi_locality *locality, const char *pci, char *name_out,
                               size_t name_bytes)
{
    hwloc_obj_t device = pci_device(locality, pci), nic = NULL, best = NULL;
    int least = INT_MAX;

    while (device && (nic = hwloc_get_next_osdev(locality->machine, nic)) != NULL) {
        int steps = is_rdma(nic) && nic->name ? steps_up(device, nic) : INT_MAX;
        if (steps < least) {
            least = steps;
            best = nic;
        }
    }
    if (!best) {
        return false;
    }
    snprintf(name_out, name_bytes, "%s", best->name);
    return true;
}
