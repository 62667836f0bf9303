/* SPDX-License-Identifier: Apache-2.0 */
/* Runs that are judged: one by a scenario's expectations, or many with statistics over them. */
#ifndef EEPX_REPEAT_H
#define EEPX_REPEAT_H

#include "experiments/setup/options.h"
#include "experiments/setup/scenario.h"

/* Run once into --out and judge. Returns the exit code: 0 all met, 1 missed, 2 the options cannot
 * be fulfilled. Main thread. */
int repeat_once(const options *given, const scenario *tested);

/* Run --repeat times, each in a process of its own, into --out/0001 and so on, with a line per run,
 * a table, repeat.json and repeat.csv. Stops at the first miss, unless --keep-going, and says which
 * command repeats it; `what` NULL: only the runs themselves must be good; `argc`, `argv`: the
 * command line, for that. Returns the exit code. */
int repeat_many(const options *given, const scenario *tested, int argc, char **argv);
#endif
