/* SPDX-License-Identifier: Apache-2.0 */
/* A run before its ranks and after them: memory, device, load, output folder and store. */
#include "experiments/launcher/launcher_setup.h"

#include "experiments/base/monotonic.h"
#include "experiments/children/device_probe.h"
#include "experiments/base/end_signals.h"
#include "experiments/children/finish.h"
#include "graphs/device/device_share.h"
#include "graphs/base/descriptors.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { FILLER_REQUESTS = 4096 };
static const double LATE_FIRST_S = 5;  /* a first request that is this far away is told */
static const double SLICE_ROUNDS = 20; /* of all processes on a GPU, in a limit */

/* ---------------------------------------------------------------- what the machine must have */

/* MemAvailable of /proc/meminfo in bytes; 0 if it cannot be read. */
static uint64_t available_bytes(void)
{
    char line[256];
    uint64_t kilobytes = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kilobytes) == 1) {
            break;
        }
    }
    if (file) {
        fclose(file);
    }
    return kilobytes * 1024;
}

static bool has_memory(const options *given)
{
    eep_config config;
    eep_window_sizes sizes;
    eep_config_init(&config);
    rank_setup setup;
    options_fill_rank(given, &setup);
    rank_setup_fill_context(&setup, &config);
    config.rank = 0;
    config.store_path = "";
    eep_status status = eep_window_sizes_get(&config, EEP_SIZED(&sizes));
    if (status != EEP_OK) {
        fprintf(stderr, "eep-run: this shape is not possible: %s\n", eep_error_text());
        return false;
    }
    uint64_t windows = sizes.dispatch_bytes + sizes.combine_bytes + sizes.control_bytes;
    uint64_t needed = options_memory_bytes(given, windows), available = available_bytes();
    if (available && available < needed) {
        fprintf(stderr,
                "eep-run: too little memory: %" PRId64 " ranks need about %" PRIu64 " MB, %" PRIu64
                " MB are available; use fewer --ranks, --slots or --layers\n",
                given->num_ranks, needed >> 20, available >> 20);
        return false;
    }
    return true;
}

/* Processes take turns on a GPU, time slice by time slice, and one that waits for a peer spins its
 * slice away: no limit may be shorter than what many rounds of all of them take. */
static void fit_to_slices(launcher *self, const device_probe_result *found)
{
    options *own = &self->options;
    int64_t devices = found->num_devices > 0 ? found->num_devices : 1;
    int64_t sharing = (own->max_ranks + devices - 1) / devices;
    double least_ms = SLICE_ROUNDS * (double)sharing * found->slice_ms;
    static const struct {
        const char *name;
        size_t offset;
    } limits[] = {{"--step-deadline-ms", offsetof(options, step_deadline_ms)},
                  {"--expel-ms", offsetof(options, expel_ms)},
                  {"--drain-bound-ms", offsetof(options, drain_bound_ms)}};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        double *limit_ms = (double *)((char *)own + limits[i].offset);
        if (!options_is_given(own, limits[i].offset)) {
            *limit_ms = fmax(*limit_ms, least_ms);
        } else if (*limit_ms < least_ms) {
            launcher_complain(self, "%s %g is short: here that takes %.0f", limits[i].name,
                              *limit_ms, least_ms);
        }
    }
    own->script.expel_ms = own->expel_ms;
    if (!own->quiet) {
        printf("%" PRId64 " processes share a GPU: time slices of up to %.1f ms, limits of at "
               "least %.0f ms\n",
               sharing, found->slice_ms, least_ms);
    }
}

static bool has_device(launcher *self)
{
    device_probe_result found;
    if (strcmp(self->options.device, "cuda") != 0) { /* the others are always there */
        return true;
    }
    if (!device_probe(self->options.device, !self->options.threads && self->options.max_ranks > 1,
                      &found)) {
        fprintf(stderr, "eep-run: --device %s cannot be used: %s\n", self->options.device,
                found.why);
        return false;
    }
    if (found.slice_ms > 0) {
        fit_to_slices(self, &found);
    }
    return true;
}

/* ---------------------------------------------------------------- the load */

/* A run that waits for its first request looks like one that hangs. */
static void say_begin(const launcher *self)
{
    double first_s = (double)self->load.arrivals.requests[0].arrival_us / 1e6;
    if (self->load.arrivals.shift_ms > LATE_FIRST_S * 1e3) {
        fprintf(stderr,
                "eep-run: the trace begins at timestamp %.0f ms (scaled): counted from there "
                "(--trace-start 0: from 0)\n",
                self->load.arrivals.shift_ms);
    }
    if (first_s > LATE_FIRST_S) {
        fprintf(stderr, "eep-run: the first request comes %.1f s after the start%s\n", first_s,
                self->options.trace_path ? " (--trace-start first: at once)" : "");
    }
}

static bool read_load(launcher *self)
{
    char error[TRACE_ERROR_BYTES] = "";
    trace_poisson poisson = {.seed = (uint64_t)self->options.seed,
                             .rate_per_s = self->options.rate_per_s,
                             .num_requests = (size_t)self->options.num_requests,
                             .input_min = self->options.input_min,
                             .input_max = self->options.input_max,
                             .output_min = self->options.output_min,
                             .output_max = self->options.output_max};
    if (self->options.engine) { /* its requests are its own */
        return true;
    }
    eep_status status = self->options.trace_path
                            ? trace_load(self->options.trace_path, &self->options.trace,
                                         &self->load.arrivals, error)
                            : trace_draw_poisson(&poisson, &self->load.arrivals, error);
    if (status == EEP_OK) {
        poisson.seed += 1; /* other lengths than the arrivals' */
        poisson.num_requests = FILLER_REQUESTS;
        status = trace_draw_poisson(&poisson, &self->load.filler, error);
    }
    if (status != EEP_OK) {
        fprintf(stderr, "eep-run: %s\n", error);
        return false;
    }
    say_begin(self);
    for (size_t i = 0; i < self->load.arrivals.num_requests; i++) {
        if (self->load.arrivals.requests[i].output_length > WIRE_MAX_TOKENS) {
            fprintf(stderr,
                    "eep-run: request %zu of the trace has output_length %u, more than %d; use "
                    "--scale-lengths\n",
                    i + 1, self->load.arrivals.requests[i].output_length, WIRE_MAX_TOKENS);
            return false;
        }
    }
    return true;
}

/* ---------------------------------------------------------------- open and close */

static bool hold_signals(launcher *self)
{
    sigset_t signals;
    if (end_signals_block(&signals, NULL) == 0) {
        self->ending.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    }
    if (self->ending.signal_fd < 0) {
        fprintf(stderr, "eep-run: signalfd: %s\n", strerror(errno));
    }
    return self->ending.signal_fd >= 0;
}

/* Asked before the store, which may take its time. */
static bool has_key(const options *given)
{
    char error[HOSTS_ERROR_BYTES];
    if (!given->hosts || host_links_check_key(error) == EEP_OK) {
        return true;
    }
    fprintf(stderr, "eep-run: %s\n", error);
    return false;
}

static bool open_hosts(launcher *self)
{
    char error[HOSTS_ERROR_BYTES];
    host_links *links = NULL;
    if (host_links_open(&self->options, self->ending.signal_fd, &links, error) != EEP_OK) {
        fprintf(stderr, "eep-run: %s\n", error);
        return false;
    }
    supervisor_use_hosts(self->ranks, links);
    return true;
}

static bool set_up(launcher *self)
{
    char error[FINISH_ERROR_BYTES];
    if ((!self->options.engine && !self->options.hosts && !has_memory(&self->options)) ||
        !has_device(self) || !has_key(&self->options) || !read_load(self)) {
        return false;
    }
    if (finish_take_dir(&self->options, &self->out, error) != EEP_OK) {
        fprintf(stderr, "eep-run: %s\n", error);
        return false;
    }
    uint32_t max_requests = (uint32_t)self->load.arrivals.num_requests +
                            (self->options.keep_busy ? LAUNCHER_MAX_FILLED : 0) +
                            (self->options.baseline == OPTIONS_RESTART ? LAUNCHER_MAX_RETRIES : 0);
    max_requests += self->options.engine != NULL; /* it has no request, and needs room for one */
    self->process = malloc((size_t)self->options.max_ranks * sizeof *self->process);
    if (!self->process ||
        scheduler_open((int)self->options.max_ranks, max_requests,
                       (uint32_t)self->options.num_max_requests, &self->scheduler) != EEP_OK) {
        fprintf(stderr, "eep-run: out of memory\n");
        return false;
    }
    for (int seat = 0; seat < self->options.max_ranks; seat++) {
        self->process[seat] = LAUNCHER_NO_PROCESS;
    }
    /* Before the first thread is started, so that none of them takes the signals. */
    if (!hold_signals(self) || !run_store_open(&self->options, &self->store)) {
        return false;
    }
    if (supervisor_open(&self->options, self->store.path, &self->ranks) != EEP_OK) {
        fprintf(stderr, "eep-run: out of memory\n");
        return false;
    }
    return (!self->options.hosts || open_hosts(self)) &&
           run_store_begin(&self->options, &self->store);
}

launcher *launcher_open(const options *given)
{
    launcher *self = calloc(1, sizeof *self);
    if (!self) {
        fprintf(stderr, "eep-run: out of memory\n");
        return NULL;
    }
    self->options = *given;
    if (script_copy(&given->script, &self->options.script) != EEP_OK) {
        fprintf(stderr, "eep-run: out of memory\n");
        free(self);
        return NULL;
    }
    self->ending.signal_fd = -1;
    self->out = FOLDER_CLOSED;
    self->progress.begun_ns = now_ns();
    self->run.max_ranks = (int)given->max_ranks;
    self->screen.is_tty = isatty(STDOUT_FILENO) == 1;
    if (!set_up(self)) {
        launcher_close(self);
        return NULL;
    }
    return self;
}

void launcher_close(launcher *self)
{
    supervisor_close(self->ranks); /* ranks first: they must not see the store go */
    run_store_close(&self->store, self->run.max_ranks);
    if (self->ending.signal_fd >= 0) {
        close(self->ending.signal_fd);
    }
    folder_close(&self->out);
    scheduler_close(self->scheduler);
    trace_free(&self->load.arrivals);
    trace_free(&self->load.filler);
    record_free(&self->run);
    free(self->process);
    free(self->view);
    script_free(&self->options.script);
    free(self);
}
