/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines: a program says in one table what its options are called, where their values go,
 * what is allowed, and what --help says. Defaults are texts, and are parsed like what people write.
 *
 *     --name VALUE   --name=VALUE   --flag   -l VALUE   WORD...
 *
 * The last of several values of an option wins. */
#ifndef EEPX_ARGS_H
#define EEPX_ARGS_H

#include "eep/status.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    ARGS_ERROR_BYTES = 640,
    ARGS_EXIT_USAGE = 2,
};

typedef enum args_type {
    ARGS_FLAG,   /* bool; takes no value */
    ARGS_WHOLE,  /* an integer of 4 or 8 bytes: a whole number in [min, max] */
    ARGS_NUMBER, /* double in [min, max] */
    ARGS_RANGE,  /* two uint32_t: "A:B" or "A", with min <= A <= B <= max */
    ARGS_TEXT,   /* const char *: any text but the empty one */
    ARGS_CHOICE, /* int or enum: which of `choices` */
    ARGS_ONE_OF, /* const char *: one of `choices`, as text */
    ARGS_PARSED, /* what `parse` makes of the text */
    ARGS_REST,   /* args_rest: all that stands behind this row's name, "--" */
    ARGS_NOTE,   /* no option: a line of --help */
} args_type;

typedef struct args_rest {
    char **word;
    int num;
} args_rest;

typedef struct args_row args_row;
struct args_row {
    const char *name; /* "--ranks"; a name without a dash stands for a word, such as a folder */
    args_type type;
    size_t offset, bytes; /* the field in the program's options: ARGS_AT */
    double min, max;
    const char *choices; /* "a|b|c" */
    const char *value;   /* what --help calls the value */
    const char *preset;  /* the default, as text; NULL: the field is left zero */
    const char *doc;
    /* ARGS_PARSED: `field` is at `offset` of `options`. EEP_ERR_INVALID with `error`. As a row of
     * words it takes all that the rows of words before it leave. */
    eep_status (*parse)(const args_row *row, const char *text, void *options, char *error);
    char letter; /* 'p': the option is also called -p */
};

/* The offset and bytes of a row. */
#define ARGS_AT(type, field) offsetof(type, field), sizeof((type *)0)->field

enum { ARGS_MAX_SECTIONS = 4, ARGS_MAX_SECTION_ROWS = 128, ARGS_GIVEN_WORDS = 9 };

typedef struct args_section {
    const char *title; /* NULL: "Options" */
    const args_row *rows;
    int num;
} args_section;

/* A section with all rows of an array. More rows than `given` has bits for do not compile. */
#define ARGS_SECTION(title, rows)                                                                  \
    {                                                                                              \
        title, rows, ARGS_NUM_ROWS(rows)                                                           \
    }
#define ARGS_NUM_ROWS(rows)                                                                        \
    ((int)(sizeof(struct {                                                                         \
        static_assert(sizeof(rows) / sizeof(args_row) <= ARGS_MAX_SECTION_ROWS,                    \
                      "raise ARGS_MAX_SECTION_ROWS and ARGS_GIVEN_WORDS");                         \
        char row[sizeof(rows) / sizeof(args_row)];                                                 \
    })))

/* Which rows were given: bit i for the i-th row, counted through all sections. */
typedef struct args_given {
    uint64_t word[ARGS_GIVEN_WORDS];
} args_given;

typedef struct args_table {
    const char *program;
    const char *synopsis;                    /* what follows the program's name; a form per line */
    const char *about;                       /* begins with one sentence */
    args_section section[ARGS_MAX_SECTIONS]; /* up to one without rows; --help and --version are
                                              * rows that every table has */
    const char *notes;                       /* what --help ends with; NULL: nothing */
    size_t given;                            /* offset of an args_given in the options */
    bool shortens; /* an option may be cut, as --thr for --threads, if no other begins so */
} args_table;

typedef enum args_result {
    ARGS_OK,
    ARGS_WRONG, /* `error` is one line that names the option, the value and what is allowed */
    ARGS_HELP,
    ARGS_VERSION, /* --help or --version was met: nothing behind it was read */
} args_result;

/* Every field that has a default gets it. The others are left as they are. */
void args_set_defaults(const args_table *table, void *options);
/* Parse arguments (without the program's name), on top of what the options are. Texts point into
 * the arguments. */
args_result args_parse(const args_table *table, void *options, int num, char **argument,
                       char error[ARGS_ERROR_BYTES]);
/* Was the row given whose field is at that offset? */
bool args_is_given(const args_table *table, const void *options, size_t offset);
/* The row of that name ("--ranks"); NULL: there is none. */
const args_row *args_find(const args_table *table, const char *name);
void args_print_help(const args_table *table, FILE *file);
void args_print_version(const char *program);

/* All of it, for a program's main(): defaults, then the arguments. True: go on. False: help or
 * version is printed, or an error is told on standard error; end with *exit_out. */
bool args_begin(const args_table *table, void *options, int argc, char **argv, int *exit_out);
/* Write one line into `error`; EEP_ERR_INVALID. */
eep_status args_fail(char error[ARGS_ERROR_BYTES], const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A whole number without sign, blanks or other signs, from min to max. */
bool args_whole(const char *text, uint64_t min, uint64_t max, uint64_t *value_out);
#endif
