/* SPDX-License-Identifier: Apache-2.0 */
/* What a run must have come to: conditions on the values of its summary.json. Pure. */
#ifndef EEPX_EXPECT_H
#define EEPX_EXPECT_H

#include "eep/eep.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

enum { EXPECT_ERROR_BYTES = 512, EXPECT_MAX_TEXT = 200 };

typedef enum expect_relation {
    EXPECT_EQUAL,
    EXPECT_DIFFERS,
    EXPECT_LESS,
    EXPECT_AT_MOST,
    EXPECT_MORE,
    EXPECT_AT_LEAST,
    EXPECT_WITHIN, /* number <= value <= high */
} expect_relation;

typedef enum expect_kind {
    EXPECT_NUMBER,
    EXPECT_TRUE,
    EXPECT_FALSE,
    EXPECT_NULL,
    EXPECT_TEXT
} expect_kind;

/* One expectation: `path` leads to values, all of which must meet the condition. */
typedef struct expect_clause {
    char path[EXPECT_MAX_TEXT], condition[EXPECT_MAX_TEXT]; /* as written */
    expect_relation relation;
    expect_kind kind; /* of the operand */
    double number, high;
    char text[EXPECT_MAX_TEXT];
    int line, column; /* in a scenario; 0: not from one */
} expect_clause;

/* Parse both halves.
 *   PATH       NAME or PATH.NAME or PATH[3] or PATH[*] (all entries) or PATH.length (of a list)
 *   CONDITION  VALUE (equal), == VALUE, != VALUE, < N, <= N, > N, >= N or A..B
 *   VALUE      a number, true, false, null, or a text
 * EEP_ERR_INVALID with a line in `error` that names the path and what is allowed. */
EEP_MUST_CHECK eep_status expect_parse(const char *path, const char *condition,
                                       expect_clause *clause_out, char error[EXPECT_ERROR_BYTES]);

/* Whether a summary may have such a path: by the names in `sample`. Where that has null or an empty
 * list, anything may follow. A condition that no such value meets ("yes" of true or false, a kind
 * of fault that there is not) is unknown too. If not, `error` names what is missing and what is
 * there. */
bool expect_is_known(const expect_clause *self, const cJSON *sample,
                     char error[EXPECT_ERROR_BYTES]);
/* The condition holds for every value at the path, and there is at least one. If not, `why` names
 * path, condition and the first value that does not fit. */
bool expect_met(const expect_clause *self, const cJSON *root, char why[EXPECT_ERROR_BYTES]);

/* Call `visit` with every value at the path (a length as a number); a name or an entry that is not
 * there is left out. */
void expect_visit(const char *path, const cJSON *root,
                  void (*visit)(void *user, const char *place, const cJSON *value), void *user);
#endif
