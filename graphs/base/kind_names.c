/* SPDX-License-Identifier: Apache-2.0 */
/* What kinds of faults and of bad inputs are called. */
#include "eep/eep.h"

const char *eep_fault_kind_name(eep_fault_kind kind)
{
    static const char *const names[] = {"exit",     "reset",      "device",   "silent", "deadline",
                                        "left out", "bad answer", "expelled", "group"};

    return kind >= EEP_FAULT_EXIT && kind <= EEP_FAULT_GROUP ? names[kind] : "unknown";
}

const char *eep_bad_kind_name(eep_bad_kind kind)
{
    static const char *const names[] = {"num_tokens",        "out of range",      "named twice",
                                        "without a replica", "another placement", "inactive seat",
                                        "empty slot"};

    return kind >= EEP_BAD_NUM_TOKENS && kind <= EEP_BAD_SLOT_EMPTY ? names[kind] : "unknown";
}
