/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank's windows, tables and scratch take. Computed, not measured: they are allocated once,
 * at open, by these formulas. */
#include "experiments/bench/bench.h"

static void report_shape(const bench_run *run, const char *label, const eep_config *config)
{
    eep_window_sizes windows;
    eepi_table_sizes tables;
    eepk_shape shape;
    const char *why;
    char prefill[48] = "";

    if (config->num_shapes) {
        snprintf(prefill, sizeof prefill, " and %d in %d", config->shapes[0].max_tokens,
                 config->shapes[0].num_chunks);
    }
    if (eepi_shape_make(config, &shape, &why) != EEP_OK) {
        bench_fatal("bad %s", why);
    }
    if (eep_window_sizes_get(config, EEP_SIZED(&windows)) != EEP_OK) {
        bench_fatal("%s", eep_error_text());
    }
    tables = eepi_tables_sizes(&shape);
    bench_report_begin(run->report, "memory",
                       "%s: ranks %d, layers %d, experts %d, slots %d, topk %d, hidden %d, tokens "
                       "%d%s, %s dispatch",
                       label, config->max_ranks, config->num_layers, config->num_experts,
                       config->num_slots, config->top_k, config->hidden,
                       config->num_max_tokens_per_rank, prefill,
                       config->fp8_dispatch ? "fp8" : "bf16");
    bench_report_value(run->report, "window_control", "bytes", (double)windows.control_bytes);
    bench_report_value(run->report, "window_dispatch", "bytes", (double)windows.dispatch_bytes);
    bench_report_value(run->report, "window_combine", "bytes", (double)windows.combine_bytes);
    bench_report_value(run->report, "window", "bytes", (double)shape.window_bytes);
    bench_report_value(run->report, "tables_device", "bytes", (double)tables.device_bytes);
    bench_report_value(run->report, "tables_pinned", "bytes", (double)tables.pinned_bytes);
    bench_report_value(run->report, "scratch", "bytes", (double)tables.scratch_bytes);
    bench_report_value(run->report, "engine_packed_rows", "bytes",
                       (double)shape.rows_capacity * (shape.num_scales
                                                          ? shape.hidden + 4.0 * shape.num_scales
                                                          : shape.row_bytes));
}

void bench_memory(const bench_run *run)
{
    static const eep_shape prefill[] = {{4096, 8}, {4096, 1}};
    const bench_options *o = run->options;
    eep_config wide = {.struct_bytes = sizeof wide,
                       .num_ranks = 32,
                       .max_ranks = 32,
                       .num_layers = 58,
                       .num_experts = 288,
                       .num_slots = 9,
                       .top_k = 8,
                       .hidden = 7168,
                       .num_max_tokens_per_rank = 128,
                       .dtype = EEP_BF16};
    eep_config ours = wide;

    ours.num_ranks = ours.max_ranks = o->ranks ? o->ranks : 8;
    ours.num_layers = o->layers ? o->layers : 58;
    ours.num_experts = o->experts ? o->experts : 256;
    ours.num_slots = (ours.num_experts + ours.num_ranks - 1) / ours.num_ranks;
    ours.top_k = o->topk ? o->topk : 8;
    ours.hidden = o->hidden ? o->hidden : 7168;
    ours.num_max_tokens_per_rank = o->tokens.n ? o->tokens.value[0] : 128;
    report_shape(run, "wide instance", &wide);
    wide.fp8_dispatch = 1;
    report_shape(run, "wide instance", &wide);
    for (int i = 0; i < 2; i++) { /* a prefill beside decode steps: in chunks, and at once */
        wide.shapes = &prefill[i];
        wide.num_shapes = 1;
        wide.fp8_dispatch = 0;
        report_shape(run, "wide instance", &wide);
        wide.fp8_dispatch = 1;
        report_shape(run, "wide instance", &wide);
    }
    report_shape(run, "benchmark", &ours);
    ours.fp8_dispatch = 1;
    report_shape(run, "benchmark", &ours);
}
