/* SPDX-License-Identifier: Apache-2.0 */
/* A rank from its start until it is in the view. Private to the rank's files. */
#ifndef EEPX_RANK_START_H
#define EEPX_RANK_START_H

#include "experiments/rank/rank_state.h"

/* Open the device, the context and the engine, and join. */
eep_status rank_start(rank *self);
#endif
