/* SPDX-License-Identifier: Apache-2.0 */
/* Planning an instance and collecting what the plan moves. */
#include "experiments/plan_tool/plan_report.h"

#include "experiments/base/commit.h"
#include "experiments/plan_tool/plan_anew.h"
#include "experiments/plan_tool/plan_constants.h"
#include "experiments/plan_tool/plan_dual.h"
#include "experiments/plan_tool/plan_modelled.h"
#include "experiments/plan_tool/plan_outcome.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { WHY_BYTES = 1000, NAME_BYTES = 60 };

static double ms_of(uint64_t ns)
{
    return (double)ns / 1e6;
}

static void add(cJSON *object, const char *name, double number)
{
    cJSON_AddNumberToObject(object, name, number);
}

/* ---------------------------------------------------------------- the instance */

static cJSON *shape_of(const plan_case *self)
{
    const eepi_view_shape *s = &self->view->shape;
    cJSON *shape = cJSON_CreateObject(), *lost = cJSON_CreateArray();

    add(shape, "ranks", eepi_view_num_active(self->before));
    add(shape, "seats", s->max_ranks);
    add(shape, "nodes", eepi_view_num_nodes(s));
    add(shape, "layers", s->num_layers);
    add(shape, "experts", s->num_experts);
    add(shape, "slots", s->num_slots);
    add(shape, "expert_bytes", (double)self->given.expert_bytes);
    for (int seat = 0; seat < s->max_ranks; seat++) {
        if (eepi_view_is_member(self->before, seat) && !eepi_view_is_member(self->view, seat)) {
            cJSON_AddItemToArray(lost, cJSON_CreateNumber(seat));
        }
    }
    cJSON_AddItemToObject(shape, "lost", lost);
    add(shape, "uncovered", eepi_view_num_uncovered(self->view, -1));
    return shape;
}

/* ---------------------------------------------------------------- the pause */

static plan_source source_of(const eepi_fill *fill)
{
    return eepi_source_is_file(fill->source) ? PLAN_CHECKPOINT
           : fill->source == fill->seat      ? PLAN_OWN_NODE_BACKUP
                                             : PLAN_OTHER_BACKUP;
}

static cJSON *fills_of(const eepi_view *planned, int num)
{
    eepi_fill *fills = calloc((size_t)num + 1, sizeof *fills);
    cJSON *list = cJSON_CreateArray();

    for (int i = 0; fills && i < eepi_plan_fills(planned, -1, fills, num) && i < num; i++) {
        cJSON *fill = cJSON_CreateObject();
        add(fill, "layer", fills[i].layer);
        add(fill, "expert", fills[i].expert);
        add(fill, "rank", fills[i].seat);
        add(fill, "slot", fills[i].slot);
        cJSON_AddStringToObject(fill, "kind", plan_source_names[source_of(&fills[i])]);
        if (fills[i].source != EEPI_SOURCE_FILE) {
            add(fill, "source", eepi_source_seat(fills[i].source, fills[i].seat));
        }
        cJSON_AddItemToArray(list, fill);
    }
    free(fills);
    return list;
}

/* Bytes by where they are read: a rank's node, or a file, whoever reads it. */
static cJSON *sources_of(const eepi_plan_table *table, uint64_t expert_bytes, int max_ranks)
{
    cJSON *list = cJSON_CreateArray();

    for (int source = -1; source < max_ranks; source++) {
        int own = 0, others = 0;
        for (int i = 0; i < table->num_choices; i++) {
            const eepi_plan_choice *choice = &table->choices[i];
            const int named = eepi_source_is_file(choice->source) ? -1 : choice->source;
            own += source >= 0 && named == source && choice->seat == source;
            others += named == source && choice->seat != source;
        }
        if (own + others == 0) {
            continue;
        }
        cJSON *item = cJSON_CreateObject();
        if (source >= 0) {
            add(item, "rank", source);
        }
        add(item, "own_node_backup_bytes", (double)own * (double)expert_bytes);
        add(item, source < 0 ? "checkpoint_bytes" : "other_backup_bytes",
            (double)others * (double)expert_bytes);
        cJSON_AddItemToArray(list, item);
    }
    return list;
}

static cJSON *links_of(const plan_case *self, const eepi_plan_table *table)
{
    const eepi_plan_network *n = &table->network;
    cJSON *list = cJSON_CreateArray();

    for (int32_t r = 0; r < n->num_resources; r++) {
        char name[NAME_BYTES];
        if (n->load_ns[r] == 0) {
            continue;
        }
        cJSON *link = cJSON_CreateObject();
        eepi_links_name(self->links, r, name, sizeof name);
        cJSON_AddStringToObject(link, "link", name);
        add(link, "bytes",
            (double)(n->load_ns[r] / n->unit_ns[r]) * (double)self->given.expert_bytes);
        add(link, "ms", ms_of(n->load_ns[r]));
        cJSON_AddItemToArray(list, link);
    }
    return list;
}

static void add_tier(cJSON *pause, plan_source source, int fills, uint64_t expert_bytes)
{
    cJSON *tier = cJSON_AddObjectToObject(pause, plan_source_names[source]);

    add(tier, "fills", fills);
    add(tier, "bytes", (double)fills * (double)expert_bytes);
}

static void add_cost(cJSON *pause, const plan_case *self, eepi_plan_table *table,
                     const eepi_plan_cost *cost)
{
    const uint64_t bytes = self->given.expert_bytes;
    const uint64_t bound_ns = plan_dual_bound_ns(self->view, table, cost->bound_ns);

    add_tier(pause, PLAN_OWN_NODE_BACKUP, cost->num_own, bytes);
    add_tier(pause, PLAN_OTHER_BACKUP, cost->num_remote, bytes);
    add_tier(pause, PLAN_CHECKPOINT, cost->num_file, bytes);
    add(pause, "replicas_given_up", cost->num_evicted);
    add(pause, "makespan_ms", ms_of(cost->makespan_ns));
    add(pause, "bound_ms", ms_of(bound_ns));
    cJSON_AddItemToObject(pause, "sources", sources_of(table, bytes, self->view->shape.max_ranks));
    cJSON_AddItemToObject(pause, "links", links_of(self, table));
}

static cJSON *pause_of(const plan_case *self, eepi_plan_table *table, bool lists_fills,
                       eepi_view **planned_io)
{
    cJSON *pause = cJSON_CreateObject();
    char why[WHY_BYTES] = "";
    eepi_plan_cost cost;
    const eep_status status =
        eepi_plan_coverage(*planned_io, table, &self->given, &cost, why, sizeof why);

    cJSON_AddBoolToObject(pause, "covered", status == EEP_OK);
    if (status != EEP_OK) {
        cJSON_AddStringToObject(pause, "why", why);
        free(*planned_io);
        *planned_io = NULL;
        return pause;
    }
    add_cost(pause, self, table, &cost);
    if (lists_fills) {
        cJSON_AddItemToObject(pause, "fills", fills_of(*planned_io, eepi_plan_num_fills(&cost)));
    }
    return pause;
}

/* ---------------------------------------------------------------- the whole loss */

static void add_slots(cJSON *object, const plan_case *self, const int64_t *slots)
{
    const double bytes = (double)self->given.expert_bytes;
    int64_t all = 0;

    for (int source = 0; source < PLAN_NUM_SOURCES; source++) {
        all += slots[source];
    }
    for (int source = 0; source < PLAN_NUM_SOURCES; source++) {
        cJSON *item = cJSON_AddObjectToObject(object, plan_source_names[source]);
        add(item, "slots", (double)slots[source]);
        add(item, "percent", all ? 100.0 * (double)slots[source] / (double)all : 0);
        add(item, "bytes", source == PLAN_UNCHANGED ? 0 : (double)slots[source] * bytes);
    }
}

static void add_balance(cJSON *report, const plan_outcome *outcome)
{
    cJSON *balance = cJSON_AddObjectToObject(report, "balance");
    const struct {
        const char *name;
        plan_balance of;
    } when[] = {{"before", outcome->before}, {"paused", outcome->paused}, {"rest", outcome->rest}};

    for (size_t i = 0; i < sizeof when / sizeof when[0]; i++) {
        cJSON *item = cJSON_AddObjectToObject(balance, when[i].name);
        add(item, "worst", when[i].of.worst);
        add(item, "mean", when[i].of.mean);
    }
}

static void add_behind(cJSON *report, const plan_case *self, const plan_outcome *outcome)
{
    cJSON *behind = cJSON_AddObjectToObject(report, "behind_traffic");

    add(behind, "fills", (double)outcome->behind_fills);
    add(behind, "rounds", (double)outcome->rounds);
    add(behind, "bytes", (double)outcome->behind_fills * (double)self->given.expert_bytes);
    add(behind, "links_ms", outcome->behind_link_s * 1e3);
    add(behind, "ms", outcome->behind_s * 1e3);
}

static void add_modelled(cJSON *report, const plan_case *self, const plan_outcome *outcome)
{
    const int lost = eepi_view_num_active(self->before) - eepi_view_num_active(self->view);
    const plan_modelled m = plan_modelled_of(self, outcome, lost);
    cJSON *item = cJSON_AddObjectToObject(report, "modelled");

    add(item, "detect_ms", m.detect_ms);
    add(item, "agree_ms", m.agree_ms);
    add(item, "repair_ms", m.repair_ms);
    add(item, "rerun_ms", m.rerun_ms);
    add(item, "pause_ms", m.pause_ms);
    add(item, "silent_pause_ms", m.silent_pause_ms);
    add(item, "throughput_kept_percent", 100 * m.kept);
    cJSON_AddItemToObject(item, "constants", plan_constants_json());
}

/* What a placement made anew would move in the pause. */
static void add_anew(cJSON *report, const plan_case *self, const plan_anew *anew)
{
    cJSON *item = cJSON_AddObjectToObject(report, "placed_anew");

    cJSON_AddBoolToObject(item, "covered", anew->is_covered);
    if (anew->is_covered) {
        add(item, "makespan_ms", anew->pause_s * 1e3);
        add(item, "balance", anew->balance.mean);
        add(item, "bytes",
            (double)plan_slots_moved(anew->slots) * (double)self->given.expert_bytes);
        add_slots(cJSON_AddObjectToObject(item, "sources"), self, anew->slots);
    }
}

static void add_whole(cJSON *report, const plan_case *self, const plan_report_options *options)
{
    plan_outcomes outcomes;
    plan_outcome outcome;
    plan_anew anew;

    if (plan_outcomes_open(self, options->background_bytes_per_s, &outcomes) != EEP_OK) {
        return;
    }
    if (plan_outcomes_of(&outcomes, self->lost, &outcome) == EEP_OK && outcome.is_covered) {
        add_slots(cJSON_AddObjectToObject(report, "sources"), self, outcome.slots);
        add_balance(report, &outcome);
        add_behind(report, self, &outcome);
        add_modelled(report, self, &outcome);
        if (plan_anew_of(&outcomes, self->lost, &anew) == EEP_OK) {
            add_anew(report, self, &anew);
        }
    }
    plan_outcomes_close(&outcomes);
}

/* ---------------------------------------------------------------- time */

static uint64_t thread_cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void keep_least(uint64_t *least_io, uint64_t from_ns)
{
    const uint64_t ns = thread_cpu_ns() - from_ns;

    *least_io = ns < *least_io ? ns : *least_io;
}

/* CPU time of this thread, the least of so many times, beside hashing the document. */
static cJSON *times_of(const plan_case *self, eepi_plan_table *table, int times)
{
    cJSON *item = cJSON_CreateObject();
    uint64_t plan_ns = UINT64_MAX, hash_ns = UINT64_MAX, from_ns;
    eepi_view *view = eepi_view_copy(self->view);

    for (int i = 0; view && i < times; i++) {
        memcpy(view, self->view, self->view->bytes);
        from_ns = thread_cpu_ns();
        const eep_status status = eepi_plan_coverage(view, table, &self->given, NULL, NULL, 0);
        keep_least(&plan_ns, from_ns);
        cJSON_DeleteItemFromObject(item, "covered");
        cJSON_AddBoolToObject(item, "covered", status == EEP_OK);
        from_ns = thread_cpu_ns();
        eepi_view_seal(view);
        keep_least(&hash_ns, from_ns);
    }
    free(view);
    add(item, "times", times);
    add(item, "plan_ms", ms_of(plan_ns));
    add(item, "hash_ms", ms_of(hash_ns));
    add(item, "document_bytes", (double)self->view->bytes);
    return item;
}

/* ---------------------------------------------------------------- losses */

static void add_survey(cJSON *list, const plan_case *self, eepi_plan_table *table,
                       const plan_report_options *options, plan_survey survey)
{
    static const char *const kinds[] = {"ranks", "nodes", "neighbours"};

    if (plan_survey_run(self, table, options->samples, options->seed, &survey) != EEP_OK) {
        return;
    }
    cJSON *item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "lost", kinds[survey.kind]);
    add(item, "num", survey.size);
    cJSON_AddBoolToObject(item, "exact", survey.is_exact);
    add(item, "sets", (double)survey.sets);
    add(item, "by_replicas", (double)survey.by_replicas);
    add(item, "repaired", (double)survey.repaired);
    add(item, "refused", (double)survey.refused);
    add(item, "most_experts_of_a_layer", survey.most_lost);
    cJSON_AddItemToArray(list, item);
}

static cJSON *losses_of(const plan_case *self, eepi_plan_table *table,
                        const plan_report_options *options)
{
    const eepi_view_shape *s = &self->before->shape;
    cJSON *list = cJSON_CreateArray();

    for (int size = 1; size <= s->max_ranks / 2; size *= 2) {
        add_survey(list, self, table, options,
                   (plan_survey){.kind = PLAN_SURVEY_ANY, .size = size});
    }
    for (int size = 1; size <= 2 && size < eepi_view_num_nodes(s); size++) {
        add_survey(list, self, table, options,
                   (plan_survey){.kind = PLAN_SURVEY_NODE, .size = size});
    }
    for (int size = 2; size <= s->max_ranks / 2; size *= 2) {
        add_survey(list, self, table, options,
                   (plan_survey){.kind = PLAN_SURVEY_ADJACENT, .size = size});
    }
    return list;
}

cJSON *plan_report(const plan_case *self, const plan_report_options *options,
                   eepi_view **planned_out)
{
    eepi_plan_table *table = eepi_plan_table_new(&self->view->shape);
    eepi_view *planned = eepi_view_copy(self->view);
    cJSON *report = cJSON_CreateObject();

    if (!table || !planned || !report) {
        eepi_plan_table_free(table);
        free(planned);
        cJSON_Delete(report);
        return NULL;
    }
    cJSON_AddStringToObject(report, "commit", commit_text());
    add(report, "seed", (double)options->seed);
    cJSON_AddItemToObject(report, "instance", shape_of(self));
    cJSON_AddItemToObject(report, "pause", pause_of(self, table, options->lists_fills, &planned));
    if (planned && options->moves_behind) {
        add_whole(report, self, options);
    }
    if (options->times) {
        cJSON_AddItemToObject(report, "time", times_of(self, table, options->times));
    }
    if (options->samples) {
        cJSON_AddItemToObject(report, "losses", losses_of(self, table, options));
    }
    eepi_plan_table_free(table);
    *planned_out = planned;
    return report;
}
