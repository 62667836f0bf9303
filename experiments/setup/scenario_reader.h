/* SPDX-License-Identifier: Apache-2.0 */
/* Typed values out of the tree of a scenario's text, and messages about them. Pure. */
#ifndef EEPX_SCENARIO_READER_H
#define EEPX_SCENARIO_READER_H

#include "eep/eep.h"
#include "experiments/setup/yaml_tree.h"

#include <stddef.h>
#include <stdint.h>

enum { SCENARIO_ERROR_BYTES = 1024, SCENARIO_MAX_WORD = 40 };

typedef struct scenario_reader {
    const char *file; /* as named in messages */
    yamltree tree;
    char *error; /* SCENARIO_ERROR_BYTES */
} scenario_reader;

/* "FILE:LINE:COLUMN: ..." on one line into `error`. EEP_ERR_INVALID. */
eep_status scenario_fail_at(const scenario_reader *self, int line, int column, const char *format,
                            ...) __attribute__((format(printf, 4, 5)));
/* The same at a node's value. */
eep_status scenario_fail(const scenario_reader *self, int node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "a, b, c" of the names into `text`. */
const char *scenario_list(const char *const *names, int num, char *text, size_t bytes);

/* The node is a mapping with some of these keys and no others; the first `num_required` of them
 * must be there. */
EEP_MUST_CHECK eep_status scenario_check_keys(const scenario_reader *self, int node,
                                              const char *const *keys, int num_keys,
                                              int num_required);
/* The node's text, of 1 to max_bytes bytes; it belongs to the tree. NULL if `node` is none. */
EEP_MUST_CHECK eep_status scenario_read_text(const scenario_reader *self, int node,
                                             size_t max_bytes, const char **text_out);
/* The name of a file, as it is reached from here: one that is relative counts from the folder of
 * the scenario. Of at most `bytes` - 1 bytes. */
EEP_MUST_CHECK eep_status scenario_read_file(const scenario_reader *self, int node, size_t bytes,
                                             char *file_out);
/* A whole number from `min` to `max` in decimal digits. */
EEP_MUST_CHECK eep_status scenario_read_whole(const scenario_reader *self, int node, uint64_t min,
                                              uint64_t max, uint64_t *value_out);
/* Milliseconds of a time. */
EEP_MUST_CHECK eep_status scenario_read_time(const scenario_reader *self, int node, double *ms_out);
#endif
