/* eep-sim: seeded histories of whole instances under virtual time. */
#include "experiments/base/output.h"
#include "tests/sim/sim.h"
#include "experiments/base/clock.h"

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
    char line[200];
    int n = snprintf(line, sizeof line,
                     "VIOLATION crash (signal %d) seed %llu\nreplay: eep-sim "
                     "--seed %llu%s --trace\n",
                     signal_number, (unsigned long long)(sim ? sim->options.seed : 0),
                     (unsigned long long)(sim ? sim->options.seed : 0), replay_options);

    fflush(stdout);
    (void)!fwrite(line, 1, (size_t)n, stdout);
    fflush(stdout);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

typedef struct totals {
    uint64_t seeds, failed, views, tokens, steps_ok, steps_aborted, faults, expelled_alive;
    uint64_t longest_us, sum_us, longest_pause_us, longest_join_pause_us, faults_in_recovery;
    uint64_t late_nodes, ends;
} totals;

static int run_seed(const sim_options *options, totals *t)
{
    int failed;

    sim_world_open(options);
    sim_faults_open();
    sim_client_open();
    (void)sim_run(sim->heal_us, NULL);
    if (!sim->failed) {
        sim_heal();
        if (!sim_run(sim->heal_us + BOUND_US, sim_has_converged) && !sim->failed) {
            sim_fail("L1", "not all serve %d us after the last fault (%d requests, done: %d)",
                     BOUND_US, sim->num_requests, sim_client_is_done());
        }
    }
    failed = sim->failed;
    t->seeds++;
    t->failed += (uint64_t)failed;
    t->views += sim->views;
    t->tokens += sim->tokens;
    t->steps_ok += sim->steps_ok;
    t->steps_aborted += sim->steps_aborted;
    t->faults += sim->faults;
    t->expelled_alive += sim->expelled_alive;
    t->faults_in_recovery += sim->faults_in_recovery;
    t->late_nodes += sim->late_nodes;
    t->ends += sim->ends;
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

static void usage(void)
{
    printf(
        "eep-sim --seeds A..B | --seed N  [--ranks N] [--kinds a,b,...] [--discrete] [--trace] "
        "[--go-on]\n"
        "Run the seeded histories; a broken property is printed with the command that replays "
        "it.\n--ranks  2..%d; default: 3..8 by seed\n--store  only the conformance suite against "
        "the simulated store, with the seeds\n--kinds  of: ",
        SIM_MAX_SEATS);
    for (int i = 0; i < SIM_NUM_KINDS; i++) {
        printf("%s%s", i ? "," : "", sim_kind_names[i]);
    }
    printf(
        "; each seed uses some of them\n--discrete  windows with two sides, as on a GPU\n--trace  "
        "what happens, line by line\n"
        "--go-on  count all seeds that fail, instead of ending at the first\n");
}

static uint32_t parse_kinds(const char *text)
{
    char copy[300], *at;
    uint32_t kinds = 0;

    snprintf(copy, sizeof copy, "%s", text);
    for (at = strtok(copy, ","); at; at = strtok(NULL, ",")) {
        int i = 0;
        while (i < SIM_NUM_KINDS && strcmp(at, sim_kind_names[i]) != 0) {
            i++;
        }
        if (i == SIM_NUM_KINDS) {
            fprintf(stderr, "--kinds: '%s' is none of those that --help names\n", at);
            exit(2);
        }
        kinds |= 1u << i;
    }
    return kinds;
}

static uint64_t parse_number(const char *option, const char *text, char **end)
{
    uint64_t n = strtoull(text, end, 10);

    if (*end == text) {
        fprintf(stderr, "%s: '%s' is no number\n", option, text);
        exit(2);
    }
    return n;
}

/* The option belongs to the command that replays a seed. */
static void replay_with(const char *option, const char *value)
{
    size_t used = strlen(replay_options);

    snprintf(replay_options + used, sizeof replay_options - used, " %s%s%s", option,
             *value ? " " : "", value);
}

typedef struct command {
    sim_options options;
    uint64_t first, last;
    int go_on, store;
} command;

static command parse(int argc, char **argv)
{
    command c = {.options.kinds = (1u << SIM_NUM_KINDS) - 1, .first = 1, .last = 0};
    char *end;

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--trace") == 0) {
            c.options.trace = 1;
            continue;
        }
        if (strcmp(argv[i], "--discrete") == 0) {
            c.options.windows_discrete = 1;
            replay_with(argv[i], "");
            continue;
        }
        if (strcmp(argv[i], "--store") == 0) {
            c.store = 1;
            continue;
        }
        if (strcmp(argv[i], "--go-on") == 0) {
            c.go_on = 1;
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0) {
            c.first = c.last = parse_number("--seed", value, &end);
        } else if (strcmp(argv[i], "--seeds") == 0) {
            c.first = parse_number("--seeds", value, &end);
            c.last = strncmp(end, "..", 2) == 0 ? parse_number("--seeds", end + 2, &end) : c.first;
        } else if (strcmp(argv[i], "--ranks") == 0) {
            c.options.num_ranks = (int)parse_number("--ranks", value, &end);
            if (c.options.num_ranks < 2 || c.options.num_ranks > SIM_MAX_SEATS) {
                fprintf(stderr, "--ranks: %s, but 2 to %d are possible\n", value, SIM_MAX_SEATS);
                exit(2);
            }
        } else if (strcmp(argv[i], "--kinds") == 0) {
            c.options.kinds = parse_kinds(value);
        } else {
            usage();
            exit(strcmp(argv[i], "--help") == 0 ? 0 : 2);
        }
        if (strncmp(argv[i], "--seed", 6) != 0) {
            replay_with(argv[i], value);
        }
        i++;
    }
    if (c.last < c.first) {
        usage();
        exit(2);
    }
    return c;
}

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

int main(int argc, char **argv)
{
    command c;
    double begin = now_s();
    totals t = {0};
    uint64_t good;

    output_begin();
    c = parse(argc, argv);
    mallopt(M_MMAP_THRESHOLD, 512 * 1024); /* large and mostly untouched: zero pages */
    signal(SIGABRT, died);
    signal(SIGSEGV, died);
    if (c.store) {
        return check_store(&c);
    }
    for (uint64_t seed = c.first; seed <= c.last; seed++) {
        c.options.seed = seed;
        if (output_is_lost() || (run_seed(&c.options, &t) && !c.go_on)) {
            break;
        }
    }
    if (c.options.trace) {
        return t.failed != 0; /* nothing of this run's own time */
    }
    good = t.seeds - t.failed;
    printf("eep-sim: %llu seeds, %llu failed, %.0f seeds/s; %llu faults (%llu in recoveries), %llu "
           "views, %llu steps OK, %llu aborted, %llu tokens; %llu living ranks expelled, %llu "
           "nodes ran "
           "after the end of their process; %llu instances ended in order; converged in "
           "%.2f s (mean), %.2f s (longest); longest pause %.2f s, for joiners %.2f s\n",
           (unsigned long long)t.seeds, (unsigned long long)t.failed,
           (double)t.seeds / (now_s() - begin), (unsigned long long)t.faults,
           (unsigned long long)t.faults_in_recovery, (unsigned long long)t.views,
           (unsigned long long)t.steps_ok, (unsigned long long)t.steps_aborted,
           (unsigned long long)t.tokens, (unsigned long long)t.expelled_alive,
           (unsigned long long)t.late_nodes, (unsigned long long)t.ends,
           good ? (double)t.sum_us * 1e-6 / (double)good : 0, (double)t.longest_us * 1e-6,
           (double)t.longest_pause_us * 1e-6, (double)t.longest_join_pause_us * 1e-6);
    return t.failed != 0;
}
