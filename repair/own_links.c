/* SPDX-License-Identifier: Apache-2.0 */
/* Own links: ports and places are asked at open, ports again when they tell of a change. */
#include "repair/own_links.h"

#include "transport/locality.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TELL_PERIOD_US = 100000, ALL_DEVICES = -1 };

struct eepi_own_links {
    eepi_ports *ports;
    int device;      /* of `ports`; ALL_DEVICES */
    bool was_active; /* some port of it, at some time */
    uint64_t measured[EEPI_NUM_RATES];
    struct {
        uint64_t bytes, ns;
    } pieces[EEPI_NUM_RATES];       /* since the last of them was measured */
    uint32_t fixed[EEPI_NUM_RATES]; /* PCIe, and the NIC where no port tells of it */
    uint32_t told[EEPI_NUM_RATES];
    uint64_t told_us; /* 0: not since open */
    uint64_t fill_us; /* when a fill in a pause began; 0: none has */
};

/* What the kernel says of a network interface, in bytes per second; 0: it does not. */
static uint64_t interface_rate(const char *name)
{
    char path[128];
    long mbit_per_s = 0;
    FILE *file;

    snprintf(path, sizeof path, "/sys/class/net/%s/speed", name);
    file = strchr(name, '/') ? NULL : fopen(path, "re");
    if (!file) {
        return 0;
    }
    if (fscanf(file, "%ld", &mbit_per_s) != 1 || mbit_per_s < 0) {
        mbit_per_s = 0; /* unknown, or down */
    }
    fclose(file);
    return (uint64_t)mbit_per_s * 1000000 / 8;
}

/* hwloc takes tens of milliseconds to look at PCI, so only a device that is there is looked for. */
static void find_places(eepi_own_links *own, const char *pci)
{
    eepi_locality *locality = NULL;
    eepi_place place;
    char nic[sizeof((eepi_port *)0)->device];

    if (pci[0] == '\0' || eepi_locality_open(NULL, 0, &locality) != EEP_OK) {
        return;
    }
    if (eepi_locality_device(locality, pci, &place)) {
        own->fixed[EEPI_RATE_PCIE] = eepi_links_megabytes(place.pcie_bytes_per_s);
    }
    if (eepi_ports_count(own->ports) > 0 &&
        eepi_locality_nearest_nic(locality, pci, nic, sizeof nic)) {
        own->device = eepi_ports_device(own->ports, nic); /* -1 where libibverbs has it not */
    }
    if (own->device != ALL_DEVICES) {
        eepi_ports_keep(own->ports, own->device);
    }
    eepi_locality_close(locality);
}

/* Which NIC that is, by a number that is the same for all ranks that use it. */
static uint32_t nic_number(const eepi_own_links *own)
{
    for (int i = 0; own->device != ALL_DEVICES && i < eepi_ports_count(own->ports); i++) {
        const eepi_port *port = eepi_ports_at(own->ports, i);
        if (port->device_at == own->device) {
            uint32_t folded = (uint32_t)(port->guid ^ (port->guid >> 32));
            return folded ? folded : 1 + (uint32_t)own->device;
        }
    }
    return 0;
}

eep_status eepi_own_links_open(const eepi_own_links_config *config, eepi_own_links **own_out)
{
    eepi_own_links *own = calloc(1, sizeof *own);

    if (!own) {
        return EEP_ERR_NO_MEMORY;
    }
    own->device = ALL_DEVICES;
    if (eepi_ports_open(config->verbs, &own->ports) != EEP_OK) {
        eepi_own_links_close(own);
        return EEP_ERR_NO_MEMORY;
    }
    find_places(own, config->pci);
    own->fixed[EEPI_RATE_NIC_AT] = nic_number(own);
    if (eepi_ports_count(own->ports) == 0 && config->interface) {
        own->fixed[EEPI_RATE_NIC] = eepi_links_megabytes(interface_rate(config->interface));
    }
    (void)eepi_own_links_tell(own, 0);
    *own_out = own;
    return EEP_OK;
}

void eepi_own_links_close(eepi_own_links *own)
{
    if (own) {
        eepi_ports_close(own->ports);
    }
    free(own);
}

static bool is_own(const eepi_own_links *own, const eepi_port *port)
{
    return own->device == ALL_DEVICES || port->device_at == own->device;
}

int eepi_own_links_fds(const eepi_own_links *own, int *fds_out)
{
    int num = 0;

    for (int device = 0; device < eepi_ports_num_devices(own->ports); device++) {
        int fd = eepi_ports_fd(own->ports, device);
        if (fd >= 0) {
            fds_out[num++] = fd;
        }
    }
    return num;
}

bool eepi_own_links_next_port(eepi_own_links *own, eepi_port_change *change_out)
{
    eepi_port_change change;

    while (eepi_ports_next(own->ports, &change)) {
        if (is_own(own, change.port)) {
            *change_out = change;
            return true;
        }
    }
    return false;
}

int eepi_own_links_active(const eepi_own_links *own, int *num_ports_out, uint32_t *rate_out)
{
    int active = 0, num = 0;

    for (int i = 0; i < eepi_ports_count(own->ports); i++) {
        const eepi_port *port = eepi_ports_at(own->ports, i);
        num += is_own(own, port);
        active += is_own(own, port) && port->is_active;
    }
    *num_ports_out = num;
    *rate_out = eepi_links_megabytes(eepi_ports_rate(own->ports, own->device));
    return active;
}

void eepi_own_links_measured(eepi_own_links *own, eepi_rate rate, uint64_t bytes, uint64_t ns)
{
    if (bytes >= EEPI_OWN_LINKS_SAMPLE_BYTES) {
        own->measured[rate] = eepi_links_refine(own->measured[rate], bytes, ns);
    }
}

void eepi_own_links_piece(eepi_own_links *own, eepi_rate rate, uint64_t bytes, uint64_t ns)
{
    own->pieces[rate].bytes += bytes;
    own->pieces[rate].ns += ns;
    if (own->pieces[rate].bytes >= EEPI_OWN_LINKS_SAMPLE_BYTES) {
        eepi_own_links_measured(own, rate, own->pieces[rate].bytes, own->pieces[rate].ns);
        own->pieces[rate].bytes = own->pieces[rate].ns = 0;
    }
}

void eepi_own_links_fill_began(eepi_own_links *own, uint64_t now_us)
{
    own->fill_us = now_us;
}

void eepi_own_links_fill_ended(eepi_own_links *own, uint64_t bytes, uint64_t now_us)
{
    if (own->fill_us != 0) {
        eepi_own_links_measured(own, EEPI_RATE_IN, bytes, (now_us - own->fill_us) * 1000);
    }
    own->fill_us = 0;
}

/* Ports that were never active are not in use: nothing is lost with them. */
static uint32_t nic_rate(eepi_own_links *own)
{
    int num_ports;
    uint32_t rate;

    if (eepi_own_links_active(own, &num_ports, &rate) > 0) {
        own->was_active = true;
        return rate;
    }
    return own->was_active ? EEPI_RATE_DOWN : own->fixed[EEPI_RATE_NIC];
}

/* What was told stays until it is wrong by a factor of two. */
static uint32_t smoothed(uint32_t told, uint32_t now)
{
    return told != 0 && now / 2 < told && told / 2 < now ? told : now;
}

bool eepi_own_links_tell(eepi_own_links *own, uint64_t now_us)
{
    uint32_t now[EEPI_NUM_RATES];

    if (own->told_us != 0 && now_us - own->told_us < TELL_PERIOD_US) {
        return false;
    }
    memcpy(now, own->fixed, sizeof now);
    now[EEPI_RATE_NIC] = nic_rate(own);
    for (int rate = 0; rate < EEPI_NUM_RATES; rate++) {
        if (own->measured[rate]) {
            now[rate] = smoothed(own->told[rate], eepi_links_megabytes(own->measured[rate]));
        }
    }
    if (memcmp(now, own->told, sizeof now) == 0) {
        return false;
    }
    memcpy(own->told, now, sizeof now);
    own->told_us = now_us;
    return true;
}

const uint32_t *eepi_own_links_rates(const eepi_own_links *own)
{
    return own->told;
}
