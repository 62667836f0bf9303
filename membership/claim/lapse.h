/* SPDX-License-Identifier: Apache-2.0 */
/* What lapsed leases allow, at a store that several hosts reach (rule N21). Two cases, and no
 * other.
 *
 * Nobody has told the end of some members of the newest view, and no lease of a member was seen for
 * eepi_lease_lapse_us: the instance is over. A view without members is committed, in which all
 * seats are free. New processes begin an instance on top of it, with new windows. A member that
 * lives yet finds itself left out as soon as it reads the register.
 *
 * A process took this rank's seat on another host, no view ever had it, and its lease was not seen
 * for as long: the seat is free. */
#ifndef EEPI_LAPSE_H
#define EEPI_LAPSE_H

#include "eep/eep.h"

/* Tell the ends that this host's files show. Wait, where all that still stands in the way are
 * leases that nobody holds, until they have lapsed, and write down what follows. Whatever else
 * stands in the way is left to the claim. Calling thread of eep_open. */
EEP_MUST_CHECK eep_status eepi_lapse_await(eep_context *context);
#endif
