/* SPDX-License-Identifier: Apache-2.0 */
/* Expectations: their text, the walk to the values at a path, and the verdict. */
#include "experiments/setup/expect.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static __attribute__((format(printf, 2, 3))) eep_status fail(char error[EXPECT_ERROR_BYTES],
                                                             const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, EXPECT_ERROR_BYTES, format, args);
    va_end(args);
    return EEP_ERR_INVALID;
}

/* ---------------------------------------------------------------- parsing */

static size_t name_length(const char *text)
{
    size_t length = 0;
    while (isalnum((unsigned char)text[length]) || text[length] == '_') {
        length++;
    }
    return length;
}

/* Bytes of "[3]" or "[*]"; 0: neither. */
static size_t entry_length(const char *text)
{
    size_t length = 1;
    if (*text != '[') {
        return 0;
    }
    if (text[1] == '*') {
        length = 2;
    }
    while (text[1] != '*' && isdigit((unsigned char)text[length]) && length < 8) {
        length++;
    }
    return length > 1 && text[length] == ']' ? length + 1 : 0;
}

static bool is_path(const char *text)
{
    size_t length = name_length(text);
    while (length) {
        text += length;
        if (*text == '\0') {
            return true;
        }
        length = *text == '[' ? entry_length(text) : 0;
        if (*text == '.') {
            length = name_length(text + 1);
            length += length > 0;
        }
    }
    return false;
}

/* A plain decimal number: what strtod also takes (inf, nan, 0x1) is none. */
static bool parse_number(const char *text, size_t bytes, double *value_out)
{
    char copy[64], *end = NULL;
    if (bytes == 0 || bytes >= sizeof copy) {
        return false;
    }
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    if (strspn(copy, "0123456789.eE+-") != bytes || !strpbrk(copy, "0123456789")) {
        return false;
    }
    double value = strtod(copy, &end);
    if (*end != '\0' || !isfinite(value)) {
        return false;
    }
    *value_out = value;
    return true;
}

static void parse_operand(const char *text, expect_clause *clause)
{
    static const char *const words[] = {
        [EXPECT_TRUE] = "true", [EXPECT_FALSE] = "false", [EXPECT_NULL] = "null"};
    clause->kind = EXPECT_TEXT;
    snprintf(clause->text, sizeof clause->text, "%s", text);
    for (int k = EXPECT_TRUE; k <= EXPECT_NULL; k++) {
        if (strcmp(text, words[k]) == 0) {
            clause->kind = (expect_kind)k;
        }
    }
    if (parse_number(text, strlen(text), &clause->number)) {
        clause->kind = EXPECT_NUMBER;
    }
}

static bool parse_range(const char *text, expect_clause *clause)
{
    const char *dots = strstr(text, "..");
    clause->relation = EXPECT_WITHIN;
    clause->kind = EXPECT_NUMBER;
    return dots && parse_number(text, (size_t)(dots - text), &clause->number) &&
           parse_number(dots + 2, strlen(dots + 2), &clause->high);
}

eep_status expect_parse(const char *path, const char *condition, expect_clause *clause_out,
                        char error[EXPECT_ERROR_BYTES])
{
    static const struct {
        const char *sign;
        expect_relation relation;
    } signs[] = {{"<=", EXPECT_AT_MOST}, {">=", EXPECT_AT_LEAST}, {"==", EXPECT_EQUAL},
                 {"!=", EXPECT_DIFFERS}, {"<", EXPECT_LESS},      {">", EXPECT_MORE}};
    expect_clause clause = {.relation = EXPECT_EQUAL};
    if (strlen(path) >= EXPECT_MAX_TEXT || !is_path(path)) {
        return fail(error,
                    "'%.200s' is not a path into summary.json such as tokens_wrong, "
                    "faults.length, faults[0].pause_ms or joins[*].joined",
                    path);
    }
    if (strlen(condition) >= EXPECT_MAX_TEXT || *condition == '\0') {
        return fail(error, "%s: the condition is empty or longer than %d bytes", path,
                    EXPECT_MAX_TEXT - 1);
    }
    snprintf(clause.path, sizeof clause.path, "%s", path);
    snprintf(clause.condition, sizeof clause.condition, "%s", condition);
    const char *rest = condition;
    for (size_t i = 0; i < sizeof signs / sizeof signs[0] && rest == condition; i++) {
        size_t length = strlen(signs[i].sign);
        if (strncmp(condition, signs[i].sign, length) == 0) {
            clause.relation = signs[i].relation;
            rest += length + strspn(condition + length, " ");
        }
    }
    if (rest == condition && parse_range(condition, &clause)) {
        if (clause.number > clause.high) {
            return fail(error, "%s: '%s' is an empty range", path, condition);
        }
        *clause_out = clause;
        return EEP_OK;
    }
    clause.relation = rest == condition ? EXPECT_EQUAL : clause.relation;
    const char *digits = rest + (*rest == '-' || *rest == '+');
    if (strcasecmp(digits, ".nan") == 0 || strcasecmp(digits, ".inf") == 0) {
        return fail(error, "%s: '%s' is no value that a summary can have: give a number or null",
                    path, condition);
    }
    parse_operand(rest, &clause);
    bool ordered = clause.relation != EXPECT_EQUAL && clause.relation != EXPECT_DIFFERS;
    if (*rest == '\0' || (ordered && clause.kind != EXPECT_NUMBER) || strpbrk(rest, "<>=")) {
        return fail(error,
                    "%s: '%s' is not a condition: VALUE, == VALUE, != VALUE, < N, <= N, > N, >= N "
                    "or A..B",
                    path, condition);
    }
    *clause_out = clause;
    return EEP_OK;
}

/* ---------------------------------------------------------------- walking */

typedef struct walk {
    void (*visit)(void *user, const char *place, const cJSON *value);
    void *user;
    char place[2 * EXPECT_MAX_TEXT]; /* where the walk is, entries with their numbers */
} walk;

static void descend(walk *self, const char *rest, const cJSON *value);

static void descend_entries(walk *self, const char *rest, const cJSON *list)
{
    size_t length = entry_length(rest), used = strlen(self->place);
    int wanted = rest[1] == '*' ? -1 : atoi(rest + 1), i = 0;
    const cJSON *entry = NULL;
    if (!cJSON_IsArray(list)) {
        return;
    }
    cJSON_ArrayForEach(entry, list)
    {
        if (wanted < 0 || i == wanted) {
            snprintf(self->place + used, sizeof self->place - used, "[%d]", i);
            descend(self, rest + length, entry);
            self->place[used] = '\0';
        }
        i++;
    }
}

/* `rest` is "", "[...]..." or "NAME..."; the dot before a name is taken here. */
static void descend(walk *self, const char *rest, const cJSON *value)
{
    if (*rest == '\0') {
        self->visit(self->user, self->place, value);
        return;
    }
    if (*rest == '[') {
        descend_entries(self, rest, value);
        return;
    }
    const char *name = *rest == '.' ? rest + 1 : rest;
    char copy[EXPECT_MAX_TEXT];
    size_t length = name_length(name), used = strlen(self->place);
    snprintf(copy, sizeof copy, "%.*s", (int)length, name);
    snprintf(self->place + used, sizeof self->place - used, "%.*s", (int)(name + length - rest),
             rest);
    const cJSON *below =
        cJSON_IsObject(value) ? cJSON_GetObjectItemCaseSensitive(value, copy) : NULL;
    if (below) {
        descend(self, name + length, below);
    } else if (cJSON_IsArray(value) && strcmp(copy, "length") == 0 && name[length] == '\0') {
        const cJSON number = {.type = cJSON_Number, .valuedouble = cJSON_GetArraySize(value)};
        self->visit(self->user, self->place, &number);
    }
    self->place[used] = '\0';
}

void expect_visit(const char *path, const cJSON *root,
                  void (*visit)(void *user, const char *place, const cJSON *value), void *user)
{
    walk self = {.visit = visit, .user = user};
    if (is_path(path)) {
        descend(&self, path, root);
    }
}

static const cJSON *member_of(const cJSON *at, const char *name, size_t bytes)
{
    const cJSON *member = NULL;
    cJSON_ArrayForEach(member, at)
    {
        if (strlen(member->string) == bytes && strncmp(member->string, name, bytes) == 0) {
            return member;
        }
    }
    return NULL;
}

static void list_members(const cJSON *at, char *text, size_t bytes)
{
    const cJSON *member = NULL;
    size_t used = 0;
    cJSON_ArrayForEach(member, at)
    {
        if (used < bytes) {
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", used ? ", " : "",
                                     member->string);
        }
    }
}

/* The only texts that some members can have. */
static const char *const *texts_of(const char *name)
{
    static const char *const kinds[] = {"kill", "abort",  "stop",     "die", "exit",
                                        "slow", "killed", "expelled", NULL};
    static const char *const outcomes[] = {"done",    "struck nobody", "never due",
                                           "waiting", "withdrawn",     NULL};
    static const char *const states[] = {"waits", "moving",   "reached", "unreachable",
                                         "lost",  "replaced", "refused", NULL};
    if (strcmp(name, "kind") == 0) {
        return kinds;
    }
    if (strcmp(name, "state") == 0) { /* of a placement */
        return states;
    }
    return strcmp(name, "outcome") == 0 ? outcomes : NULL;
}

/* The value that is asked for can be there, by what the sample has at the path. Null may be
 * anywhere: what did not happen is null. */
static bool is_possible(const expect_clause *self, const cJSON *at, char *error)
{
    const char *dot = strrchr(self->path, '.');
    const char *const *texts = texts_of(dot ? dot + 1 : self->path);
    bool number = self->kind == EXPECT_NUMBER, text = self->kind == EXPECT_TEXT;
    const char *takes = NULL;
    if (self->kind == EXPECT_NULL) {
        return true;
    }
    if (cJSON_IsBool(at) && (number || text)) {
        takes = "true or false";
    } else if ((cJSON_IsNumber(at) || cJSON_IsRaw(at)) && !number) {
        takes = "a number";
    } else if (cJSON_IsString(at) && !text && !number) {
        takes = "a text";
    }
    if (takes) {
        snprintf(error, EXPECT_ERROR_BYTES, "%.100s: it is %s, and never '%.60s'", self->path,
                 takes, self->condition);
        return false;
    }
    bool found = !cJSON_IsString(at) || !texts;
    char list[EXPECT_ERROR_BYTES / 2] = "";
    for (int i = 0; !found && texts[i]; i++) {
        size_t used = strlen(list);
        found = strcmp(texts[i], self->text) == 0;
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", texts[i]);
    }
    if (!found) {
        snprintf(error, EXPECT_ERROR_BYTES, "%.100s: it is one of %s, and never '%.60s'",
                 self->path, list, self->condition);
    }
    return found;
}

bool expect_is_known(const expect_clause *self, const cJSON *sample, char error[EXPECT_ERROR_BYTES])
{
    const char *path = self->path;
    char names[EXPECT_ERROR_BYTES - 200] = "";
    while (*path) {
        if (*path == '[') {
            if (!cJSON_IsArray(sample)) {
                break;
            }
            sample = cJSON_GetArrayItem(sample, 0);
            path += entry_length(path);
        } else {
            path += *path == '.';
            size_t length = name_length(path);
            if (cJSON_IsArray(sample) && strcmp(path, "length") == 0) {
                const cJSON length_of = {.type = cJSON_Number};
                return is_possible(self, &length_of, error);
            }
            if (!cJSON_IsObject(sample)) {
                break;
            }
            const cJSON *member = member_of(sample, path, length);
            if (!member) {
                list_members(sample, names, sizeof names);
                snprintf(error, EXPECT_ERROR_BYTES,
                         "%.100s: summary.json has no '%.*s' there; it has %s", self->path,
                         (int)length, path, names);
                return false;
            }
            sample = member;
            path += length;
        }
        if (!sample || cJSON_IsNull(sample)) {
            return true;
        }
    }
    if (*path) {
        snprintf(error, EXPECT_ERROR_BYTES, "%.100s: what stands before '%.60s' has no such parts",
                 self->path, path);
    }
    return !*path && is_possible(self, sample, error);
}

/* ---------------------------------------------------------------- judging */

static bool equals(const expect_clause *self, const cJSON *value)
{
    switch (self->kind) {
    case EXPECT_NUMBER:
        return cJSON_IsNumber(value) && value->valuedouble == self->number;
    case EXPECT_TRUE:
        return cJSON_IsTrue(value);
    case EXPECT_FALSE:
        return cJSON_IsFalse(value);
    case EXPECT_NULL:
        return cJSON_IsNull(value);
    case EXPECT_TEXT:
        return cJSON_IsString(value) && strcmp(value->valuestring, self->text) == 0;
    }
    return false;
}

static bool fits(const expect_clause *self, const cJSON *value)
{
    bool number = cJSON_IsNumber(value);
    double found = number ? value->valuedouble : 0;
    switch (self->relation) {
    case EXPECT_EQUAL:
        return equals(self, value);
    case EXPECT_DIFFERS:
        return !equals(self, value);
    case EXPECT_LESS:
        return number && found < self->number;
    case EXPECT_AT_MOST:
        return number && found <= self->number;
    case EXPECT_MORE:
        return number && found > self->number;
    case EXPECT_AT_LEAST:
        return number && found >= self->number;
    case EXPECT_WITHIN:
        return number && found >= self->number && found <= self->high;
    }
    return false;
}

typedef struct verdict {
    const expect_clause *clause;
    char *why;
    int num_seen;
    bool met;
} verdict;

static void judge(void *user, const char *place, const cJSON *value)
{
    verdict *self = user;
    self->num_seen++;
    if (!self->met || fits(self->clause, value)) {
        return;
    }
    char *found = cJSON_PrintUnformatted(value);
    self->met = false;
    snprintf(self->why, EXPECT_ERROR_BYTES, "%s: expected '%.120s', found %.120s", place,
             self->clause->condition, found ? found : "?");
    cJSON_free(found);
}

bool expect_met(const expect_clause *self, const cJSON *root, char why[EXPECT_ERROR_BYTES])
{
    verdict result = {.clause = self, .why = why, .met = true};
    expect_visit(self->path, root, judge, &result);
    if (result.num_seen == 0) {
        snprintf(why, EXPECT_ERROR_BYTES, "%s: expected '%s', found no such value", self->path,
                 self->condition);
        return false;
    }
    return result.met;
}
