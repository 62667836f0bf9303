/* SPDX-License-Identifier: Apache-2.0 */
/* The one parser of command lines: it finds rows, sets fields and prints --help, all by the
 * program's table. */
#include "experiments/base/args.h"

#include "experiments/base/decimal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

enum { HELP_COLUMNS = 100, HELP_MAX_LEFT = 38, ROW_BYTES = 640 };

static const args_row common_rows[] = {
    {.name = "--version", .type = ARGS_FLAG, .doc = "the program and its version"},
    {.name = "--help", .type = ARGS_FLAG, .doc = "this text", .letter = 'h'},
};
static const args_row *const version_row = &common_rows[0], *const help_row = &common_rows[1];
enum {
    NUM_COMMON_ROWS = sizeof common_rows / sizeof common_rows[0],
    WORD_BITS = 64,
};
static_assert(ARGS_MAX_SECTIONS * ARGS_MAX_SECTION_ROWS + NUM_COMMON_ROWS <=
                  ARGS_GIVEN_WORDS * WORD_BITS,
              "every row of every section has its bit");

eep_status args_fail(char error[ARGS_ERROR_BYTES], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, ARGS_ERROR_BYTES, format, args);
    va_end(args);
    return EEP_ERR_INVALID;
}

/* ---------------------------------------------------------------- rows */

/* The row of that number, counted through the sections; NULL behind the last one. */
static const args_row *row_at(const args_table *table, int number)
{
    for (int s = 0; s < ARGS_MAX_SECTIONS; s++) {
        if (number < table->section[s].num) {
            return &table->section[s].rows[number];
        }
        number -= table->section[s].num;
    }
    return number >= 0 && number < NUM_COMMON_ROWS ? &common_rows[number] : NULL;
}

static bool is_option(const args_row *row)
{
    return row->type != ARGS_NOTE && row->type != ARGS_REST && row->name[0] == '-';
}

static bool is_word(const args_row *row)
{
    return row->type != ARGS_NOTE && row->name[0] != '-';
}

static bool has_words(const args_table *table)
{
    const args_row *row = NULL;
    for (int i = 0; (row = row_at(table, i)) && !is_word(row); i++) {
    }
    return row != NULL;
}

static void set_bit(const args_table *table, void *options, int number)
{
    args_given *given = (args_given *)(void *)((char *)options + table->given);
    given->word[number / WORD_BITS] |= 1ull << number % WORD_BITS;
}

static bool bit_of(const args_table *table, const void *options, int number)
{
    args_given given;
    memcpy(&given, (const char *)options + table->given, sizeof given);
    return given.word[number / WORD_BITS] >> number % WORD_BITS & 1u;
}

/* The number of the option whose name is that text, or, where options may be cut, of the only one
 * that begins so; -1: there is none. */
static int find_option(const args_table *table, const char *name, size_t length)
{
    const args_row *row = NULL;
    int shortened = -1, num_shortened = 0;
    for (int i = 0; (row = row_at(table, i)); i++) {
        if (is_option(row) && strncmp(row->name, name, length) == 0) {
            if (row->name[length] == '\0') {
                return i;
            }
            shortened = i;
            num_shortened++;
        }
    }
    return table->shortens && num_shortened == 1 && length > strlen("--") ? shortened : -1;
}

static int find_letter(const args_table *table, char letter)
{
    const args_row *row = NULL;
    for (int i = 0; (row = row_at(table, i)); i++) {
        if (is_option(row) && row->letter == letter && letter) {
            return i;
        }
    }
    return -1;
}

const args_row *args_find(const args_table *table, const char *name)
{
    int number = find_option(table, name, strlen(name));
    return number >= 0 ? row_at(table, number) : NULL;
}

bool args_is_given(const args_table *table, const void *options, size_t offset)
{
    const args_row *row = NULL;
    int i = 0;
    while ((row = row_at(table, i)) && (row->type == ARGS_NOTE || row->offset != offset)) {
        i++;
    }
    assert(row); /* some option has that field */
    return bit_of(table, options, i);
}

/* ---------------------------------------------------------------- values */

bool args_whole(const char *text, uint64_t min, uint64_t max, uint64_t *value_out)
{
    char *end = NULL;
    if (*text < '0' || *text > '9') {
        return false;
    }
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || *end != '\0' || value < min || value > max) {
        return false;
    }
    *value_out = value;
    return true;
}

/* As an integer: a double above 2^53 holds only every second one. */
static uint64_t max_of(const args_row *row)
{
    return row->max < 0x1p63 ? (uint64_t)row->max : UINT64_MAX;
}

static eep_status set_whole(const args_row *row, char *field, const char *text, char *error)
{
    uint64_t value = 0, min = (uint64_t)row->min, max = max_of(row);
    if (!args_whole(text, min, max, &value)) {
        return args_fail(error, "%s: '%s' is not a whole number from %" PRIu64 " to %" PRIu64,
                         row->name, text, min, max);
    }
    uint32_t narrow = (uint32_t)value;
    assert(row->bytes == sizeof value || (row->bytes == sizeof narrow && max <= UINT32_MAX));
    memcpy(field, row->bytes == sizeof narrow ? (void *)&narrow : (void *)&value, row->bytes);
    return EEP_OK;
}

static eep_status set_number(const args_row *row, char *field, const char *text, char *error)
{
    double value = 0;
    if (!decimal_is(text, &value) || !(value >= row->min && value <= row->max)) {
        return args_fail(error, "%s: '%s' is not a number from %g to %g", row->name, text, row->min,
                         row->max);
    }
    memcpy(field, &value, sizeof value);
    return EEP_OK;
}

static eep_status set_range(const args_row *row, char *field, const char *text, char *error)
{
    char low[32];
    uint64_t first = 0, last = 0, min = (uint64_t)row->min, max = max_of(row);
    const char *colon = strchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    bool good = length < sizeof low;
    if (good) {
        memcpy(low, text, length);
        low[length] = '\0';
        good = args_whole(low, min, max, &first) &&
               args_whole(colon ? colon + 1 : low, first, max, &last);
    }
    if (!good) {
        return args_fail(error, "%s: '%s' is not A:B with %" PRIu64 " <= A <= B <= %" PRIu64,
                         row->name, text, min, max);
    }
    memcpy(field, (uint32_t[]){(uint32_t)first, (uint32_t)last}, 2 * sizeof(uint32_t));
    return EEP_OK;
}

static eep_status set_choice(const args_row *row, char *field, const char *text, char *error)
{
    size_t length = strlen(text);
    int index = 0;
    for (const char *choice = row->choices; choice; index++) {
        const char *bar = strchr(choice, '|');
        size_t bytes = bar ? (size_t)(bar - choice) : strlen(choice);
        if (bytes == length && strncmp(choice, text, length) == 0) {
            memcpy(field, row->type == ARGS_ONE_OF ? (void *)&text : (void *)&index, row->bytes);
            return EEP_OK;
        }
        choice = bar ? bar + 1 : NULL;
    }
    return args_fail(error, "%s: '%s' is not one of %s", row->name, text, row->choices);
}

static eep_status set_value(const args_row *row, const char *text, void *options, char *error)
{
    char *field = (char *)options + row->offset;
    switch (row->type) {
    case ARGS_WHOLE:
        return set_whole(row, field, text, error);
    case ARGS_NUMBER:
        return set_number(row, field, text, error);
    case ARGS_RANGE:
        return set_range(row, field, text, error);
    case ARGS_CHOICE:
    case ARGS_ONE_OF:
        return set_choice(row, field, text, error);
    case ARGS_PARSED:
        return row->parse(row, text, options, error);
    case ARGS_TEXT:
        if (*text == '\0') {
            return args_fail(error, "%s: the value is empty", row->name);
        }
        memcpy(field, &text, sizeof text);
        return EEP_OK;
    case ARGS_FLAG:
        *(bool *)field = true;
        return EEP_OK;
    case ARGS_REST:
    case ARGS_NOTE:
        break;
    }
    return EEP_ERR_INVALID;
}

void args_set_defaults(const args_table *table, void *options)
{
    char error[ARGS_ERROR_BYTES] = "";
    const args_row *row = NULL;
    for (int i = 0; (row = row_at(table, i)); i++) {
        if (row->preset && set_value(row, row->preset, options, error) != EEP_OK) {
            fprintf(stderr, "%s: default: %s\n", table->program, error);
            assert(!"a default is not what its own row allows");
        }
    }
}

/* ---------------------------------------------------------------- arguments */

typedef struct parser {
    const args_table *table;
    void *options;
    int num, at; /* argument[at] is read */
    char **argument;
    char *error;
} parser;

static args_result set_row(parser *self, int number, const char *text)
{
    if (set_value(row_at(self->table, number), text, self->options, self->error) != EEP_OK) {
        return ARGS_WRONG;
    }
    set_bit(self->table, self->options, number);
    return ARGS_OK;
}

/* `value`: what stands in the same argument; NULL: it may be the next one. */
static args_result on_option(parser *self, int number, const char *value)
{
    const args_row *row = row_at(self->table, number);
    bool is_flag = row->type == ARGS_FLAG;
    if (is_flag && value) {
        args_fail(self->error, "%s takes no value ('%s' was given)", row->name, value);
        return ARGS_WRONG;
    }
    if (row == help_row || row == version_row) {
        return row == help_row ? ARGS_HELP : ARGS_VERSION;
    }
    if (!is_flag && !value) {
        if (self->at + 1 == self->num) {
            args_fail(self->error, "%s needs a value: %s", row->name, row->value);
            return ARGS_WRONG;
        }
        value = self->argument[++self->at];
    }
    return set_row(self, number, value);
}

/* The first row of words that has none yet, or the last one if it takes several. */
static args_result on_word(parser *self, const char *word)
{
    const args_row *row = NULL;
    for (int i = 0; (row = row_at(self->table, i)); i++) {
        bool takes = row->type == ARGS_PARSED || !bit_of(self->table, self->options, i);
        if (is_word(row) && takes) {
            return set_row(self, i, word);
        }
    }
    args_fail(self->error, "unexpected '%s'; %s --help tells its usage", word,
              self->table->program);
    return ARGS_WRONG;
}

static args_result on_unknown(parser *self, const char *argument)
{
    bool stray = *argument != '-' || strspn(argument, "-") == strlen(argument);
    args_fail(self->error, "%s '%s'; %s --help lists all",
              stray ? "this is no option:" : "unknown option", argument, self->table->program);
    return ARGS_WRONG;
}

/* What stands behind "--"; false: that means nothing to this program. */
static bool take_rest(parser *self)
{
    const args_row *row = NULL;
    for (int i = 0; (row = row_at(self->table, i)) && row->type != ARGS_REST; i++) {
    }
    if (!row) {
        return false;
    }
    args_rest *rest = (args_rest *)(void *)((char *)self->options + row->offset);
    *rest = (args_rest){self->argument + self->at + 1, self->num - self->at - 1};
    self->at = self->num;
    return true;
}

args_result args_parse(const args_table *table, void *options, int num, char **argument,
                       char error[ARGS_ERROR_BYTES])
{
    parser self = {table, options, num, 0, argument, error};
    args_result result = ARGS_OK;
    bool takes_words = has_words(table), only_words = false;
    for (; self.at < num && result == ARGS_OK; self.at++) {
        const char *text = argument[self.at], *equals = strchr(text, '=');
        bool is_long = strncmp(text, "--", 2) == 0, is_dashes = is_long && text[2] == '\0';
        int letter = !is_long && text[0] == '-' ? find_letter(table, text[1]) : -1;
        if (is_dashes && !only_words && take_rest(&self)) {
            break;
        }
        if (is_dashes && !only_words && takes_words) {
            only_words = true;
        } else if (only_words || (!is_long && letter < 0 && takes_words)) {
            result = on_word(&self, text);
        } else if (letter >= 0) {
            result = on_option(&self, letter, text[2] ? text + 2 : NULL);
        } else {
            int number =
                is_long ? find_option(table, text, equals ? (size_t)(equals - text) : strlen(text))
                        : -1;
            result = number >= 0 ? on_option(&self, number, equals ? equals + 1 : NULL)
                                 : on_unknown(&self, text);
        }
    }
    return result;
}

/* ---------------------------------------------------------------- help */

/* "-p, --path PATH" */
static void print_left(const args_row *row, char left_out[ROW_BYTES])
{
    char letter[8] = "";
    if (row->letter) {
        snprintf(letter, sizeof letter, "-%c, ", row->letter);
    }
    snprintf(left_out, ROW_BYTES, "%s%s%s%s", letter, row->name, row->value ? " " : "",
             row->value ? row->value : "");
}

/* What the row is about, what it allows, and its default. */
static void print_right(const args_row *row, char right_out[ROW_BYTES])
{
    char limits[64] = "", preset[64] = "";
    bool is_whole = row->type == ARGS_WHOLE || row->type == ARGS_RANGE;
    if ((is_whole || row->type == ARGS_NUMBER) && row->max < 0x1p63) {
        snprintf(limits, sizeof limits, is_whole ? " (%.0f..%.0f)" : " (%g..%g)", row->min,
                 row->max);
    }
    if (row->preset) {
        snprintf(preset, sizeof preset, " [%s]", row->preset);
    }
    snprintf(right_out, ROW_BYTES, "%s%s%s%s%s", row->doc, row->choices ? ": " : "",
             row->choices ? row->choices : "", limits, preset);
}

/* Words up to the last column; lines but the first begin at `indent`. */
static void print_wrapped(FILE *file, const char *text, int indent)
{
    int column = indent;
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (column > indent && column + 1 + length > HELP_COLUMNS) {
            fprintf(file, "\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', file);
            column++;
        }
        fprintf(file, "%.*s", length, text);
        column += length;
        text += length + (text[length] == ' ');
    }
    fputc('\n', file);
}

static void print_rows(FILE *file, const args_row *rows, int num, int width)
{
    for (int i = 0; i < num; i++) {
        char left[ROW_BYTES], right[ROW_BYTES];
        print_left(&rows[i], left);
        print_right(&rows[i], right);
        fprintf(file, "  %-*s%s", *right ? width : 0, left, *right ? "  " : "");
        if (*right && (int)strlen(left) > width) {
            fprintf(file, "\n%*s", width + 4, "");
        }
        print_wrapped(file, right, width + 4);
    }
}

static void print_section(FILE *file, const args_section *section)
{
    int width = 0;
    for (int i = 0; i < section->num; i++) {
        char left[ROW_BYTES];
        print_left(&section->rows[i], left);
        int length = (int)strlen(left);
        width = length > width && length <= HELP_MAX_LEFT ? length : width;
    }
    fprintf(file, "\n%s:\n", section->title ? section->title : "Options");
    print_rows(file, section->rows, section->num, width);
    if (!section->title) {
        print_rows(file, common_rows, NUM_COMMON_ROWS, width);
    }
}

void args_print_help(const args_table *table, FILE *file)
{
    const char *form = table->synopsis;
    for (const char *before = "Usage:"; form; before = "      ") {
        const char *line = strchr(form, '\n');
        bool goes_on = *form == ' '; /* a form in two lines */
        fprintf(file, "%s %s%s%.*s\n", before, goes_on ? "" : table->program,
                *form && !goes_on ? " " : "", line ? (int)(line - form) : (int)strlen(form), form);
        form = line ? line + 1 : NULL;
    }
    fprintf(file, "%s\n", table->about);
    for (int s = 0; s < ARGS_MAX_SECTIONS; s++) {
        if (table->section[s].num) {
            print_section(file, &table->section[s]);
        }
    }
    if (table->notes) {
        fprintf(file, "\n%s\n", table->notes);
    }
}

void args_print_version(const char *program)
{
    printf("%s %d.%d\n", program, EEP_VERSION_MAJOR, EEP_VERSION_MINOR);
}

/* ---------------------------------------------------------------- a whole program */

bool args_begin(const args_table *table, void *options, int argc, char **argv, int *exit_out)
{
    char error[ARGS_ERROR_BYTES] = "";
    args_set_defaults(table, options);
    args_result result = args_parse(table, options, argc - 1, argv + 1, error);
    *exit_out = result == ARGS_WRONG ? ARGS_EXIT_USAGE : 0;
    if (result == ARGS_WRONG) {
        fprintf(stderr, "%s: %s\n", table->program, error);
    } else if (result == ARGS_HELP) {
        args_print_help(table, stdout);
    } else if (result == ARGS_VERSION) {
        args_print_version(table->program);
    }
    return result == ARGS_OK;
}
