/* SPDX-License-Identifier: Apache-2.0 */
/* A scenario's file as a whole: its name, its options, its events, its expectations. */
#include "experiments/setup/scenario.h"

#include "experiments/setup/scenario_events.h"
#include "experiments/setup/scenario_reader.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 64, MAX_ABOUT = 2000 };

/* ---------------------------------------------------------------- options */

/* Append "--NAME=VALUE" ("--NAME" for a flag that is set). */
static eep_status add_pair(scenario *self, const yamltree_node *node, const char *name,
                           const char *value)
{
    scenario_pair *pair = &self->pair[self->num_pairs];
    *pair = (scenario_pair){.line = node->line, .column = node->column};
    if (asprintf(&pair->text, value ? "--%s=%s" : "--%s", name, value) < 0) {
        pair->text = NULL;
        return EEP_ERR_NO_MEMORY;
    }
    self->num_pairs++;
    return EEP_OK;
}

/* Where an option of that group is given instead. */
static const char *place_of(options_group group)
{
    switch (group) {
    case OPTIONS_LOAD:
        return "it belongs to 'load'";
    case OPTIONS_INSTANCE:
        return "it belongs to 'instance'";
    case OPTIONS_EVENTS:
        return "use 'events' or 'repeat-kills'";
    case OPTIONS_RUN:
        return "it is for the command line";
    default:
        return "eep-run --help lists all";
    }
}

static eep_status read_option(const scenario_reader *reader, scenario *self, int i,
                              options_group wanted)
{
    const yamltree_node *node = &reader->tree.node[i];
    const char *block = wanted == OPTIONS_LOAD ? "load" : "instance";
    bool is_flag = false;
    options_group group = options_group_of(node->key, &is_flag);
    if (group != wanted) {
        return scenario_fail_at(reader, node->key_line, node->key_column,
                                "'%.64s' is not an option about the %s: %s", node->key, block,
                                place_of(group));
    }
    if (node->kind != YAMLTREE_SCALAR) {
        return scenario_fail(reader, i, "'%s' takes one value", node->key);
    }
    if (strcmp(node->key, "first-placement") == 0) { /* of all ranks: see scenario_read_file */
        char file[VERB_FILE_BYTES];
        eep_status status = scenario_read_file(reader, i, sizeof file, file);
        return status == EEP_OK ? add_pair(self, node, node->key, file) : status;
    }
    if (!is_flag) {
        return add_pair(self, node, node->key, node->text);
    }
    if (strcmp(node->text, "true") != 0 && strcmp(node->text, "false") != 0) {
        return scenario_fail(reader, i, "'%s' is true or false", node->key);
    }
    return *node->text == 't' ? add_pair(self, node, node->key, NULL) : EEP_OK;
}

static eep_status read_options(const scenario_reader *reader, scenario *self, const char *block,
                               options_group group)
{
    int node = yamltree_child(&reader->tree, 0, block);
    if (node < 0) {
        return EEP_OK;
    }
    if (reader->tree.node[node].kind != YAMLTREE_MAPPING) {
        return scenario_fail(reader, node, "'%s' is a mapping of options of eep-run", block);
    }
    eep_status status = EEP_OK;
    for (int i = reader->tree.node[node].first; i >= 0 && status == EEP_OK;
         i = reader->tree.node[i].next) {
        status = read_option(reader, self, i, group);
    }
    return status;
}

static eep_status read_instance(const scenario_reader *reader, scenario *self)
{
    return read_options(reader, self, "instance", OPTIONS_INSTANCE);
}

static eep_status read_load(const scenario_reader *reader, scenario *self)
{
    return read_options(reader, self, "load", OPTIONS_LOAD);
}

/* A time becomes an option in milliseconds. */
static eep_status read_cycle_time(const scenario_reader *reader, scenario *self, int node,
                                  const char *option)
{
    char number[32];
    double ms = 0;
    if (node < 0) {
        return EEP_OK;
    }
    eep_status status = scenario_read_time(reader, node, &ms);
    snprintf(number, sizeof number, "%.3f", ms);
    return status == EEP_OK ? add_pair(self, &reader->tree.node[node], option, number) : status;
}

static eep_status read_cycle(const scenario_reader *reader, scenario *self)
{
    static const char *const keys[] = {"kills", "every", "rejoin-after"};
    const char *kills = NULL;
    int node = yamltree_child(&reader->tree, 0, "repeat-kills");
    if (node < 0) {
        return EEP_OK;
    }
    eep_status status = scenario_check_keys(reader, node, keys, 3, 1);
    if (status != EEP_OK) {
        return status;
    }
    int at = yamltree_child(&reader->tree, node, "kills");
    status = scenario_read_text(reader, at, SCENARIO_MAX_WORD, &kills);
    if (status == EEP_OK) {
        status = add_pair(self, &reader->tree.node[at], "kills", kills);
    }
    if (status == EEP_OK) {
        status = read_cycle_time(reader, self, yamltree_child(&reader->tree, node, "every"),
                                 "kill-every");
    }
    if (status == EEP_OK) {
        status = read_cycle_time(reader, self, yamltree_child(&reader->tree, node, "rejoin-after"),
                                 "rejoin-after");
    }
    return status;
}

/* ---------------------------------------------------------------- events, expectations */

static eep_status read_events(const scenario_reader *reader, scenario *self)
{
    int node = yamltree_child(&reader->tree, 0, "events"), same = -1;
    if (node < 0) {
        return EEP_OK;
    }
    const yamltree_node *list = &reader->tree.node[node];
    if (list->kind != YAMLTREE_SEQUENCE) {
        return scenario_fail(reader, node, "a list is wanted here");
    }
    if (list->num_below > SCRIPT_MAX_EVENTS) {
        return scenario_fail(reader, node, "a list of more than %d entries", SCRIPT_MAX_EVENTS);
    }
    self->event = calloc((size_t)list->num_below + 1, sizeof *self->event);
    if (!self->event) {
        return EEP_ERR_NO_MEMORY;
    }
    eep_status status = EEP_OK;
    for (int i = list->first; i >= 0 && status == EEP_OK; i = reader->tree.node[i].next) {
        script_event *event = &self->event[self->num_events];
        status = scenario_read_event(reader, i, same, event);
        if (status == EEP_OK) {
            bool has_seats = event->target != TARGET_NONE && event->target != TARGET_SAME;
            same = has_seats ? self->num_events : same;
            self->num_events++;
        }
    }
    return status;
}

static eep_status read_clause(const scenario_reader *reader, scenario *self, int i)
{
    const yamltree_node *node = &reader->tree.node[i];
    char error[EXPECT_ERROR_BYTES];
    if (node->kind != YAMLTREE_SCALAR) {
        return scenario_fail(reader, i, "'%.64s' takes one condition, such as 0, <= 200 or 2..5",
                             node->key);
    }
    if (strcmp(node->key, "good") == 0 && strcmp(node->text, "false") == 0) {
        self->may_fail = true;
        return EEP_OK;
    }
    expect_clause *clause = &self->clause[self->num_clauses];
    if (expect_parse(node->key, node->text, clause, error) != EEP_OK) {
        return scenario_fail(reader, i, "%s", error);
    }
    clause->line = node->line;
    clause->column = node->column;
    self->num_clauses++;
    return EEP_OK;
}

static eep_status read_expectations(const scenario_reader *reader, scenario *self)
{
    int node = yamltree_child(&reader->tree, 0, "expect"), num = 0;
    if (node < 0) {
        return EEP_OK;
    }
    if (reader->tree.node[node].kind != YAMLTREE_MAPPING) {
        return scenario_fail(reader, node, "'expect' is a mapping of paths to conditions");
    }
    for (int i = reader->tree.node[node].first; i >= 0; i = reader->tree.node[i].next) {
        num++;
    }
    self->clause = calloc((size_t)num + 1, sizeof *self->clause);
    if (!self->clause) {
        return EEP_ERR_NO_MEMORY;
    }
    eep_status status = EEP_OK;
    for (int i = reader->tree.node[node].first; i >= 0 && status == EEP_OK;
         i = reader->tree.node[i].next) {
        status = read_clause(reader, self, i);
    }
    return status;
}

/* ---------------------------------------------------------------- the whole */

static eep_status copy_text(const char *text, char **copy_out)
{
    *copy_out = strdup(text);
    return *copy_out ? EEP_OK : EEP_ERR_NO_MEMORY;
}

static eep_status read_name(const scenario_reader *reader, scenario *self)
{
    const char *text = NULL;
    int node = yamltree_child(&reader->tree, 0, "name");
    eep_status status = scenario_read_text(reader, node, MAX_NAME, &text);
    if (status == EEP_OK && strpbrk(text, "\n\t")) { /* it is printed within a line */
        status = scenario_fail(reader, node, "'name' is one line, without line ends and tabs");
    }
    return status == EEP_OK ? copy_text(text, &self->name) : status;
}

static eep_status read_about(const scenario_reader *reader, scenario *self)
{
    const char *text = NULL;
    int node = yamltree_child(&reader->tree, 0, "about");
    eep_status status = scenario_read_text(reader, node, MAX_ABOUT, &text);
    return status == EEP_OK ? copy_text(text, &self->about) : status;
}

static eep_status read_long(const scenario_reader *reader, scenario *self)
{
    int node = yamltree_child(&reader->tree, 0, "long");
    const char *text = node < 0 ? "false" : reader->tree.node[node].text;
    self->is_long = text && strcmp(text, "true") == 0;
    if (!text || (!self->is_long && strcmp(text, "false") != 0)) {
        return scenario_fail(reader, node, "'long' is true or false");
    }
    return EEP_OK;
}

static eep_status read_all(const scenario_reader *reader, scenario *self)
{
    static const char *const keys[] = {"name", "about",  "long",         "instance",
                                       "load", "events", "repeat-kills", "expect"};
    static eep_status (*const parts[])(const scenario_reader *, scenario *) = {
        read_name, read_about, read_long,   read_instance,
        read_load, read_cycle, read_events, read_expectations};
    eep_status status =
        scenario_check_keys(reader, 0, keys, (int)(sizeof keys / sizeof keys[0]), 2);
    if (status != EEP_OK) {
        return status;
    }
    self->pair = calloc((size_t)reader->tree.num_nodes + 3, sizeof *self->pair);
    if (!self->pair) {
        return EEP_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && status == EEP_OK; i++) {
        status = parts[i](reader, self);
    }
    return status;
}

eep_status scenario_parse(const char *file, const char *text, size_t bytes, scenario *scenario_out,
                          char error[SCENARIO_ERROR_BYTES])
{
    scenario_reader reader = {.file = file, .error = error};
    char said[YAMLTREE_ERROR_BYTES];
    int line = 1, column = 1;
    *scenario_out = (scenario){.file = strdup(file)};
    snprintf(error, SCENARIO_ERROR_BYTES, "%s: out of memory", file);
    if (!scenario_out->file) {
        return EEP_ERR_NO_MEMORY;
    }
    if (bytes > SCENARIO_MAX_BYTES) {
        return scenario_fail_at(&reader, 1, 1, "longer than %d bytes", SCENARIO_MAX_BYTES);
    }
    eep_status status = yamltree_read(text, bytes, &reader.tree, said, &line, &column);
    if (status == EEP_ERR_INVALID) {
        status = scenario_fail_at(&reader, line, column, "%s", said);
    } else if (status == EEP_OK && reader.tree.num_nodes == 0) {
        status = scenario_fail_at(&reader, 1, 1, "empty; a scenario has at least name and about");
    }
    if (status == EEP_OK) {
        status = read_all(&reader, scenario_out);
    }
    yamltree_free(&reader.tree);
    return status;
}

eep_status scenario_load(const char *file, scenario *scenario_out, char error[SCENARIO_ERROR_BYTES])
{
    FILE *stream = fopen(file, "re");
    char *text = malloc(SCENARIO_MAX_BYTES + 1);
    size_t bytes = 0;
    eep_status status = EEP_OK;
    *scenario_out = (scenario){0};
    if (stream && text) {
        bytes = fread(text, 1, SCENARIO_MAX_BYTES + 1, stream);
    }
    if (!text) {
        snprintf(error, SCENARIO_ERROR_BYTES, "%s: out of memory", file);
        status = EEP_ERR_NO_MEMORY;
    } else if (!stream || ferror(stream)) {
        snprintf(error, SCENARIO_ERROR_BYTES, "%.600s: %s", file, strerror(errno));
        status = EEP_ERR_INVALID;
    } else {
        status = scenario_parse(file, text, bytes, scenario_out, error);
    }
    if (stream) {
        fclose(stream);
    }
    free(text);
    return status;
}

void scenario_free(scenario *self)
{
    for (int i = 0; i < self->num_pairs; i++) {
        free(self->pair[i].text);
    }
    free(self->pair);
    free(self->event);
    free(self->clause);
    free(self->file);
    free(self->name);
    free(self->about);
    *self = (scenario){0};
}

/* ---------------------------------------------------------------- onto options */

eep_status scenario_apply(const scenario *self, options *options_inout,
                          char error[SCENARIO_ERROR_BYTES])
{
    char said[OPTIONS_ERROR_BYTES];
    for (int i = 0; i < self->num_pairs; i++) {
        if (options_take(options_inout, 1, &self->pair[i].text, said) != EEP_OK) {
            snprintf(error, SCENARIO_ERROR_BYTES, "%.360s:%d:%d: %.600s", self->file,
                     self->pair[i].line, self->pair[i].column, said);
            return EEP_ERR_INVALID;
        }
    }
    int first = options_inout->script.num_events;
    for (int i = 0; i < self->num_events; i++) {
        script_event event = self->event[i];
        if (event.target == TARGET_SAME) {
            event.same.partner += first;
        }
        eep_status status = script_append(&options_inout->script, &event);
        if (status != EEP_OK) {
            snprintf(error, SCENARIO_ERROR_BYTES, "%.360s:%d:%d: more than %d events", self->file,
                     event.line, event.column, SCRIPT_MAX_EVENTS);
            return status;
        }
    }
    return EEP_OK;
}

eep_status scenario_check(const scenario *self, options *options_inout,
                          char error[SCENARIO_ERROR_BYTES])
{
    char said[OPTIONS_ERROR_BYTES];
    eep_status status = options_check(options_inout, said);
    if (status != EEP_OK) {
        bool placed = isdigit((unsigned char)*said); /* "LINE:COLUMN: ..." */
        snprintf(error, SCENARIO_ERROR_BYTES, "%.360s:%s%.600s", self->file, placed ? "" : " ",
                 said);
    }
    return status;
}
