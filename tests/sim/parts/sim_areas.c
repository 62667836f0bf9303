/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for collectives of simulated processes. It outlives its owner, as a memfd that is mapped
 * does, and goes with its world. */
#include "membership/collective/collective_area.h"
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT_BYTES = 1024, AREA_BYTES = EEPI_COLLECTIVE_DATA_AT + 2 * SLOT_BYTES };

typedef struct owned {
    eepi_collective_memory *memory;
    sim_process *owner;
} owned;

eep_status eepi_collective_area_make(int32_t seat, uint32_t generation, char *why_out,
                                     size_t why_bytes, eepi_collective_area **area_out)
{
    eepi_collective_area *area = calloc(1, sizeof *area);
    owned *it = calloc(1, sizeof *it);
    void *memory = aligned_alloc(EEPI_COLLECTIVE_LINE_BYTES, AREA_BYTES);

    snprintf(why_out, why_bytes, "no memory");
    if (!area || !it || !memory) {
        abort();
    }
    memset(memory, 0, AREA_BYTES);
    *it = (owned){memory, sim_self()};
    *it->memory = (eepi_collective_memory){.magic = EEPI_COLLECTIVE_MAGIC,
                                           .version = EEPI_COLLECTIVE_VERSION,
                                           .seat = (uint32_t)seat,
                                           .generation = generation,
                                           .slot_bytes = SLOT_BYTES};
    *area = (eepi_collective_area){
        .memory = memory, .fd = sim_fd_new(SIM_FD_NONE, it), .generation = generation};
    *area_out = area;
    return EEP_OK;
}

/* Right before a contribution is written: others come in between. */
eep_status eepi_collective_area_reserve(eepi_collective_area *area, uint64_t number, size_t bytes)
{
    (void)number;
    SIM_MUST(bytes <= area->memory->slot_bytes, "P13", "%zu bytes are given", bytes);
    return EEP_OK;
}

eep_status eepi_collective_area_map(int32_t pid, int32_t fd, int32_t seat, uint32_t generation,
                                    char *why_out, size_t why_bytes,
                                    eepi_collective_area **area_out)
{
    const owned *it = sim_fd_what(fd);
    eepi_collective_area *area;

    snprintf(why_out, why_bytes, "its process is gone, or it is another's");
    if (!it || !it->owner->alive || it->owner->pid != pid || it->memory->seat != (uint32_t)seat ||
        it->memory->generation != generation) {
        return EEP_ERR_UNREACHABLE;
    }
    area = calloc(1, sizeof *area);
    if (!area) {
        return EEP_ERR_NO_MEMORY;
    }
    *area = (eepi_collective_area){.memory = it->memory, .fd = -1, .generation = generation};
    *area_out = area;
    return EEP_OK;
}

eep_status eepi_collective_area_mirror(int32_t seat, uint32_t generation,
                                       eepi_collective_area **area_out)
{
    eepi_collective_area *area = calloc(1, sizeof *area);
    owned *it = calloc(1, sizeof *it);
    void *memory = aligned_alloc(EEPI_COLLECTIVE_LINE_BYTES, AREA_BYTES);

    if (!area || !it || !memory) {
        abort();
    }
    memset(memory, 0, AREA_BYTES);
    *it = (owned){memory, sim_self()};
    *it->memory = (eepi_collective_memory){.magic = EEPI_COLLECTIVE_MAGIC,
                                           .version = EEPI_COLLECTIVE_VERSION,
                                           .seat = (uint32_t)seat,
                                           .generation = generation,
                                           .slot_bytes = SLOT_BYTES};
    *area = (eepi_collective_area){.memory = memory, .fd = -1, .generation = generation};
    area->mirror = calloc(1, sizeof *area->mirror);
    *area_out = area;
    return EEP_OK;
}

void eepi_collective_area_close(eepi_collective_area *area)
{
    free(area); /* the memory goes with its world */
}
