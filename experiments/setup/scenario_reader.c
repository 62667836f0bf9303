/* SPDX-License-Identifier: Apache-2.0 */
/* Typed values out of a scenario's tree, and messages that name their place. */
#include "experiments/setup/scenario_reader.h"

#include "experiments/script/script_parse.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
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

/* ---------------------------------------------------------------- values */

static bool is_among(const char *key, const char *const *keys, int num_keys)
{
    for (int i = 0; i < num_keys; i++) {
        if (strcmp(key, keys[i]) == 0) {
            return true;
        }
    }
    return false;
}

eep_status scenario_check_keys(const scenario_reader *self, int node, const char *const *keys,
                               int num_keys, int num_required)
{
    char allowed[512];
    const yamltree_node *mapping = &self->tree.node[node];
    if (mapping->kind != YAMLTREE_MAPPING) {
        return scenario_fail(self, node, "a mapping (KEY: VALUE) is wanted here");
    }
    for (int i = mapping->first; i >= 0; i = self->tree.node[i].next) {
        const yamltree_node *pair = &self->tree.node[i];
        if (!is_among(pair->key, keys, num_keys)) {
            return scenario_fail_at(self, pair->key_line, pair->key_column,
                                    "unknown key '%.64s'; allowed are %s", pair->key,
                                    scenario_list(keys, num_keys, allowed, sizeof allowed));
        }
    }
    for (int i = 0; i < num_required; i++) {
        if (yamltree_child(&self->tree, node, keys[i]) < 0) {
            return scenario_fail(self, node, "'%s' is missing", keys[i]);
        }
    }
    return EEP_OK;
}

eep_status scenario_read_text(const scenario_reader *self, int node, size_t max_bytes,
                              const char **text_out)
{
    const char *text = node < 0 ? NULL : self->tree.node[node].text;
    if (node < 0) {
        *text_out = NULL;
        return EEP_OK;
    }
    if (!text) {
        return scenario_fail(self, node, "a single value is wanted here");
    }
    if (!*text) {
        return scenario_fail(self, node, "an empty text; at least 1 character is wanted");
    }
    if (strlen(text) > max_bytes) {
        return scenario_fail(self, node, "a text of more than %zu characters", max_bytes);
    }
    *text_out = text;
    return EEP_OK;
}

eep_status scenario_read_file(const scenario_reader *self, int node, size_t bytes, char *file_out)
{
    const char *text = NULL, *slash = strrchr(self->file, '/');
    eep_status status = scenario_read_text(self, node, bytes - 1, &text);
    if (status != EEP_OK || !text) {
        return status;
    }
    int folder = *text == '/' || !slash ? 0 : (int)(slash + 1 - self->file);
    if ((size_t)snprintf(file_out, bytes, "%.*s%s", folder, self->file, text) >= bytes) {
        return scenario_fail(self, node, "from here the name of the file has more than %zu bytes",
                             bytes - 1);
    }
    return EEP_OK;
}

eep_status scenario_read_whole(const scenario_reader *self, int node, uint64_t min, uint64_t max,
                               uint64_t *value_out)
{
    const char *text = NULL;
    uint64_t value = 0;
    eep_status status = scenario_read_text(self, node, SCENARIO_MAX_WORD, &text);
    if (status != EEP_OK) {
        return status;
    }
    if (!script_parse_whole(text, max, &value) || value < min) {
        return scenario_fail(self, node, "'%s' is not a whole number from %llu to %llu", text,
                             (unsigned long long)min, (unsigned long long)max);
    }
    *value_out = value;
    return EEP_OK;
}

eep_status scenario_read_time(const scenario_reader *self, int node, double *ms_out)
{
    const char *text = NULL;
    eep_status status = scenario_read_text(self, node, SCENARIO_MAX_WORD, &text);
    if (status == EEP_OK && !script_parse_time(text, ms_out)) {
        status = scenario_fail(
            self, node, "'%s' is not a time: seconds such as 1.5, 1.5s or 1500ms, at most a day",
            text);
    }
    return status;
}
