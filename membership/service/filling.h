/* SPDX-License-Identifier: Apache-2.0 */
/* This rank's FILLING slots: the executor, what it needs of the context, and its result. */
#ifndef EEPI_FILLING_H
#define EEPI_FILLING_H

#include "eep/eep.h"
#include "membership/stepper/stepper.h"
#include "membership/view/view.h"

/* Open the executor, and what serves the repairs of others; rank thread, in eep_join. */
EEP_MUST_CHECK eep_status eepi_filling_open(eep_context *context);
/* The rest is the service thread's. Fill the view's FILLING slots here; then FILLED is posted. */
void eepi_fill_start(eep_context *context, const eepi_view *view);
/* Rule R1: no transfer of an epoch below that one may land any more. */
void eepi_fill_cancel(eep_context *context, uint64_t epoch);
/* Go on with a fill that is held back for the sake of its rate; when to do so at the latest. */
void eepi_fill_go_on(eep_context *context);
uint64_t eepi_fill_wake_us(const eep_context *context);
/* Steps have ended: their times set the pace behind live traffic. */
void eepi_fill_steps(eep_context *context, const eepi_step_mail *mail);
/* The bulk's land and done functions. */
void eepi_fill_landed(void *context, uint64_t transfer, uint64_t offset, const void *data,
                      uint64_t bytes);
void eepi_fill_fetched(void *context, uint64_t transfer, eep_status status);
#endif
