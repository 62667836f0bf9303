/* SPDX-License-Identifier: Apache-2.0 */
/* The RDMA ports of this machine (libibverbs): what each carries, and which goes down or comes
 * back. A machine without RDMA has an empty list. Nothing here waits for an event. One thread at a
 * time uses a list. */
#ifndef EEPI_PORTS_H
#define EEPI_PORTS_H

#include "eep/status.h"
#include "transport/ibverbs.h"

#include <stdbool.h>

enum { EEPI_PORTS_MAX = 64, EEPI_PORTS_MAX_DEVICES = 16 }; /* those that are kept of more */

typedef struct eepi_port {
    char device[64];
    int device_at;       /* number of the device, from 0 */
    int port;            /* counted from 1; 0: the device could not be asked for its ports */
    bool is_active;      /* carries data */
    char state[16];      /* "active", "down", "init", "armed", "defer", "lost" or "unknown" */
    char link_layer[16]; /* "Ethernet", "InfiniBand" */
    double gbit_per_s;   /* lanes x rate per lane, as negotiated */
    int numa_node;       /* -1: unknown */
    uint64_t guid;       /* of the device: the same for all who see it; 0: unknown */
} eepi_port;

typedef struct eepi_port_change {
    const eepi_port *port; /* as it is now; until the next call */
    bool was_active;
    double gbit_per_s_before;
} eepi_port_change;

typedef struct eepi_ports eepi_ports;

/* Open every device: milliseconds where there are any. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_ports_open(const eepi_verbs *verbs, eepi_ports **ports_out);
void eepi_ports_close(eepi_ports *ports); /* NULL is ignored */

int eepi_ports_count(const eepi_ports *ports);
const eepi_port *eepi_ports_at(const eepi_ports *ports, int i);
int eepi_ports_num_devices(const eepi_ports *ports);
/* Close all devices but that one: their ports are not in the list any more. */
void eepi_ports_keep(eepi_ports *ports, int device);
/* Readable once something has happened to the device; -1: it cannot be watched, or not any more. */
int eepi_ports_fd(const eepi_ports *ports, int device);
/* The next port that has changed, after what the devices tell; false: none has. It never waits. A
 * device that failed, or whose events cannot be read any more, is not watched further: its ports
 * are "lost", which is told once for each. */
bool eepi_ports_next(eepi_ports *ports, eepi_port_change *change_out);
/* Bytes per second of the active ports of a device, or of all devices for -1. */
uint64_t eepi_ports_rate(const eepi_ports *ports, int device);
/* The number of the device of that name; -1: there is none. */
int eepi_ports_device(const eepi_ports *ports, const char *name);
/* The device, for other calls of the table, until the list is closed; NULL: it could not be opened,
 * or is not kept. */
struct ibv_context *eepi_ports_context(const eepi_ports *ports, int device);
const eepi_verbs *eepi_ports_verbs(const eepi_ports *ports);
#endif
