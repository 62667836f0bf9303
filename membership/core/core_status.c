/* SPDX-License-Identifier: Apache-2.0 */
/* The status of this rank: one table says which transitions there are, and which rule of
 * docs/PROTOCOL.md allows each. */
#include "membership/core/core_status.h"

#include <assert.h>
#include <stddef.h>

static const char *const names[CORE_NUM_STATUSES] = {"OUTSIDE", "SERVING", "WEDGED", "LEAVING",
                                                     "OVER"};

/* [from][to]; NULL: there is no such transition. */
static const char *const rules[CORE_NUM_STATUSES][CORE_NUM_STATUSES] = {
    [CORE_OUTSIDE] =
        {
            [CORE_SERVING] = "M3, M4: the committed view lets this rank in",
            [CORE_WEDGED] = "M1, M2: that view is REPAIRING, or a member of it is suspected or has "
                            "promised not to serve it",
            [CORE_OVER] = "M4: the instance goes on, ends or cannot begin without this rank",
        },
    [CORE_SERVING] =
        {
            [CORE_SERVING] = "M4: the winner's document is authoritative, whoever missed why",
            [CORE_WEDGED] = "M2: no step of this view can complete any more",
            [CORE_LEAVING] = "M10: a planned view lets this rank go, and others do not run it yet",
            [CORE_OVER] = "M4: the committed view is without this rank",
        },
    [CORE_WEDGED] =
        {
            [CORE_SERVING] = "M4: a newer view was committed that this rank has not promised away",
            [CORE_OVER] = "M4: the committed view is without this rank",
        },
    [CORE_LEAVING] =
        {
            [CORE_OVER] = "M10: all members that live run the view, or none ever will",
        },
    [CORE_OVER] =
        {
            [CORE_OVER] = "S4: a rank that is out stays out; it may be told so again",
        },
};

void eepi_core_set_status(eepi_core *core, core_status next)
{
    assert(rules[core->status][next] != NULL);
    core->status = next;
}

const char *eepi_core_status_name(core_status status)
{
    return names[status];
}
