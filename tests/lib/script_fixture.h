/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the fault script share: a world of eight seats, and scripts from one line. */
#ifndef EEPT_SCRIPT_FIXTURE_H
#define EEPT_SCRIPT_FIXTURE_H

#include "experiments/script/script.h"
#include "experiments/script/script_parse.h"

enum { SEATS = 8 };

typedef struct fake_world {
    bool active[SEATS], running[SEATS], source[SEATS], joining[SEATS];
    int max_gone; /* covered without at most so many seats, of which 2 and 3 are not both */
} fake_world;

/* All seats have a process that is in the view. */
fake_world everyone(void);
/* Add "--kill 3@1 --rejoin 3@2" to a script, which is not prepared yet. */
eep_status add_all(script *events, const char *line, char error[SCRIPT_ERROR_BYTES]);
/* The same, prepared. */
script good(const char *line);
/* What is due at a time: "kill3 rejoin3 ". A killed process has ended once its seat is reaped. */
const char *due_with(script *events, fake_world *world, double now_ms, int proposer, uint64_t seed);
const char *due(script *events, fake_world *world, double now_ms, int proposer);
void reap(fake_world *world, int seat);
/* An event of a control command. */
script_event parsed(verb what, const char *text);
/* Take the events that have ended from the script, as the launcher does. */
void drop_ended(script *events);
#endif
