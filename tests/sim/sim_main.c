/* SPDX-License-Identifier: Apache-2.0 */
/* eep-sim: seeded histories of whole instances under virtual time. */
#include "experiments/base/output.h"
#include "tests/sim/sim.h"
#include "tests/sim/wide/wide.h"
#include "transport/proxy/placer.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/args.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BOUND_US = 10000000 }; /* L1: virtual time from the last fault to service by all */

static char replay_options[200];

const char *sim_replay_options(void)
{
    return replay_options;
}

static void died(int signal_number)
{
    const uint64_t seed = sim ? sim->options.seed : wide_seed;
    char line[200];
    int n =
        snprintf(line, sizeof line,
                 "VIOLATION crash (signal %d) seed %llu\nreplay: eep-sim "
                 "--seed %llu%s --trace\n",
                 signal_number, (unsigned long long)seed, (unsigned long long)seed, replay_options);

    fflush(stdout);
    (void)!fwrite(line, 1, (size_t)n, stdout);
    fflush(stdout);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

typedef struct totals {
    uint64_t seeds, failed, views, tokens, steps_ok, steps_aborted, mixed_steps, faults,
        expelled_alive;
    uint64_t longest_us, sum_us, longest_pause_us, longest_join_pause_us, faults_in_recovery;
    uint64_t late_nodes, late_rows, renewals, ends, ended_for_memory, collectives_ok,
        collectives_aborted;
    uint64_t messages, late_messages, placed[8], lapses, lapsed_alive;
} totals;

/* All serve within the bound. Requests need no longer than that, or as long as they take. */
static void converge(void)
{
    const uint64_t needs_us = sim_client_needs_us();
    const uint64_t bound_us = needs_us > BOUND_US ? needs_us : BOUND_US;

    if (!sim_run(sim->heal_us + BOUND_US, sim_all_serve) && !sim->failed) {
        sim_fail("L1", "not all serve %d us after the last fault (%d requests, done: %d)", BOUND_US,
                 sim->num_requests, sim_client_is_done());
    }
    if (!sim->failed && !sim_run(sim->heal_us + bound_us, sim_has_converged) && !sim->failed) {
        sim_fail("L1",
                 "not all serve, or %d requests are not done (%d), %llu us after the last fault",
                 sim->num_old_requests, sim_client_is_done(), (unsigned long long)bound_us);
    }
}

static bool run_seed(const sim_options *options, totals *t)
{
    sim_world_open(options);
    sim_faults_open();
    sim_client_open();
    sim_collectives_open();
    (void)sim_run(sim->heal_us, NULL);
    if (!sim->failed) {
        sim_heal();
        converge();
        sim_check_leases();
    }
    bool failed = sim->failed;
    t->seeds++;
    t->failed += (uint64_t)failed;
    t->views += sim->views;
    t->tokens += sim->tokens;
    t->steps_ok += sim->steps_ok;
    t->steps_aborted += sim->steps_aborted;
    t->mixed_steps += sim->mixed_steps;
    t->faults += sim->faults;
    t->expelled_alive += sim->expelled_alive;
    t->faults_in_recovery += sim->faults_in_recovery;
    t->late_nodes += sim->late_nodes;
    t->late_rows += sim->late_rows;
    t->messages += sim->messages;
    t->late_messages += sim->late_messages;
    for (int how = 0; how < 8; how++) {
        t->placed[how] += sim->placed[how];
    }
    t->renewals += sim->renewals;
    t->ended_for_memory += sim->ended_for_memory;
    t->ends += sim->ends;
    t->lapses += sim->lapses;
    t->lapsed_alive += sim->lapsed_alive;
    t->collectives_ok += sim->collectives_ok;
    t->collectives_aborted += sim->collectives_aborted;
    if (sim->longest_join_pause_us > t->longest_join_pause_us) {
        t->longest_join_pause_us = sim->longest_join_pause_us;
    }
    if (sim->longest_pause_us > t->longest_pause_us) {
        t->longest_pause_us = sim->longest_pause_us;
    }
    if (!failed) {
        uint64_t us = sim->now_us - sim->heal_us;
        t->sum_us += us;
        t->longest_us = us > t->longest_us ? us : t->longest_us;
    }
    sim_trace("end: %llu views, %llu tokens, %llu steps OK, %llu aborted",
              (unsigned long long)sim->views, (unsigned long long)sim->tokens,
              (unsigned long long)sim->steps_ok, (unsigned long long)sim->steps_aborted);
    sim_world_close();
    return failed;
}

/* ------------------------------------------------------------------ options */

typedef struct command {
    sim_options options;
    uint64_t first, last;
    const char *kinds;
    bool goes_on, store, trace, discrete, wide, plain;
    int num_hosts;
    wide_event_name event;
    args_given given;
} command;

/* "7", or "1..40" */
static eep_status parse_seeds(const args_row *row, const char *text, void *options, char *error)
{
    command *c = options;
    char first[24];
    const char *dots = strstr(text, "..");
    size_t length = dots ? (size_t)(dots - text) : strlen(text);

    snprintf(first, sizeof first, "%.*s", (int)length, text);
    if (length < sizeof first && args_whole(first, 0, UINT64_MAX, &c->first) &&
        args_whole(dots ? dots + 2 : first, c->first, UINT64_MAX, &c->last)) {
        return EEP_OK;
    }
    return args_fail(error, "%s: '%s' is neither a seed nor A..B with A <= B", row->name, text);
}

static eep_status parse_kinds(const args_row *row, const char *text, void *options, char *error)
{
    command *c = options;
    c->kinds = text;
    c->options.kinds = 0;
    for (const char *at = text; *at; at += strcspn(at, ","), at += *at == ',') {
        const size_t length = strcspn(at, ",");
        int i = 0;
        while (i < SIM_NUM_KINDS && (strlen(sim_kind_names[i]) != length ||
                                     strncmp(at, sim_kind_names[i], length) != 0)) {
            i++;
        }
        if (i == SIM_NUM_KINDS) {
            return args_fail(error, "%s: '%.*s' is none of those that --help names", row->name,
                             (int)length, at);
        }
        c->options.kinds |= 1u << i;
    }
    return EEP_OK;
}

static eep_status parse_event(const args_row *row, const char *text, void *options, char *error)
{
    command *c = options;

    for (int i = 0; i < WIDE_NUM_EVENTS; i++) {
        if (strcmp(text, wide_event_names[i]) == 0) {
            c->event = (wide_event_name)i;
            return EEP_OK;
        }
    }
    return args_fail(error, "%s: '%s' is neither kill, join nor host", row->name, text);
}

#define AT(field) ARGS_AT(command, field)
static const args_row rows[] = {
    {"--seed", ARGS_PARSED, AT(first), 0, 0, NULL, "N", NULL, "the history of one seed",
     parse_seeds},
    {"--seeds", ARGS_PARSED, AT(first), 0, 0, NULL, "A..B", NULL, "those of so many seeds",
     parse_seeds},
    {"--ranks", ARGS_WHOLE, AT(options.num_ranks), 2, WIDE_MAX_RANKS, NULL, "N", NULL,
     "ranks; default: 3 to 8, by seed, and with --wide 4 to 1024"},
    {"--kinds", ARGS_PARSED, AT(options.kinds), 0, 0, NULL, "A,B,...", NULL,
     "kinds of faults, of which each seed uses some; default: all of them", parse_kinds},
    {"--discrete", ARGS_FLAG, AT(discrete), 0, 0, NULL, NULL, NULL,
     "windows with two sides, as on a GPU"},
    {"--wide", ARGS_FLAG, AT(wide), 0, 0, NULL, NULL, NULL,
     "membership alone, of up to 1024 ranks, and what a fault costs in messages"},
    {"--plain", ARGS_FLAG, AT(plain), 0, 0, NULL, NULL, NULL,
     "with --wide: one rank is killed, and nobody is slow"},
    {"--hosts", ARGS_WHOLE, AT(num_hosts), 2, WIDE_MAX_RANKS, NULL, "H", NULL,
     "with --wide --plain: so many hosts, at etcd; a line of values for each seed"},
    {"--event", ARGS_PARSED, AT(event), 0, 0, NULL, "NAME", NULL,
     "there: kill (a rank), join (a rank) or host (a host loses power); default kill", parse_event},
    {"--trace", ARGS_FLAG, AT(trace), 0, 0, NULL, NULL, NULL, "tell what happens, line by line"},
    {"--go-on", ARGS_FLAG, AT(goes_on), 0, 0, NULL, NULL, NULL,
     "count all seeds that fail, instead of ending at the first"},
    {"--store", ARGS_FLAG, AT(store), 0, 0, NULL, NULL, NULL,
     "only the conformance suite against the simulated store, with the seeds"},
};

static const args_table *table(void)
{
    static args_row kinds[SIM_NUM_KINDS];
    static const args_table all = {
        .program = "eep-sim",
        .synopsis = "--seeds A..B [OPTION]...\n--seed N [OPTION]...",
        .about =
            "Run seeded histories of whole instances under virtual time. A broken property is\n"
            "printed with the command that replays it.",
        .section = {ARGS_SECTION(NULL, rows), ARGS_SECTION("Kinds of faults", kinds)},
        .notes = "Exit status: 0 no property was broken; 1 one was; 2 bad usage.",
        .given = offsetof(command, given),
    };
    for (int i = 0; i < SIM_NUM_KINDS; i++) {
        kinds[i] = (args_row){sim_kind_names[i], ARGS_NOTE, .doc = ""};
    }
    return &all;
}

/* Options that belong to the command that replays a seed. */
static void set_replay(const command *c)
{
    char ranks[32] = "";

    if (c->options.num_ranks) {
        snprintf(ranks, sizeof ranks, " --ranks %d", c->options.num_ranks);
    }
    snprintf(replay_options, sizeof replay_options, "%s%s%s%s%s%s", c->wide ? " --wide" : "",
             c->plain ? " --plain" : "", ranks, c->kinds ? " --kinds " : "",
             c->kinds ? c->kinds : "", c->discrete ? " --discrete" : "");
}

/* The exit status. */
static int check_store(command *c)
{
    uint64_t failed = 0;

    for (uint64_t seed = c->first; seed <= c->last; seed++) {
        c->options.seed = seed;
        failed += !sim_store_conforms(&c->options);
    }
    printf("eep-sim: the store conforms with %llu of %llu seeds\n",
           (unsigned long long)(c->last - c->first + 1 - failed),
           (unsigned long long)(c->last - c->first + 1));
    return failed != 0;
}

static bool fits_together(const command *c)
{
    if (c->num_hosts && !(c->wide && c->plain && c->options.num_ranks >= c->num_hosts)) {
        fprintf(stderr, "eep-sim: --hosts needs --wide, --plain and as many --ranks or more\n");
        return false;
    }
    if (!c->wide && (c->plain || c->options.num_ranks > SIM_MAX_SEATS)) {
        fprintf(stderr, "eep-sim: --plain, and more than %d ranks, need --wide\n", SIM_MAX_SEATS);
        return false;
    }
    return true;
}

static void begin_program(void)
{
    output_begin();
    sim_leases_open();
    signal(SIGABRT, died);
    signal(SIGSEGV, died);
}

int main(int argc, char **argv)
{
    command c = {.options.kinds = (1u << SIM_NUM_KINDS) - 1, .first = 1, .last = 0};
    int result = 0;
    double begin = now_s();
    totals t = {0};
    uint64_t good;

    begin_program();
    if (!args_begin(table(), &c, argc, argv, &result)) {
        return result;
    }
    if (c.last < c.first) {
        args_print_help(table(), stderr);
        return ARGS_EXIT_USAGE;
    }
    if (!fits_together(&c)) {
        return ARGS_EXIT_USAGE;
    }
    set_replay(&c);
    if (c.wide) {
        const wide_options wide = {0, c.options.num_ranks, c.plain, c.trace, c.num_hosts, c.event};
        return wide_run_seeds(&wide, c.first, c.last, c.goes_on);
    }
    c.options.trace = c.trace;
    c.options.windows_discrete = c.discrete;
    mallopt(M_MMAP_THRESHOLD, 512 * 1024); /* large and mostly untouched: zero pages */
    if (c.store) {
        return check_store(&c);
    }
    for (uint64_t seed = c.first; seed <= c.last; seed++) {
        c.options.seed = seed;
        if (output_is_lost() || (run_seed(&c.options, &t) && !c.goes_on)) {
            break;
        }
    }
    if (c.options.trace) {
        return t.failed != 0; /* nothing of this run's own time */
    }
    good = t.seeds - t.failed;
    printf("eep-sim: %llu seeds, %llu failed, %.0f seeds/s; %llu faults (%llu in recoveries), %llu "
           "views, %llu steps OK, %llu aborted, %llu by shape, %llu tokens; %llu living ranks "
           "expelled, %llu "
           "nodes ran "
           "after the end of their process, %llu late rows, %llu colours renewed (%llu ranks had "
           "no memory for theirs and ended); %llu messages of a network (%llu parked, %llu "
           "doubled, %llu older, %llu foreign, %llu waits behind "
           "the end of their source); %llu instances "
           "ended in order, %llu by lapsed leases over %llu living ranks; %llu collectives OK, "
           "%llu aborted; converged in "
           "%.2f s (mean), %.2f s (longest); longest pause %.2f s, for joiners %.2f s\n",
           (unsigned long long)t.seeds, (unsigned long long)t.failed,
           (double)t.seeds / (now_s() - begin), (unsigned long long)t.faults,
           (unsigned long long)t.faults_in_recovery, (unsigned long long)t.views,
           (unsigned long long)t.steps_ok, (unsigned long long)t.steps_aborted,
           (unsigned long long)t.mixed_steps, (unsigned long long)t.tokens,
           (unsigned long long)t.expelled_alive, (unsigned long long)t.late_nodes,
           (unsigned long long)t.late_rows, (unsigned long long)t.renewals,
           (unsigned long long)t.ended_for_memory, (unsigned long long)t.messages,
           (unsigned long long)t.placed[EEPI_PLACED_PARKED],
           (unsigned long long)t.placed[EEPI_PLACED_DOUBLED],
           (unsigned long long)t.placed[EEPI_PLACED_OLDER],
           (unsigned long long)t.placed[EEPI_PLACED_FOREIGN], (unsigned long long)t.late_messages,
           (unsigned long long)t.ends, (unsigned long long)t.lapses,
           (unsigned long long)t.lapsed_alive, (unsigned long long)t.collectives_ok,
           (unsigned long long)t.collectives_aborted,
           good ? (double)t.sum_us * 1e-6 / (double)good : 0, (double)t.longest_us * 1e-6,
           (double)t.longest_pause_us * 1e-6, (double)t.longest_join_pause_us * 1e-6);
    return t.failed != 0;
}
