/* SPDX-License-Identifier: Apache-2.0 */
/* The device-resident tables of a context: two banks, the control block, scratch. Staging writes
 * the idle bank on a stream of its own; a flip makes it live (rules T1-T4). */
#ifndef EEPI_TABLES_H
#define EEPI_TABLES_H

#include "eep/eep.h"
#include "graphs/kernels/kernels.h"
#include "graphs/kernels/table_layout.h"

typedef struct eepi_tables eepi_tables;

/* Compute offsets and sizes for a configuration (rank, shape fields set). EEP_ERR_INVALID with the
 * offending field, its value and range in *why_out, a text of this thread's. */
EEP_MUST_CHECK eep_status eepi_shape_make(const eep_config *config, eepk_shape *shape_out,
                                          const char **why_out);

/* What eepi_tables_open allocates besides alignment. Pure. */
typedef struct eepi_table_sizes {
    uint64_t device_bytes;  /* both banks, control block, world */
    uint64_t pinned_bytes;  /* image, launch, abort word, status, loads */
    uint64_t scratch_bytes; /* device memory of the kernels' own */
} eepi_table_sizes;
eepi_table_sizes eepi_tables_sizes(const eepk_shape *shape);

/* Allocate everything; `window` is the own window's address. With shape->num_queues there are
 * rings; EEP_ERR_INVALID: their slots are too few (eepi_ring_least_slots). */
EEP_MUST_CHECK eep_status eepi_tables_open(eep_device *device, const eepk_shape *shape,
                                           void *window, eepi_tables **tables_out);
void eepi_tables_close(eepi_tables *tables);

/* Memory of that ring, for its lane; it lives until the tables are closed. */
uint8_t *eepi_tables_ring(const eepi_tables *tables, uint32_t queue);

/* Fixed address for kernel arguments. */
const eepk_world *eepi_tables_world(const eepi_tables *tables);
/* The kernel as the device of the tables launches it. */
const eep_kernel *eepi_tables_kernel(const eepi_tables *tables, eepi_kernel_id id);
eepk_launch *eepi_tables_launch(eepi_tables *tables);
const eepk_status *eepi_tables_status(const eepi_tables *tables);
uint64_t *eepi_tables_abort_step(eepi_tables *tables);
/* Device memory [max_ranks]: 1 where the seat is active in the running step's bank. */
const int32_t *eepi_tables_active_mask(const eepi_tables *tables);
/* What the slots hold, as a bank says it. */
typedef struct eepi_slot_map {
    uint64_t epoch, placement; /* of the bank's header; 0: it held none yet */
    uint16_t *experts;         /* [num_layers][max_ranks * num_slots], EEPK_NO_EXPERT_HERE */
} eepi_slot_map;
/* Of the live bank. Rank thread; until its next flip. */
const eepi_slot_map *eepi_tables_slot_map(const eepi_tables *tables);
/* Device memory: what the running step goes by. */
const eepk_latch *eepi_tables_latch(const eepi_tables *tables);
/* [num_layers][num_experts] tokens of this rank for each expert since the tables were opened, those
 * of aborted steps too, as of the last step that eepk_launch.wants_loads asked. Pinned; to be read
 * between that step's end and the next step. */
const uint64_t *eepi_tables_loads(const eepi_tables *tables);
/* [max_ranks] nanoseconds that exchanges waited for each source since the tables were opened.
 * Pinned; kernels write it while they wait. */
const uint64_t *eepi_tables_waited(const eepi_tables *tables);

/* The pinned image of a bank (eepk_shape.bank_bytes): fill it, then stage. Service thread. */
uint8_t *eepi_tables_image(eepi_tables *tables);
/* Copy the image into the idle bank: waits for the flip that retired that bank (rule T2), then
 * until the copy is done, at most timeout_us. Service thread. */
EEP_MUST_CHECK eep_status eepi_tables_stage(eepi_tables *tables, uint64_t timeout_us);
/* The image that was staged last. Whoever reads it keeps others from filling it. */
const uint8_t *eepi_tables_staged_image(const eepi_tables *tables);
/* Digest of what the idle bank holds; 0: nothing complete. */
uint64_t eepi_tables_staged(const eepi_tables *tables);
/* Make the idle bank live before whatever follows in `stream`, if it holds that view. Rank thread,
 * between replays. EEP_ERR_STATE: it holds another one (rule T3). */
EEP_MUST_CHECK eep_status eepi_tables_flip(eepi_tables *tables, eep_stream *stream, uint64_t epoch,
                                           uint64_t digest);
#endif
