/* SPDX-License-Identifier: Apache-2.0 */
/* eep-plan: how an instance would be repaired after a loss: what is copied in the pause, over which
 * links, what follows behind live traffic, and which losses it survives. Nothing is started. */
#include "experiments/base/args.h"
#include "experiments/base/commit.h"
#include "experiments/base/expert_loads.h"
#include "experiments/base/output.h"
#include "experiments/plan_tool/plan_constants.h"
#include "experiments/plan_tool/plan_draws.h"
#include "experiments/plan_tool/plan_modelled.h"
#include "experiments/plan_tool/plan_print.h"
#include "experiments/plan_tool/plan_redundancy.h"
#include "experiments/plan_tool/plan_report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMELINE_BEFORE_S = 4, TIMELINE_AFTER_S = 8 };

typedef struct options {
    plan_case_options instance;
    plan_report_options report;
    const char *dump, *config, *timeline;
    int32_t nodes, background_mbs, draws, num_failed;
    bool json, survey, redundancy;
    args_given given;
} options;

#define AT(field) ARGS_AT(options, field)
static const args_row instance_rows[] = {
    {"--config", ARGS_ONE_OF, AT(config), 0, 0, "none|paper", "NAME", "none",
     "paper: 32 ranks on 4 nodes and links as in arXiv 2605.10670, unless given, and --behind"},
    {"--ranks", ARGS_WHOLE, AT(instance.ranks), 1, EEP_MAX_RANKS, NULL, "R", "32", "ranks"},
    {"--nodes", ARGS_WHOLE, AT(nodes), 1, EEP_MAX_RANKS, NULL, "N", "1",
     "machines that the ranks are on, in order"},
    {"--layers", ARGS_WHOLE, AT(instance.layers), 1, EEP_MAX_LAYERS, NULL, "L", "58", "MoE layers"},
    {"--experts", ARGS_WHOLE, AT(instance.experts), 1, EEP_MAX_EXPERTS, NULL, "E", "256",
     "logical experts per layer"},
    {"--slots", ARGS_WHOLE, AT(instance.slots), 1, EEP_MAX_EXPERTS, NULL, "S", "16",
     "expert slots per rank and layer"},
    {"--spread", ARGS_WHOLE, AT(instance.spread), 0, EEP_MAX_RANKS, NULL, "D", "0",
     "least distance of two replicas; 0: the default"},
    {"--backups", ARGS_WHOLE, AT(instance.backups), 0, EEP_MAX_RANKS, NULL, "B", "1",
     "nodes that keep a backup of an expert in host memory"},
    {"--checkpoint", ARGS_FLAG, AT(instance.checkpoint), 0, 0, NULL, NULL, NULL,
     "every rank can read every expert from a checkpoint file"},
    {"--loads", ARGS_ONE_OF, AT(instance.loads), 0, 0, "even|" EXPERT_LOADS_LAWS, "LAW", "even",
     "of experts: all alike, or drawn: uniform, Zipf, lognormal"},
    {"--view", ARGS_TEXT, AT(instance.view), 0, 0, NULL, "FILE", NULL,
     "a view document (--dump writes one) instead of all of the above but --checkpoint"},
};
static const args_row loss_rows[] = {
    {"--lost", ARGS_TEXT, AT(instance.lost), 0, 0, NULL, "LIST", NULL,
     "ranks that are lost at once, such as 3,8-11"},
    {"--failed", ARGS_WHOLE, AT(instance.failed), 0, EEP_MAX_RANKS, NULL, "K", "0",
     "so many ranks are lost, by chance"},
    {"--how", ARGS_ONE_OF, AT(instance.how), 0, 0, "random|adjacent|nodes", "HOW", "random",
     "of --failed: any ranks, neighbours, or one node after the other"},
    {"--seed", ARGS_WHOLE, AT(instance.seed), 0, 9e15, NULL, "SEED", "1",
     "of all that is by chance"},
};
static const args_row link_rows[] = {
    {"--expert-bytes", ARGS_WHOLE, AT(instance.expert_bytes), 1, 1e12, NULL, "B", "44040192",
     "of one expert's weights"},
    {"--rates", ARGS_ONE_OF, AT(instance.rates), 0, 0, "default|random", "HOW", "default",
     "what links carry: the defaults of libeep, or by chance"},
    {"--out-mbs", ARGS_WHOLE, AT(instance.mbs[EEPI_RATE_OUT]), 0, 1e9, NULL, "MB/S", "0",
     "out of each rank, 10^6 bytes per second; 0: as --rates says"},
    {"--in-mbs", ARGS_WHOLE, AT(instance.mbs[EEPI_RATE_IN]), 0, 1e9, NULL, "MB/S", "0",
     "into each rank"},
    {"--nic-mbs", ARGS_WHOLE, AT(instance.mbs[EEPI_RATE_NIC]), 0, 1e9, NULL, "MB/S", "0",
     "each way of a NIC"},
    {"--nics", ARGS_WHOLE, AT(instance.mbs[EEPI_RATE_NIC_AT]), 0, 1024, NULL, "N", "0",
     "NICs of a node, which its ranks take in turn; 0: they share one"},
    {"--pcie-mbs", ARGS_WHOLE, AT(instance.mbs[EEPI_RATE_PCIE]), 0, 1e9, NULL, "MB/S", "0",
     "each way of a device's PCIe link"},
    {"--host-mbs", ARGS_WHOLE, AT(instance.host_mbs), 0, 1e9, NULL, "MB/S", "0",
     "reading the host memory of each node; 0: the default of libeep"},
    {"--file-mbs", ARGS_WHOLE, AT(instance.mbs[EEPI_RATE_FILE]), 0, 1e9, NULL, "MB/S", "0",
     "reading the file, on each node"},
    {"--background-mbs", ARGS_WHOLE, AT(background_mbs), 0, 1e9, NULL, "MB/S", "1000",
     "into each rank behind live traffic; 0: as links allow"},
};
static const args_row output_rows[] = {
    {"--behind", ARGS_FLAG, AT(report.moves_behind), 0, 0, NULL, NULL, NULL,
     "also what is moved behind live traffic afterwards, sources of all slots, balance, the "
     "modelled "
     "pause, and a placement made anew instead"},
    {"--fills", ARGS_FLAG, AT(report.lists_fills), 0, 0, NULL, NULL, NULL, "list every fill"},
    {"--survey", ARGS_FLAG, AT(survey), 0, 0, NULL, NULL, NULL,
     "which losses the instance survives: any ranks, any nodes, any neighbours"},
    {"--samples", ARGS_WHOLE, AT(report.samples), 1, 1e9, NULL, "N", "200",
     "of --survey: so many sets by chance where there are more"},
    {"--slots-for", ARGS_FLAG, AT(redundancy), 0, 0, NULL, NULL, NULL,
     "how many redundant slots survive any ranks, neighbours and nodes, and nothing else"},
    {"--draws", ARGS_WHOLE, AT(draws), 0, 1e6, NULL, "N", "0",
     "N losses of --failed ranks, a CSV row each, and nothing else"},
    {"--timeline", ARGS_TEXT, AT(timeline), 0, 0, NULL, "DIR", NULL,
     "write modelled rows of the loss, with the columns of a run"},
    {"--times", ARGS_WHOLE, AT(report.times), 0, 1e6, NULL, "N", "0",
     "plan N times, and tell the least CPU time"},
    {"--dump", ARGS_TEXT, AT(dump), 0, 0, NULL, "FILE", NULL, "write the planned document"},
    {"--json", ARGS_FLAG, AT(json), 0, 0, NULL, NULL, NULL, "one JSON object"},
};
static const args_table table = {
    .program = "eep-plan",
    .synopsis = "[--ranks R] [--nodes N] [--slots S] [--experts E] [--layers L] [--lost LIST]",
    .about =
        "Tell how an instance would be repaired after the loss of ranks. Nothing is started.\n"
        "In the pause only experts without a live replica are restored. The makespan is the time\n"
        "that the most loaded link is busy; a lower bound stands beside it.",
    .section = {ARGS_SECTION("The instance", instance_rows), ARGS_SECTION("The loss", loss_rows),
                ARGS_SECTION("Links", link_rows), ARGS_SECTION("Output", output_rows)},
    .given = offsetof(options, given),
    .shortens = true,
    .notes = "It ends with 1 if experts cannot be restored: it names them.",
};

/* The document as it lies in the register, so that --view reads it. */
static int dump_view(eepi_view *view, const char *path)
{
    FILE *file = fopen(path, "wb");
    bool is_good;

    eepi_view_seal(view);
    is_good = file && fwrite(view, 1, view->bytes, file) == view->bytes;
    is_good &= file && fclose(file) == 0;
    if (!is_good) {
        perror(path);
    }
    return is_good ? 0 : 1;
}

/* What is given stands; the rest is the paper's. */
static void take_paper(options *o)
{
    const struct {
        int32_t *field;
        size_t offset;
        plan_constant which;
    } fields[] = {
        {&o->instance.ranks, offsetof(options, instance.ranks), PLAN_RANKS},
        {&o->nodes, offsetof(options, nodes), PLAN_NODES},
        {&o->instance.layers, offsetof(options, instance.layers), PLAN_LAYERS},
        {&o->instance.experts, offsetof(options, instance.experts), PLAN_EXPERTS},
        {&o->instance.slots, offsetof(options, instance.slots), PLAN_SLOTS},
        {&o->instance.backups, offsetof(options, instance.backups), PLAN_BACKUPS},
        {&o->instance.mbs[EEPI_RATE_OUT], offsetof(options, instance.mbs[EEPI_RATE_OUT]),
         PLAN_RANK_MBS},
        {&o->instance.mbs[EEPI_RATE_IN], offsetof(options, instance.mbs[EEPI_RATE_IN]),
         PLAN_RANK_MBS},
        {&o->instance.mbs[EEPI_RATE_NIC], offsetof(options, instance.mbs[EEPI_RATE_NIC]),
         PLAN_NIC_MBS},
        {&o->instance.mbs[EEPI_RATE_NIC_AT], offsetof(options, instance.mbs[EEPI_RATE_NIC_AT]),
         PLAN_NICS},
        {&o->instance.mbs[EEPI_RATE_PCIE], offsetof(options, instance.mbs[EEPI_RATE_PCIE]),
         PLAN_PCIE_MBS},
        {&o->instance.mbs[EEPI_RATE_FILE], offsetof(options, instance.mbs[EEPI_RATE_FILE]),
         PLAN_FILE_MBS},
        {&o->instance.host_mbs, offsetof(options, instance.host_mbs), PLAN_HOST_MBS},
        {&o->background_mbs, offsetof(options, background_mbs), PLAN_BACKGROUND_MBS},
    };

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (!args_is_given(&table, o, fields[i].offset)) {
            *fields[i].field = (int32_t)plan_constant_value(fields[i].which);
        }
    }
    if (!args_is_given(&table, o, offsetof(options, instance.expert_bytes))) {
        o->instance.expert_bytes = (uint64_t)plan_constant_value(PLAN_EXPERT_BYTES);
    }
}

static int draw(const options *o, const plan_case *self)
{
    plan_outcomes outcomes;
    eep_status status = plan_outcomes_open(self, o->report.background_bytes_per_s, &outcomes);

    if (status == EEP_OK) {
        status = plan_draws_print(&outcomes, o->instance.how, o->num_failed, o->draws,
                                  o->instance.seed, stdout);
        plan_outcomes_close(&outcomes);
    }
    if (status != EEP_OK) {
        fprintf(stderr, "eep-plan: %s\n", eep_strerror(status));
    }
    return status == EEP_OK ? 0 : 1;
}

/* Some seconds of the same rows as a run's. */
static int write_timeline(const options *o, const plan_case *self)
{
    char comment[ARGS_ERROR_BYTES];
    plan_outcomes outcomes;
    plan_outcome outcome;
    eep_status status = plan_outcomes_open(self, o->report.background_bytes_per_s, &outcomes);

    snprintf(comment, sizeof comment,
             "eep-plan of commit %s, --config %s --failed %d --how %s --seed "
             "%llu",
             commit_text(), o->config, o->instance.failed, o->instance.how,
             (unsigned long long)o->instance.seed);
    if (status == EEP_OK) {
        status = plan_outcomes_of(&outcomes, self->lost, &outcome);
        plan_outcomes_close(&outcomes);
    }
    if (status == EEP_OK && outcome.is_covered &&
        plan_modelled_rows(self, &outcome, TIMELINE_BEFORE_S, TIMELINE_AFTER_S, comment,
                           o->timeline) != 0) {
        fprintf(stderr, "eep-plan: %s: %s\n", o->timeline, strerror(errno));
        return 1;
    }
    return status == EEP_OK ? 0 : 1;
}

static int print_redundancy(const options *o)
{
    cJSON *report = plan_redundancy(&o->instance);
    char *text = o->json ? cJSON_Print(report) : NULL;

    if (text) {
        puts(text);
    } else {
        plan_print_redundancy(report);
    }
    free(text);
    cJSON_Delete(report);
    return 0;
}

static int plan(options *o)
{
    char error[PLAN_CASE_ERROR_BYTES];
    plan_case self;
    eepi_view *planned = NULL;
    int code = 1;

    if (plan_case_open(&o->instance, &self, error) != EEP_OK) {
        fprintf(stderr, "eep-plan: %s\n", error);
        return ARGS_EXIT_USAGE;
    }
    if (o->draws) {
        code = draw(o, &self);
        plan_case_close(&self);
        return code;
    }
    cJSON *report = plan_report(&self, &o->report, &planned);
    if (!report) {
        fprintf(stderr, "eep-plan: out of memory\n");
    } else {
        char *text = o->json ? cJSON_Print(report) : NULL;
        if (text) {
            puts(text);
        } else {
            plan_print(report);
        }
        free(text);
        code = planned ? 0 : 1;
    }
    if (planned && o->dump) {
        code = dump_view(planned, o->dump);
    }
    if (planned && o->timeline && write_timeline(o, &self) != 0) {
        code = 1;
    }
    free(planned);
    cJSON_Delete(report);
    plan_case_close(&self);
    return code;
}

int main(int argc, char **argv)
{
    options o = {.nodes = 0};
    int code;

    output_begin();
    if (!args_begin(&table, &o, argc, argv, &code)) {
        return output_end(code);
    }
    if (strcmp(o.config, "paper") == 0) {
        take_paper(&o);
        o.report.moves_behind = true;
    }
    if (o.draws && o.instance.failed == 0) {
        fprintf(stderr, "eep-plan: --draws: --failed K says how many ranks each draw loses\n");
        return ARGS_EXIT_USAGE;
    }
    if (o.nodes > o.instance.ranks) {
        fprintf(stderr, "eep-plan: --nodes %d: more than --ranks %d\n", o.nodes, o.instance.ranks);
        return ARGS_EXIT_USAGE;
    }
    o.instance.ranks_per_node = o.nodes == 1 ? 0 : (o.instance.ranks + o.nodes - 1) / o.nodes;
    o.report.seed = o.instance.seed;
    o.report.background_bytes_per_s = o.background_mbs * 1e6;
    o.num_failed = o.instance.failed;
    o.instance.failed = o.draws ? 0 : o.instance.failed; /* each draw loses its own */
    o.report.samples = o.survey ? o.report.samples : 0;
    return output_end(o.redundancy ? print_redundancy(&o) : plan(&o));
}
