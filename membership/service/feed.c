/* SPDX-License-Identifier: Apache-2.0 */
/* An input into the core, its actions carried out, and then whatever was posted meanwhile. */
#include "membership/service/feed.h"

#include "membership/backup/backups.h"
#include "membership/collective/collective.h"
#include "membership/context/context.h"
#include "membership/control/accusations.h"
#include "membership/order/order.h"
#include "membership/service/actions.h"
#include "membership/service/store_session.h"
#include "membership/service/tell.h"
#include "membership/weights/weights.h"
#include "membership/step/proxies.h"
#include "membership/service/fence.h"

/* A view may name processes that have put backups into the node's memory. */
static void follow_backups(eep_context *context)
{
    const eepi_view *view = eepi_core_view(context->core);

    if (view && eepi_weights_node(context) &&
        __atomic_load_n(&context->executor, __ATOMIC_ACQUIRE)) {
        eepi_backups_follow(eepi_weights_node(context), view);
    }
}

/* This rank's service may have ended in any of its parts: its collectives end with it. */
static void follow_end(eep_context *context)
{
    eepi_outcome outcome = {.ended = EEP_OK};

    pthread_mutex_lock(&context->lock);
    if (context->outcome.ended != EEP_OK) {
        outcome = context->outcome;
    }
    pthread_mutex_unlock(&context->lock);
    if (outcome.ended != EEP_OK) {
        eepi_collectives_end(context, &outcome);
    }
}

static void handle(eep_context *context, eepi_input input)
{
    const eepi_action *actions;
    int n;

    input.now_us = eepi_core_now_us(context);
    actions = eepi_core_handle(context->core, &input, &n);
    eepi_tell_known(context);
    /* before the actions: one of them lets eep_join return, behind which the engine may ask */
    eepi_ordered_follow(context, eepi_core_view(context->core));
    for (int i = 0; i < n; i++) {
        eepi_perform(context, &actions[i]);
    }
    follow_end(context);
    follow_backups(context);
    eepi_words_follow(context);
    eepi_tell_view(context);
    eepi_tell_drain(context);
}

void eepi_feed_posted(eep_context *context)
{
    eepi_input input;

    while (eepi_inbox_take(context->inbox, &input)) {
        handle(context, input);
    }
}

void eepi_feed(eep_context *context, const eepi_input *input)
{
    eepi_feed_posted(context);
    handle(context, *input);
    eepi_feed_posted(context);
}

void eepi_feed_blocked(eep_context *context)
{
    uint64_t seats[EEPK_SEAT_WORDS];
    const eepi_input blocked = {.kind = EEPI_INPUT_BLOCKED, .seats = seats};

    if (eepi_proxies_blocked(context, context->config.step_deadline_us, seats)) {
        eepi_spare_busy(context, seats);
        eepi_feed(context, &blocked);
    }
}

void eepi_feed_words(eep_context *context)
{
    eepi_input input = {.kind = EEPI_INPUT_EVIDENCE};

    while (eepi_words_take(context, &input.suspect)) {
        eepi_feed(context, &input);
    }
}
