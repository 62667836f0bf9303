/* SPDX-License-Identifier: Apache-2.0 */
/* Script events from text: whole ones, as flags and control commands give them, and their parts, as
 * scenarios do. Pure. */
#ifndef EEPX_SCRIPT_PARSE_H
#define EEPX_SCRIPT_PARSE_H

#include "experiments/script/script.h"

/* Parse the text of a flag or a control command and fill an event.
 *   WHO[=VALUE][@WHEN]   verbs with a seat; VALUE where the verb takes one
 *   [WHO=]FILE[@WHEN]    placement; the lowest rank without WHO, and no = or @ in FILE
 *   VALUE[@WHEN]         burn; [DURATION][@WHEN] for store-stop; [@WHEN] for the store's others
 *   WHO    3 | 3,5,7 | lowest | proposer | random[:N] | covered[:N] | source[:N] | joiner |
 *          vacant[:N]; a rejoin or cont by one of these names takes the seats of the oldest
 *          earlier event with that WHO not yet paired; without :N, if there is none with one
 *          rank, those of one with any count
 *   VALUE  seconds (burn), a factor (slow: 3 or 3/2s with a duration), a place (die), a duration
 *          (stop: 400ms, or 0.9x: in multiples of --expel-ms)
 *   WHEN   TIME | step:N[+TIME] | STATE[:SEAT][#COUNT][+TIME]
 *   TIME   1.5, 1.5s or 1500ms, at most a day
 * Without @WHEN: now (for control commands); a flag must have it (`must_have_when`).
 * EEP_ERR_INVALID with a line in `error` that names the verb's option and the text. */
EEP_MUST_CHECK eep_status script_parse(verb what, const char *text, bool must_have_when,
                                       script_event *event_out, char error[SCRIPT_ERROR_BYTES]);

/* The parts. False: the text is none, and nothing is written. */
bool script_parse_time(const char *text, double *ms_out);
bool script_parse_duration(const char *text, script_duration *duration_out); /* 400ms or 0.9x */
bool script_parse_state(const char *name, script_state *state_out);
bool script_parse_target(const char *name, script_target *target_out); /* "lowest", without :N */
/* A whole number in decimal digits, at most `max`. */
bool script_parse_whole(const char *text, uint64_t max, uint64_t *value_out);
/* What the verb takes besides seats and a duration: seconds, a factor, a place or a file. */
bool script_parse_value(verb what, const char *text, verb_value *value_out);
/* What script_parse_value takes for the verb, in words: "a factor from 1 to 1000". */
const char *script_value_form(verb what);
/* Why the verb cannot be done to such seats; NULL: it can. Free seats are for verbs that start a
 * process, the names of members for the others. */
const char *script_target_misfit(const script_event *event);
#endif
