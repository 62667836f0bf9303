/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines about views, and about the steps that lead to them. Service thread. */
#ifndef EEPI_TELL_H
#define EEPI_TELL_H

#include "membership/core/core.h"

#include <stdbool.h>

struct eepi_told;

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_told_open(eep_context *context);
void eepi_told_close(eep_context *context);
/* This rank has had a view to serve under. */
bool eepi_told_had_view(const eep_context *context);

/* A new document is known: before its actions; after them it is told, once. */
void eepi_tell_known(eep_context *context);
void eepi_tell_view(eep_context *context);
/* This rank retires, and the others have no room for what only it holds: once. */
void eepi_tell_drain(eep_context *context);
/* Why a rank is expelled, before eepi_tell_view. */
void eepi_tell_cause(eep_context *context, const eepi_suspect *suspect);
/* So many bytes of weights were copied here. */
void eepi_tell_copied(eep_context *context, uint64_t bytes);
/* From now on this rank waits for a view; one is installed. */
void eepi_tell_without_view(eep_context *context);
/* Which ranks this one waits for since it stopped for a fault, if that takes long: once. */
void eepi_tell_wait(eep_context *context);
void eepi_tell_installed(eep_context *context, const eepi_view *view);
/* The steps of agreement. */
void eepi_tell_suspected(eep_context *context, const eepi_suspect *suspect);
void eepi_tell_promise(eep_context *context, const eepi_report *report);
void eepi_tell_wedge(eep_context *context, const eepi_wedge *wedge);
void eepi_tell_report(eep_context *context, const eepi_report *report);
void eepi_tell_ack(eep_context *context, const eepi_ack *ack);
void eepi_tell_proposal(eep_context *context, const eepi_view *view);
void eepi_tell_proposed(eep_context *context, bool won, uint64_t epoch, unsigned phase);
#endif
