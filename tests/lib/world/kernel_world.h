/* SPDX-License-Identifier: Apache-2.0 */
/* The data plane without membership: all ranks of an instance in one process on the host device,
 * each with its own tables, window, stream and captured graph, stepped by the test. Windows are
 * plain memory, so a test can also play a peer by writing into them. Broken expectations abort the
 * process with a message: Criterion and plain programs both see that. */
#ifndef KERNEL_WORLD_H
#define KERNEL_WORLD_H

#include "eep/shapes.h"
#include "graphs/device/tables.h"
#include "tests/lib/world/reference_moe.h"

enum { KERNEL_MAX_SEATS = 16, KERNEL_MAX_LAYERS = 6, KERNEL_POISON = 0xff };
static const uint64_t kernel_long_ns = 20000000000u;

typedef struct kernel_form { /* of all dispatches of a world, beside the plain one */
    eep_row_layout layout;
    int32_t slot_align;
    eep_scale_form scale_form;
    bool is_wide, is_physical; /* ids */
    bool tells;                /* counts, source tokens and ranges are asked for */
} kernel_form;

typedef struct kernel_layer { /* buffers of one rank and layer, fixed addresses */
    void *x, *rows, *expert_rows, *out;
    int32_t *topk_idx, *slot_begin;
    float *topk_weights, *row_scales; /* row_scales: with FP8 */
    eepk_origin *origin;              /* [rows_capacity], as the expert node found it */
    /* with a form */
    int32_t *physical_idx, *slot_counts, *source_tokens;
    int64_t *wide_idx, *layout_range;
} kernel_layer;

typedef struct kernel_rank {
    eepi_tables *tables;
    const eepk_world *world;
    uint8_t *window;                 /* of the colour of its view */
    uint8_t *coloured[EEPK_COLOURS]; /* its windows */
    eep_stream *stream;
    eep_graph *graph;
    eep_graph *chunked;           /* of shape 1; kernel_chunks.h captures it */
    uint32_t shape, wanted_shape; /* of the next launch */
    uint64_t epoch, announce, wants_loads;
    uint32_t delay_us;                    /* that its experts take */
    int32_t num_tokens;                   /* read at replay */
    int32_t chunk_tokens[EEP_MAX_CHUNKS]; /* of it, in steps of shape 1 */
    uint64_t placement;                   /* the same: what its physical ids were made under */
    int32_t *slot_expert;                 /* [num_layers, num_slots] of the live view */
    kernel_layer layer[KERNEL_MAX_LAYERS];
} kernel_rank;

/* What a network adds to the ranks (kernel_proxies.h). All zero: nothing. */
typedef struct kernel_hooks {
    void *user;
    /* A rank switches: `peers` are all LOCAL so far. */
    void (*switched)(void *user, int seat, const eepi_view *view, eepk_peer *peers);
    void (*before_step)(void *user, int seat, uint64_t epoch, uint64_t step);
    void (*behind_step)(void *user, int seat, uint64_t epoch, const eepk_status *status);
} kernel_hooks;

typedef struct kernel_world {
    moe_shape shape;
    kernel_hooks hooks;
    uint32_t num_blocks;
    bool has_form;
    kernel_form form;
    eepk_shape layout; /* of seat 0; all but `self` is the same on all */
    eep_device *device;
    eepi_view *view; /* the last one that was switched to */
    void *windows[EEPK_COLOURS][KERNEL_MAX_SEATS];
    kernel_rank rank[KERNEL_MAX_SEATS];
} kernel_world;

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t kernel_random(uint64_t *state);
int kernel_below(uint64_t *state, int limit);
uint64_t kernel_now_ns(void);
/* Of a layer of the world's, which is a layer and chain of the kernels. Views have those alone. */
int kernel_chains(const moe_shape *shape);
int kernel_view_layer(const moe_shape *shape, int layer);

/* A poisoned piece of the host's memory. */
void *kernel_buffer(size_t bytes);
/* Bytes of a layer's `out`, and of its `row_scales`; places of rows. */
size_t kernel_out_bytes(const kernel_world *world);
size_t kernel_scales_bytes(const kernel_world *world);
size_t kernel_rows(const kernel_world *world);

/* All seats get a rank; nobody has a view yet. Grids have `num_blocks` blocks. */
kernel_world *kernel_world_open(const moe_shape *shape, uint32_t num_blocks);
/* The same with rings: so many queues, and slots beyond the fewest possible; and with a form, or
 * NULL. */
kernel_world *kernel_world_open_with(const moe_shape *shape, uint32_t num_blocks,
                                     uint32_t num_queues, uint32_t extra_slots,
                                     const kernel_form *form);
/* With a second shape, of shape->max_tokens in so many chunks; shape 0 has as many tokens as a
 * chunk. 0: one shape. */
kernel_world *kernel_world_open_chunks(const moe_shape *shape, uint32_t num_blocks, int num_chunks);
void kernel_world_close(kernel_world *world);

/* A view of the seats in `members` (bits) with each expert in at least one slot, the other slots
 * holding replicas, empty or filling by chance, with shares of all kinds on nodes of any size. All
 * generations are `generation`. */
eepi_view *kernel_view(const kernel_world *world, uint64_t epoch, uint64_t members,
                       uint32_t generation, uint64_t seed);
/* Capture a rank's step again, in place of its graph. */
void kernel_rank_capture(kernel_world *world, int seat);
/* Stage and flip one rank, which must not be in a step. */
void kernel_rank_switch(kernel_world *world, int seat, const eepi_view *view);
/* Flip all members; the world keeps the view. */
void kernel_world_switch(kernel_world *world, eepi_view *view);
bool kernel_is_member(const kernel_world *world, int seat);

/* New random inputs of all layers: up to `max_tokens` tokens, distinct experts, some -1. */
void kernel_rank_fill(kernel_world *world, int seat, int max_tokens, uint64_t seed);
void kernel_world_fill(kernel_world *world, uint64_t seed);
moe_input kernel_rank_input(const kernel_world *world, int seat, int layer);

/* Poison outputs, and replay the graph. */
void kernel_rank_launch(kernel_world *world, int seat, uint64_t step, uint64_t wait_ns);
/* Wait for its end; checks that the status is of that step. */
const eepk_status *kernel_rank_end(kernel_world *world, int seat);
/* One step of all members, payloads of the windows poisoned before. */
void kernel_world_step(kernel_world *world, uint64_t step);
/* Set what the next latch reads, without a replay. */
void kernel_rank_prepare(kernel_world *world, int seat, uint64_t step, uint64_t wait_ns);
/* Put the experts of a layer into the rank's stream, for graphs of a test's own. */
void kernel_rank_put_experts(kernel_world *world, int seat, uint32_t layer);
/* Run one node in the calling thread, with a form the kernel that takes its part. */
void kernel_rank_run(kernel_world *world, int seat, eepi_kernel_id id, uint32_t layer);
/* Run the nodes of a layer's dispatch that come before `id`, then `id` (route ... unpack). */
void kernel_rank_run_to(kernel_world *world, int seat, eepi_kernel_id id, uint32_t layer);
/* Run the finish node and return the status. */
const eepk_status *kernel_rank_finish(kernel_world *world, int seat);

/* Compare a rank's outputs of all layers with the reference; -1 and no message if they agree.
 * `members_only_out`: only its own `out`. Else the layer, and what differs is printed. */
int kernel_rank_compare(const kernel_world *world, int seat, bool own_out_only);
/* The arguments of the dispatch of a form: what eepi_form_fill takes. */
eep_dispatch_args kernel_form_args(const kernel_world *world, const kernel_rank *rank, int layer);
eep_form_sizes kernel_form_sizes(const kernel_world *world);
bool kernel_form_has_gaps(const kernel_form *form);
void kernel_form_node(const kernel_world *world, const kernel_rank *rank, uint32_t layer,
                      eepk_dispatch_node_args *node);
/* What an engine finds by the form, plain or not: rows of all slots, of one, the place of its
 * `i`th, and that one's scales as floats. */
int kernel_form_num_rows(const kernel_world *world, const kernel_layer *layer);
int kernel_form_slot_rows(const kernel_world *world, const kernel_layer *layer, int slot);
size_t kernel_form_place(const kernel_world *world, const kernel_layer *layer, int slot, int i);
void kernel_form_scales(const kernel_world *world, const kernel_layer *layer, int slot, int i,
                        float *scales_out);
/* The ids that the form asks for, from logical ones: of the replicas of the view some by chance.
 */
void kernel_form_ids(kernel_world *world, int seat, uint64_t seed);
void kernel_form_poison(const kernel_world *world, kernel_layer *layer);
/* NULL, or what of a rank's dispatch differs from the reference. */
const char *kernel_form_compare(const kernel_world *world, int seat, int layer);

/* True if nothing was written to the rank's outputs of that layer since launch. */
bool kernel_out_untouched(const kernel_world *world, int seat, int layer);
#endif
