/* SPDX-License-Identifier: Apache-2.0 */
/* A placement that the engine gives, and the one that is live (rules R3, R4). */
#include "graphs/base/public_call.h"
#include "membership/context/context.h"
#include "membership/order/order.h"
#include "membership/service/claim_view.h"
#include "membership/weights/weights.h"

#include <stdlib.h>
#include <string.h>

#define SET "eep_placement_set"

/* An order on its way in: its wishes, and where each expert was given last. */
typedef struct reading {
    const eepi_view_shape *shape;
    const eep_placement *placement;
    void *wishes;
    int32_t *seat; /* [num_experts], of the layer at hand; -1: nowhere */
} reading;

/* What is given for one layer. An expert that stands twice in a rank is given once. */
static eep_status read_layer(reading *r, int layer)
{
    const eepi_view_shape *shape = r->shape;
    const eep_placement *p = r->placement;
    const int num_slots = shape->num_slots, all = shape->max_ranks * num_slots;
    const size_t first = (size_t)layer * (size_t)all;
    int given = 0, left = shape->num_experts;

    memset(r->seat, 0xff, (size_t)shape->num_experts * sizeof *r->seat);

    for (int i = 0; i < all; i++) {
        const int32_t expert = p->experts ? p->experts[first + (size_t)i] : -1;
        const bool pinned = p->pinned && p->pinned[first + (size_t)i];
        if (expert < -1 || expert >= shape->num_experts || (pinned && expert < 0)) {
            return eepi_refuse(EEP_ERR_INVALID,
                               SET
                               ": layer %d, rank %d, slot %d: expert %d%s: -1 to %d are possible",
                               layer, i / num_slots, i % num_slots, expert,
                               pinned ? " is pinned" : "", shape->num_experts - 1);
        }
        if (expert >= 0 && r->seat[expert] != i / num_slots) {
            eepi_wishes_set(r->wishes, shape, layer, i / num_slots, i % num_slots, expert, pinned);
            given++;
            left -= r->seat[expert] < 0;
            r->seat[expert] = i / num_slots;
        }
    }
    if (left > all - given) {
        return eepi_refuse(EEP_ERR_INVALID,
                           SET ": layer %d: %d experts are given no slot, and %d slots are left",
                           layer, left, all - given);
    }
    return EEP_OK;
}

static eep_status read_order(const eep_context *context, const eep_placement *p, eepi_order *order)
{
    const eepi_view_shape *shape = &context->view_shape;
    reading r = {.shape = shape, .placement = p, .wishes = malloc(eepi_wishes_bytes(shape))};
    eep_status status = EEP_OK;

    r.seat = malloc((size_t)shape->num_experts * sizeof *r.seat);
    if (!r.wishes || !r.seat) {
        status = eepi_refuse(EEP_ERR_NO_MEMORY, SET ": no memory");
    } else {
        eepi_wishes_clear(r.wishes, shape);
    }
    for (int layer = 0; layer < shape->num_layers && status == EEP_OK; layer++) {
        status = read_layer(&r, layer);
    }
    free(r.seat);
    if (status != EEP_OK) {
        free(r.wishes);
        return status;
    }
    *order = (eepi_order){p->number, eepi_wishes_digest(r.wishes, shape), context->config.rank,
                          context->generation, r.wishes};
    return EEP_OK;
}

/* Against the number in force, or one that this context gave before. With the lock of `ordered`. */
static eep_status check_number(const eepi_order *order, uint64_t number, uint64_t digest,
                               const char *whose)
{
    if (order->number > number || (order->number == number && order->digest == digest)) {
        return EEP_OK;
    }
    return eepi_refuse(EEP_ERR_CONFLICT,
                       SET ": number %llu: %s %llu%s: give a placement a higher number than the "
                           "one before",
                       (unsigned long long)order->number, whose, (unsigned long long)number,
                       order->number == number ? ", which is another one" : "");
}

/* With the lock of `ordered`. What a rank was given before eep_join stands in its record, whatever
 * is in force in the instance that it found: that one may end before the rank is let in. */
static eep_status check_numbers(const struct eepi_ordered *o, const eepi_order *order,
                                bool before_join)
{
    eep_status status = check_number(order, o->given.number, o->given.digest, "this rank gave");

    if (status == EEP_OK && !before_join) {
        status = check_number(order, o->seen->order_number, o->seen->order_digest, "in force is");
    }
    return status;
}

static void keep(const eepi_order *order, size_t bytes, eepi_order *kept, void *wishes)
{
    memcpy(wishes, order->wishes, bytes);
    *kept = *order;
    kept->wishes = wishes;
}

/* With the lock of `ordered`. What a view has already is kept for eep_placement_get alone and is
 * not said again; nor is what another rank has replaced since the numbers were checked. */
static void give(struct eepi_ordered *o, const eepi_view_shape *shape, const eepi_order *order,
                 bool before_join)
{
    const size_t bytes = eepi_wishes_bytes(shape);

    if (order->number <= o->given.number) {
        return;
    }
    keep(order, bytes, &o->given, o->given_wishes);
    if (before_join) {
        keep(order, bytes, &o->first, o->first_wishes);
        o->first_is_anew = true;
    } else if (order->number > o->seen->order_number) {
        o->is_anew = true;
    }
}

/* Before eep_join the first view is planned anew. */
static eep_status may_give(eep_context *context, const eepi_order *order, bool has_joined)
{
    if (has_joined && context->config.background_bytes_per_s == 0) {
        return eepi_refuse(EEP_ERR_STATE, SET ": background_bytes_per_s is 0, and so nothing is "
                                              "moved while ranks serve");
    }
    if (!has_joined && eepi_weights_num_tensors(context) > 0) {
        return eepi_refuse(EEP_ERR_STATE, SET ": weights were given already: give a placement "
                                              "before them, or after eep_join");
    }
    if (!has_joined && context->observed.ordered->begins) {
        return eepi_plan_first_view(context, order);
    }
    return EEP_OK;
}

eep_status eep_placement_set(eep_context *context, const eep_placement *placement)
{
    eep_status status = eepi_check_context(SET, context);
    eep_placement ours = {0};
    struct eepi_ordered *o;
    eepi_order order;
    bool has_joined;

    if (status == EEP_OK) {
        status = EEPI_STRUCT_TAKE(eep_placement, &ours, placement);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (ours.number < 1 || ours.number > EEPI_VIEW_MAX_NUMBER) {
        return eepi_refuse(EEP_ERR_INVALID, SET ": number is %llu: 1 to 2^62 are possible",
                           (unsigned long long)ours.number);
    }
    status = read_order(context, &ours, &order);
    if (status != EEP_OK) {
        return status;
    }
    pthread_mutex_lock(&context->lock);
    has_joined = context->has_joined;
    pthread_mutex_unlock(&context->lock);
    o = context->observed.ordered;
    pthread_mutex_lock(&o->lock);
    status = check_numbers(o, &order, !has_joined);
    pthread_mutex_unlock(&o->lock);
    if (status == EEP_OK) { /* one that is refused changes nothing of what this rank loads */
        status = may_give(context, &order, has_joined);
    }
    if (status == EEP_OK) {
        pthread_mutex_lock(&o->lock);
        give(o, &context->view_shape, &order, !has_joined);
        pthread_mutex_unlock(&o->lock);
        eepi_service_wake(context);
    }
    free((void *)(uintptr_t)order.wishes);
    return status;
}

/* ---------------------------------------------------------------- what is live */

static void read_slots(const eepi_view *view, int32_t *experts_out, uint8_t *pinned_out)
{
    const eepi_view_shape *shape = &view->shape;
    const int num = shape->num_layers * shape->max_ranks * shape->num_slots;

    for (int i = 0; i < num; i++) {
        const int seat = i / shape->num_slots % shape->max_ranks, slot = i % shape->num_slots;
        const int layer = i / shape->num_slots / shape->max_ranks;
        const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
        if (experts_out) {
            experts_out[i] =
                eepi_view_is_member(view, seat) && s->state == EEPI_SLOT_HOLDS ? s->expert : -1;
        }
        if (pinned_out) {
            pinned_out[i] = eepi_view_is_pinned(view, layer, seat, slot);
        }
    }
}

static eep_order_state state_of(const struct eepi_ordered *o)
{
    if (o->given.number == 0) {
        return EEP_ORDER_NONE;
    }
    if (o->given.number > o->seen->order_number) {
        return EEP_ORDER_WAITS;
    }
    if (o->given.number < o->seen->order_number) {
        return EEP_ORDER_REPLACED;
    }
    return o->given.digest == o->seen->order_digest ? EEP_ORDER_IN_FORCE : EEP_ORDER_REFUSED;
}

eep_status eep_placement_get(eep_context *context, eep_placement_info *info_out,
                             int32_t *experts_out, uint8_t *pinned_out)
{
    eep_status status = eepi_check_context("eep_placement_get", context);
    eep_placement_info info = {0};
    struct eepi_ordered *o;

    if (status == EEP_OK) {
        status = EEPI_STRUCT_CHECK(eep_placement_info, info_out);
    }
    if (status != EEP_OK) {
        return status;
    }
    o = context->observed.ordered;
    pthread_mutex_lock(&o->lock);
    info.epoch = o->seen->epoch;
    info.number = o->seen->order_number;
    info.own_number = o->given.number;
    info.own_state = state_of(o);
    for (int layer = 0; layer < o->seen->shape.num_layers; layer++) {
        info.num_unmet += eepi_view_num_unmet(o->seen, layer, false);
    }
    info.num_unreachable = eepi_view_num_unreachable(o->seen, NULL);
    read_slots(o->seen, experts_out, pinned_out);
    pthread_mutex_unlock(&o->lock);
    EEPI_STRUCT_GIVE(eep_placement_info, info_out, &info);
    return EEP_OK;
}
