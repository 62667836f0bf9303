/* SPDX-License-Identifier: Apache-2.0 */
/* Processes on their way into the view: what eep_join waits for, in words if it waits in vain. */
#ifndef EEPI_ARRIVALS_H
#define EEPI_ARRIVALS_H

#include "membership/context/records.h"

struct eepi_arrivals;

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_arrivals_open(eep_context *context);
void eepi_arrivals_close(eep_context *context);
/* Note a record, an end, a refusal; service thread. */
void eepi_arrival_note(eep_context *context, const eepi_member *member);
void eepi_arrival_end(eep_context *context, int seat, uint32_t generation);
void eepi_arrival_refused(eep_context *context, const eepi_refusal *refusal);
/* Note the seat whose process keeps an instance from beginning; -1: none does. Returns true if
 * another seat, or none, was noted before. Service thread. */
bool eepi_arrival_awaited(eep_context *context, int seat);
/* Note what a rank that has asked to be let in, and had no view yet, waits for; service thread. */
void eepi_arrivals_note_wait(eep_context *context);
/* If no view can be formed, since a rank has other weights, nobody waits for a timeout; service
 * thread. */
void eepi_arrivals_look(eep_context *context);
/* Which ranks are waited for, and why; the lock is held. Any thread. */
void eepi_arrivals_say(const eep_context *context, char *text_out, size_t text_bytes);
/* The generation that has opened in that seat, 0: none; the lock is held. */
uint32_t eepi_arrival_generation(const eep_context *context, int seat);
#endif
