/* SPDX-License-Identifier: Apache-2.0 */
/* The processors of this machine (hwloc), and which of them a rank's threads are bound to. */
#ifndef EEPI_TOPOLOGY_H
#define EEPI_TOPOLOGY_H

#include "eep/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct eepi_topology eepi_topology;

typedef enum eepi_thread_role {
    EEPI_THREAD_RANK,      /* the device worker of a rank: computes */
    EEPI_THREAD_SERVICE,   /* membership, store, bulk copies: sleeps mostly */
    EEPI_THREAD_HEARTBEAT, /* must run on time */
} eepi_thread_role;

/* Read the machine's topology, as far as this process may use it (its cgroup, and the CPU affinity
 * of all its threads together at this moment): what it counts and binds to never goes beyond.
 * Milliseconds. EEP_ERR_NO_MEMORY, or EEP_ERR_UNSUPPORTED if hwloc cannot read the machine. Any
 * thread; afterwards any number of threads may use one topology. */
EEP_MUST_CHECK eep_status eepi_topology_open(eepi_topology **topology_out);
/* NULL is ignored. No thread may use it any more; bindings stay. */
void eepi_topology_close(eepi_topology *topology);
/* PUs (hardware threads), cores and NUMA nodes with a PU that this process may use. Any thread. */
int eepi_topology_num_pus(const eepi_topology *topology);
int eepi_topology_num_cores(const eepi_topology *topology);
int eepi_topology_num_numa(const eepi_topology *topology);
/* Bind the calling thread for its role in the rank of seat `seat` of `num_ranks` on this machine.
 * With at least as many allowed PUs as ranks a rank's threads share its own PU's core: the rank
 * thread has the PU, the others the core. With fewer, a rank thread keeps to one NUMA node and
 * service and heartbeat threads may use all PUs. EEP_ERR_INVALID for a seat that is not below
 * num_ranks, EEP_ERR_UNSUPPORTED where binding is not possible (the caller goes on unbound). */
EEP_MUST_CHECK eep_status eepi_topology_bind(const eepi_topology *topology, eepi_thread_role role,
                                             int seat, int num_ranks);
/* The PUs (operating system's numbers, "0-3,8") that eepi_topology_bind would use. EEP_ERR_INVALID
 * also if the text does not fit. Any thread. */
EEP_MUST_CHECK eep_status eepi_topology_plan(const eepi_topology *topology, eepi_thread_role role,
                                             int seat, int num_ranks, char *text_out,
                                             size_t text_bytes);
#endif
