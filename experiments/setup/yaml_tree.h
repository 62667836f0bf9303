/* SPDX-License-Identifier: Apache-2.0 */
/* A YAML text as a tree whose nodes know their line and column, for messages.
 * Pure. */
#ifndef EEPX_YAMLTREE_H
#define EEPX_YAMLTREE_H

#include "eep/eep.h"

#include <stddef.h>

enum {
    YAMLTREE_ERROR_BYTES = 256,
    YAMLTREE_MAX_NODES = 65536,
    YAMLTREE_MAX_KEYS = 256, /* of one mapping: looking one up is a walk over them */
    YAMLTREE_MAX_DEPTH = 8,
};

typedef enum yamltree_kind { YAMLTREE_SCALAR, YAMLTREE_MAPPING, YAMLTREE_SEQUENCE } yamltree_kind;

typedef struct yamltree_node {
    yamltree_kind kind;
    int parent, first, last, next; /* indices; -1: none */
    int num_below;                 /* entries or pairs */
    char *key;                     /* in a mapping; else NULL */
    char *text;                    /* of a scalar; else NULL */
    int line, column;              /* of the value, from 1 */
    int key_line, key_column;      /* of the key; of the value in a sequence */
} yamltree_node;

/* Node 0 is the root; none where the text holds no document. */
typedef struct yamltree {
    yamltree_node *node;
    int num_nodes, capacity;
} yamltree;

/* Read one document. EEP_ERR_INVALID with a line in `error` and its place in *line_out and
 * *column_out: not YAML, several documents, an alias, a tag, a key twice or not a plain text, NUL
 * in a text, too deep, too many nodes. EEP_ERR_NO_MEMORY. Free the tree in any case. */
EEP_MUST_CHECK eep_status yamltree_read(const char *text, size_t bytes, yamltree *tree_out,
                                        char error[YAMLTREE_ERROR_BYTES], int *line_out,
                                        int *column_out);
void yamltree_free(yamltree *self);

/* The value of that key in a mapping; -1: there is none, or `parent` is no mapping. */
int yamltree_child(const yamltree *self, int parent, const char *key);
#endif
