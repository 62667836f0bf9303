/* SPDX-License-Identifier: Apache-2.0 */
/* The tables: allocated, staged, flipped. */
#include "graphs/device/tables.h"

#include "graphs/device/table_sizes.h"
#include "graphs/device/device_ops.h"
#include "graphs/device/rings.h"
#include "graphs/base/public_call.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t COPY_BOUND_US = 10000000;

struct eepi_tables {
    eep_device *device;
    eepk_world host_world; /* what was copied to `world` */
    eepk_world *world;
    eepk_control *control;
    uint8_t *bank[2];
    uint8_t *image; /* pinned, what staging copies from; a bank, or the world when it is opened */
    eepk_launch *launch;
    uint64_t *abort_step;
    eepk_status *status;
    void *scratch;
    eepi_rings rings;
    eep_stream *staging; /* the device's auxiliary one */
    eep_event *staged_event, *flipped_event;
    uint32_t live; /* host's knowledge of live_bank; rank thread writes, under the caller's lock */
    uint64_t staged_epoch, staged_digest;
    eepi_slot_map slot_map[2]; /* what each bank says: of the idle one the service thread's */
};

enum {
    CHAIN_PARTS = 13,
    SHARED_PARTS = 5,
    MAX_PARTS = EEPK_MAX_CHAINS * CHAIN_PARTS + SHARED_PARTS
};
typedef struct scratch_part {
    void **to;
    uint64_t bytes;
} scratch_part;

static uint64_t loads_bytes(const eepk_shape *s)
{
    return (uint64_t)s->num_layers * s->num_experts * sizeof(uint64_t);
}

static void chain_parts(const eepk_shape *s, eepk_scratch *c, scratch_part parts_out[CHAIN_PARTS])
{
    const uint64_t cells = (uint64_t)s->max_ranks * s->num_slots;
    const uint64_t most_ids = cells > s->num_experts ? cells : s->num_experts;
    const scratch_part parts[CHAIN_PARTS] = {
        {(void **)&c->route, (uint64_t)s->num_max_tokens * s->top_k * sizeof(eepk_route)},
        {(void **)&c->send_count, cells * sizeof(uint32_t)},
        {(void **)&c->share_begin, cells * sizeof(uint32_t)},
        {(void **)&c->expert_count, EEPK_ROUTE_WARPS * most_ids * sizeof(uint32_t)},
        {(void **)&c->first_bad, sizeof(uint64_t)},
        {(void **)&c->receive_count, cells * sizeof(uint32_t)},
        {(void **)&c->receive_base, cells * sizeof(uint32_t)},
        {(void **)&c->receive_tokens, s->max_ranks * sizeof(uint32_t)},
        {(void **)&c->origin, (uint64_t)s->rows_capacity * sizeof(eepk_origin)},
        {(void **)&c->dense_begin, (s->num_slots + 1) * sizeof(int32_t)},
        {(void **)&c->slot_shift, s->num_slots * sizeof(uint32_t)},
        {(void **)&c->own_position, s->num_slots * sizeof(uint32_t)},
        {(void **)&c->ids, (uint64_t)s->num_max_tokens * s->top_k * sizeof(int32_t)},
    };

    memcpy(parts_out, parts, sizeof parts);
}

/* What kernels keep from node to node, and where the world has its address. Their number. */
static int scratch_parts(const eepk_shape *s, eepk_world *w, scratch_part parts_out[MAX_PARTS])
{
    const uint64_t seat_words = s->max_ranks * sizeof(uint64_t);
    const scratch_part shared[SHARED_PARTS] = {
        {(void **)&w->seen, s->max_ranks * sizeof(eepk_seen)},
        {(void **)&w->waiting_ns, seat_words},
        {(void **)&w->waited_ns, seat_words},
        {(void **)&w->loads, loads_bytes(s)},
        {(void **)&w->active_mask, s->max_ranks * sizeof(int32_t)},
    };
    int num = SHARED_PARTS;

    memcpy(parts_out, shared, sizeof shared);
    for (uint32_t i = 0; i < s->num_chains; i++) {
        chain_parts(s, &w->scratch[i], parts_out + num);
        num += CHAIN_PARTS;
    }
    return num;
}

static uint64_t scratch_bytes(const scratch_part *parts, int num)
{
    uint64_t bytes = 0;

    for (int i = 0; i < num; i++) {
        bytes += eepi_line_up(parts[i].bytes);
    }
    return bytes;
}

static uint64_t image_bytes(const eepk_shape *s)
{
    return s->bank_bytes > sizeof(eepk_world) ? s->bank_bytes : sizeof(eepk_world);
}

eepi_table_sizes eepi_tables_sizes(const eepk_shape *s)
{
    scratch_part parts[MAX_PARTS];
    eepk_world world;
    const int num = scratch_parts(s, &world, parts);

    return (eepi_table_sizes){
        .device_bytes = sizeof(eepk_world) + sizeof(eepk_control) + 2 * s->bank_bytes,
        .pinned_bytes = image_bytes(s) + sizeof(eepk_launch) + sizeof(uint64_t) +
                        sizeof(eepk_status) + loads_bytes(s) + s->max_ranks * sizeof(uint64_t),
        .scratch_bytes = scratch_bytes(parts, num),
    };
}

/* One allocation. */
static eep_status scratch_open(eepi_tables *t, const eepk_shape *s)
{
    scratch_part parts[MAX_PARTS];
    const int num = scratch_parts(s, &t->host_world, parts);
    eep_status status =
        eep_device_alloc(t->device, EEP_MEMORY_DEVICE, scratch_bytes(parts, num), &t->scratch);
    uint8_t *at = t->scratch;

    for (int i = 0; i < num && status == EEP_OK; i++) {
        *parts[i].to = at;
        at += eepi_line_up(parts[i].bytes);
    }
    return status;
}

static eep_status memory_open(eepi_tables *t, const eepk_shape *s)
{
    struct {
        eep_memory kind;
        uint64_t bytes;
        void **to;
    } wanted[] = {
        {EEP_MEMORY_DEVICE, sizeof(eepk_world), (void **)&t->world},
        {EEP_MEMORY_DEVICE, sizeof(eepk_control), (void **)&t->control},
        {EEP_MEMORY_DEVICE, s->bank_bytes, (void **)&t->bank[0]},
        {EEP_MEMORY_DEVICE, s->bank_bytes, (void **)&t->bank[1]},
        {EEP_MEMORY_PINNED, image_bytes(s), (void **)&t->image},
        {EEP_MEMORY_PINNED, sizeof(eepk_launch), (void **)&t->launch},
        {EEP_MEMORY_PINNED, sizeof(uint64_t), (void **)&t->abort_step},
        {EEP_MEMORY_PINNED, sizeof(eepk_status), (void **)&t->status},
        {EEP_MEMORY_PINNED, loads_bytes(s), (void **)&t->host_world.loads_out},
        {EEP_MEMORY_PINNED, s->max_ranks * sizeof(uint64_t), (void **)&t->host_world.waited_out},
    };

    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        eep_status status =
            eep_device_alloc(t->device, wanted[i].kind, wanted[i].bytes, wanted[i].to);
        if (status != EEP_OK) {
            return status;
        }
    }
    return scratch_open(t, s);
}

/* The host's copies of what slots hold. */
static eep_status slot_maps_open(eepi_tables *t, const eepk_shape *s)
{
    uint16_t *experts = calloc(2 * eepi_all_slots(s), sizeof(uint16_t));

    t->slot_map[0].experts = experts;
    t->slot_map[1].experts = experts ? experts + eepi_all_slots(s) : NULL;
    return experts ? EEP_OK : EEP_ERR_NO_MEMORY;
}

/* Of the bank whose image is staged. */
static void keep_slot_map(eepi_tables *t, uint32_t bank)
{
    const eepk_shape *s = &t->host_world.shape;
    const eepk_bank_header *header = (const eepk_bank_header *)t->image;
    eepi_slot_map *map = &t->slot_map[bank];

    map->epoch = header->epoch;
    map->placement = header->placement;
    memcpy(map->experts, t->image + s->bank_off_slot_expert, eepi_all_slots(s) * sizeof(uint16_t));
}

const eepi_slot_map *eepi_tables_slot_map(const eepi_tables *t)
{
    return &t->slot_map[t->live];
}

/* From pinned memory: a copy out of the heap may wait for more than its stream. */
static eep_status copy_world(eepi_tables *t)
{
    eep_status status;

    memcpy(t->image, &t->host_world, sizeof t->host_world);
    status = eep_copy_async(t->staging, t->world, t->image, sizeof t->host_world);
    return status == EEP_OK ? eep_stream_synchronize(t->staging, COPY_BOUND_US) : status;
}

eep_status eepi_tables_open(eep_device *device, const eepk_shape *shape, void *window,
                            eepi_tables **tables_out)
{
    eepi_tables *t = calloc(1, sizeof *t);
    eep_status status;

    if (!t) {
        return EEP_ERR_NO_MEMORY;
    }
    t->device = device;
    status = slot_maps_open(t, shape);
    if (status == EEP_OK) {
        status = memory_open(t, shape);
    }
    if (status == EEP_OK) {
        status = eepi_device_auxiliary(device, &t->staging);
    }
    if (status == EEP_OK) {
        status = eep_event_open(device, &t->staged_event);
    }
    if (status == EEP_OK) {
        status = eep_event_open(device, &t->flipped_event);
    }
    if (status == EEP_OK) {
        status = eepi_rings_open(device, shape, t->staging, COPY_BOUND_US, &t->rings);
    }
    if (status != EEP_OK) {
        goto fail;
    }
    t->host_world.queue = t->rings.queue;
    t->host_world.shape = *shape;
    t->host_world.control = t->control;
    t->host_world.bank[0] = t->bank[0];
    t->host_world.bank[1] = t->bank[1];
    t->host_world.launch = t->launch;
    t->host_world.abort_step = t->abort_step;
    t->host_world.status = t->status;
    t->host_world.window = window;
    status = copy_world(t);
    if (status != EEP_OK) {
        goto fail;
    }
    *tables_out = t;
    return EEP_OK;
fail:
    eepi_tables_close(t);
    return status;
}

void eepi_tables_close(eepi_tables *t)
{
    if (!t) {
        return;
    }
    /* a flip that no step followed may be in its stream still: it writes the control block */
    if (t->flipped_event &&
        eep_event_synchronize(t->flipped_event, COPY_BOUND_US) == EEP_ERR_TIMEOUT) {
        return; /* better lost than gone under it */
    }
    if (t->staged_event) {
        eep_event_close(t->staged_event);
    }
    if (t->flipped_event) {
        eep_event_close(t->flipped_event);
    }
    eep_device_free(t->device, EEP_MEMORY_DEVICE, t->world);
    eep_device_free(t->device, EEP_MEMORY_DEVICE, t->control);
    eep_device_free(t->device, EEP_MEMORY_DEVICE, t->bank[0]);
    eep_device_free(t->device, EEP_MEMORY_DEVICE, t->bank[1]);
    eep_device_free(t->device, EEP_MEMORY_DEVICE, t->scratch);
    eepi_rings_close(t->device, &t->rings);
    eep_device_free(t->device, EEP_MEMORY_PINNED, t->image);
    eep_device_free(t->device, EEP_MEMORY_PINNED, t->launch);
    eep_device_free(t->device, EEP_MEMORY_PINNED, t->abort_step);
    eep_device_free(t->device, EEP_MEMORY_PINNED, t->status);
    eep_device_free(t->device, EEP_MEMORY_PINNED, t->host_world.loads_out);
    eep_device_free(t->device, EEP_MEMORY_PINNED, t->host_world.waited_out);
    free(t->slot_map[0].experts);
    free(t);
}

const int32_t *eepi_tables_active_mask(const eepi_tables *t)
{
    return t->host_world.active_mask;
}

uint8_t *eepi_tables_ring(const eepi_tables *t, uint32_t queue)
{
    const eepk_shape *s = &t->host_world.shape;

    return t->rings.pinned + queue * eepk_ring_bytes(s->ring_slots, eepk_slot_bytes(s));
}

const eepk_world *eepi_tables_world(const eepi_tables *t)
{
    return t->world;
}

const eep_kernel *eepi_tables_kernel(const eepi_tables *t, eepi_kernel_id id)
{
    return eepi_device_kernel(t->device, id);
}

eepk_launch *eepi_tables_launch(eepi_tables *t)
{
    return t->launch;
}

const eepk_status *eepi_tables_status(const eepi_tables *t)
{
    return t->status;
}

const uint64_t *eepi_tables_loads(const eepi_tables *t)
{
    return t->host_world.loads_out;
}

const uint64_t *eepi_tables_waited(const eepi_tables *t)
{
    return t->host_world.waited_out;
}

uint64_t *eepi_tables_abort_step(eepi_tables *t)
{
    return t->abort_step;
}

const eepk_latch *eepi_tables_latch(const eepi_tables *t)
{
    return &t->control->latch;
}

uint8_t *eepi_tables_image(eepi_tables *t)
{
    __atomic_store_n(&t->staged_digest, 0, __ATOMIC_RELEASE);
    return t->image;
}

const uint8_t *eepi_tables_staged_image(const eepi_tables *t)
{
    return t->image;
}

eep_status eepi_tables_stage(eepi_tables *t, uint64_t timeout_us)
{
    const eepk_bank_header *header = (const eepk_bank_header *)t->image;
    uint32_t idle = 1u - __atomic_load_n(&t->live, __ATOMIC_ACQUIRE);
    eep_status status;

    /* rule T2: staging waits for the flip that retired the bank which it writes */
    status = eep_stream_wait_event(t->staging, t->flipped_event);
    if (status == EEP_OK) {
        status =
            eep_copy_async(t->staging, t->bank[idle], t->image, t->host_world.shape.bank_bytes);
    }
    if (status == EEP_OK) {
        status = eep_event_record(t->staged_event, t->staging);
    }
    if (status == EEP_OK) { /* not for what others put into the stream behind it */
        status = eep_event_synchronize(t->staged_event, timeout_us);
    }
    if (status != EEP_OK) {
        return status;
    }
    keep_slot_map(t, idle);
    t->staged_epoch = header->epoch;
    __atomic_store_n(&t->staged_digest, header->digest, __ATOMIC_RELEASE);
    return EEP_OK;
}

uint64_t eepi_tables_staged(const eepi_tables *t)
{
    return __atomic_load_n(&t->staged_digest, __ATOMIC_ACQUIRE);
}

eep_status eepi_tables_flip(eepi_tables *t, eep_stream *stream, uint64_t epoch, uint64_t digest)
{
    uint32_t idle = 1u - t->live;
    eepk_flip_args args = {t->world, epoch, digest, idle, 0};
    eep_status status;

    if (eepi_tables_staged(t) != digest || t->staged_epoch != epoch) {
        return EEP_ERR_STATE;
    }
    status = eep_stream_wait_event(stream, t->staged_event);
    if (status == EEP_OK) {
        status =
            eep_launch(stream, eepi_tables_kernel(t, EEPI_KERNEL_flip), 1, 1, &args, sizeof args);
    }
    if (status == EEP_OK) {
        status = eep_event_record(t->flipped_event, stream);
    }
    if (status != EEP_OK) {
        return status;
    }
    __atomic_store_n(&t->staged_digest, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&t->live, idle, __ATOMIC_RELEASE);
    return EEP_OK;
}
