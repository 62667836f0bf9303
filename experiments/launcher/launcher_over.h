/* SPDX-License-Identifier: Apache-2.0 */
/* Whether and why a run is over. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_OVER_H
#define EEPX_LAUNCHER_OVER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct launcher launcher;

/* When something last moved: a run in which nothing moves any more is given up. */
typedef struct launcher_progress {
    uint64_t begun_ns;                /* the run, before it serves */
    uint64_t script_done_ns;          /* script and joins were done; 0: not yet */
    uint64_t idle_ns;                 /* since when only a trigger is waited for, without load;
                                         0: it is not */
    uint64_t num_changes, changed_ns; /* of script, views and processes; the last of them */
    uint64_t num_moves, moved_ns;     /* these and tokens; the last of them */
    bool told_nobody_left;
} launcher_progress;

/* No process is left but those that were stopped and expelled. */
bool launcher_nobody_is_left(const launcher *self);
/* True: the run is over, by its end or by giving up. */
bool launcher_is_over(launcher *self, uint64_t now_ns);
#endif
