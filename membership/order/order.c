/* SPDX-License-Identifier: Apache-2.0 */
/* An order goes into the store under its giver's seat, again behind each new view, until a view has
 * it or a higher one (rule R3). The members' service threads hear it there. */
#include "membership/order/order.h"

#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/context/records.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

eep_status eepi_ordered_open(eep_context *context)
{
    struct eepi_ordered *o = calloc(1, sizeof *o);
    const size_t bytes = eepi_wishes_bytes(&context->view_shape);

    context->observed.ordered = o;
    if (!o) {
        return EEP_ERR_NO_MEMORY;
    }
    pthread_mutex_init(&o->lock, NULL);
    o->first_wishes = malloc(bytes);
    o->given_wishes = malloc(bytes);
    o->own_wishes = malloc(bytes);
    o->seen = eepi_view_new(&context->view_shape);
    o->spare = eepi_view_new(&context->view_shape);
    o->begins = true;
    return o->first_wishes && o->given_wishes && o->own_wishes && o->seen && o->spare
               ? EEP_OK
               : EEP_ERR_NO_MEMORY;
}

void eepi_ordered_close(eep_context *context)
{
    struct eepi_ordered *o = context->observed.ordered;

    if (o) {
        pthread_mutex_destroy(&o->lock);
        free(o->first_wishes);
        free(o->given_wishes);
        free(o->own_wishes);
        free(o->seen);
        free(o->spare);
    }
    free(o);
}

const eepi_order *eepi_ordered_next(eep_context *context, bool is_ready, bool *is_first_out)
{
    struct eepi_ordered *o = context->observed.ordered;
    bool any;

    pthread_mutex_lock(&o->lock);
    *is_first_out = o->first_is_anew;
    any = o->first_is_anew ? is_ready : o->is_anew;
    if (any) {
        o->own = *is_first_out ? o->first : o->given;
        memcpy(o->own_wishes, o->own.wishes, eepi_wishes_bytes(&context->view_shape));
        o->own.wishes = o->own_wishes;
        *(*is_first_out ? &o->first_is_anew : &o->is_anew) = false;
    }
    pthread_mutex_unlock(&o->lock);
    if (!any) {
        return NULL;
    }
    if (*is_first_out) {
        o->first_number = o->own.number;
        o->first_digest = o->own.digest;
    }
    o->put_digest = 0;
    return &o->own;
}

static int num_unmet(const eepi_view *view)
{
    int unmet = 0;

    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        unmet += eepi_view_num_unmet(view, layer, false);
    }
    return unmet;
}

/* Once, as soon as a layer of the order in force cannot come to what it is given. */
static void tell_unreachable(const eep_context *context, const eepi_view *before,
                             const eepi_view *now, bool is_other)
{
    int layer = 0;
    const int unreachable = eepi_view_num_unreachable(now, &layer);

    if (unreachable == 0 || (!is_other && eepi_view_num_unreachable(before, NULL) > 0)) {
        return;
    }
    eepi_log(context, EEP_LOG_WARN,
             "epoch %llu: placement %llu cannot be reached: %d slots will not hold what it gives "
             "them; in layer %d %s: give a placement that fits, or let a rank join",
             (unsigned long long)now->epoch, (unsigned long long)now->order_number, unreachable,
             layer,
             eepi_view_reach(now, layer) == EEPI_NO_SPARE
                 ? "each expert has one replica and no slot is empty, so nothing can move"
                 : "more experts are given to no member than slots are left");
}

/* Once per order, once more when it is reached, and once when it cannot be. */
static void tell(const eep_context *context, const eepi_view *before, const eepi_view *now)
{
    const struct eepi_ordered *o = context->observed.ordered;
    const bool is_other =
        now->order_digest != before->order_digest || now->order_number != before->order_number;
    const int unmet = now->order_number ? num_unmet(now) : 0;

    if (is_other && now->order_number != 0) {
        eepi_log(context, EEP_LOG_INFO,
                 "epoch %llu: placement %llu was ordered: %d slots do not hold yet what it gives "
                 "them",
                 (unsigned long long)now->epoch, (unsigned long long)now->order_number, unmet);
    } else if (now->order_number != 0 && unmet == 0 && num_unmet(before) > 0) {
        eepi_log(context, EEP_LOG_INFO, "epoch %llu: placement %llu is reached",
                 (unsigned long long)now->epoch, (unsigned long long)now->order_number);
    }
    tell_unreachable(context, before, now, is_other);
    if (is_other && o->own.number == now->order_number && o->own.digest != now->order_digest) {
        eepi_log(context, EEP_LOG_WARN,
                 "placement %llu of this rank is refused: another rank gave another one with that "
                 "number, and it was first: give yours a higher one",
                 (unsigned long long)o->own.number);
    }
}

void eepi_ordered_follow(eep_context *context, const eepi_view *view)
{
    struct eepi_ordered *o = context->observed.ordered;
    eepi_view *was = o->seen; /* this thread alone changes it */

    if (!view || was->digest == view->digest) {
        return;
    }
    tell(context, was, view);
    memcpy(o->spare, view, view->bytes);
    pthread_mutex_lock(&o->lock);
    o->seen = o->spare;
    o->spare = was;
    pthread_mutex_unlock(&o->lock);
}

void eepi_ordered_put(eep_context *context, const eepi_view *view, bool again)
{
    struct eepi_ordered *o = context->observed.ordered;
    char key[EEPI_STORE_KEY_MAX];
    size_t bytes;
    void *encoded;

    if (!view || o->own.number <= view->order_number || (!again && o->put_digest == view->digest) ||
        !eepi_view_has(view, context->config.rank, context->generation)) {
        return;
    }
    encoded = eepi_order_encode(&o->own, &context->view_shape, &bytes);
    if (!encoded) {
        return;
    }
    o->put_digest = view->digest;
    snprintf(key, sizeof key, EEPI_KEY_ORDER "%d", context->config.rank);
    (void)eepi_store_put(context->store, key, encoded, bytes, 0);
    free(encoded);
}
