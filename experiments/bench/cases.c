/* SPDX-License-Identifier: Apache-2.0 */
/* What the cases share. */
#include "experiments/bench/bench.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const bench_defaults quick = {2, 2, 3, {{3}, 1}};

bench_defaults bench_defaults_of(const bench_run *run, const bench_defaults *on_cuda,
                                 const bench_defaults *on_host)
{
    const bench_options *o = run->options;
    bench_defaults with = o->quick ? quick : run->is_cuda ? *on_cuda : *on_host;

    if (o->ranks) {
        with.ranks = o->ranks;
    }
    if (o->layers) {
        with.layers = o->layers;
    }
    if (o->repeats) {
        with.repeats = o->repeats;
    }
    if (o->tokens.n) {
        with.tokens = o->tokens;
    }
    return with;
}

bench_setup bench_setup_of(const bench_run *run, const bench_defaults *with, int num_tokens)
{
    const bench_options *o = run->options;

    return (bench_setup){
        .num_ranks = with->ranks,
        .num_layers = with->layers,
        .num_experts = o->experts ? o->experts
                       : o->quick ? 16
                                  : 256,
        .top_k = o->topk    ? o->topk
                 : o->quick ? 4
                            : 8,
        .hidden = o->hidden  ? o->hidden
                  : o->quick ? 256
                             : 7168,
        .num_tokens = num_tokens,
        .num_blocks = o->blocks.n    ? (uint32_t)o->blocks.value[0]
                      : run->is_cuda ? EEPI_COPY_BLOCKS
                                     : EEPI_COPY_BLOCKS_HOST,
        .seed = 20260511,
    };
}

bench_list bench_blocks_of(const bench_run *run)
{
    if (run->options->blocks.n) {
        return run->options->blocks;
    }
    if (!run->is_cuda) {
        return (bench_list){{EEPI_COPY_BLOCKS_HOST}, 1};
    }
    return (bench_list){{EEPI_COPY_BLOCKS, (int)run->num_multiprocessors}, 2};
}

bool bench_wants(const bench_run *run, const char *dtype)
{
    return !run->options->dtype || strcmp(run->options->dtype, dtype) == 0;
}

void bench_begin(const bench_run *run, const char *case_name, const bench_setup *s)
{
    char chunks[24] = "";

    if (s->num_chunks) {
        snprintf(chunks, sizeof chunks, " in %d chunks", s->num_chunks);
    }
    bench_report_begin(run->report, case_name,
                       "ranks %d, layers %d, experts %d, topk %d, hidden %d, tokens %d%s, %s "
                       "dispatch, blocks %u%s",
                       s->num_ranks, s->num_layers, s->num_experts, s->top_k, s->hidden,
                       s->num_tokens, chunks, s->fp8 ? "fp8" : "bf16", s->num_blocks,
                       s->pin ? ", pinned" : "");
}

int bench_num_cores(void)
{
    cpu_set_t allowed;

    if (sched_getaffinity(getpid(), sizeof allowed, &allowed) != 0) {
        return 1;
    }
    return CPU_COUNT(&allowed);
}

double *bench_doubles(size_t n)
{
    double *values = calloc(n ? n : 1, sizeof *values);

    if (!values) {
        bench_fatal("out of memory");
    }
    return values;
}

/* ------------------------------------------------------------------ checks */

typedef struct check {
    uint64_t wrong[BENCH_MAX_RANKS], digest[BENCH_MAX_RANKS][BENCH_NUM_KINDS];
} check;

static void check_body(bench_rank *r, void *user)
{
    check *c = user;

    for (int kind = 0; kind < BENCH_NUM_KINDS; kind++) {
        if (!r->graph[kind]) {
            continue;
        }
        c->wrong[r->index] += bench_check_step(r, (bench_kind)kind);
        c->digest[r->index][kind] = bench_digest_out(r);
        bench_meet(r);
    }
}

bench_checked bench_check_kinds(bench_world *w)
{
    bench_checked sum = {0, 0};
    check c = {{0}, {{0}}};

    bench_world_run(w, check_body, &c);
    for (int i = 0; i < w->setup.num_ranks; i++) {
        sum.wrong += c.wrong[i];
        for (int kind = BENCH_ELASTIC + 1; kind < BENCH_NUM_KINDS; kind++) {
            sum.differing +=
                w->rank[i].graph[kind] && c.digest[i][BENCH_ELASTIC] != c.digest[i][kind];
        }
    }
    return sum;
}
