/* SPDX-License-Identifier: Apache-2.0 */
/* eep-avail: how available a fleet of expert-parallel instances is, by what an instance does about
 * a fault, and by how wide it is. Nothing is started: all figures are modelled. */
#include "experiments/avail/avail_constants.h"
#include "experiments/avail/avail_print.h"
#include "experiments/avail/avail_report.h"
#include "experiments/base/args.h"
#include "experiments/base/decimal.h"
#include "experiments/base/output.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_WIDTH = 2, MOST_WIDTH = 4096, MOST_GPUS = 1000000 };

typedef struct settings {
    avail_input fleet;
    avail_report_options report;
    const char *pauses, *pause_rows, *restart_rows, *curve;
    bool no_spares, shows_constants, json;
    args_given given;
} settings;

static eep_status parse_widths(const args_row *row, const char *text, void *options, char *error)
{
    settings *self = options;
    avail_widths widths = {.num = 0};
    const char *at = text;
    while (widths.num < AVAIL_MAX_WIDTHS) {
        char number[16] = "";
        const size_t length = strcspn(at, ",");
        uint64_t width = 0;
        snprintf(number, sizeof number, "%.*s", (int)length, at);
        if (length >= sizeof number || !args_whole(number, LEAST_WIDTH, MOST_WIDTH, &width)) {
            break;
        }
        widths.width[widths.num++] = (int32_t)width;
        if (at[length] == '\0') {
            self->report.widths = widths;
            return EEP_OK;
        }
        at += length + 1;
    }
    return args_fail(error, "%s: '%s' is not a list of at most %d whole numbers from %d to %d",
                     row->name, text, AVAIL_MAX_WIDTHS, LEAST_WIDTH, MOST_WIDTH);
}

static eep_status parse_repair(const args_row *row, const char *text, void *options, char *error)
{
    settings *self = options;
    time_law law = {.has_trace = strcmp(text, "trace") == 0};
    if (!law.has_trace && (!decimal_is(text, &law.fixed_h) || law.fixed_h > 1e5)) {
        return args_fail(error, "%s: '%s' is neither 'trace' nor a number of hours up to 100000",
                         row->name, text);
    }
    self->fleet.repair = law;
    return EEP_OK;
}

#define AT(field) ARGS_AT(settings, field)
static const args_row fleet_rows[] = {
    {"--gpus", ARGS_WHOLE, AT(fleet.gpus), LEAST_WIDTH, MOST_GPUS, NULL, "N", "10000",
     "GPUs of the fleet"},
    {"--widths", ARGS_PARSED, AT(report.widths), 0, 0, NULL, "LIST", "32,72,96",
     "GPUs of an instance; the first is what others are compared with", parse_widths},
    {"--mtbf", ARGS_NUMBER, AT(fleet.mtbf_h), 1, 1e7, NULL, "HOURS", AVAIL_TEXT(AVAIL_MTBF_H),
     "mean time between failures of a GPU"},
    {"--standby", ARGS_WHOLE, AT(fleet.standby), 0, 1000, NULL, "G", "1",
     "failover: groups that are kept free for others"},
    {"--redundancy", ARGS_WHOLE, AT(report.redundancy), 0, MOST_WIDTH, NULL, "K", NULL,
     "elastic: so many ranks may be missing; more stop the instance. Default: what --target asks"},
    {"--target", ARGS_NUMBER, AT(report.target), 1e-12, 1, NULL, "SHARE", "1e-8",
     "elastic: more than K ranks are missing for at most this share of the time"},
    {"--experts", ARGS_WHOLE, AT(report.experts), 1, 65536, NULL, "E", AVAIL_TEXT(AVAIL_EXPERTS),
     "logical experts of a layer, for the number of slots"},
    {"--curve", ARGS_TEXT, AT(curve), 0, 0, NULL, "FILE", NULL,
     "throughput per GPU by width: CSV with the columns width and throughput"},
    {"--plateau", ARGS_NUMBER, AT(report.plateau), 0, 1, NULL, "SHARE", "0.05",
     "of the most throughput, so much less is on the plateau too"},
};
static const args_row time_rows[] = {
    {"--pauses", ARGS_ONE_OF, AT(pauses), 0, 0, "measured|paper", "FROM", "measured",
     "elastic: whose pauses. Measured are those of 8 ranks on CPUs, not on GPUs"},
    {"--pause-rows", ARGS_TEXT, AT(pause_rows), 0, 0, NULL, "FILE", NULL,
     "elastic: medians of detect_ms and pause_ms of rows with agree_ms, or of the faults of a "
     "summary.json"},
    {"--detect", ARGS_NUMBER, AT(fleet.detect_s), 0, 1e6, NULL, "S", NULL,
     "elastic: from the fault until all know of it"},
    {"--recovery", ARGS_NUMBER, AT(fleet.recovery_s), 0, 1e6, NULL, "S", NULL,
     "elastic: then, until the others go on"},
    {"--reintegration", ARGS_NUMBER, AT(fleet.reintegration_s), 0, 1e6, NULL, "S", NULL,
     "elastic: pause when the rank is replaced"},
    {"--return", ARGS_NUMBER, AT(fleet.return_s), 0, 1e8, NULL, "S", AVAIL_TEXT(AVAIL_RETURN_S),
     "elastic: until a spare is in the rank's place"},
    {"--restart", ARGS_NUMBER, AT(fleet.restart_s), 0, 1e8, NULL, "S", AVAIL_TEXT(AVAIL_RESTART_S),
     "from the fault until all have started again"},
    {"--restart-rows", ARGS_TEXT, AT(restart_rows), 0, 0, NULL, "FILE", NULL,
     "median of pause_ms of rows with exit_ms, or of the restarts of a summary.json, instead"},
    {"--failover", ARGS_NUMBER, AT(fleet.failover_s), 0, 1e8, NULL, "S",
     AVAIL_TEXT(AVAIL_FAILOVER_S), "until another group has the requests"},
    {"--repair", ARGS_PARSED, AT(fleet.repair), 0, 0, NULL, "HOURS", AVAIL_TEXT(AVAIL_REPAIR_P50_H),
     "until a GPU serves again; 'trace': by chance, with the quantiles of a trace", parse_repair},
    {"--no-spares", ARGS_FLAG, AT(no_spares), 0, 0, NULL, NULL, NULL,
     "the other regimes wait for the repair too"},
    {"--lost-per-rank", ARGS_NUMBER, AT(fleet.lost_per_rank), 0, 1000, NULL, "GPUS",
     AVAIL_TEXT(AVAIL_LOST_PER_RANK), "elastic: throughput that a missing rank costs"},
};
static const args_row draw_rows[] = {
    {"--draws", ARGS_WHOLE, AT(report.draws), 0, 1e7, NULL, "N", "10000",
     "of a year each, by chance, beside the formulas; 0: formulas alone"},
    {"--seed", ARGS_WHOLE, AT(report.seed), 0, 9e15, NULL, "SEED", "1", "of all that is by chance"},
    {"--node-share", ARGS_NUMBER, AT(report.shares.node), 0, 1, NULL, "SHARE",
     AVAIL_TEXT(AVAIL_NODE_SHARE), "of the faults: they take a node, in draws of their own"},
    {"--node", ARGS_WHOLE, AT(report.shares.node_gpus), 1, MOST_WIDTH, NULL, "GPUS",
     AVAIL_TEXT(AVAIL_NODE_GPUS), "GPUs of a node"},
    {"--rack-share", ARGS_NUMBER, AT(report.shares.rack), 0, 1, NULL, "SHARE",
     AVAIL_TEXT(AVAIL_RACK_SHARE), "of the faults: they take a rack"},
    {"--rack", ARGS_WHOLE, AT(report.shares.rack_gpus), 1, MOST_WIDTH, NULL, "GPUS",
     AVAIL_TEXT(AVAIL_RACK_GPUS), "GPUs of a rack: whole nodes"},
};
static const args_row output_rows[] = {
    {"--constants", ARGS_FLAG, AT(shows_constants), 0, 0, NULL, NULL, NULL,
     "print every constant with its source, and nothing else"},
    {"--json", ARGS_FLAG, AT(json), 0, 0, NULL, NULL, NULL, "one JSON object"},
};
static const args_table table = {
    .program = "eep-avail",
    .synopsis = "[--gpus N] [--widths LIST] [--mtbf HOURS] [--pauses FROM] [--draws N]",
    .about = "Model how available a fleet of expert-parallel instances is. Nothing is started.\n"
             "Formulas stand beside draws by chance, and beside draws with correlated faults.",
    .section = {ARGS_SECTION("The fleet", fleet_rows), ARGS_SECTION("Times", time_rows),
                ARGS_SECTION("Chance", draw_rows), ARGS_SECTION("Output", output_rows)},
    .given = offsetof(settings, given),
    .shortens = true,
    .notes =
        "What an instance does about a fault is its regime:\n"
        "  fixed     Membership is fixed and there is no spare. The instance stops until the GPU\n"
        "            is repaired, and then all ranks start again.\n"
        "  restart   A spare takes the GPU's place. All ranks start again at once.\n"
        "  failover  As restart, for the group. Meanwhile a standby group takes over its "
        "requests.\n"
        "            Beyond the standby groups there is downtime until a group has started.\n"
        "  elastic   The others pause shortly and go on. The rank is replaced behind live "
        "traffic,\n"
        "            with a second short pause. More than K missing ranks stop the instance.\n"
        "docs/AVAILABILITY.md has the formulas. --constants has every number and its source.",
};

/* ---------------------------------------------------------------- pauses */

static void use_default(settings *self, size_t offset, double *field, double value)
{
    if (!args_is_given(&table, self, offset)) {
        *field = value;
    }
}

/* From the constants, then from rows; an option of its own beats both. */
static eep_status choose_pauses(settings *self, char *error)
{
    /* Full restarts in the same rows have no agree_ms. */
    static const char *const columns[] = {"detect_ms", "pause_ms", "agree_ms"};
    const bool of_paper = strcmp(self->pauses, "paper") == 0;
    double detect_s = of_paper ? AVAIL_PAPER_DETECT_S : AVAIL_DETECT_S;
    double recovery_s = of_paper ? AVAIL_PAPER_RECOVERY_S : AVAIL_RECOVERY_S;
    self->report.pauses = of_paper ? "the paper's (arXiv 2605.10670)"
                                   : "measured on 8 CPU ranks (experiments/results)";
    if (self->pause_rows) {
        avail_rows rows = {0};
        const eep_status status =
            avail_rows_read(self->pause_rows, "faults", columns, 3, &rows, error);
        if (status != EEP_OK) {
            return status;
        }
        detect_s = avail_rows_median(&rows, 0, -1) / 1e3;
        recovery_s = avail_rows_median(&rows, 1, 0) / 1e3;
        avail_rows_free(&rows);
        self->report.pauses = self->pause_rows;
    }
    use_default(self, offsetof(settings, fleet.detect_s), &self->fleet.detect_s, detect_s);
    use_default(self, offsetof(settings, fleet.recovery_s), &self->fleet.recovery_s, recovery_s);
    use_default(self, offsetof(settings, fleet.reintegration_s), &self->fleet.reintegration_s,
                of_paper ? AVAIL_PAPER_REINTEGRATION_S : AVAIL_REINTEGRATION_S);
    return EEP_OK;
}

static eep_status choose_restart(settings *self, char *error)
{
    /* Elastic pauses in the same rows have no exit_ms. */
    static const char *const columns[] = {"pause_ms", "exit_ms"};
    avail_rows rows = {0};
    if (!self->restart_rows) {
        return EEP_OK;
    }
    const eep_status status =
        avail_rows_read(self->restart_rows, "restarts", columns, 2, &rows, error);
    if (status == EEP_OK) {
        use_default(self, offsetof(settings, fleet.restart_s), &self->fleet.restart_s,
                    avail_rows_median(&rows, 0, -1) / 1e3);
        avail_rows_free(&rows);
    }
    return status;
}

static eep_status read_curve(settings *self, char *error)
{
    static const char *const columns[] = {"width", "throughput"};
    return self->curve
               ? avail_rows_read(self->curve, "curve", columns, 2, &self->report.curve, error)
               : EEP_OK;
}

/* ---------------------------------------------------------------- checks */

static eep_status check(const settings *self, char *error)
{
    const avail_shares *shares = &self->report.shares;
    for (int i = 0; i < self->report.widths.num; i++) {
        const int32_t width = self->report.widths.width[i];
        if (width > self->fleet.gpus) {
            return args_fail(error, "--widths %d: more than --gpus %lld", width,
                             (long long)self->fleet.gpus);
        }
        if (args_is_given(&table, self, offsetof(settings, report.redundancy)) &&
            self->report.redundancy >= width) {
            return args_fail(error, "--redundancy %d: a width of %d has no more ranks",
                             self->report.redundancy, width);
        }
    }
    if (shares->node + shares->rack > 1) {
        return args_fail(error, "--node-share %g and --rack-share %g: more than all faults",
                         shares->node, shares->rack);
    }
    if (shares->rack_gpus % shares->node_gpus) {
        return args_fail(error, "--rack %d: not a multiple of --node %d", shares->rack_gpus,
                         shares->node_gpus);
    }
    if (self->report.draws == 1) {
        return args_fail(error, "--draws 1: one draw has no standard error");
    }
    return EEP_OK;
}

static int tell(cJSON *report, bool as_json, void (*print)(const cJSON *))
{
    char *text = report && as_json ? cJSON_Print(report) : NULL;
    const bool is_good = report && (text || !as_json);
    if (text) {
        puts(text);
    } else if (is_good) {
        print(report);
    } else {
        fprintf(stderr, "eep-avail: out of memory\n");
    }
    cJSON_free(text);
    cJSON_Delete(report);
    return is_good ? 0 : 1;
}

int main(int argc, char **argv)
{
    settings self = {.report.redundancy = -1};
    char error[ARGS_ERROR_BYTES] = "";
    int code = 0;

    output_begin();
    if (!args_begin(&table, &self, argc, argv, &code)) {
        return output_end(code);
    }
    if (self.shows_constants) {
        return output_end(tell(avail_report_constants(), self.json, avail_print_constants));
    }
    self.fleet.has_spares = !self.no_spares;
    if (check(&self, error) != EEP_OK || choose_pauses(&self, error) != EEP_OK ||
        choose_restart(&self, error) != EEP_OK || read_curve(&self, error) != EEP_OK) {
        fprintf(stderr, "eep-avail: %s\n", error);
        return output_end(ARGS_EXIT_USAGE);
    }
    code = tell(avail_report(&self.fleet, &self.report), self.json, avail_print);
    avail_rows_free(&self.report.curve);
    return output_end(code);
}
