/* SPDX-License-Identifier: Apache-2.0 */
/* Evidence against processes, and how it is taken back (rules M5, N10). */
#ifndef EEPI_CORE_EVIDENCE_H
#define EEPI_CORE_EVIDENCE_H

#include "membership/core/core_state.h"

/* A fault view is the newest: what it was made for is settled. */
void eepi_core_settle_evidence(eepi_core *core, const eepi_view *view);
/* The seat `by` says it. */
void eepi_core_on_evidence(eepi_core *core, const eepi_suspect *suspect, int by);
/* This rank itself has seen it. */
void eepi_core_on_own_evidence(eepi_core *core, const eepi_suspect *suspect);
/* A whole end, which is evidence as well; `by` a seat, or NOBODY: the store. */
void eepi_core_on_told_end(eepi_core *core, const eepi_end *end, int by);
void eepi_core_on_alive(eepi_core *core, const eepi_suspect *alive);
void eepi_core_on_busy(eepi_core *core, const eepi_suspect *busy, uint64_t for_us);
void eepi_core_on_report(eepi_core *core, const eepi_report *report);
void eepi_core_on_blocked(eepi_core *core, const uint64_t *seats);
void eepi_core_on_accused(eepi_core *core, const uint64_t *seats, uint64_t step);
#endif
