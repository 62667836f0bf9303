/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of contexts expect of a rank. */
#ifndef CONTEXT_CHECKS_H
#define CONTEXT_CHECKS_H

#include "tests/lib/context_fixture.h"

/* Of the view that the rank sees. */
uint64_t rank_epoch(const rank *r);
/* The one expulsion that the rank was told of. */
void rank_expect_fault(const rank *r, int32_t seat, eep_fault_kind kind);
/* A call, `what`, was refused with EEP_ERR_STATE and a text. */
void rank_expect_state(const rank *r, eep_status status, const char *what);
/* A rank opens, joins and steps with the others, each for so many steps more. */
void world_let_in(world *w, int32_t seat, int32_t first, int32_t last, uint64_t more);
#endif
