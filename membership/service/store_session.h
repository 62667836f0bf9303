/* SPDX-License-Identifier: Apache-2.0 */
/* What this rank says to the store and asks of it, and whether the store answers. Service thread.
 */
#ifndef EEPI_STORE_SESSION_H
#define EEPI_STORE_SESSION_H

#include "membership/context/records.h"
#include "repair/own_links.h"

#include <stdbool.h>

struct eepi_store_session;

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_store_session_open(eep_context *context);
void eepi_store_session_close(eep_context *context);
/* Begin to watch what all ranks watch, and read the register; the core's time begins.
 * EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_store_session_start(eep_context *context);
bool eepi_store_answers(const eep_context *context, uint64_t now_us);
/* The core's time. What the core waits for comes through the store. So time in which the store is
 * away does not count: else each rank would take all others for silent and kill them. Time in which
 * this thread was not scheduled does not count either: what came meanwhile is not read yet. */
uint64_t eepi_core_now_us(eep_context *context);
/* While others are waited for, make sure that the store is there to tell of them; every so often,
 * where nothing else was heard of it. */
enum { EEPI_PROBE_PERIOD_US = 20000 };
void eepi_store_note_heard(eep_context *context);
void eepi_store_probe(eep_context *context);
/* The answer to a write of this rank's own. A store that refuses it, though it reads, is away (rule
 * N14). */
void eepi_store_note_write(eep_context *context, eep_status status);

/* Read the register; write it if its revision is the one given. */
void eepi_store_read_view(eep_context *context);
void eepi_store_swap_view(eep_context *context, const eepi_view *view, uint64_t revision);
/* The answer to eepi_store_swap_view is on its way. */
bool eepi_store_is_swapping(const eep_context *context);

/* From now on the record says that this rank asks to be let in, or out. */
void eepi_store_note_ready(eep_context *context);
void eepi_store_note_leaving(eep_context *context, int leaving);
/* What this rank knows of its links. */
eepi_own_links *eepi_store_own_links(const eep_context *context);
/* What this rank tells of itself. */
eepi_member eepi_store_own_member(const eep_context *context);
/* Hear reports and acknowledgements from now on, or no more (rule N22). */
void eepi_store_listen(eep_context *context, bool listens);
/* The store's answer: all that it had was told. */
bool eepi_store_has_listed(const eep_context *context, uint64_t reply_id);
bool eepi_store_is_listening(const eep_context *context);
/* Tell all that this rank has stopped. Many do so at once: the first one's word stays, and one
 * event goes to each. */
void eepi_store_tell_wedge(eep_context *context, const eepi_wedge *wedge);
/* The store's word, of that revision; 0: it has none. An older one than our own is replaced. */
void eepi_store_note_wedge(eep_context *context, const eepi_wedge *wedge, uint64_t revision);

/* What this rank puts stays; else all is put again once the register has its document (M4). */
bool eepi_store_may_put(const eep_context *context);
/* Put our own record; not before what must come first (M4). */
void eepi_store_put_record(eep_context *context);
/* False: out of memory. */
bool eepi_store_put_report(eep_context *context, const eepi_report *report);
void eepi_store_put_ack(eep_context *context, const eepi_ack *ack);
void eepi_store_put_end(eep_context *context, const eepi_end *end);
void eepi_store_put_refusal(eep_context *context, const eepi_refusal *refusal);
/* Loads that this rank plans with, for those that open later. What the store forgets of it comes
 * again with the next ones. */
void eepi_store_put_loads(eep_context *context, const uint32_t *loads);
/* Say again what the store may have forgotten or never got. */
void eepi_store_republish(eep_context *context);
/* Once this rank has left the view and its last step has ended, it stores nothing any more. That is
 * told to all (rule M7), though its process may live on. */
void eepi_store_put_own_end(eep_context *context);
#endif
