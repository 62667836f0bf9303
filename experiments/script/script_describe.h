/* SPDX-License-Identifier: Apache-2.0 */
/* Script events as text, and the names that stand in it. Pure. */
#ifndef EEPX_SCRIPT_DESCRIBE_H
#define EEPX_SCRIPT_DESCRIBE_H

#include "experiments/script/script.h"

enum { SCRIPT_TEXT_BYTES = 448 + VERB_FILE_BYTES }; /* of any event: script_describe */

extern const char *const state_names[NUM_STATES]; /* "spawned", "opened", ... */

typedef struct script_target_name {
    const char *name; /* NULL: it has none */
    bool counts;      /* it may be followed by :N */
} script_target_name;
extern const script_target_name target_names[NUM_TARGETS];

/* How the verb's flag is written: "RANK=FACTOR[/DURATION]@TIME". */
const char *script_form(verb what);
/* The event in full, as it can be given again: "--kill random:2@step:100". `same` of a scenario is
 * told by the seats or, for rejoin and cont, by the name that it stands for. */
void script_describe(const script_event *event, char *text_out, size_t size);
#endif
