#include "experiments/setup/scenario_parts.h"

#include <cyaml/cyaml.h>
#include <stdio.h>
#include <string.h>

enum { MOST_NAME = 64, MOST_ABOUT = 2000, MOST_WORD = 40 };
enum { GIVEN = CYAML_FLAG_POINTER, MAYBE = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL };

#define WORD(key, flags, type, member)                                                             \
    CYAML_FIELD_STRING_PTR(key, flags, type, member, 1, MOST_WORD)

static const cyaml_schema_field_t at_fields[] = {
    WORD("time", MAYBE, scenario_at, time),
    CYAML_FIELD_UINT_PTR("step", MAYBE, scenario_at, step),
    WORD("state", MAYBE, scenario_at, state),
    CYAML_FIELD_UINT_PTR("rank", MAYBE, scenario_at, rank),
    CYAML_FIELD_UINT_PTR("count", MAYBE, scenario_at, count),
    WORD("after", MAYBE, scenario_at, after),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t event_fields[] = {
    CYAML_FIELD_MAPPING_PTR("at", GIVEN, scenario_action, at, at_fields),
    WORD("do", GIVEN, scenario_action, verb),
    CYAML_FIELD_IGNORE("ranks", CYAML_FLAG_OPTIONAL), /* a number, a name or a list */
    CYAML_FIELD_UINT_PTR("count", MAYBE, scenario_action, count),
    WORD("value", MAYBE, scenario_action, value),
    WORD("factor", MAYBE, scenario_action, factor),
    WORD("place", MAYBE, scenario_action, place),
    WORD("for", MAYBE, scenario_action, duration),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t event_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, scenario_action, event_fields)};
static const cyaml_schema_field_t cycle_fields[] = {
    CYAML_FIELD_UINT("kills", CYAML_FLAG_DEFAULT, scenario_cycle, kills),
    WORD("every", MAYBE, scenario_cycle, every),
    WORD("rejoin-after", MAYBE, scenario_cycle, rejoin_after),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t top_fields[] = {
    CYAML_FIELD_STRING_PTR("name", GIVEN, scenario_text, name, 1, MOST_NAME),
    CYAML_FIELD_STRING_PTR("about", GIVEN, scenario_text, about, 1, MOST_ABOUT),
    CYAML_FIELD_BOOL("long", CYAML_FLAG_OPTIONAL, scenario_text, is_long),
    /* These have keys that other modules know: options, and paths into the summary. */
    CYAML_FIELD_IGNORE("instance", CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_IGNORE("load", CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_SEQUENCE_COUNT("events", MAYBE, scenario_text, action, num_actions, &event_schema,
                               0, SCRIPT_MAX_EVENTS),
    CYAML_FIELD_MAPPING_PTR("repeat-kills", MAYBE, scenario_text, cycle, cycle_fields),
    CYAML_FIELD_IGNORE("expect", CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, scenario_text, top_fields)};

/* libcyaml says what is wrong, and where, only in its log: first what, then places from the
 * innermost outwards. */
typedef struct complaint {
    char what[256];
    int line, column; /* 0: not said */
} complaint;

static __attribute__((format(printf, 3, 0))) void take_log(cyaml_log_t level, void *user,
                                                           const char *format, va_list args)
{
    complaint *self = user;
    char line[256];
    (void)level;
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    const char *text = strncmp(line, "Load: ", 6) == 0 ? line + 6 : line;
    const char *place = strstr(text, "(line: ");
    if (strncmp(text, "  in ", 5) == 0 || strncmp(line, "  in ", 5) == 0) {
        if (place && !self->line &&
            sscanf(place, "(line: %d, column: %d)", &self->line, &self->column) != 2) {
            self->line = self->column = 0;
        }
    } else if (!*self->what) {
        snprintf(self->what, sizeof self->what, "%s", text);
    }
}

static const cyaml_config_t config = {.log_fn = NULL,
                                      .mem_fn = cyaml_mem,
                                      .log_level = CYAML_LOG_WARNING,
                                      .flags = CYAML_CFG_NO_ALIAS};

/* The keys that the mapping at the node may have. */
static const cyaml_schema_field_t *fields_of(const yamltree *tree, int node)
{
    const char *key = tree->node[node].key;
    if (key && strcmp(key, "at") == 0) {
        return at_fields;
    }
    if (key && strcmp(key, "repeat-kills") == 0) {
        return cycle_fields;
    }
    return tree->node[node].parent < 0 ? top_fields : event_fields;
}

/* libcyaml places an unknown key at the value before it: find the key itself. */
static eep_status fail_unknown_key(const scenario_reader *self, const complaint *said,
                                   const char *key)
{
    const yamltree *tree = &self->tree;
    const char *names[16];
    char allowed[512];
    int num = 0;
    for (int i = 0; i < tree->num_nodes; i++) {
        const yamltree_node *node = &tree->node[i];
        bool before = node->key_line < said->line ||
                      (node->key_line == said->line && node->key_column < said->column);
        if (before || !node->key || strcmp(node->key, key) != 0) {
            continue;
        }
        for (const cyaml_schema_field_t *f = fields_of(tree, node->parent); f->key; f++) {
            names[num++] = f->key;
        }
        return scenario_fail_at(self, node->key_line, node->key_column,
                                "unknown key '%.64s'; allowed are %s", key,
                                scenario_list(names, num, allowed, sizeof allowed));
    }
    return scenario_fail_at(self, said->line, said->column, "unknown key '%.64s'", key);
}

/* libcyaml's words, in those of a person who writes a file. */
static eep_status fail_as_said(const scenario_reader *self, const complaint *said,
                               const char *otherwise)
{
    static const char missing[] = "Missing required mapping field: ";
    static const struct {
        const char *said, *meant;
    } wanted[] = {{"Expecting MAPPING", "a mapping (KEY: VALUE) is wanted here"},
                  {"Expecting SEQUENCE", "a list is wanted here"},
                  {"Expecting ", "a single value is wanted here"}};
    int line = said->line ? said->line : 1, column = said->column ? said->column : 1;
    const char *value = strstr(said->what, " value: ");
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (strncmp(said->what, wanted[i].said, strlen(wanted[i].said)) == 0) {
            return scenario_fail_at(self, line, column, "%s", wanted[i].meant);
        }
    }
    if (strncmp(said->what, missing, strlen(missing)) == 0) {
        return scenario_fail_at(self, line, column, "'%s' is missing",
                                said->what + strlen(missing));
    }
    unsigned most = 0, least = 0;
    if (sscanf(said->what, "STRING length < %u", &least) == 1) {
        return scenario_fail_at(self, line, column,
                                "an empty text; at least %u character%s is wanted", least,
                                least == 1 ? "" : "s");
    }
    if (sscanf(said->what, "Excessive entries (%u max)", &most) == 1) {
        return scenario_fail_at(self, line, column, "a list of more than %u entries", most);
    }
    if (sscanf(said->what, "STRING length > %u", &most) == 1) { /* and then the whole text */
        return scenario_fail_at(self, line, column, "a text of more than %u characters", most);
    }
    if (strncmp(said->what, "Invalid ", 8) == 0 && value) {
        return scenario_fail_at(self, line, column, "%s is not a whole number, or too large",
                                value + strlen(" value: "));
    }
    return scenario_fail_at(self, line, column, "%s", *said->what ? said->what : otherwise);
}

eep_status scenario_schema_load(const scenario_reader *self, const char *text, size_t bytes,
                                scenario_text **text_out)
{
    static const char unknown[] = "Unexpected key: ";
    complaint said = {0};
    cyaml_config_t asked = config;
    cyaml_data_t *data = NULL;
    asked.log_fn = take_log;
    asked.log_ctx = &said;
    cyaml_err_t error = cyaml_load_data((const uint8_t *)text, bytes, &asked, &schema, &data, NULL);
    if (error == CYAML_ERR_OOM) {
        return EEP_ERR_NO_MEMORY;
    }
    if (error == CYAML_OK && data) {
        *text_out = data;
        return EEP_OK;
    }
    if (strncmp(said.what, unknown, strlen(unknown)) == 0) {
        return fail_unknown_key(self, &said, said.what + strlen(unknown));
    }
    return fail_as_said(self, &said, cyaml_strerror(error));
}

void scenario_schema_free(scenario_text *text)
{
    if (text) {
        (void)cyaml_free(&config, &schema, text, 0);
    }
}
