/* SPDX-License-Identifier: Apache-2.0 */
/* eep-plan: how an instance would be repaired after a loss: what is copied in the pause, over which
 * links, what follows behind live traffic, and which losses it survives. Nothing is started. */
#include "experiments/base/args.h"
#include "experiments/base/output.h"
#include "experiments/plan_tool/plan_print.h"
#include "experiments/plan_tool/plan_report.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct options {
    plan_case_options instance;
    plan_report_options report;
    const char *dump;
    int32_t nodes;
    bool json, survey;
    args_given given;
} options;

#define AT(field) ARGS_AT(options, field)
static const args_row instance_rows[] = {
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
    {"--view", ARGS_TEXT, AT(instance.view), 0, 0, NULL, "FILE", NULL,
     "a view document (--dump writes one) instead of all of the above but --checkpoint"},
};
static const args_row loss_rows[] = {
    {"--lost", ARGS_TEXT, AT(instance.lost), 0, 0, NULL, "LIST", NULL,
     "ranks that are lost at once, such as 3,8-11"},
    {"--lost-any", ARGS_WHOLE, AT(instance.lost_by_chance), 0, EEP_MAX_RANKS, NULL, "K", "0",
     "so many ranks are lost, by chance"},
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
    {"--file-mbs", ARGS_WHOLE, AT(instance.mbs[EEPI_RATE_FILE]), 0, 1e9, NULL, "MB/S", "0",
     "reading the file, on each node"},
};
static const args_row output_rows[] = {
    {"--behind", ARGS_FLAG, AT(report.moves_behind), 0, 0, NULL, NULL, NULL,
     "also what is moved behind live traffic afterwards"},
    {"--fills", ARGS_FLAG, AT(report.lists_fills), 0, 0, NULL, NULL, NULL, "list every fill"},
    {"--survey", ARGS_FLAG, AT(survey), 0, 0, NULL, NULL, NULL,
     "which losses the instance survives: any ranks, any nodes, any neighbours"},
    {"--samples", ARGS_WHOLE, AT(report.samples), 1, 1e9, NULL, "N", "200",
     "of --survey: so many sets by chance where there are more"},
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
    if (o.nodes > o.instance.ranks) {
        fprintf(stderr, "eep-plan: --nodes %d: more than --ranks %d\n", o.nodes, o.instance.ranks);
        return ARGS_EXIT_USAGE;
    }
    o.instance.ranks_per_node = o.nodes == 1 ? 0 : (o.instance.ranks + o.nodes - 1) / o.nodes;
    o.report.seed = o.instance.seed;
    o.report.samples = o.survey ? o.report.samples : 0;
    return output_end(plan(&o));
}
