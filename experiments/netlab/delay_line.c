/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/netlab/delay_line.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NS_PER_US = 1000, LINE_BYTES = 256 };
#define NS_PER_S    UINT64_C(1000000000)
#define LIMIT_BYTES (UINT64_C(4) << 20)
#define MOST_US     (UINT64_C(3600) * 1000 * 1000)

void delay_line_init(delay_line *self, uint64_t seed)
{
    memset(self, 0, sizeof *self);
    self->random = seed ? seed : 1;
}

static void free_frames(delay_frame *frame)
{
    while (frame) {
        delay_frame *next = frame->next;
        free(frame);
        frame = next;
    }
}

void delay_line_destroy(delay_line *self)
{
    for (size_t i = 0; i < self->num_rules; i++) {
        free_frames(self->rule[i].first);
    }
    free_frames(self->old);
    memset(self, 0, sizeof *self);
}

/* Evenly from [0, 1). */
static double draw(delay_line *self)
{
    self->random ^= self->random << 13;
    self->random ^= self->random >> 7;
    self->random ^= self->random << 17;
    return (double)(self->random >> 11) / 9007199254740992.0;
}

static bool parse_mac(const char *word, delay_rule *rule)
{
    unsigned int byte[DELAY_LINE_MAC_BYTES];
    int end = 0;
    if (strcmp(word, "*") == 0) {
        rule->any = true;
        return true;
    }
    if (sscanf(word, "%2x:%2x:%2x:%2x:%2x:%2x%n", &byte[0], &byte[1], &byte[2], &byte[3], &byte[4],
               &byte[5], &end) != DELAY_LINE_MAC_BYTES ||
        word[end] != '\0') {
        return false;
    }
    for (int i = 0; i < DELAY_LINE_MAC_BYTES; i++) {
        rule->mac[i] = (unsigned char)byte[i];
    }
    return true;
}

static bool parse_number(const char *text, double most, double *value_out)
{
    char *end;
    double value;
    if (!isdigit((unsigned char)*text)) {
        return false;
    }
    value = strtod(text, &end);
    if (*end != '\0' || !isfinite(value) || value > most) {
        return false;
    }
    *value_out = value;
    return true;
}

static bool parse_setting(char *word, delay_rule *rule)
{
    char *value = strchr(word, '=');
    double number;
    if (!value) {
        return false;
    }
    *value++ = '\0';
    if (strcmp(word, "loss") == 0) {
        return parse_number(value, 1, &rule->loss);
    }
    if (strcmp(word, "delay_us") == 0 && parse_number(value, (double)MOST_US, &number)) {
        rule->delay_ns = (uint64_t)(number * NS_PER_US);
    } else if (strcmp(word, "jitter_us") == 0 && parse_number(value, (double)MOST_US, &number)) {
        rule->jitter_ns = (uint64_t)(number * NS_PER_US);
    } else if (strcmp(word, "bytes_per_s") == 0 && parse_number(value, 1e12, &number)) {
        rule->bytes_per_s = (uint64_t)number;
    } else if (strcmp(word, "limit_bytes") == 0 && parse_number(value, 1e9, &number)) {
        rule->limit_bytes = (uint64_t)number;
    } else {
        return false;
    }
    return true;
}

/* false: the line is none. *has_out: it has a rule. */
static bool parse_line(char *line, delay_rule *rule_out, bool *has_out)
{
    delay_rule rule = {.limit_bytes = LIMIT_BYTES};
    char *rest = NULL, *word = strtok_r(line, " \t\r", &rest);
    *has_out = word && *word != '#';
    if (!*has_out) {
        return true;
    }
    if (strcmp(word, ">") != 0 && strcmp(word, "<") != 0) {
        return false;
    }
    rule.direction = *word == '<';
    word = strtok_r(NULL, " \t\r", &rest);
    if (!word || !parse_mac(word, &rule)) {
        return false;
    }
    while ((word = strtok_r(NULL, " \t\r", &rest))) {
        if (!parse_setting(word, &rule)) {
            return false;
        }
    }
    *rule_out = rule;
    return true;
}

/* Into the list by time, behind those that are due at the same time. */
static void insert_by_time(delay_frame **list, delay_frame *frame)
{
    while (*list && (*list)->due_ns <= frame->due_ns) {
        list = &(*list)->next;
    }
    frame->next = *list;
    *list = frame;
}

eep_status delay_line_set_rules(delay_line *self, const char *text, int *line_out)
{
    delay_rule rules[DELAY_LINE_RULES_MAX];
    size_t num_rules = 0;

    for (int number = 1; *text; number++) {
        char line[LINE_BYTES];
        size_t size = strcspn(text, "\n");
        delay_rule rule;
        bool has = false, fits = size < sizeof line;
        if (fits) {
            memcpy(line, text, size);
            line[size] = '\0';
        }
        if (!fits || strlen(line) != size || !parse_line(line, &rule, &has) ||
            (has && num_rules == DELAY_LINE_RULES_MAX)) {
            *line_out = number;
            return EEP_ERR_INVALID;
        }
        if (has) {
            rules[num_rules++] = rule;
        }
        text += size + (text[size] == '\n');
    }
    for (size_t i = 0; i < self->num_rules; i++) {
        delay_frame *frame = self->rule[i].first;
        while (frame) {
            delay_frame *next = frame->next;
            insert_by_time(&self->old, frame);
            frame = next;
        }
    }
    memcpy(self->rule, rules, num_rules * sizeof *rules);
    self->num_rules = num_rules;
    return EEP_OK;
}

static size_t find_rule(const delay_line *self, int direction, const unsigned char *ethernet)
{
    const unsigned char *far_end = direction == 0 ? ethernet : ethernet + DELAY_LINE_MAC_BYTES;
    for (size_t i = 0; i < self->num_rules; i++) {
        const delay_rule *rule = &self->rule[i];
        if (rule->direction == direction &&
            (rule->any || memcmp(rule->mac, far_end, DELAY_LINE_MAC_BYTES) == 0)) {
            return i;
        }
    }
    return DELAY_LINE_RULES_MAX;
}

bool delay_line_passes(const delay_line *self, int direction,
                       const unsigned char ethernet[DELAY_LINE_HEAD_BYTES])
{
    return find_rule(self, direction, ethernet) == DELAY_LINE_RULES_MAX;
}

/* When the frame is due by the rule. false: more than the rate's limit waits. */
static bool pass_rate(delay_rule *rule, size_t size, uint64_t now_ns, uint64_t *due_out)
{
    uint64_t begin = rule->free_ns > now_ns ? rule->free_ns : now_ns;
    *due_out = now_ns;
    if (rule->bytes_per_s == 0) {
        return true;
    }
    if ((double)(begin - now_ns) * (double)rule->bytes_per_s / (double)NS_PER_S >
        (double)rule->limit_bytes) {
        return false;
    }
    rule->free_ns = begin + (uint64_t)((double)size * (double)NS_PER_S / (double)rule->bytes_per_s);
    *due_out = rule->free_ns;
    return true;
}

delay_frame *delay_line_add(delay_line *self, int direction,
                            const unsigned char ethernet[DELAY_LINE_HEAD_BYTES], size_t size,
                            uint64_t now_ns)
{
    size_t number = find_rule(self, direction, ethernet);
    delay_rule *rule = number < DELAY_LINE_RULES_MAX ? &self->rule[number] : NULL;
    uint64_t due = now_ns;
    delay_frame *frame;

    if (rule &&
        ((rule->loss > 0 && draw(self) < rule->loss) || !pass_rate(rule, size, now_ns, &due))) {
        rule->num_lost++;
        return NULL;
    }
    frame = malloc(sizeof *frame + size);
    if (!frame) {
        return NULL;
    }
    *frame = (delay_frame){.direction = direction, .size = size};
    if (!rule) {
        frame->due_ns = due;
        insert_by_time(&self->old, frame);
        return frame;
    }
    due += rule->delay_ns + (uint64_t)(draw(self) * (double)rule->jitter_ns);
    frame->due_ns = rule->last_due_ns > due ? rule->last_due_ns : due;
    rule->last_due_ns = frame->due_ns;
    if (rule->last) {
        rule->last->next = frame;
    } else {
        rule->first = frame;
    }
    rule->last = frame;
    return frame;
}

/* Where the frame that is due first hangs; NULL: none waits. */
static delay_rule *find_first(const delay_line *self, uint64_t *due_out)
{
    const delay_rule *found = NULL;
    *due_out = self->old ? self->old->due_ns : UINT64_MAX;
    for (size_t i = 0; i < self->num_rules; i++) {
        if (self->rule[i].first && self->rule[i].first->due_ns < *due_out) {
            found = &self->rule[i];
            *due_out = found->first->due_ns;
        }
    }
    return (delay_rule *)found;
}

delay_frame *delay_line_take(delay_line *self, uint64_t now_ns)
{
    uint64_t due;
    delay_rule *rule = find_first(self, &due);
    delay_frame *frame;
    if (due > now_ns || due == UINT64_MAX) {
        return NULL;
    }
    frame = rule ? rule->first : self->old;
    if (!rule) {
        self->old = frame->next;
        return frame;
    }
    rule->first = frame->next;
    if (!rule->first) {
        rule->last = NULL;
    }
    return frame;
}

uint64_t delay_line_next_ns(const delay_line *self)
{
    uint64_t due;
    (void)find_first(self, &due);
    return due;
}
