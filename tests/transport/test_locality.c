/* SPDX-License-Identifier: Apache-2.0 */
/* Locality: NUMA nodes, packages, PCIe rates and the nearest NIC, on machines that are described in
 * hwloc's format, and on this one. */
#include "transport/locality.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* A package with one core and NUMA node, and with what hangs at its PCIe root. */
#define PACKAGE(n, mask, inside)                                                                   \
    "<object type='Package' os_index='" #n "' cpuset='" mask "' complete_cpuset='" mask            \
    "' nodeset='" mask "' complete_nodeset='" mask "' gp_index='1" #n "'>"                         \
    "<object type='NUMANode' os_index='" #n "' cpuset='" mask "' complete_cpuset='" mask           \
    "' nodeset='" mask "' complete_nodeset='" mask "' gp_index='2" #n "' local_memory='1024'/>"    \
    "<object type='Core' os_index='" #n "' cpuset='" mask "' complete_cpuset='" mask               \
    "' nodeset='" mask "' complete_nodeset='" mask "' gp_index='3" #n "'>"                         \
    "<object type='PU' os_index='" #n "' cpuset='" mask "' complete_cpuset='" mask                 \
    "' nodeset='" mask "' complete_nodeset='" mask "' gp_index='4" #n "'/></object>" inside        \
    "</object>"
#define ROOT(n, buses, inside)                                                                     \
    "<object type='Bridge' gp_index='5" #n                                                         \
    "' bridge_type='0-1' depth='0' bridge_pci='0000:[" buses "]'>" inside "</object>"
#define SWITCH(n, at, buses, inside)                                                               \
    "<object type='Bridge' gp_index='6" #n                                                         \
    "' bridge_type='1-1' depth='1' bridge_pci='0000:[" buses "]' pci_busid='0000:" at              \
    "' pci_type='0604 [8086:2f04] [0000:0000] 02' "                                                \
    "pci_link_speed='31.5'>" inside "</object>"
#define GPU(n, at)                                                                                 \
    "<object type='PCIDev' gp_index='7" #n "' pci_busid='0000:" at                                 \
    "' pci_type='0302 [10de:2330] [10de:16c1] a1' pci_link_speed='63.015385'/>"
#define NIC(n, at, name)                                                                           \
    "<object type='PCIDev' gp_index='8" #n "' pci_busid='0000:" at                                 \
    "' pci_type='0207 [15b3:1021] [15b3:0041] 00' pci_link_speed='31.507692'>"                     \
    "<object type='OSDev' gp_index='9" #n "' name='" name "' osdev_type='3'/></object>"
#define ALL                                                                                        \
    "cpuset='0x00000003' complete_cpuset='0x00000003' nodeset='0x00000003' "                       \
    "complete_nodeset='0x00000003'"

/* Two packages. In the first, a GPU and a NIC share a switch, and another NIC is at the root; in
 * the second there is a GPU and no NIC. */
static const char machine[] =
    "<?xml version='1.0' encoding='UTF-8'?>\n<!DOCTYPE topology SYSTEM 'hwloc2.dtd'>\n"
    "<topology version='2.0'><object type='Machine' os_index='0' " ALL
    " allowed_cpuset='0x00000003' allowed_nodeset='0x00000003' gp_index='1'>" PACKAGE(
        0, "0x00000001",
        ROOT(1, "00-0f",
             NIC(1, "03:00.0", "mlx5_far")
                 SWITCH(1, "01:00.0", "04-07", GPU(1, "05:00.0") NIC(2, "06:00.0", "mlx5_near"))
                     GPU(3, "08:00.0")))
        PACKAGE(1, "0x00000002", ROOT(2, "80-8f", GPU(2, "85:00.0"))) "</object></topology>";

static eepi_locality *open_locality(const char *xml, size_t bytes)
{
    eepi_locality *locality = NULL;

    cr_assert_eq(eepi_locality_open(xml, bytes, &locality), EEP_OK);
    return locality;
}

/* The machine above. hwloc's own parser, which it has without its libxml plugin, wants the two
 * header lines to end and double quotes. */
static eepi_locality *open_machine(void)
{
    char xml[sizeof machine];

    for (size_t i = 0; i < sizeof xml; i++) {
        xml[i] = (char)(machine[i] == '\'' ? '"' : machine[i]);
    }
    return open_locality(xml, sizeof xml);
}

Test(locality, places_and_rates)
{
    eepi_locality *locality = open_machine();
    eepi_place place;

    cr_assert(eepi_locality_device(locality, "0000:05:00.0", &place));
    cr_assert_eq(place.package, 0);
    cr_assert_eq(place.numa_node, 0);
    cr_assert_eq(place.pcie_bytes_per_s / 1000000, 63015);
    cr_assert_str_eq(place.pci, "0000:05:00.0");
    cr_assert(eepi_locality_device(locality, "0000:85:00.0", &place));
    cr_assert_eq(place.package, 1);
    cr_assert_eq(place.numa_node, 1);
    cr_assert(eepi_locality_nic(locality, "mlx5_near", &place));
    cr_assert_str_eq(place.pci, "0000:06:00.0");
    cr_assert_eq(place.pcie_bytes_per_s / 1000000, 31507);
    cr_assert_not(eepi_locality_nic(locality, "mlx5_9", &place));
    cr_assert_not(eepi_locality_device(locality, "0000:99:00.0", &place));
    cr_assert_not(eepi_locality_device(locality, "", &place));
    eepi_locality_close(locality);
    eepi_locality_close(NULL);
}

static void expect_nearest(const eepi_locality *locality, const char *pci, const char *nic)
{
    char name[64] = "";

    cr_assert(eepi_locality_nearest_nic(locality, pci, name, sizeof name));
    cr_assert_str_eq(name, nic);
}

Test(locality, the_nearest_nic_shares_the_closest_switch)
{
    eepi_locality *locality = open_machine();
    char name[64];

    expect_nearest(locality, "0000:05:00.0", "mlx5_near");
    expect_nearest(locality, "0000:08:00.0", "mlx5_far"); /* both are below its root */
    expect_nearest(locality, "0000:85:00.0", "mlx5_far"); /* all are as far: hwloc's first */
    cr_assert_not(eepi_locality_nearest_nic(locality, "0000:99:00.0", name, sizeof name));
    eepi_locality_close(locality);
}

Test(locality, this_machine_answers)
{
    eepi_locality *locality = open_locality(NULL, 0);
    eepi_place place;

    cr_assert_not(eepi_locality_nic(locality, "no such device", &place));
    eepi_locality_close(locality);
}

Test(locality, what_is_no_machine_is_refused)
{
    static const char nonsense[] = "<topology";
    eepi_locality *locality = NULL;

    cr_assert_eq(eepi_locality_open(nonsense, sizeof nonsense, &locality), EEP_ERR_UNSUPPORTED);
    cr_assert_null(locality);
}
