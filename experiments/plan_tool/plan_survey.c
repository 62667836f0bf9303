/* SPDX-License-Identifier: Apache-2.0 */
/* Losses one after the other, each planned for. */
#include "experiments/plan_tool/plan_survey.h"

#include "experiments/base/random.h"

#include <stdlib.h>
#include <string.h>

typedef struct survey_state {
    const plan_case *self;
    eepi_plan_table *table;
    eepi_view *view; /* of the loss at hand */
    bool *lost;      /* [max_ranks] */
    int *chosen;     /* [size]: ranks or nodes, rising */
    int num_units;   /* ranks, nodes or places where neighbours begin */
} survey_state;

static void look(survey_state *s, plan_survey *survey)
{
    const int layers = s->view->shape.num_layers;
    bool is_covered = true;

    memcpy(s->view, s->self->before, s->self->before->bytes);
    plan_case_lose(s->view, s->lost);
    for (int layer = 0; layer < layers; layer++) {
        const int num = eepi_view_num_uncovered(s->view, layer);
        is_covered &= num == 0;
        survey->most_lost = num > survey->most_lost ? num : survey->most_lost;
    }
    survey->sets++;
    if (is_covered && eepi_view_num_active(s->view) > 0) {
        survey->by_replicas++;
    } else if (eepi_plan_coverage(s->view, s->table, &s->self->given, NULL, NULL, 0) == EEP_OK) {
        survey->repaired++;
    } else {
        survey->refused++;
    }
}

static void mark(survey_state *s, const plan_survey *survey)
{
    const eepi_view_shape *shape = &s->view->shape;
    const int ranks = shape->max_ranks;

    memset(s->lost, 0, (size_t)ranks * sizeof *s->lost);
    for (int seat = 0; seat < ranks; seat++) {
        if (survey->kind == PLAN_SURVEY_ADJACENT) {
            s->lost[seat] = (seat - s->chosen[0] + ranks) % ranks < survey->size;
            continue;
        }
        for (int i = 0; i < survey->size; i++) {
            s->lost[seat] |=
                s->chosen[i] ==
                (survey->kind == PLAN_SURVEY_NODE ? eepi_view_node_of(shape, seat) : seat);
        }
    }
}

static int num_chosen(const plan_survey *survey)
{
    return survey->kind == PLAN_SURVEY_ADJACENT ? 1 : survey->size;
}

/* Sets of that size, up to `most` + 1. */
static int64_t count_sets(int units, int size, int64_t most)
{
    int64_t num = 1;

    for (int i = 1; i <= size && num <= most; i++) {
        num = num * (units - size + i) / i;
    }
    return num;
}

/* The next set in order; false: that was the last one. */
static bool next_set(survey_state *s, int size)
{
    int at = size - 1;

    while (at >= 0 && s->chosen[at] == s->num_units - size + at) {
        at--;
    }
    if (at < 0) {
        return false;
    }
    s->chosen[at]++;
    for (int i = at + 1; i < size; i++) {
        s->chosen[i] = s->chosen[i - 1] + 1;
    }
    return true;
}

/* Selection sampling (Knuth, algorithm S): each set with the same chance. */
static void any_set(survey_state *s, int size, uint64_t *random)
{
    for (int unit = 0, num = 0; num < size; unit++) {
        if (random_next(random) % (uint64_t)(s->num_units - unit) < (uint64_t)(size - num)) {
            s->chosen[num++] = unit;
        }
    }
}

static void look_at_sets(survey_state *s, plan_survey *survey, int samples, uint64_t seed)
{
    const int size = num_chosen(survey);

    survey->is_exact = count_sets(s->num_units, size, samples) <= samples;
    for (int i = 0; i < size; i++) {
        s->chosen[i] = i;
    }
    if (survey->is_exact) {
        do {
            mark(s, survey);
            look(s, survey);
        } while (next_set(s, size));
        return;
    }
    for (int i = 0; i < samples; i++) {
        any_set(s, size, &seed);
        mark(s, survey);
        look(s, survey);
    }
}

eep_status plan_survey_run(const plan_case *self, eepi_plan_table *table, int samples,
                           uint64_t seed, plan_survey *survey_io)
{
    const eepi_view_shape *shape = &self->before->shape;
    survey_state s = {.self = self,
                      .table = table,
                      .view = eepi_view_copy(self->before),
                      .lost = calloc((size_t)shape->max_ranks, sizeof *s.lost),
                      .chosen = calloc((size_t)num_chosen(survey_io), sizeof *s.chosen),
                      .num_units = survey_io->kind == PLAN_SURVEY_NODE ? eepi_view_num_nodes(shape)
                                                                       : shape->max_ranks};
    const bool is_whole = s.view && s.lost && s.chosen;

    if (is_whole) {
        look_at_sets(&s, survey_io, samples, seed);
    }
    free(s.view);
    free(s.lost);
    free(s.chosen);
    return is_whole ? EEP_OK : EEP_ERR_NO_MEMORY;
}
