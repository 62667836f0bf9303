/* SPDX-License-Identifier: Apache-2.0 */
/* Views on their way into the banks: staged, installed, announced. Service thread. */
#ifndef EEPI_STAGING_H
#define EEPI_STAGING_H

#include "membership/view/view.h"

#include "eep/eep.h"

struct eepi_staging;

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_staging_open(eep_context *context);
void eepi_staging_close(eep_context *context);
/* The view takes effect from the next step on. */
void eepi_install(eep_context *context, const eepi_view *view);
/* Write a planned view into the idle bank; then STAGED is posted. */
void eepi_stage_plan(eep_context *context, const eepi_view *view);
/* The planned view is committed: it is announced to the others in-band. */
void eepi_announce(eep_context *context, const eepi_view *view);
/* A peer's record has come: a plan, or a view, may have waited for it. */
void eepi_staging_hurry(eep_context *context);
#endif
