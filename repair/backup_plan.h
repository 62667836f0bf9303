/* SPDX-License-Identifier: Apache-2.0 */
/* Which rank puts which expert into host memory: a pure function of the first view. */
#ifndef EEPI_BACKUP_PLAN_H
#define EEPI_BACKUP_PLAN_H

#include "membership/view/view.h"

/* The experts that the rank in `seat` puts into its node's memory, as bits of
 * wanted_out[num_layers][eepi_view_backup_words], which are all written. `initial` is what
 * eepi_plan_initial filled. Each expert is on `copies` nodes that have members (on all of them if
 * they are fewer): rather on one where no slot holds it, and evenly over nodes, within three
 * experts of a layer; what a node has is split over its members, within one expert of all layers. A
 * seat that is no member puts nothing. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_plan_backups(const eepi_view *initial, int copies, int seat,
                                            uint64_t *wanted_out);
#endif
