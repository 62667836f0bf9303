/* SPDX-License-Identifier: Apache-2.0 */
/* The tree that both --json and the tables are made of. */
#include "experiments/avail/avail_report.h"

#include "experiments/avail/avail_constants.h"
#include "experiments/base/commit.h"

#include <math.h>

static cJSON *add_number(cJSON *object, const char *name, double value)
{
    return isfinite(value) ? cJSON_AddNumberToObject(object, name, value)
                           : cJSON_AddNullToObject(object, name);
}

/* ---------------------------------------------------------------- by chance */

static void add_drawn(cJSON *object, const avail_drawn_figures *all, const avail_figures *figures)
{
    const avail_drawn *drawn = all->figure;
    if (all->redundancy >= 0) {
        cJSON_AddNumberToObject(object, "redundancy_for_target", all->redundancy);
    }
    for (avail_figure f = 0; f < AVAIL_NUM_FIGURES; f++) {
        cJSON *one = cJSON_AddObjectToObject(object, avail_figure_name(f));
        add_number(one, "mean", drawn[f].mean);
        add_number(one, "standard_error", drawn[f].error);
        cJSON_AddNumberToObject(one, "events", (double)avail_drawn_events(all, f, figures));
        add_number(one, "standard_errors_off", avail_drawn_distance(all, f, figures));
        add_number(one, "over_formula",
                   figures->value[f] > 0 ? drawn[f].mean / figures->value[f] : NAN);
    }
}

static eep_status add_draws(cJSON *object, const avail_input *in, avail_regime regime,
                            const avail_report_options *options, const avail_figures *figures)
{
    const avail_shares alone = {0};
    avail_drawn_figures drawn;
    if (options->draws == 0) {
        return EEP_OK;
    }
    if (avail_draw(in, regime, &alone, options->draws, options->seed, options->target, &drawn) !=
        EEP_OK) {
        return EEP_ERR_NO_MEMORY;
    }
    add_drawn(cJSON_AddObjectToObject(object, "drawn"), &drawn, figures);
    if (options->shares.node + options->shares.rack > 0) {
        if (avail_draw(in, regime, &options->shares, options->draws, options->seed, options->target,
                       &drawn) != EEP_OK) {
            return EEP_ERR_NO_MEMORY;
        }
        add_drawn(cJSON_AddObjectToObject(object, "correlated"), &drawn, figures);
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- a width */

static eep_status add_regime(cJSON *array, const avail_input *in, avail_regime regime,
                             const avail_report_options *options)
{
    const time_law whole = avail_until_whole(in, regime);
    avail_figures figures;
    double throughput = 0;
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(array, object);
    avail_compute(in, regime, &figures);
    cJSON_AddStringToObject(object, "regime", avail_regime_name(regime));
    add_number(object, "users_stop_s", avail_stop_s(in, regime));
    add_number(object, "until_whole_s", time_law_mean(&whole) * 3600);
    for (avail_figure f = 0; f < AVAIL_NUM_FIGURES; f++) {
        add_number(object, avail_figure_name(f), figures.value[f]);
    }
    const double lost = figures.value[AVAIL_LOST];
    add_number(object, "reserve_gpus", avail_reserve(in, regime));
    const double kept = 1 - lost / in->width / AVAIL_HOURS_A_YEAR;
    add_number(object, "lost_gpu_h_per_fault", lost / figures.value[AVAIL_FAULTS]);
    add_number(object, "fleet_lost_gpu_h_per_year", lost * (double)avail_groups(in));
    add_number(object, "kept_share", kept);
    if (avail_curve_at(&options->curve, in->width, &throughput)) {
        add_number(object, "throughput_per_gpu", throughput * kept);
    }
    return add_draws(object, in, regime, options, &figures);
}

static void add_redundancy(cJSON *object, const avail_redundancy *found, double target)
{
    cJSON *one = cJSON_AddObjectToObject(object, "redundancy");
    add_number(one, "target", target);
    if (found->ranks < 0) {
        cJSON_AddNullToObject(one, "ranks");
        return;
    }
    cJSON_AddNumberToObject(one, "ranks", found->ranks);
    add_number(one, "beyond", found->beyond);
    cJSON_AddNumberToObject(one, "slots_hold", found->slots_hold);
    cJSON_AddNumberToObject(one, "slots_apart", found->slots_apart);
}

static eep_status add_width(cJSON *array, const avail_input *fleet, int32_t width,
                            const avail_report_options *options)
{
    avail_input in = *fleet;
    eep_status status = EEP_OK;
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(array, object);
    in.width = width;
    const avail_redundancy met = avail_redundancy_for(&in, options->target, options->experts);
    in.redundancy = options->redundancy >= 0 ? options->redundancy : met.ranks;
    in.redundancy = in.redundancy < width ? in.redundancy : width - 1;
    in.redundancy = in.redundancy < 0 ? width - 1 : in.redundancy;
    cJSON_AddNumberToObject(object, "width", width);
    cJSON_AddNumberToObject(object, "groups", (double)avail_groups(&in));
    cJSON_AddNumberToObject(object, "standby_groups", (double)avail_standby(&in));
    add_number(object, "hours_between_faults", in.mtbf_h / width);
    add_number(object, "blast_share_of_fleet", width / (double)in.gpus);
    cJSON_AddNumberToObject(object, "ranks_that_may_be_missing", in.redundancy);
    add_redundancy(object, &met, options->target);
    cJSON *regimes = cJSON_AddArrayToObject(object, "regimes");
    for (avail_regime r = 0; r < AVAIL_NUM_REGIMES && status == EEP_OK; r++) {
        status = add_regime(regimes, &in, r, options);
    }
    return status;
}

/* ---------------------------------------------------------------- all */

static void add_fleet(cJSON *root, const avail_input *in)
{
    cJSON *fleet = cJSON_AddObjectToObject(root, "fleet");
    cJSON_AddNumberToObject(fleet, "gpus", (double)in->gpus);
    add_number(fleet, "mtbf_h", in->mtbf_h);
    add_number(fleet, "hours_between_faults", in->mtbf_h / (double)in->gpus);
    add_number(fleet, "gpus_in_repair", avail_in_repair(in));
}

static void add_times(cJSON *root, const avail_input *in, const char *pauses)
{
    cJSON *times = cJSON_AddObjectToObject(root, "times");
    cJSON_AddStringToObject(times, "pauses", pauses);
    add_number(times, "detect_s", in->detect_s);
    add_number(times, "recovery_s", in->recovery_s);
    add_number(times, "reintegration_s", in->reintegration_s);
    add_number(times, "return_s", in->return_s);
    add_number(times, "restart_s", in->restart_s);
    add_number(times, "failover_s", in->failover_s);
    add_number(times, "repair_mean_h", time_law_mean(&in->repair));
    cJSON_AddBoolToObject(times, "repair_is_of_the_trace", in->repair.has_trace);
    cJSON_AddBoolToObject(times, "spares", in->has_spares);
    add_number(times, "lost_per_rank", in->lost_per_rank);
}

static void add_draw_options(cJSON *root, const avail_report_options *options)
{
    cJSON *draws = cJSON_AddObjectToObject(root, "draws");
    cJSON_AddNumberToObject(draws, "draws", (double)options->draws);
    cJSON_AddNumberToObject(draws, "seed", (double)options->seed);
    add_number(draws, "node_share", options->shares.node);
    add_number(draws, "rack_share", options->shares.rack);
    cJSON_AddNumberToObject(draws, "node_gpus", options->shares.node_gpus);
    cJSON_AddNumberToObject(draws, "rack_gpus", options->shares.rack_gpus);
}

static void add_plateau(cJSON *root, const avail_report_options *options)
{
    double most = 0;
    if (options->curve.num == 0) {
        return;
    }
    const avail_curve least = avail_curve_plateau(&options->curve, options->plateau, &most);
    cJSON *plateau = cJSON_AddObjectToObject(root, "plateau");
    add_number(plateau, "width", least.width);
    add_number(plateau, "throughput_per_gpu", least.throughput);
    add_number(plateau, "most", most);
    add_number(plateau, "tolerance", options->plateau);
}

cJSON *avail_report(const avail_input *fleet, const avail_report_options *options)
{
    eep_status status = EEP_OK;
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "kind", "modelled");
    cJSON_AddStringToObject(root, "commit", commit_text());
    add_fleet(root, fleet);
    add_times(root, fleet, options->pauses);
    add_draw_options(root, options);
    add_plateau(root, options);
    cJSON *widths = cJSON_AddArrayToObject(root, "widths");
    for (int i = 0; i < options->widths.num && status == EEP_OK; i++) {
        status = add_width(widths, fleet, options->widths.width[i], options);
    }
    if (status != EEP_OK || !widths) {
        cJSON_Delete(root);
        return NULL;
    }
    return root;
}

cJSON *avail_report_constants(void)
{
    cJSON *root = cJSON_CreateArray();
    for (int i = 0; avail_constant_at(i); i++) {
        const avail_constant *constant = avail_constant_at(i);
        cJSON *object = cJSON_CreateObject();
        cJSON_AddItemToArray(root, object);
        cJSON_AddStringToObject(object, "name", constant->name);
        add_number(object, "value", constant->value);
        cJSON_AddStringToObject(object, "unit", constant->unit);
        cJSON_AddStringToObject(object, "source", constant->source);
    }
    return root;
}
