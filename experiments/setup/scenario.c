#include "experiments/setup/scenario.h"

#include "experiments/setup/scenario_parts.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- messages */

static eep_status fail_with(const scenario_reader *self, int line, int column, const char *format,
                            va_list args)
{
    int used =
        snprintf(self->error, SCENARIO_ERROR_BYTES, "%.400s:%d:%d: ", self->file, line, column);
    vsnprintf(self->error + used, (size_t)(SCENARIO_ERROR_BYTES - used), format, args);
    for (char *c = self->error; *c; c++) {
        *c = (unsigned char)*c < ' ' ? ' ' : *c; /* what is quoted may have line ends */
    }
    return EEP_ERR_INVALID;
}

eep_status scenario_fail_at(const scenario_reader *self, int line, int column, const char *format,
                            ...)
{
    va_list args;
    va_start(args, format);
    eep_status status = fail_with(self, line, column, format, args);
    va_end(args);
    return status;
}

eep_status scenario_fail(const scenario_reader *self, int node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    eep_status status =
        fail_with(self, self->tree.node[node].line, self->tree.node[node].column, format, args);
    va_end(args);
    return status;
}

const char *scenario_list(const char *const *names, int num, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < num && used < bytes; i++) {
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", i ? ", " : "", names[i]);
    }
    return text;
}

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

static eep_status read_option(const scenario_reader *reader, scenario *self, int i,
                              options_group wanted)
{
    const yamltree_node *node = &reader->tree.node[i];
    const char *block = wanted == OPTIONS_LOAD ? "load" : "instance";
    bool is_flag = false;
    options_group group = options_group_of(node->key, &is_flag);
    if (group != wanted) {
        const char *hint = group == OPTIONS_LOAD       ? "it belongs to 'load'"
                           : group == OPTIONS_INSTANCE ? "it belongs to 'instance'"
                           : group == OPTIONS_EVENTS   ? "use 'events' or 'repeat-kills'"
                           : group == OPTIONS_RUN      ? "it is for the command line"
                                                       : "eep-run --help lists all";
        return scenario_fail_at(reader, node->key_line, node->key_column,
                                "'%.64s' is not an option about the %s: %s", node->key, block,
                                hint);
    }
    if (node->kind != YAMLTREE_SCALAR) {
        return scenario_fail(reader, i, "'%s' takes one value", node->key);
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

static eep_status read_cycle(const scenario_reader *reader, scenario *self,
                             const scenario_cycle *cycle)
{
    int node = yamltree_child(&reader->tree, 0, "repeat-kills");
    char number[32];
    snprintf(number, sizeof number, "%u", cycle->kills);
    int at = yamltree_child(&reader->tree, node, "kills");
    eep_status status = add_pair(self, &reader->tree.node[at], "kills", number);
    const struct {
        const char *key, *text, *option;
    } times[] = {{"every", cycle->every, "kill-every"},
                 {"rejoin-after", cycle->rejoin_after, "rejoin-after"}};
    for (int i = 0; i < 2 && status == EEP_OK; i++) {
        double ms = 0;
        at = yamltree_child(&reader->tree, node, times[i].key);
        if (at < 0) {
            continue;
        }
        if (!scenario_time(times[i].text, &ms)) {
            return scenario_fail(reader, at, "'%s' is not a time such as 1.5 or 700ms",
                                 times[i].text);
        }
        snprintf(number, sizeof number, "%.3f", ms);
        status = add_pair(self, &reader->tree.node[at], times[i].option, number);
    }
    return status;
}

/* ---------------------------------------------------------------- events, expectations */

static eep_status read_events(const scenario_reader *reader, scenario *self,
                              const scenario_text *text)
{
    int node = yamltree_child(&reader->tree, 0, "events"), same = -1;
    eep_status status = EEP_OK;
    if (text->num_actions == 0) {
        return EEP_OK;
    }
    self->event = calloc(text->num_actions, sizeof *self->event);
    if (!self->event) {
        return EEP_ERR_NO_MEMORY;
    }
    int item = yamltree_item(&reader->tree, node, 0);
    for (unsigned i = 0; i < text->num_actions && status == EEP_OK; i++) {
        script_event *event = &self->event[self->num_events];
        status = scenario_read_event(reader, item, &text->action[i], same, event);
        if (status == EEP_OK) {
            bool has_seats = event->target != TARGET_NONE && event->target != TARGET_SAME;
            same = has_seats ? self->num_events : same;
            self->num_events++;
            item = reader->tree.node[item].next;
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

/* It is printed within a line. */
static eep_status check_name(const scenario_reader *reader, const char *name)
{
    int node = yamltree_child(&reader->tree, 0, "name");
    return strpbrk(name, "\n\t")
               ? scenario_fail(reader, node, "'name' is one line, without line ends and tabs")
               : EEP_OK;
}

/* libcyaml takes any word for a boolean. */
static eep_status check_long(const scenario_reader *reader)
{
    int node = yamltree_child(&reader->tree, 0, "long");
    const char *text = node < 0 ? "true" : reader->tree.node[node].text;
    if (!text || (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)) {
        return scenario_fail(reader, node, "'long' is true or false");
    }
    return EEP_OK;
}

static eep_status read_all(const scenario_reader *reader, scenario *self, const scenario_text *text)
{
    self->name = strdup(text->name);
    self->about = strdup(text->about);
    self->is_long = text->is_long;
    self->pair = calloc((size_t)reader->tree.num_nodes + 3, sizeof *self->pair);
    if (!self->name || !self->about || !self->pair) {
        return EEP_ERR_NO_MEMORY;
    }
    eep_status status = check_name(reader, text->name);
    if (status == EEP_OK) {
        status = check_long(reader);
    }
    if (status == EEP_OK) {
        status = read_options(reader, self, "instance", OPTIONS_INSTANCE);
    }
    if (status == EEP_OK) {
        status = read_options(reader, self, "load", OPTIONS_LOAD);
    }
    if (status == EEP_OK && text->cycle) {
        status = read_cycle(reader, self, text->cycle);
    }
    if (status == EEP_OK) {
        status = read_events(reader, self, text);
    }
    return status == EEP_OK ? read_expectations(reader, self) : status;
}

eep_status scenario_parse(const char *file, const char *text, size_t bytes, scenario *scenario_out,
                          char error[SCENARIO_ERROR_BYTES])
{
    scenario_reader reader = {.file = file, .error = error};
    scenario_text *typed = NULL;
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
        status = scenario_schema_load(&reader, text, bytes, &typed);
    }
    if (status == EEP_OK) {
        status = read_all(&reader, scenario_out, typed);
        scenario_schema_free(typed);
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
        event.pairs_with += event.target == TARGET_SAME ? first : 0;
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
