/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of contexts expect of a rank. */
#include "tests/lib/context_checks.h"

uint64_t rank_epoch(const rank *r)
{
    uint64_t epoch;
    (void)rank_sees(r, 0, &epoch);
    return epoch;
}

void rank_expect_fault(const rank *r, int32_t seat, eep_fault_kind kind)
{
    eep_fault fault;
    cr_assert_eq(eep_fault_next(r->context, EEP_SIZED(&fault)), EEP_OK, "rank %d", r->seat);
    cr_expect_eq(fault.seat, seat, "rank %d: seat %d", r->seat, fault.seat);
    cr_expect_eq(fault.generation, 1);
    cr_expect_eq(fault.kind, kind, "rank %d: %s", r->seat, eep_fault_kind_name(fault.kind));
    cr_expect_geq(fault.epoch, 2);
    cr_expect_gt(fault.time_ns, 0);
    cr_expect_eq(eep_fault_next(r->context, &fault), EEP_ERR_NOT_FOUND);
}

void rank_expect_state(const rank *r, eep_status status, const char *what)
{
    cr_expect_eq(status, EEP_ERR_STATE, "%s: %s", what, eep_strerror(status));
    cr_expect_neq(eep_last_error(r->context)[0], '\0', "%s", what);
}

void world_let_in(world *w, int32_t seat, int32_t first, int32_t last, uint64_t more)
{
    rank *r = &w->ranks[seat];
    cr_assert_eq(rank_open(w, seat), EEP_OK, "%s", r->error);
    rank_set_mode(r, RANK_WORK);
    rank_run(r);
    WORLD_WAIT(w, r->joined);
    world_advance(w, first, last, more);
}
