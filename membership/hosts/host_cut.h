/* SPDX-License-Identifier: Apache-2.0 */
/* The hosts at fault, where some do not hear each other (rule N10). Pure (must 5).
 *
 * Silence between two hosts does not say which of them has failed, or whether it is the way between
 * them. So it accuses the pair. The smallest set of hosts that touches every accused pair is left
 * out. Of several such sets it is the one without which most experts are left, then the one with
 * fewest ranks, then the one with the higher seats: all ranks that know the same choose the same.
 *
 * Of a chosen host those ranks go that are accused, where only some are and none accuses anybody:
 * they are stuck, and their host is not. */
#ifndef EEPI_HOST_CUT_H
#define EEPI_HOST_CUT_H

#include "membership/view/view.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct eepi_host_cut {
    const eepi_view_seat *seats; /* [max_ranks], whose hosts count */
    int max_ranks;
    const uint64_t *members; /* bits of the seats in question: nothing else leaves them out */
    /* Bits of the seats that the member `by` does not hear; NULL: it hears all. Those of its own
     * host do not count. */
    const uint64_t *(*accused)(const void *user, int by);
    /* How many experts are lost without these seats, too. */
    uint64_t (*num_lost)(const void *user, const uint64_t *out);
    const void *user;
} eepi_host_cut;

/* Sets the bits of those that are left out for it in `out`, and clears all others; and in
 * `accused_out` the bits of those that somebody accuses. False: nobody is accused. */
bool eepi_host_cut_find(const eepi_host_cut *given, uint64_t *out, uint64_t *accused_out);
#endif
