/* Names of the script's targets. Private to the script's files. */
#ifndef EEPX_SCRIPT_NAMES_H
#define EEPX_SCRIPT_NAMES_H

#include "experiments/script/script.h"

typedef struct script_target_name {
    const char *name; /* NULL: it has none */
    bool counts;      /* it may be followed by :N */
} script_target_name;
extern const script_target_name target_names[NUM_TARGETS];

/* script_target.c: whom the event is done to now. True: seat[] and num_seats are set, `resolved`.
 */
bool script_resolve(const script *self, script_event *event, const script_world *world);
#endif
