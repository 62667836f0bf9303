/* SPDX-License-Identifier: Apache-2.0 */
/* eep-oracle: recompute every emitted token of a run, or compare a run with its twin. */
#include "experiments/oracle/oracle_verdict.h"
#include "experiments/base/output.h"
#include "experiments/base/args.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_RIGHT = 0, EXIT_WRONG = 1, EXIT_BAD_INPUT = ARGS_EXIT_USAGE };

typedef struct options {
    const char *dir, *twin, *json;
    int num_threads;
    FILE *out; /* of json, open before the work begins; NULL: standard output */
    args_given given;
} options;

#define AT(field) ARGS_AT(options, field)
static const args_row option_rows[] = {
    {"DIR", ARGS_TEXT, AT(dir), .doc = "the folder of a run: run.json, requests.csv, tokens.csv"},
    {"--threads", ARGS_WHOLE, AT(num_threads), 1, 256, NULL, "N", "2",
     "requests are spread over N threads"},
    {"--json", ARGS_TEXT, AT(json), 0, 0, NULL, "FILE", NULL,
     "write the verdict to FILE; default: standard output"},
    {"--compare", ARGS_TEXT, AT(twin), 0, 0, NULL, "DIR2", NULL,
     "check that every (request, position) that both runs emitted has the same token and digest; "
     "nothing is recomputed"},
};
static const args_table table = {
    .program = "eep-oracle",
    .synopsis = "DIR [--threads N] [--json FILE]\nDIR --compare DIR2 [--json FILE]",
    .about =
        "Recompute every emitted token of the run kept in DIR, or compare them with another run.\n"
        "A sequential reference that shares no code with the engine gives token and logits\n"
        "digest. The other run, of the same requests, gives them with --compare.",
    .section = {ARGS_SECTION(NULL, option_rows)},
    .notes =
        "Progress goes to standard error when it takes longer than 2 s.\n"
        "Exit status: 0 all is right; 1 something is wrong or missing; 2 bad input or options.",
    .given = offsetof(options, given),
    .shortens = true,
};

/* ---------------------------------------------------------------- progress */

typedef struct progress {
    bool is_tty, shown;
    double next_seconds; /* when the next line is due */
} progress;

static void show_progress(void *user, uint64_t done, uint64_t positions, double seconds)
{
    progress *p = user;
    if (seconds < p->next_seconds) {
        return;
    }
    p->next_seconds = seconds + (p->is_tty ? 0.25 : 2.0);
    p->shown = true;
    double left = done ? seconds * (double)(positions - done) / (double)done : 0;
    fprintf(stderr,
            "%seep-oracle: %" PRIu64 " of %" PRIu64 " positions, %.0f s, about %.0f s left%s",
            p->is_tty ? "\r" : "", done, positions, seconds, left, p->is_tty ? "\033[K" : "\n");
}

/* ---------------------------------------------------------------- output */

static void print_fault(FILE *out, const char *name, const oracle_fault *f)
{
    if (!f->found) {
        fprintf(out, "  \"%s\": null\n", name);
        return;
    }
    fprintf(out,
            "  \"%s\": {\"request\": %u, \"position\": %u, \"line\": %zu, \"token\": %u, "
            "\"right_token\": %u, \"digest\": \"%016" PRIx64 "\", \"right_digest\": \"%016" PRIx64
            "\"}\n",
            name, f->request, f->position, f->line, f->token, f->right_token, f->digest,
            f->right_digest);
}

static void print_verdict(FILE *out, const oracle_verdict *v)
{
    fprintf(out, "{\n");
    fprintf(out, "  \"tokens_checked\": %" PRIu64 ",\n", v->tokens_checked);
    fprintf(out, "  \"tokens_wrong\": %" PRIu64 ",\n", v->tokens_wrong);
    fprintf(out, "  \"digests_wrong\": %" PRIu64 ",\n", v->digests_wrong);
    fprintf(out, "  \"tokens_missing\": %" PRIu64 ",\n", v->tokens_missing);
    fprintf(out, "  \"tokens_doubled\": %" PRIu64 ",\n", v->tokens_doubled);
    fprintf(out, "  \"tokens_surplus\": %" PRIu64 ",\n", v->tokens_surplus);
    fprintf(out, "  \"tokens_unchecked\": %" PRIu64 ",\n", v->tokens_unchecked);
    fprintf(out, "  \"positions\": %" PRIu64 ",\n", v->positions);
    fprintf(out, "  \"seconds\": %.3f,\n", v->seconds);
    print_fault(out, "first_wrong", &v->first_wrong);
    fprintf(out, "}\n");
}

static void print_comparison(FILE *out, const oracle_comparison *c)
{
    fprintf(out, "{\n");
    fprintf(out, "  \"tokens_compared\": %" PRIu64 ",\n", c->tokens_compared);
    fprintf(out, "  \"tokens_differ\": %" PRIu64 ",\n", c->tokens_differ);
    fprintf(out, "  \"digests_differ\": %" PRIu64 ",\n", c->digests_differ);
    fprintf(out, "  \"only_first\": %" PRIu64 ",\n", c->only_first);
    fprintf(out, "  \"only_second\": %" PRIu64 ",\n", c->only_second);
    print_fault(out, "first_difference", &c->first_difference);
    fprintf(out, "}\n");
}

static bool print_json(FILE *out, const oracle_verdict *verdict,
                       const oracle_comparison *comparison)
{
    if (verdict) {
        print_verdict(out, verdict);
    } else {
        print_comparison(out, comparison);
    }
    return fflush(out) == 0 && !ferror(out);
}

/* One of verdict and comparison is NULL. What cannot be written to the file that was asked for is
 * printed: it may have taken minutes. */
static bool write_json(const options *asked, const oracle_verdict *verdict,
                       const oracle_comparison *comparison)
{
    FILE *out = asked->out ? asked->out : stdout;
    if (print_json(out, verdict, comparison)) {
        return true;
    }
    fprintf(stderr, "eep-oracle: cannot write %s: %s\n",
            asked->json ? asked->json : "standard output", strerror(errno));
    if (asked->out) {
        (void)print_json(stdout, verdict, comparison);
    }
    return false;
}

static int recompute(const options *asked, const oracle_rows *rows)
{
    oracle_verdict verdict;
    progress p = {.is_tty = isatty(STDERR_FILENO), .next_seconds = 2.0};
    eep_status status = oracle_verdict_find(rows, asked->num_threads, show_progress, &p, &verdict);
    if (p.shown && p.is_tty) {
        fputs("\r\033[K", stderr);
    }
    if (status != EEP_OK) {
        fprintf(stderr, "eep-oracle: %s: %s\n", asked->dir,
                status == EEP_ERR_INVALID     ? "run.json: no such shape (top_k > num_experts?)"
                : status == EEP_ERR_NO_MEMORY ? "out of memory"
                                              : strerror(errno));
        return EXIT_BAD_INPUT;
    }
    if (!write_json(asked, &verdict, NULL)) {
        return EXIT_BAD_INPUT;
    }
    return oracle_verdict_is_clean(&verdict) ? EXIT_RIGHT : EXIT_WRONG;
}

static int compare(const options *asked, const oracle_rows *rows)
{
    char error[ORACLE_ERROR_BYTES];
    oracle_rows twin;
    oracle_comparison c;
    if (oracle_rows_read(asked->twin, &twin, error) != EEP_OK) {
        fprintf(stderr, "eep-oracle: %s\n", error);
        return EXIT_BAD_INPUT;
    }
    eep_status status = oracle_rows_compare(rows, &twin, &c, error);
    oracle_rows_free(&twin);
    if (status != EEP_OK) {
        fprintf(stderr, "eep-oracle: %s and %s are no twins: %s\n", asked->dir, asked->twin, error);
        return EXIT_BAD_INPUT;
    }
    if (!write_json(asked, NULL, &c)) {
        return EXIT_BAD_INPUT;
    }
    if (c.tokens_compared == 0) {
        fputs("eep-oracle: the runs have no emitted position in common\n", stderr);
    }
    return c.tokens_compared > 0 && !c.first_difference.found ? EXIT_RIGHT : EXIT_WRONG;
}

int main(int argc, char **argv)
{
    options asked = {0};
    int code = 0;
    char error[ORACLE_ERROR_BYTES];
    oracle_rows run;
    output_begin();
    if (!args_begin(&table, &asked, argc, argv, &code)) {
        return code;
    }
    if (!asked.dir) {
        fputs("eep-oracle: one run directory is needed; see --help\n", stderr);
        return EXIT_BAD_INPUT;
    }
    if (oracle_rows_read(asked.dir, &run, error) != EEP_OK) {
        fprintf(stderr, "eep-oracle: %s\n", error);
        return EXIT_BAD_INPUT;
    }
    asked.out = asked.json ? fopen(asked.json, "we") : NULL;
    if (asked.json && !asked.out) {
        fprintf(stderr, "eep-oracle: cannot write %s: %s\n", asked.json, strerror(errno));
        oracle_rows_free(&run);
        return EXIT_BAD_INPUT;
    }
    code = asked.twin ? compare(&asked, &run) : recompute(&asked, &run);
    if (asked.out) {
        fclose(asked.out);
    }
    oracle_rows_free(&run);
    return code;
}
