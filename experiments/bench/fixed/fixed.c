/* SPDX-License-Identifier: Apache-2.0 */
/* The baseline: dispatch and combine with fixed membership. */
#include "experiments/bench/fixed/fixed.h"

#include "graphs/kernels/combine.h"
#include "graphs/kernels/dispatch.h"
#include "experiments/bench/fixed/fixed_kernels.h"
#include "graphs/kernels/place.h"
#include "graphs/kernels/step_nodes.h"

#include <string.h>

#define EEPI_HOST_KERNEL(name, args_type)                                                          \
    static void name##_host(const void *args, eep_grid grid)                                       \
    {                                                                                              \
        eepk_##name##_body((const args_type *)args, grid);                                         \
    }
EEPK_FIXED_KERNEL_LIST(EEPI_HOST_KERNEL)
EEPK_KERNEL_LIST(EEPI_HOST_KERNEL)
#undef EEPI_HOST_KERNEL

#define EEPI_KERNEL_ENTRY(name, args) EEP_KERNEL(#name, name##_host, NULL, NULL, 0),
const eep_kernel eepi_fixed_host_kernels[EEPI_NUM_FIXED_KERNELS] = {
    EEPK_FIXED_KERNEL_LIST(EEPI_KERNEL_ENTRY)};
const eep_kernel eepi_elastic_host_twins[EEPI_NUM_KERNELS] = {EEPK_KERNEL_LIST(EEPI_KERNEL_ENTRY)};
#undef EEPI_KERNEL_ENTRY

eep_status eepi_fixed_tables_make(const eepk_world *world, const uint8_t *bank, uint32_t layer,
                                  void *const *windows, eepk_fixed_state *state,
                                  eepk_fixed_tables *tables_out)
{
    const eepk_shape *s = &world->shape;
    const eepk_scratch *own = &world->scratch[0];

    if (s->max_ranks > EEPK_FIXED_MAX_RANKS) {
        return EEP_ERR_INVALID;
    }
    memset(tables_out, 0, sizeof *tables_out);
    tables_out->shape = *s;
    tables_out->routing = (eepk_routing){eepk_replica_first(s, bank, layer),
                                         eepk_replicas(s, bank, layer),
                                         own->route,
                                         own->send_count,
                                         own->share_begin,
                                         own->expert_count,
                                         own->first_bad,
                                         NULL,
                                         NULL};
    tables_out->state = state;
    tables_out->receive_count = own->receive_count;
    tables_out->receive_base = own->receive_base;
    tables_out->receive_tokens = own->receive_tokens;
    tables_out->origin = own->origin;
    for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
        tables_out->windows[seat] = (uint64_t)(uintptr_t)windows[seat];
    }
    return EEP_OK;
}
