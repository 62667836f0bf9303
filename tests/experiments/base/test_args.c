/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of command lines, with a table that has a row of each type: what is taken, what is
 * refused and how it is told, and what --help says. */
#include "experiments/base/args.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ARGUMENTS = 16, MAX_LINES = 4 };

typedef struct settings {
    int64_t many;
    int few;
    uint64_t any;
    double rate;
    uint32_t range[2];
    const char *text, *kind, *dir, *last;
    int choice;
    bool flag;
    int num_cases;
    args_rest rest;
    args_given given;
} settings;

static eep_status count_case(const args_row *row, const char *text, void *options, char *error)
{
    settings *self = options;
    self->num_cases++;
    self->last = text;
    return strcmp(text, "none") == 0 ? args_fail(error, "%s: there is no 'none'", row->name)
                                     : EEP_OK;
}

static const args_row rows[] = {
    {"--many", ARGS_WHOLE, ARGS_AT(settings, many), 1, 9e15, NULL, "N", "5", "how many"},
    {"--few", ARGS_WHOLE, ARGS_AT(settings, few), 0, 10, NULL, "N", "2", "how few"},
    {"--any", ARGS_WHOLE, ARGS_AT(settings, any), 0, 0x1p64, NULL, "N", NULL, "of 64 bits"},
    {"--rate", ARGS_NUMBER, ARGS_AT(settings, rate), 0.5, 10, NULL, "R", "1.5", "a rate"},
    {"--range", ARGS_RANGE, ARGS_AT(settings, range), 1, 100, NULL, "A:B", "8:48", "a range"},
    {"--text", ARGS_TEXT, ARGS_AT(settings, text), 0, 0, NULL, "TEXT", "what is preset", "a text",
     NULL, 't'},
    {"--kind", ARGS_ONE_OF, ARGS_AT(settings, kind), 0, 0, "one|two", "KIND", "two", "a kind"},
    {"--choice", ARGS_CHOICE, ARGS_AT(settings, choice), 0, 0, "a|bc|d", "KIND", "bc", "a choice"},
    {"--flag", ARGS_FLAG, ARGS_AT(settings, flag), 0, 0, NULL, NULL, NULL, "a flag"},
    {"DIR", ARGS_TEXT, ARGS_AT(settings, dir), .doc = "a word"},
};
static const args_row cases[] = {
    {"memory", ARGS_NOTE, .doc = "is told by --help only"},
    {"CASE", ARGS_PARSED, .doc = "any number of words", .parse = count_case},
};
static const args_row rest_row = {"--", ARGS_REST, ARGS_AT(settings, rest), .value = "WORD...",
                                  .doc = "what another program is given"};
/* A folder, and nothing else. */
static const args_table plain = {
    .program = "tool",
    .synopsis = "[OPTION]... DIR",
    .about = "Try it.",
    .section = {ARGS_SECTION(NULL, rows)},
    .notes = "That is all.",
    .given = offsetof(settings, given),
    .shortens = true,
};
/* Cases behind the folder, and what stands behind "--". */
static const args_table large = {
    .program = "tool",
    .synopsis = "[OPTION]... DIR CASE...\n[OPTION]... -- WORD...",
    .about = "Try it.",
    .section = {ARGS_SECTION(NULL, rows), ARGS_SECTION("Cases", cases), {"More", &rest_row, 1}},
    .given = offsetof(settings, given),
};
/* No words. */
static const args_table bare = {
    .program = "tool",
    .synopsis = "[OPTION]...",
    .about = "Try it.",
    .section = {{NULL, rows, 9}},
    .given = offsetof(settings, given),
};

/* The words of the newest lines: what is parsed points into them, so they stay a while. */
static struct {
    char text[256];
    char *argv[MAX_ARGUMENTS];
} lines[MAX_LINES];

/* Parse a line of words, on top of the defaults. */
static args_result parse(const args_table *table, const char *line, settings *out, char *error)
{
    static int num_lines;
    char *const copy = lines[num_lines % MAX_LINES].text;
    char **const argv = lines[num_lines++ % MAX_LINES].argv;
    char *rest = NULL;
    int argc = 0;
    cr_assert_lt(snprintf(copy, sizeof lines[0].text, "%s", line), (int)sizeof lines[0].text);
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        argv[argc++] = word;
    }
    *out = (settings){0};
    args_set_defaults(table, out);
    return args_parse(table, out, argc, argv, error);
}

static void good(const args_table *table, const char *line, settings *out)
{
    char error[ARGS_ERROR_BYTES] = "";
    cr_assert_eq(parse(table, line, out, error), ARGS_OK, "%s: %s", line, error);
}

Test(args, defaults_are_parsed_texts)
{
    settings s;
    good(&plain, "", &s);
    cr_expect(s.many == 5 && s.few == 2 && s.any == 0 && s.rate == 1.5 && s.choice == 1);
    cr_expect(s.range[0] == 8 && s.range[1] == 48 && !s.flag && !s.dir);
    cr_expect_str_eq(s.text, "what is preset");
    cr_expect_str_eq(s.kind, "two");
    cr_expect_arr_eq(&s.given, &(args_given){0}, sizeof s.given);
}

Test(args, values_arrive_and_the_last_one_wins)
{
    settings s;
    good(&plain,
         "--many 8 --few=9 --any 18446744073709551615 --rate .5 --range 7 --text x --kind one "
         "--choice d --flag --many=9000000000000000 folder -t y",
         &s);
    cr_expect(s.many == 9000000000000000 && s.few == 9 && s.any == UINT64_MAX && s.rate == 0.5);
    cr_expect(s.range[0] == 7 && s.range[1] == 7 && s.choice == 2 && s.flag);
    cr_expect_str_eq(s.text, "y");
    cr_expect_str_eq(s.kind, "one");
    cr_expect_str_eq(s.dir, "folder");
    cr_expect(args_is_given(&plain, &s, offsetof(settings, few)));
    good(&plain, "-ty", &s);
    cr_expect_str_eq(s.text, "y");
    cr_expect_not(args_is_given(&plain, &s, offsetof(settings, few)));
}

Test(args, words_and_what_stands_behind_two_dashes)
{
    settings s;
    good(&large, "d c1 --few 1 c2 -5", &s);
    cr_expect_eq(s.num_cases, 3, "-5 is no option here, so it is a word");
    cr_expect_str_eq(s.dir, "d");
    cr_expect_str_eq(s.last, "-5");
    good(&large, "d -- --few 1", &s);
    cr_expect(s.few == 2 && s.rest.num == 2);
    cr_expect_str_eq(s.rest.word[0], "--few");
    good(&plain, "-- --few", &s);
    cr_expect_str_eq(s.dir, "--few");
}

Test(args, options_may_be_cut_where_the_table_says_so)
{
    settings s;
    char error[ARGS_ERROR_BYTES] = "";
    good(&plain, "--fe 3 --an=4", &s);
    cr_expect(s.few == 3 && s.any == 4);
    cr_expect_eq(parse(&plain, "--f 3", &s, error), ARGS_WRONG, "few or flag");
    cr_expect_eq(parse(&bare, "--fe 3", &s, error), ARGS_WRONG);
}

Test(args, what_is_wrong_is_told_in_one_line)
{
    static const struct {
        const args_table *table;
        const char *line, *told;
    } bad[] = {
        {&bare, "--nothing", "unknown option '--nothing'; tool --help lists all"},
        {&bare, "-5", "unknown option '-5'; tool --help lists all"},
        {&bare, "word", "this is no option: 'word'; tool --help lists all"},
        {&bare, "--", "this is no option: '--'; tool --help lists all"},
        {&bare, "-", "this is no option: '-'; tool --help lists all"},
        {&bare, "--many", "--many needs a value: N"},
        {&bare, "--flag=1", "--flag takes no value ('1' was given)"},
        {&bare, "--help=1", "--help takes no value ('1' was given)"},
        {&bare, "--few 11", "--few: '11' is not a whole number from 0 to 10"},
        {&bare, "--few 1x", "--few: '1x' is not a whole number from 0 to 10"},
        {&bare, "--few +1", "--few: '+1' is not a whole number from 0 to 10"},
        {&bare, "--few=", "--few: '' is not a whole number from 0 to 10"},
        {&bare, "--any 18446744073709551616",
         "--any: '18446744073709551616' is not a whole number from 0 to 18446744073709551615"},
        {&bare, "--rate 0x1", "--rate: '0x1' is not a number from 0.5 to 10"},
        {&bare, "--rate nan", "--rate: 'nan' is not a number from 0.5 to 10"},
        {&bare, "--range 9:5", "--range: '9:5' is not A:B with 1 <= A <= B <= 100"},
        {&bare, "--range 5:", "--range: '5:' is not A:B with 1 <= A <= B <= 100"},
        {&bare, "--text=", "--text: the value is empty"},
        {&bare, "--kind three", "--kind: 'three' is not one of one|two"},
        {&bare, "--choice b", "--choice: 'b' is not one of a|bc|d"},
        {&plain, "a b", "unexpected 'b'; tool --help tells its usage"},
        {&large, "a none", "CASE: there is no 'none'"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        settings s;
        char error[ARGS_ERROR_BYTES] = "";
        cr_expect_eq(parse(bad[i].table, bad[i].line, &s, error), ARGS_WRONG, "%s", bad[i].line);
        cr_expect_str_eq(error, bad[i].told);
    }
}

/* Of all rows of all sections it is known whether they were given, and each on its own. */
Test(args, every_row_of_a_long_table_is_known_to_be_given)
{
    enum { SECTIONS = 2, NUM = SECTIONS * ARGS_MAX_SECTION_ROWS };
    typedef struct long_settings {
        bool flag[NUM];
        args_given given;
    } long_settings;
    static args_row many[SECTIONS][ARGS_MAX_SECTION_ROWS];
    static char names[NUM][32];
    static const args_table table = {
        .program = "tool",
        .section = {ARGS_SECTION("First", many[0]), ARGS_SECTION("Second", many[1])},
        .given = offsetof(long_settings, given),
    };
    for (int i = 0; i < NUM; i++) {
        snprintf(names[i], sizeof names[i], "--row-%d", i);
        many[i / ARGS_MAX_SECTION_ROWS][i % ARGS_MAX_SECTION_ROWS] = (args_row){
            .name = names[i], .type = ARGS_FLAG, .offset = offsetof(long_settings, flag[i])};
    }
    for (int i = 0; i < NUM; i++) {
        long_settings s = {0};
        char error[ARGS_ERROR_BYTES] = "", *argument = names[i];
        cr_assert_eq(args_parse(&table, &s, 1, &argument, error), ARGS_OK, "%s", error);
        for (int j = 0; j < NUM; j++) {
            cr_assert_eq(args_is_given(&table, &s, offsetof(long_settings, flag[j])), j == i,
                         "row %d, where row %d was given", j, i);
        }
    }
}

Test(args, help_ends_the_line_and_is_made_of_the_table)
{
    settings s;
    char error[ARGS_ERROR_BYTES] = "", *text = NULL;
    size_t bytes = 0;
    cr_expect_eq(parse(&plain, "--few 3 --help --nothing", &s, error), ARGS_HELP);
    cr_expect_eq(parse(&plain, "-h", &s, error), ARGS_HELP);
    cr_expect_eq(parse(&plain, "--version", &s, error), ARGS_VERSION);
    cr_expect_eq(parse(&plain, "--few 33 --help", &s, error), ARGS_WRONG);
    FILE *file = open_memstream(&text, &bytes);
    args_print_help(&large, file);
    fclose(file);
    static const char *const parts[] = {
        "Usage: tool [OPTION]... DIR CASE...\n       tool [OPTION]... -- WORD...\nTry it.\n",
        "\nOptions:\n  --many N         how many (1..9000000000000000) [5]\n",
        "\n  -t, --text TEXT  a text [what is preset]\n",
        "\n  --choice KIND    a choice: a|bc|d [bc]\n",
        "\n  --any N          of 64 bits\n",
        "\n  -h, --help       this text\n\nCases:\n  memory  is told by --help only\n",
        "\nMore:\n  -- WORD...  what another program is given\n"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        cr_expect(strstr(text, parts[i]), "no '%s' in:\n%s", parts[i], text);
    }
    free(text);
}
