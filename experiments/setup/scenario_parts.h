/* What the scenario's files share. Private to them. */
#ifndef EEPX_SCENARIO_PARTS_H
#define EEPX_SCENARIO_PARTS_H

#include "experiments/setup/scenario.h"
#include "experiments/setup/yaml_tree.h"

#include <stdint.h>

/* The typed parts of the text as libcyaml loads them; NULL: not given. */
typedef struct scenario_at {
    char *time, *after, *state;
    uint64_t *step;
    uint32_t *rank, *count;
} scenario_at;

typedef struct scenario_action {
    scenario_at *at;
    char *verb, *value, *factor, *place, *duration;
    uint32_t *count;
} scenario_action;

typedef struct scenario_cycle {
    uint32_t kills;
    char *every, *rejoin_after;
} scenario_cycle;

typedef struct scenario_text {
    char *name, *about;
    bool is_long;
    scenario_action *action;
    unsigned num_actions;
    scenario_cycle *cycle;
} scenario_text;

/* What reading works on. */
typedef struct scenario_reader {
    const char *file;
    yamltree tree;
    char *error; /* SCENARIO_ERROR_BYTES */
} scenario_reader;

/* "FILE:LINE:COLUMN: ..." */
eep_status scenario_fail_at(const scenario_reader *self, int line, int column, const char *format,
                            ...) __attribute__((format(printf, 4, 5)));
/* The same at a node's value. */
eep_status scenario_fail(const scenario_reader *self, int node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "a, b, c" of the names into `text`. */
const char *scenario_list(const char *const *names, int num, char *text, size_t bytes);

/* scenario_schema.c: load the typed parts; scenario_schema_free them if it was EEP_OK. */
EEP_MUST_CHECK eep_status scenario_schema_load(const scenario_reader *self, const char *text,
                                               size_t bytes, scenario_text **text_out);
void scenario_schema_free(scenario_text *text);

/* scenario_events.c: the event of entry `action` of the list, whose node is `node`. `same`: the
 * index of the event that `ranks: same` means; -1: there is none. */
EEP_MUST_CHECK eep_status scenario_read_event(const scenario_reader *self, int node,
                                              const scenario_action *action, int same,
                                              script_event *event_out);
/* Milliseconds of a TIME; false: it is none. */
bool scenario_time(const char *text, double *ms_out);
#endif
