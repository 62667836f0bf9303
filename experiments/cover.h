/* Which deaths a placement survives: after which the ranks that are left hold every expert, or can
 * fill their slots with it from host backups. Pure. */
#ifndef EEPX_COVER_H
#define EEPX_COVER_H

#include "membership/view.h"

enum { COVER_TEXT_BYTES = 320, COVER_MOST_ADJACENT = 64 };

typedef struct cover {
    int num_ranks;
    int num_single; /* ranks whose death alone is survived */
    int adjacent;   /* any so many members with neighbouring numbers may die in one moment */
    int first,
        last; /* of adjacent + 1 neighbours, those that may not; -1: all sets were survived */
} cover;

/* False: out of memory. The view must be SERVING. */
bool cover_of(const eepi_view *view, cover *cover_out);
/* One line for people. */
void cover_describe(const cover *self, int num_slots, char text_out[COVER_TEXT_BYTES]);
#endif
