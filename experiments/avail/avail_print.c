/* SPDX-License-Identifier: Apache-2.0 */
/* Regimes side by side: a table for each width. */
#include "experiments/avail/avail_print.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

typedef struct line {
    const char *name, *text;
    double scale; /* of the figure, for the table */
    bool is_drawn;
} line;

static const line lines[] = {
    {"faults_per_year", "faults a year", 1, true},
    {"users_stop_s", "a fault stops the users for, s", 1, false},
    {"until_whole_s", "until the instance is whole, s", 1, false},
    {"paused_h_per_year", "pauses, hours a year", 1, true},
    {"stopped_h_per_year", "too few ranks or groups, hours", 1, true},
    {"downtime_h_per_year", "downtime, hours a year", 1, true},
    {"lost_paused_gpu_h", "GPU-hours a year in pauses", 1, true},
    {"lost_degraded_gpu_h", "  for missing ranks", 1, true},
    {"lost_stopped_gpu_h", "  while the instance is down", 1, true},
    {"lost_gpu_h_per_year", "  all", 1, true},
    {"lost_gpu_h_per_fault", "GPU-hours a fault", 1, false},
    {"missing_ranks", "failed ranks at a time, mean", 1, true},
    {"second_fault", "second fault before it is whole, %", 100, true},
    {"reserve_gpus", "GPUs in reserve, of the fleet", 1, false},
    {"throughput_per_gpu", "throughput per GPU that is left", 1, false},
};
enum { NUM_LINES = sizeof lines / sizeof lines[0], LABEL = 36, COLUMN = 13, MOST_OVER = 1000 };

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static const cJSON *get(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* Four digits that count. */
static void print_value(double value)
{
    if (!isfinite(value)) {
        printf(" %*s", COLUMN, "-");
    } else if (value != 0 && fabs(value) < 1e-3) {
        printf(" %*.2e", COLUMN, value);
    } else {
        const double size = fabs(value);
        printf(" %*.*f", COLUMN, size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 4, value);
    }
}

static void print_formula(const cJSON *regimes, const line *row)
{
    const cJSON *regime;
    printf("  %-*s", LABEL, row->text);
    cJSON_ArrayForEach(regime, regimes)
    {
        print_value(number(regime, row->name) * row->scale);
    }
    putchar('\n');
}

static bool is_there(const cJSON *regimes, const char *name)
{
    return isfinite(number(regimes->child, name));
}

/* What chance gave, and how many standard errors that is from the formula. */
static void print_drawn(const cJSON *regimes, const line *row)
{
    const cJSON *regime;
    if (!get(regimes->child, "drawn")) {
        return;
    }
    printf("  %-*s", LABEL, "    drawn (standard errors off)");
    cJSON_ArrayForEach(regime, regimes)
    {
        const cJSON *drawn = get(get(regime, "drawn"), row->name);
        const double off = number(drawn, "standard_errors_off");
        char text[32] = "few events";
        if (number(drawn, "events") == 0 && number(drawn, "mean") == 0) {
            snprintf(text, sizeof text, "-");
        } else if (isfinite(off)) {
            snprintf(text, sizeof text, "%.4g (%.1f)", number(drawn, "mean") * row->scale, off);
        }
        printf(" %*s", COLUMN, text);
    }
    putchar('\n');
}

/* With faults that take a node or a rack: over the formula, or itself where that is next to 0. */
static void print_correlated(const cJSON *regimes, const line *row)
{
    const cJSON *regime;
    if (!get(regimes->child, "correlated")) {
        return;
    }
    printf("  %-*s", LABEL, "    correlated, over the formula");
    cJSON_ArrayForEach(regime, regimes)
    {
        const cJSON *drawn = get(get(regime, "correlated"), row->name);
        const double over = number(drawn, "over_formula");
        char text[32] = "few events";
        if (number(drawn, "events") == 0 && !(over > 0)) {
            snprintf(text, sizeof text, "-");
        } else if (number(drawn, "events") >= 30 && over > MOST_OVER) {
            snprintf(text, sizeof text, "is %.4g", number(drawn, "mean") * row->scale);
        } else if (number(drawn, "events") >= 30 && isfinite(over)) {
            snprintf(text, sizeof text, "x %.4g", over);
        }
        printf(" %*s", COLUMN, text);
    }
    putchar('\n');
}

static void print_redundancy(const cJSON *width)
{
    const cJSON *found = get(width, "redundancy"), *regime, *elastic = NULL;
    printf("  elastic: k = %.0f ranks may be missing\n",
           number(width, "ranks_that_may_be_missing"));
    if (!isfinite(number(found, "ranks"))) {
        printf("  no k meets the target of %.1e of the time\n", number(found, "target"));
        return;
    }
    printf("  k = %.0f is the least that meets %.1e (more are missing for %.1e of the time):\n"
           "  %.0f slots a rank hold all experts then, %.0f give k + 1 replicas of each\n",
           number(found, "ranks"), number(found, "target"), number(found, "beyond"),
           number(found, "slots_hold"), number(found, "slots_apart"));
    cJSON_ArrayForEach(regime, get(width, "regimes"))
    {
        elastic = regime;
    }
    if (get(elastic, "correlated")) {
        printf("  by chance the least k was %.0f, and %.0f with correlated faults\n",
               number(get(elastic, "drawn"), "redundancy_for_target"),
               number(get(elastic, "correlated"), "redundancy_for_target"));
    }
}

/* Each regime's downtime beside that of the first width. */
static void print_ratio(const cJSON *first, const cJSON *width)
{
    const cJSON *regime, *other = get(first, "regimes")->child;
    printf("  downtime over that of width %-*.0f", LABEL - 28, number(first, "width"));
    cJSON_ArrayForEach(regime, get(width, "regimes"))
    {
        print_value(number(regime, "downtime_h_per_year") / number(other, "downtime_h_per_year"));
        other = other->next;
    }
    putchar('\n');
}

static void print_width(const cJSON *first, const cJSON *width)
{
    const cJSON *regimes = get(width, "regimes"), *regime;
    printf("\nwidth %.0f: %.0f groups; a fault of a group every %.1f h; it stops %.3g %% of the "
           "fleet\n\n  %-*s",
           number(width, "width"), number(width, "groups"), number(width, "hours_between_faults"),
           100 * number(width, "blast_share_of_fleet"), LABEL, "");
    cJSON_ArrayForEach(regime, regimes)
    {
        printf(" %*s", COLUMN, get(regime, "regime")->valuestring);
    }
    putchar('\n');
    for (int i = 0; i < NUM_LINES; i++) {
        if (!is_there(regimes, lines[i].name)) {
            continue;
        }
        print_formula(regimes, &lines[i]);
        if (lines[i].is_drawn) {
            print_drawn(regimes, &lines[i]);
            print_correlated(regimes, &lines[i]);
        }
    }
    if (width != first) {
        print_ratio(first, width);
    }
    print_redundancy(width);
}

void avail_print(const cJSON *report)
{
    const cJSON *fleet = get(report, "fleet"), *times = get(report, "times"), *width;
    const cJSON *plateau = get(report, "plateau"), *widths = get(report, "widths");
    printf("modelled: %.0f GPUs at %.0f h between failures of a GPU: a fault every %.2f h\n"
           "pauses: %s; repair %.1f h: %.1f GPUs are in repair on average\n",
           number(fleet, "gpus"), number(fleet, "mtbf_h"), number(fleet, "hours_between_faults"),
           get(times, "pauses")->valuestring, number(times, "repair_mean_h"),
           number(fleet, "gpus_in_repair"));
    if (plateau) {
        printf("smallest width on the plateau (%.0f %% of the most): %.0f\n",
               100 * (1 - number(plateau, "tolerance")), number(plateau, "width"));
    }
    cJSON_ArrayForEach(width, widths)
    {
        print_width(widths->child, width);
    }
}

void avail_print_constants(const cJSON *constants)
{
    const cJSON *constant;
    cJSON_ArrayForEach(constant, constants)
    {
        printf("%-30s %8g %-5s %s\n", get(constant, "name")->valuestring, number(constant, "value"),
               get(constant, "unit")->valuestring, get(constant, "source")->valuestring);
    }
}
