/* SPDX-License-Identifier: Apache-2.0 */
/* Which deaths a placement survives: after which the ranks that are left hold every expert, or can
 * fill their slots with it from host backups. Pure. */
#ifndef EEPX_COVER_H
#define EEPX_COVER_H

#include "membership/view/view.h"

enum { COVER_TEXT_BYTES = 320 };

typedef struct cover {
    int num_ranks;  /* 0: it is not known */
    int num_single; /* ranks whose death alone is survived */
    int adjacent;   /* any so many members with neighbouring numbers may die in one moment */
    int first,
        last; /* of adjacent + 1 neighbours, those that may not; -1: all sets were survived */
} cover;

typedef enum cover_status { COVER_KNOWN, COVER_NO_MEMORY, COVER_GIVEN_UP } cover_status;

/* The view must be SERVING. It looks at twice as many sets as there are members, at most; for 1024
 * members with 58 layers of 256 experts that takes seconds. `goes_on` (or NULL) is asked before
 * each; once it says no, nothing is known. */
cover_status cover_of(const eepi_view *view, bool (*goes_on)(void *user), void *user,
                      cover *cover_out);
/* One line for people. */
void cover_describe(const cover *self, int num_slots, char text_out[COVER_TEXT_BYTES]);
#endif
