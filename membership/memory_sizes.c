/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank will take, before there is one: the sums of what eep_open and eep_join allocate. */
#include "eep/control.h"

#include "graphs/base/public_call.h"
#include "graphs/device/tables.h"
#include "membership/service/serve.h"
#include "repair/executor/slot_fill.h"
#include "transport/window/window.h"

/* Experts in pinned memory: on their way in, on their way out, and one whose checksum eep_join
 * computes. */
enum { PINNED_EXPERTS = EEPI_FILLS_AT_ONCE + EEPI_SERVED_AT_ONCE + 1 };

static eep_memory_sizes sizes_of(const eep_config *c, const eepk_shape *shape,
                                 uint64_t expert_bytes)
{
    const eepi_table_sizes tables = eepi_tables_sizes(shape);
    eep_memory_sizes sizes = {
        .window_bytes = EEPK_COLOURS * shape->window_bytes,
        .table_bytes = tables.device_bytes + tables.scratch_bytes,
        .replaced_bytes = shape->window_bytes,
        .pinned_bytes = tables.pinned_bytes +
                        (uint64_t)c->num_layers * (uint64_t)c->num_slots * sizeof(int32_t) +
                        PINNED_EXPERTS * expert_bytes,
        .host_bytes = eepi_window_spec_of(shape, 0, 1).host_bytes,
        .rows_capacity = shape->rows_capacity,
        .rows_bytes = (uint64_t)shape->rows_capacity * shape->hidden *
                      (c->fp8_dispatch ? 1 : eep_dtype_bytes(c->dtype)),
    };

    sizes.device_bytes = sizes.window_bytes + sizes.table_bytes;
    return sizes;
}

eep_status eep_memory_sizes_get(const eep_config *config, uint64_t expert_bytes,
                                eep_memory_sizes *sizes_out)
{
    eep_memory_sizes sizes;
    eep_config c = {0};
    eepk_shape shape;
    const char *why;
    eep_status status = EEPI_STRUCT_TAKE(eep_config, &c, config);

    if (status == EEP_OK) {
        status = EEPI_STRUCT_CHECK(eep_memory_sizes, sizes_out);
    }
    if (status == EEP_OK && expert_bytes > UINT64_MAX / (4 * PINNED_EXPERTS)) {
        status = eepi_refuse(EEP_ERR_INVALID, "eep_memory_sizes_get: expert_bytes is %llu",
                             (unsigned long long)expert_bytes);
    }
    if (status != EEP_OK) {
        return status;
    }
    c.max_ranks = c.max_ranks == 0 ? c.num_ranks : c.max_ranks;
    c.rank = 0; /* all ranks take the same */
    status = eepi_shape_make(&c, &shape, &why);
    if (status != EEP_OK) {
        return eepi_refuse(status, "eep_memory_sizes_get: %s", why);
    }
    sizes = sizes_of(&c, &shape, expert_bytes);
    EEPI_STRUCT_GIVE(eep_memory_sizes, sizes_out, &sizes);
    return EEP_OK;
}
