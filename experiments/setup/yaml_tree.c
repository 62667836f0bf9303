/* SPDX-License-Identifier: Apache-2.0 */
/* libyaml's events into a tree. */
#include "experiments/setup/yaml_tree.h"
#include "experiments/base/utf8.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

typedef struct reader {
    yamltree *tree;
    char *error;
    int *line, *column;
    int open[YAMLTREE_MAX_DEPTH]; /* mappings and sequences that are open */
    int depth;
    bool has_document;
    char *key; /* read in the innermost mapping, its value is next; NULL: none */
    int key_line, key_column;
} reader;

static __attribute__((format(printf, 3, 4))) eep_status fail(reader *self, yaml_mark_t mark,
                                                             const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(self->error, YAMLTREE_ERROR_BYTES, format, args);
    va_end(args);
    *self->line = (int)mark.line + 1;
    *self->column = (int)mark.column + 1;
    return EEP_ERR_INVALID;
}

static eep_status add_node(reader *self, yamltree_kind kind, const yaml_event_t *event)
{
    yamltree *tree = self->tree;
    if (tree->num_nodes == YAMLTREE_MAX_NODES) {
        return fail(self, event->start_mark, "more than %d values", YAMLTREE_MAX_NODES);
    }
    if (tree->num_nodes == tree->capacity) {
        int capacity = tree->capacity ? 2 * tree->capacity : 64;
        yamltree_node *grown = realloc(tree->node, (size_t)capacity * sizeof *grown);
        if (!grown) {
            return EEP_ERR_NO_MEMORY;
        }
        tree->node = grown;
        tree->capacity = capacity;
    }
    int parent = self->depth ? self->open[self->depth - 1] : -1, index = tree->num_nodes++;
    int line = (int)event->start_mark.line + 1, column = (int)event->start_mark.column + 1;
    tree->node[index] = (yamltree_node){.kind = kind,
                                        .parent = parent,
                                        .first = -1,
                                        .last = -1,
                                        .next = -1,
                                        .key = self->key,
                                        .line = line,
                                        .column = column,
                                        .key_line = self->key ? self->key_line : line,
                                        .key_column = self->key ? self->key_column : column};
    self->key = NULL; /* the node owns it now */
    if (parent >= 0) {
        yamltree_node *above = &tree->node[parent];
        if (above->last >= 0) {
            tree->node[above->last].next = index;
        } else {
            above->first = index;
        }
        above->last = index;
        above->num_below++;
    }
    return EEP_OK;
}

/* In a mapping, between two of its pairs. */
static bool wants_key(const reader *self)
{
    return self->depth && !self->key &&
           self->tree->node[self->open[self->depth - 1]].kind == YAMLTREE_MAPPING;
}

static eep_status on_key(reader *self, const yaml_event_t *event, char *text)
{
    int mapping = self->open[self->depth - 1];
    eep_status status = EEP_OK;
    if (self->tree->node[mapping].num_below == YAMLTREE_MAX_KEYS) {
        status = fail(self, event->start_mark, "more than %d keys", YAMLTREE_MAX_KEYS);
    } else if (yamltree_child(self->tree, mapping, text) >= 0) {
        status = fail(self, event->start_mark, "'%.64s' is given twice", text);
    }
    if (status != EEP_OK) {
        free(text);
        return status;
    }
    self->key = text;
    self->key_line = (int)event->start_mark.line + 1;
    self->key_column = (int)event->start_mark.column + 1;
    return EEP_OK;
}

static eep_status on_scalar(reader *self, const yaml_event_t *event)
{
    const char *value = (const char *)event->data.scalar.value;
    const char *tag = (const char *)event->data.scalar.tag;
    if (memchr(value, '\0', event->data.scalar.length)) {
        return fail(self, event->start_mark, "a text with a zero byte");
    }
    unsigned control = utf8_control(value, event->data.scalar.length);
    if (control) { /* it would go to a terminal */
        return fail(self, event->start_mark, "a text with the control character 0x%02x", control);
    }
    if (event->data.scalar.style == YAML_FOLDED_SCALAR_STYLE && *value == '\0') {
        return fail(self, event->start_mark,
                    "a condition that begins with '>' must be quoted, as \"> 0\": without quotes "
                    "it begins a block of text");
    }
    /* "!= null" without quotes is a tag in YAML; here it is a condition. */
    bool differs = tag && strcmp(tag, "!=") == 0;
    if (tag && !differs) {
        return fail(self, event->start_mark, "tags such as '%.64s' are not used here", tag);
    }
    char *text = NULL;
    if (asprintf(&text, "%s%s", differs ? "!= " : "", value) < 0) {
        return EEP_ERR_NO_MEMORY;
    }
    if (wants_key(self)) {
        return on_key(self, event, text);
    }
    eep_status status = add_node(self, YAMLTREE_SCALAR, event);
    if (status != EEP_OK) {
        free(text);
        return status;
    }
    self->tree->node[self->tree->num_nodes - 1].text = text;
    return EEP_OK;
}

static eep_status on_open(reader *self, yamltree_kind kind, const yaml_event_t *event)
{
    const yaml_char_t *tag =
        kind == YAMLTREE_MAPPING ? event->data.mapping_start.tag : event->data.sequence_start.tag;
    if (tag) {
        return fail(self, event->start_mark, "tags such as '%.64s' are not used here",
                    (const char *)tag);
    }
    if (wants_key(self)) {
        return fail(self, event->start_mark, "a key must be a plain text");
    }
    if (self->depth == YAMLTREE_MAX_DEPTH) {
        return fail(self, event->start_mark, "nested deeper than %d levels", YAMLTREE_MAX_DEPTH);
    }
    eep_status status = add_node(self, kind, event);
    if (status == EEP_OK) {
        self->open[self->depth++] = self->tree->num_nodes - 1;
    }
    return status;
}

static eep_status on_event(reader *self, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (self->has_document) {
            return fail(self, event->start_mark, "a second document; one is allowed");
        }
        self->has_document = true;
        return EEP_OK;
    case YAML_ALIAS_EVENT:
        return fail(self, event->start_mark, "aliases are not used here");
    case YAML_SCALAR_EVENT:
        return on_scalar(self, event);
    case YAML_MAPPING_START_EVENT:
        return on_open(self, YAMLTREE_MAPPING, event);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(self, YAMLTREE_SEQUENCE, event);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        self->depth--;
        return EEP_OK;
    default:
        return EEP_OK;
    }
}

/* libyaml's words and place. Of a byte that is no UTF-8 it gives the offset only. */
static eep_status fail_as_libyaml(reader *self, const yaml_parser_t *parser, const char *text,
                                  size_t bytes)
{
    yaml_mark_t mark = parser->problem_mark;
    const char *problem = parser->problem ? parser->problem : "not YAML", *advice = "";
    if (parser->error == YAML_MEMORY_ERROR) {
        return EEP_ERR_NO_MEMORY;
    }
    if (parser->error == YAML_READER_ERROR) {
        mark = (yaml_mark_t){0};
        for (size_t i = 0; i < parser->problem_offset && i < bytes; i++) {
            mark.line += text[i] == '\n';
            mark.column = text[i] == '\n' ? 0 : mark.column + 1;
        }
    }
    if (mark.index < bytes && text[mark.index] == '\t' && parser->error == YAML_SCANNER_ERROR) {
        advice = ": a tab; YAML is indented with spaces";
    } else if (parser->context && strstr(parser->context, "block scalar")) {
        advice = ": a condition that begins with '>' must be quoted, as \"> 0\"";
    }
    return fail(self, mark, "%s%s%s%s", problem, parser->context ? " " : "",
                parser->context ? parser->context : "", advice);
}

eep_status yamltree_read(const char *text, size_t bytes, yamltree *tree_out,
                         char error[YAMLTREE_ERROR_BYTES], int *line_out, int *column_out)
{
    reader self = {.tree = tree_out, .error = error, .line = line_out, .column = column_out};
    yaml_parser_t parser;
    eep_status status = EEP_OK;
    bool over = false;
    *tree_out = (yamltree){0};
    if (!yaml_parser_initialize(&parser)) {
        return EEP_ERR_NO_MEMORY;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
    while (status == EEP_OK && !over) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            status = fail_as_libyaml(&self, &parser, text, bytes);
            break;
        }
        over = event.type == YAML_STREAM_END_EVENT;
        status = on_event(&self, &event);
        yaml_event_delete(&event);
    }
    free(self.key);
    yaml_parser_delete(&parser);
    return status;
}

void yamltree_free(yamltree *self)
{
    for (int i = 0; i < self->num_nodes; i++) {
        free(self->node[i].key);
        free(self->node[i].text);
    }
    free(self->node);
    *self = (yamltree){0};
}

int yamltree_child(const yamltree *self, int parent, const char *key)
{
    if (parent < 0 || parent >= self->num_nodes || self->node[parent].kind != YAMLTREE_MAPPING) {
        return -1;
    }
    int i = self->node[parent].first;
    while (i >= 0 && strcmp(self->node[i].key, key) != 0) {
        i = self->node[i].next;
    }
    return i;
}
