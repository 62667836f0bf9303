/* SPDX-License-Identifier: Apache-2.0 */
/* Binding of threads, by hwloc. The topology is restricted to what the process may use right after
 * it is read, so that no binding can go beyond; after that it is only read, by any thread. */
#include "transport/topology.h"

#include <stdbool.h>
#include <hwloc.h>
#include <limits.h>
#include <stdlib.h>

struct eepi_topology {
    hwloc_topology_t machine;
};

/* Keep only PUs of the process's affinity; hwloc has already left out what the cgroup forbids. */
static void restrict_to_process(hwloc_topology_t machine)
{
    hwloc_bitmap_t mine = hwloc_bitmap_alloc();
    if (mine == NULL) {
        return;
    }
    if (hwloc_get_cpubind(machine, mine, HWLOC_CPUBIND_PROCESS) == 0) {
        hwloc_bitmap_and(mine, mine, hwloc_topology_get_allowed_cpuset(machine));
        if (!hwloc_bitmap_iszero(mine)) {
            (void)hwloc_topology_restrict(machine, mine, HWLOC_RESTRICT_FLAG_REMOVE_CPULESS);
        }
    }
    hwloc_bitmap_free(mine);
}

eep_status eepi_topology_open(eepi_topology **topology_out)
{
    eepi_topology *topology = calloc(1, sizeof *topology);
    if (topology == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    if (hwloc_topology_init(&topology->machine) != 0) {
        free(topology);
        return EEP_ERR_NO_MEMORY;
    }
    if (hwloc_topology_load(topology->machine) != 0) {
        eepi_topology_close(topology);
        return EEP_ERR_UNSUPPORTED;
    }
    restrict_to_process(topology->machine);
    /* hwloc fills some caches late; afterwards concurrent readers are safe. */
    if (hwloc_topology_refresh(topology->machine) != 0) {
        eepi_topology_close(topology);
        return EEP_ERR_NO_MEMORY;
    }
    *topology_out = topology;
    return EEP_OK;
}

void eepi_topology_close(eepi_topology *topology)
{
    if (topology == NULL) {
        return;
    }
    hwloc_topology_destroy(topology->machine);
    free(topology);
}

static int count(const eepi_topology *topology, hwloc_obj_type_t type)
{
    int found = hwloc_get_nbobjs_by_type(topology->machine, type);
    return found > 0 ? found : 0;
}

int eepi_topology_num_pus(const eepi_topology *topology)
{
    return count(topology, HWLOC_OBJ_PU);
}

int eepi_topology_num_cores(const eepi_topology *topology)
{
    return count(topology, HWLOC_OBJ_CORE);
}

int eepi_topology_num_numa(const eepi_topology *topology)
{
    return count(topology, HWLOC_OBJ_NUMANODE);
}

/* The PU of a seat when there is one for each: seats are spread over packages, then cores, then
 * hardware threads, and no two get the same. */
static hwloc_obj_t own_pu(hwloc_topology_t machine, int seat, int num_ranks)
{
    hwloc_obj_t root = hwloc_get_root_obj(machine), pu = NULL;
    hwloc_bitmap_t *sets = calloc((size_t)num_ranks, sizeof *sets);
    if (sets == NULL) {
        return NULL;
    }
    if (hwloc_distrib(machine, &root, 1, sets, (unsigned)num_ranks, INT_MAX, 0) == 0) {
        pu = hwloc_get_next_obj_covering_cpuset_by_type(machine, sets[seat], HWLOC_OBJ_PU, NULL);
    }
    for (int i = 0; i < num_ranks; i++) {
        hwloc_bitmap_free(sets[i]);
    }
    free(sets);
    return pu;
}

/* The NUMA node of a PU, or NULL. Memory hangs beside the tree of cores, so ask by cpuset. */
static hwloc_obj_t numa_of(hwloc_topology_t machine, hwloc_obj_t pu)
{
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(machine, HWLOC_OBJ_NUMANODE, node)) != NULL) {
        if (hwloc_bitmap_isincluded(pu->cpuset, node->cpuset)) {
            return node;
        }
    }
    return NULL;
}

/* What a thread is to be bound to; a set that the topology owns, NULL if memory is short. */
static hwloc_const_bitmap_t choose(hwloc_topology_t machine, eepi_thread_role role, int seat,
                                   int num_ranks)
{
    hwloc_const_bitmap_t all = hwloc_topology_get_topology_cpuset(machine);
    int num_pus = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_PU);
    if (num_pus >= num_ranks) {
        hwloc_obj_t pu = own_pu(machine, seat, num_ranks);
        if (pu == NULL) {
            return NULL;
        }
        hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(machine, HWLOC_OBJ_CORE, pu);
        return role == EEPI_THREAD_RANK || core == NULL ? pu->cpuset : core->cpuset;
    }
    if (role != EEPI_THREAD_RANK || num_pus <= 0) {
        return all;
    }
    hwloc_obj_t pu = hwloc_get_obj_by_type(machine, HWLOC_OBJ_PU, (unsigned)(seat % num_pus));
    hwloc_obj_t node = pu != NULL ? numa_of(machine, pu) : NULL;
    return node != NULL ? node->cpuset : all;
}

static bool is_seat(eepi_thread_role role, int seat, int num_ranks)
{
    return num_ranks > 0 && seat >= 0 && seat < num_ranks &&
           (role == EEPI_THREAD_RANK || role == EEPI_THREAD_SERVICE ||
            role == EEPI_THREAD_HEARTBEAT);
}

eep_status eepi_topology_bind(const eepi_topology *topology, eepi_thread_role role, int seat,
                              int num_ranks)
{
    if (!is_seat(role, seat, num_ranks)) {
        return EEP_ERR_INVALID;
    }
    /* A topology from a file or the environment says nothing about this machine. */
    if (!hwloc_topology_is_thissystem(topology->machine)) {
        return EEP_ERR_UNSUPPORTED;
    }
    hwloc_const_bitmap_t set = choose(topology->machine, role, seat, num_ranks);
    if (set == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    if (hwloc_set_cpubind(topology->machine, set, HWLOC_CPUBIND_THREAD) != 0) {
        return EEP_ERR_UNSUPPORTED;
    }
    return EEP_OK;
}

eep_status eepi_topology_plan(const eepi_topology *topology, eepi_thread_role role, int seat,
                              int num_ranks, char *text_out, size_t text_bytes)
{
    if (!is_seat(role, seat, num_ranks) || text_out == NULL) {
        return EEP_ERR_INVALID;
    }
    hwloc_const_bitmap_t set = choose(topology->machine, role, seat, num_ranks);
    if (set == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    int needed = hwloc_bitmap_list_snprintf(NULL, 0, set);
    if (needed < 0 || (size_t)needed >= text_bytes) {
        return EEP_ERR_INVALID;
    }
    (void)hwloc_bitmap_list_snprintf(text_out, text_bytes, set);
    return EEP_OK;
}
