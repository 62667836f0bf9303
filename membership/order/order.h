/* SPDX-License-Identifier: Apache-2.0 */
/* The placement that this rank's engine has ordered, on its way to the core and to the others; and
 * the placement that is live, for whoever asks. */
#ifndef EEPI_ORDER_H
#define EEPI_ORDER_H

#include "membership/view/view_order.h"

#include <pthread.h>
#include <stdbool.h>

struct eepi_ordered {
    pthread_mutex_t lock; /* taken behind no other, and no other behind it */
    /* { under it */
    /* By the engine: the last before eep_join, and the last of all; number 0: none. The first one
     * stays what it is, since the rank's record and a first view go by it. Their wishes: */
    eepi_order first, given;
    void *first_wishes, *given_wishes;
    bool first_is_anew, is_anew; /* they are not with the service thread yet */
    eepi_view *seen, *spare;     /* the newest view, epoch 0: none; room for the next one */
    /* } */
    bool begins; /* no instance ran at open */
    /* service thread */
    eepi_order own; /* as `given`; its wishes: */
    void *own_wishes;
    uint64_t first_number, first_digest; /* of the order that this rank had before eep_join */
    uint64_t put_digest;                 /* of the view under which it was put last */
};

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_ordered_open(eep_context *context);
void eepi_ordered_close(eep_context *context);

/* ---- service thread */

/* What the engine has given since the last call; NULL: nothing. Before eep_join it waits for
 * `is_ready`. */
const eepi_order *eepi_ordered_next(eep_context *context, bool is_ready, bool *is_first_out);
/* Look at the newest view. */
void eepi_ordered_follow(eep_context *context, const eepi_view *view);
/* This rank's order counts and is in no view yet: put it where the others hear it, once per view,
 * or `again`. */
void eepi_ordered_put(eep_context *context, const eepi_view *view, bool again);
#endif
