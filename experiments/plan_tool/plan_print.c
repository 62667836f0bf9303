/* SPDX-License-Identifier: Apache-2.0 */
/* A plan as lines for people. */
#include "experiments/plan_tool/plan_print.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_LINKS = 8 };

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(object, name);

    return item ? item->valuedouble : 0;
}

static double megabytes(const cJSON *object, const char *name)
{
    return number(object, name) / 1e6;
}

static void print_instance(const cJSON *instance)
{
    const cJSON *lost = cJSON_GetObjectItem(instance, "lost"), *rank;

    printf("%.0f ranks on %.0f nodes, %.0f layers of %.0f experts, %.0f slots a rank\n",
           number(instance, "ranks"), number(instance, "nodes"), number(instance, "layers"),
           number(instance, "experts"), number(instance, "slots"));
    printf("lost: ");
    cJSON_ArrayForEach(rank, lost)
    {
        printf("%s%.0f", rank == lost->child ? "" : " ", rank->valuedouble);
    }
    printf("%s; %.0f experts have no live replica\n\n", lost->child ? "" : "nobody",
           number(instance, "uncovered"));
}

static void print_tier(const cJSON *pause, const char *name, const char *what)
{
    const cJSON *tier = cJSON_GetObjectItem(pause, name);

    printf("  %-36s %8.0f experts %12.1f MB\n", what, number(tier, "fills"),
           megabytes(tier, "bytes"));
}

static int by_load(const void *a, const void *b)
{
    const double left = number(*(cJSON *const *)a, "ms"), right = number(*(cJSON *const *)b, "ms");

    return left < right ? 1 : left > right ? -1 : 0;
}

/* The most loaded ones first; equal ones as they stand. */
static void print_links(const cJSON *links)
{
    const cJSON *sorted[MOST_LINKS + 1], *link;
    int num = 0;

    cJSON_ArrayForEach(link, links)
    {
        sorted[num] = link;
        for (int i = num; i > 0 && by_load(&sorted[i - 1], &sorted[i]) > 0; i--) {
            const cJSON *other = sorted[i];
            sorted[i] = sorted[i - 1];
            sorted[i - 1] = other;
        }
        num += num < MOST_LINKS;
    }
    printf("  most loaded links:\n");
    for (int i = 0; i < num; i++) {
        printf("    %-34s %12.1f MB %12.3f ms\n",
               cJSON_GetObjectItem(sorted[i], "link")->valuestring, megabytes(sorted[i], "bytes"),
               number(sorted[i], "ms"));
    }
}

static void print_sources(const cJSON *sources)
{
    const cJSON *source;

    printf("  bytes by source:\n");
    cJSON_ArrayForEach(source, sources)
    {
        if (cJSON_GetObjectItem(source, "rank")) {
            printf("    rank %-29.0f %12.1f MB to others %8.1f MB to itself\n",
                   number(source, "rank"), megabytes(source, "other_backup_bytes"),
                   megabytes(source, "own_node_backup_bytes"));
        } else {
            printf("    %-34s %12.1f MB\n", "the checkpoint",
                   megabytes(source, "checkpoint_bytes"));
        }
    }
}

static void print_fills(const cJSON *fills)
{
    const cJSON *fill;

    printf("  fills:\n");
    cJSON_ArrayForEach(fill, fills)
    {
        printf("    layer %3.0f expert %5.0f -> rank %4.0f slot %3.0f  %s", number(fill, "layer"),
               number(fill, "expert"), number(fill, "rank"), number(fill, "slot"),
               cJSON_GetObjectItem(fill, "kind")->valuestring);
        if (cJSON_GetObjectItem(fill, "source")) {
            printf(" from rank %.0f", number(fill, "source"));
        }
        printf("\n");
    }
}

static void print_pause(const cJSON *pause)
{
    const cJSON *why = cJSON_GetObjectItem(pause, "why");
    const double bound_ms = number(pause, "bound_ms");

    printf("in the pause:\n");
    if (why) {
        printf("  fails closed: %s\n", why->valuestring);
        return;
    }
    print_tier(pause, "own_node_backup", "1 a backup of the own node");
    print_tier(pause, "other_backup", "2 a backup of another node");
    print_tier(pause, "checkpoint", "2 the checkpoint");
    printf("  %-36s %8.0f\n", "replicas of others given up", number(pause, "replicas_given_up"));
    printf("  makespan %.3f ms; no plan takes less than %.3f ms", number(pause, "makespan_ms"),
           bound_ms);
    if (bound_ms > 0) {
        printf(" (%.3f times)", number(pause, "makespan_ms") / bound_ms);
    }
    printf("\n");
    if (bound_ms > 0) {
        print_links(cJSON_GetObjectItem(pause, "links"));
        print_sources(cJSON_GetObjectItem(pause, "sources"));
    }
    if (cJSON_GetObjectItem(pause, "fills")) {
        print_fills(cJSON_GetObjectItem(pause, "fills"));
    }
}

static void print_losses(const cJSON *losses)
{
    const cJSON *loss;

    printf(
        "\nlosses                       sets   by replicas   repaired   refused   most experts of "
        "a layer\n");
    cJSON_ArrayForEach(loss, losses)
    {
        printf("any %4.0f %-10s %s %9.0f %13.0f %10.0f %9.0f %14.0f\n", number(loss, "num"),
               cJSON_GetObjectItem(loss, "lost")->valuestring,
               cJSON_IsTrue(cJSON_GetObjectItem(loss, "exact")) ? "all   " : "sample",
               number(loss, "sets"), number(loss, "by_replicas"), number(loss, "repaired"),
               number(loss, "refused"), number(loss, "most_experts_of_a_layer"));
    }
}

static void print_slots(const cJSON *sources)
{
    const cJSON *source;

    cJSON_ArrayForEach(source, sources)
    {
        printf("    %-34s %8.0f slots %7.2f %% %12.1f MB\n", source->string,
               number(source, "slots"), number(source, "percent"), megabytes(source, "bytes"));
    }
}

static void print_balance(const cJSON *balance)
{
    const cJSON *when;

    printf("most loaded rank over the mean, worst layer and mean of all:\n");
    cJSON_ArrayForEach(when, balance)
    {
        printf("    %-34s %8.4f %8.4f\n", when->string, number(when, "worst"),
               number(when, "mean"));
    }
}

static void print_whole(const cJSON *report)
{
    const cJSON *behind = cJSON_GetObjectItem(report, "behind_traffic");
    const cJSON *modelled = cJSON_GetObjectItem(report, "modelled");
    const cJSON *anew = cJSON_GetObjectItem(report, "placed_anew");

    printf("behind live traffic:\n  %-36s %8.0f experts %12.1f MB in %.0f rounds\n",
           "3 redundancy and balance", number(behind, "fills"), megabytes(behind, "bytes"),
           number(behind, "rounds"));
    printf("  %.3f ms; links alone %.3f ms\nsources of the survivors' slots:\n",
           number(behind, "ms"), number(behind, "links_ms"));
    print_slots(cJSON_GetObjectItem(report, "sources"));
    print_balance(cJSON_GetObjectItem(report, "balance"));
    printf("parts of the pause:\n  measured  detect %.1f + agree %.1f ms (the sources: --json)\n"
           "  modelled  repair %.1f + rerun %.1f ms\n"
           "  sum       %.1f ms; of a silent rank %.1f ms; throughput kept %.1f %%\n",
           number(modelled, "detect_ms"), number(modelled, "agree_ms"),
           number(modelled, "repair_ms"), number(modelled, "rerun_ms"),
           number(modelled, "pause_ms"), number(modelled, "silent_pause_ms"),
           number(modelled, "throughput_kept_percent"));
    if (anew && cJSON_IsTrue(cJSON_GetObjectItem(anew, "covered"))) {
        printf("placed anew inside the pause instead: %.1f MB, links alone %.3f ms\n",
               megabytes(anew, "bytes"), number(anew, "makespan_ms"));
        print_slots(cJSON_GetObjectItem(anew, "sources"));
    }
}

void plan_print_redundancy(const cJSON *report)
{
    const cJSON *goal, *backups = cJSON_GetObjectItem(report, "with_backups");

    printf(
        "survived without moving a byte     redundant slots of a layer       slots a rank\n"
        "                                   least by count  libeep's   least by count  libeep's\n");
    cJSON_ArrayForEach(goal, cJSON_GetObjectItem(report, "goals"))
    {
        printf("any %4.0f %-20s %19.0f %9.0f %16.0f %9.0f\n", number(goal, "num"),
               cJSON_GetObjectItem(goal, "lost")->valuestring, number(goal, "redundant_needed"),
               number(goal, "redundant"), number(goal, "slots_needed"),
               number(goal, "slots_a_rank"));
    }
    printf(
        "All are exact: every expert of the placement is looked at. 0: not found up to twice the "
        "count.\n");
    if (backups) {
        printf(
            "With %.0f slots a rank and its backups: any %.0f ranks (%.0f by sources, %.0f by the "
            "survivors' room).\n",
            number(backups, "slots_a_rank"), number(backups, "any_ranks"),
            number(backups, "any_ranks_by_sources"), number(backups, "any_ranks_by_room"));
    }
}

void plan_print(const cJSON *report)
{
    const cJSON *behind = cJSON_GetObjectItem(report, "behind_traffic");
    const cJSON *time = cJSON_GetObjectItem(report, "time");

    print_instance(cJSON_GetObjectItem(report, "instance"));
    print_pause(cJSON_GetObjectItem(report, "pause"));
    if (behind) {
        print_whole(report);
    }
    if (time) {
        printf("\nplanning the pause: %.3f ms of CPU time (least of %.0f), %.1f times hashing the "
               "document of %.0f bytes\n",
               number(time, "plan_ms"), number(time, "times"),
               number(time, "plan_ms") / number(time, "hash_ms"), number(time, "document_bytes"));
    }
    if (cJSON_GetObjectItem(report, "losses")) {
        print_losses(cJSON_GetObjectItem(report, "losses"));
    }
}
