/* SPDX-License-Identifier: Apache-2.0 */
/* The forms in which a dispatch takes ids and gives rows and scales, and the mask of the active
 * ranks: what serving stacks and their grouped GEMMs expect. A part of eep/eep.h, which includes
 * it. docs/INTEGRATION.md, "Forms of rows, ids and scales", draws them.
 *
 * A form is a matter of one rank: ranks of one instance may use different ones, and different ones
 * from layer to layer, chain to chain and graph to graph. Only the rounding of FP8 scales crosses
 * ranks, so it stands in eep_config.fp8_dispatch. */
#ifndef EEP_FORMS_H
#define EEP_FORMS_H

#include <stdint.h>

#include "eep/device.h"
#include "eep/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct eep_context eep_context;             /* eep/eep.h */
typedef struct eep_dispatch_args eep_dispatch_args; /* eep/eep.h */

/* Values of eep_config.fp8_dispatch. */
typedef enum eep_fp8_kind {
    EEP_FP8_NONE = 0,
    EEP_FP8_SCALES = 1, /* a scale is the largest value of its group / 448 */
    /* It is rounded up to a power of two (UE8M0; DeepEP's round_scale). A float all the same, of
     * which UE8M0 forms keep the exponent. */
    EEP_FP8_POWERS = 2,
} eep_fp8_kind;

/* How the rows of a dispatch lie. Within a slot the rows of one source lie together, sources in
 * order of seat, a source's rows in order of token. */
typedef enum eep_row_layout {
    /* rows [eep_form_sizes.rows, hidden]: slot after slot. A slot begins at a multiple of
     * slot_align rows (0 and 1: at any row). Between a slot's last row and the next slot lie rows
     * that nobody writes or reads. A slot without rows takes no place. */
    EEP_ROWS_PACKED = 0,
    /* rows [num_slots, slot_rows, hidden]: expert-major and padded (source: DeepEP low latency).
     * slot_rows is max_ranks x num_max_tokens_per_rank, rounded up to slot_align. Rows past a
     * slot's count are neither written nor read. */
    EEP_ROWS_PADDED = 1,
} eep_row_layout;

/* How FP8 scales lie; num_groups is hidden / EEP_FP8_GROUP rounded up, stride is
 * eep_form_sizes.scale_stride. UE8M0 packs the exponents of four neighbouring groups into an int32,
 * the first one in its lowest byte: scale = 2^(byte - 127). Bytes of groups that do not exist are
 * 0. Scales of rows that nobody writes are not written. */
typedef enum eep_scale_form {
    EEP_SCALES_ROWS = 0, /* row_scales float [rows, num_groups] */
    /* Last two dimensions transposed, for TMA: row_scales float [num_groups, stride], padded
     * [num_slots, num_groups, stride]. The stride is the number of rows rounded up to 4. */
    EEP_SCALES_COLUMNS = 1,
    EEP_SCALES_UE8M0_ROWS = 2, /* packed_scales int32 [rows, num_groups / 4 rounded up] */
    /* packed_scales int32 [num_groups / 4 rounded up, stride], padded with [num_slots] before. */
    EEP_SCALES_UE8M0_COLUMNS = 3,
} eep_scale_form;

/* What the ids of a dispatch are. */
typedef enum eep_id_kind {
    EEP_IDS_LOGICAL = 0, /* logical experts: libeep chooses the replica */
    /* Physical: seat x num_slots + slot, -1 for none. The caller chooses the replica, under a
     * placement that eep_dispatch_args.placement names (rule P12). */
    EEP_IDS_PHYSICAL = 1,
} eep_id_kind;

/* Sizes of a form's buffers. */
typedef struct eep_form_sizes {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    uint32_t reserved;     /* 0 */
    uint64_t rows;         /* of the whole `rows`: its most with packed rows, all with padded */
    uint64_t slot_rows;    /* padded: rows of one slot; else 0 */
    uint64_t rows_bytes;   /* of `rows` */
    uint64_t scale_stride; /* elements from row to row, or from column to column; 0: no FP8 */
    uint64_t scales_bytes; /* of row_scales or packed_scales; 0: no FP8 */
} eep_form_sizes;
/* Looks at layout, slot_align and scale_form of `args`, whose buffers may be NULL. From eep_open to
 * eep_close; during capture too; any thread. EEP_ERR_INVALID (with eep_error_text): a value is out
 * of range, UE8M0 without EEP_FP8_POWERS, or more rows than an int32 can count. */
EEP_API EEP_MUST_CHECK eep_status eep_form_sizes_get(eep_context *context,
                                                     const eep_dispatch_args *args,
                                                     eep_form_sizes *sizes_out);

/* ---------------------------------------------------------------- the placement of physical ids */

typedef struct eep_live_placement {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    uint32_t reserved;     /* 0 */
    uint64_t epoch;        /* of the view that is live on this rank */
    /* Names which expert lies in which slot, over all layers: the same word for the same placement,
     * on all ranks and in all epochs. Never 0. */
    uint64_t placement;
} eep_live_placement;
/* The placement that the next step of this rank goes by, with its word, both of one view: between
 * eep_step_begin and eep_step_end that of the running step. `experts_out` [num_layers, max_ranks x
 * num_slots], indexed by physical id: the logical expert in it, -1: empty, being filled, or of no
 * member. It may be NULL. To be asked whenever eep_step.epoch is another one than before: it
 * changes in eep_step_begin only. Costs a pass over the slots. Rank thread. EEP_ERR_NOT_FOUND: no
 * view is live yet, before the first eep_step_begin. Source: physical_to_logical_map of EPLB. */
EEP_API EEP_MUST_CHECK eep_status eep_live_placement_get(eep_context *context,
                                                         eep_live_placement *live_out,
                                                         int32_t *experts_out);

/* ---------------------------------------------------------------- the mask of active ranks */

/* Which value says what. libeep's own word is active; the other one is for stacks that mask. */
typedef enum eep_mask_kind {
    EEP_MASK_ACTIVE = 0, /* 1: active, 0: not (Mooncake, FlashInfer, NCCL EP) */
    EEP_MASK_MASKED = 1, /* 1: not active, 0: active (DeepEP, NIXL EP, vLLM) */
} eep_mask_kind;

/* int32 [max_ranks] in device memory, 1: active, at an address that is fixed for the context's
 * life: a capture may hold it. The node of eep_step_latch writes it, so behind that node in the
 * stream it is of the view that the running step goes by, whole. All 0 before the first step. Only
 * kernels read it. NULL for NULL. Any thread; during capture too. */
EEP_API const int32_t *eep_active_mask(const eep_context *context);
/* The same for the newest committed view that this rank knows, into host memory
 * mask_out [max_ranks]; `epoch_out`: of that view, may be NULL; 0 and nobody active: none yet.
 * EEP_ERR_INVALID for NULL or a foreign kind. Any thread; during capture too. */
EEP_API EEP_MUST_CHECK eep_status eep_mask_get(eep_context *context, eep_mask_kind kind,
                                               int32_t *mask_out, uint64_t *epoch_out);
/* Put a node into `stream` that writes eep_active_mask, as it is there, to device memory mask_out
 * [max_ranks]. Anywhere in a stream, captured or not, of a step or not; in the stream of the steps
 * it is of the last step that was latched before it. Memory as that of eep_dispatch.
 * EEP_ERR_INVALID for NULL or a foreign kind. Rank thread. */
EEP_API EEP_MUST_CHECK eep_status eep_mask_put(eep_context *context, eep_stream *stream,
                                               eep_mask_kind kind, int32_t *mask_out);

#ifdef __cplusplus
}
#endif
#endif
