#include "experiments/launcher/launcher_setup.h"

#include "experiments/children/device_probe.h"
#include "experiments/base/end_signals.h"
#include "experiments/launcher/finish.h"
#include "experiments/base/folder.h"
#include "graphs/device/device_share.h"
#include "membership/process/seat_file.h"
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
static const char STORE_NAME[] = "/store";
static const uint64_t STORE_TIMEOUT_US = 5000000;
static const double LATE_FIRST_S = 5;  /* a first request that is this far away is told */
static const double SLICE_ROUNDS = 20; /* of all processes on a GPU, in a limit */
/* Until a dead process's last kernel has had its turn (eep_config's stores_margin_us). */
static const double MARGIN_ROUNDS = 2, LEAST_MARGIN_MS = EEPI_STORES_MARGIN_US / 1e3;

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

static bool has_memory(const options *how)
{
    eep_config config;
    eep_window_sizes sizes;
    eep_config_init(&config);
    options_fill_context(how, &config);
    config.rank = 0;
    config.store_path = "";
    eep_status status = eep_window_sizes_get(&config, EEP_SIZED(&sizes));
    if (status != EEP_OK) {
        fprintf(stderr, "eep-run: this shape is not possible: %s\n", eep_error_text());
        return false;
    }
    uint64_t windows = sizes.dispatch_bytes + sizes.combine_bytes + sizes.control_bytes;
    uint64_t needed = options_memory_bytes(how, windows), available = available_bytes();
    if (available && available < needed) {
        fprintf(stderr,
                "eep-run: too little memory: %" PRId64 " ranks need about %" PRIu64 " MB, %" PRIu64
                " MB are available; use fewer --ranks, --slots or --layers\n",
                how->num_ranks, needed >> 20, available >> 20);
        return false;
    }
    return true;
}

/* Processes take turns on a GPU, time slice by time slice, and one that waits for a peer spins its
 * slice away: no limit may be shorter than what many rounds of all of them take. */
static void fit_to_slices(launcher *self, const device_probe_result *found)
{
    options *how = &self->effective;
    int64_t devices = found->num_devices > 0 ? found->num_devices : 1;
    int64_t sharing = (how->max_ranks + devices - 1) / devices;
    double least_ms = SLICE_ROUNDS * (double)sharing * found->slice_ms;
    static const struct {
        const char *name;
        size_t offset;
    } limits[] = {{"--step-deadline-ms", offsetof(options, step_deadline_ms)},
                  {"--expel-ms", offsetof(options, expel_ms)},
                  {"--drain-bound-ms", offsetof(options, drain_bound_ms)}};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        double *limit_ms = (double *)((char *)how + limits[i].offset);
        if (!options_is_given(how, limits[i].offset)) {
            *limit_ms = fmax(*limit_ms, least_ms);
        } else if (*limit_ms < least_ms) {
            launcher_complain(self, "%s %g is short: here that takes %.0f", limits[i].name,
                              *limit_ms, least_ms);
        }
    }
    how->script.expel_ms = how->expel_ms;
    if (!options_is_given(how, offsetof(options, stores_margin_ms))) {
        double margin_ms = MARGIN_ROUNDS * (double)sharing * found->slice_ms;
        how->stores_margin_ms = fmax(LEAST_MARGIN_MS, margin_ms);
    }
    if (!how->quiet) {
        printf("%" PRId64 " processes share a GPU: time slices of up to %.1f ms, limits of at "
               "least %.0f ms\n",
               sharing, found->slice_ms, least_ms);
    }
}

static bool has_device(launcher *self)
{
    const options *how = self->how;
    device_probe_result found;
    if (strcmp(how->device, "cuda") != 0) { /* the others are always there */
        return true;
    }
    if (!device_probe(how->device, !how->threads && how->max_ranks > 1, &found)) {
        fprintf(stderr, "eep-run: --device %s cannot be used: %s\n", how->device, found.why);
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
    double first_s = (double)self->load.requests[0].arrival_us / 1e6;
    if (self->load.shift_ms > LATE_FIRST_S * 1e3) {
        fprintf(stderr,
                "eep-run: the trace begins at timestamp %.0f ms (scaled): counted from there "
                "(--trace-start 0: from 0)\n",
                self->load.shift_ms);
    }
    if (first_s > LATE_FIRST_S) {
        fprintf(stderr, "eep-run: the first request comes %.1f s after the start%s\n", first_s,
                self->how->trace_path ? " (--trace-start first: at once)" : "");
    }
}

static bool read_load(launcher *self)
{
    const options *how = self->how;
    char error[TRACE_ERROR_BYTES] = "";
    trace_poisson poisson = {.seed = (uint64_t)how->seed,
                             .rate_per_s = how->rate_per_s,
                             .num_requests = (size_t)how->num_requests,
                             .input_min = how->input_min,
                             .input_max = how->input_max,
                             .output_min = how->output_min,
                             .output_max = how->output_max};
    eep_status status = how->trace_path
                            ? trace_load(how->trace_path, &how->trace, &self->load, error)
                            : trace_draw_poisson(&poisson, &self->load, error);
    if (status == EEP_OK) {
        poisson.seed += 1; /* other lengths than the arrivals' */
        poisson.num_requests = FILLER_REQUESTS;
        status = trace_draw_poisson(&poisson, &self->filler, error);
    }
    if (status != EEP_OK) {
        fprintf(stderr, "eep-run: %s\n", error);
        return false;
    }
    say_begin(self);
    for (size_t i = 0; i < self->load.num_requests; i++) {
        if (self->load.requests[i].output_length > WIRE_MAX_TOKENS) {
            fprintf(stderr,
                    "eep-run: request %zu of the trace has output_length %u, more than %d; use "
                    "--scale-lengths\n",
                    i + 1, self->load.requests[i].output_length, WIRE_MAX_TOKENS);
            return false;
        }
    }
    return true;
}

/* ---------------------------------------------------------------- the store */

static bool start_store(launcher *self)
{
    char error[LAUNCHER_TEXT_BYTES] = "";
    if (self->how->store_path) {
        snprintf(self->store_path, sizeof self->store_path, "%s", self->how->store_path);
    } else {
        char why[PRIVATE_DIR_ERROR_BYTES];
        size_t longest = PRIVATE_DIR_BYTES - sizeof STORE_NAME;
        if (private_dir_make("eep-run", longest, &self->store_dir, why) != 0) {
            fprintf(stderr, "eep-run: %s\n", why);
            return false;
        }
        snprintf(self->store_path, sizeof self->store_path, "%s%s", self->store_dir.path,
                 STORE_NAME);
        eep_status status =
            self->how->store_process
                ? store_process_open(self->store_path, &self->store_child)
                : eep_store_open(self->store_path, error, sizeof error, &self->store);
        if (status != EEP_OK) {
            fprintf(stderr, "eep-run: store: %s: %s\n", eep_strerror(status), error);
            return false;
        }
    }
    eep_status status = eepi_store_client_open(self->store_path, STORE_TIMEOUT_US, &self->client);
    if (status != EEP_OK) {
        fprintf(stderr, "eep-run: no store answers at '%s': %s\n", self->store_path,
                eep_strerror(status));
        return false;
    }
    (void)eepi_store_watch(self->client, "view");
    return true;
}

/* ---------------------------------------------------------------- open and close */

static bool hold_signals(launcher *self)
{
    sigset_t signals;
    if (end_signals_block(&signals, NULL) == 0) {
        self->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    }
    if (self->signal_fd < 0) {
        fprintf(stderr, "eep-run: signalfd: %s\n", strerror(errno));
    }
    return self->signal_fd >= 0;
}

static bool set_up(launcher *self)
{
    const options *how = self->how;
    char error[FINISH_ERROR_BYTES];
    if (!has_memory(how) || !has_device(self) || !read_load(self)) {
        return false;
    }
    if (finish_take_dir(how, &self->out, error) != EEP_OK) {
        fprintf(stderr, "eep-run: %s\n", error);
        return false;
    }
    uint32_t most = (uint32_t)self->load.num_requests + (how->keep_busy ? LAUNCHER_MOST_FILLED : 0);
    self->process = malloc((size_t)how->max_ranks * sizeof *self->process);
    if (!self->process || scheduler_open((int)how->max_ranks, most, (uint32_t)how->num_max_requests,
                                         &self->front) != EEP_OK) {
        fprintf(stderr, "eep-run: out of memory\n");
        return false;
    }
    for (int seat = 0; seat < how->max_ranks; seat++) {
        self->process[seat] = LAUNCHER_NO_PROCESS;
    }
    /* Before the first thread is started, so that none of them takes the signals. */
    if (!hold_signals(self) || !start_store(self)) {
        return false;
    }
    if (supervisor_open(how, self->store_path, &self->ranks) != EEP_OK) {
        fprintf(stderr, "eep-run: out of memory\n");
        return false;
    }
    return true;
}

launcher *launcher_open(const options *how)
{
    launcher *self = calloc(1, sizeof *self);
    if (!self) {
        fprintf(stderr, "eep-run: out of memory\n");
        return NULL;
    }
    self->effective = *how;
    self->how = &self->effective;
    if (script_copy(&how->script, &self->effective.script) != EEP_OK) {
        fprintf(stderr, "eep-run: out of memory\n");
        free(self);
        return NULL;
    }
    self->signal_fd = -1;
    self->out = FOLDER_CLOSED;
    self->proposer = -1;
    self->begun_ns = launcher_now_ns();
    self->run.max_ranks = (int)how->max_ranks;
    self->is_tty = isatty(STDOUT_FILENO) == 1;
    if (!set_up(self)) {
        launcher_close(self);
        return NULL;
    }
    return self;
}

void launcher_close(launcher *self)
{
    supervisor_close(self->ranks); /* ranks first: they must not see the store go */
    if (self->client) {
        eepi_store_client_close(self->client);
    }
    if (self->store) {
        eep_store_close(self->store);
    }
    store_process_close(self->store_child);
    if (*self->store_dir.path) {
        eepi_seats_remove(self->store_path, (int32_t)self->how->max_ranks);
        private_dir_remove(&self->store_dir);
    }
    if (self->signal_fd >= 0) {
        close(self->signal_fd);
    }
    folder_close(&self->out);
    scheduler_close(self->front);
    trace_free(&self->load);
    trace_free(&self->filler);
    record_free(&self->run);
    free(self->process);
    free(self->view);
    script_free(&self->effective.script);
    free(self);
}

/* ---------------------------------------------------------------- ranks */

void launcher_start_rank(launcher *self, int seat, bool joiner)
{
    const record_process *before = launcher_process_of(self, seat);
    if (before && before->generation) {
        /* Its process has ended and its socket was read to the end: it emits nothing any more. */
        (void)scheduler_seat_gone(self->front, seat, before->generation);
    }
    uint64_t spawn_ns = launcher_now_ns();
    eep_status status = supervisor_spawn(self->ranks, seat, joiner);
    record_process *process = status == EEP_OK ? record_add_process(&self->run) : NULL;
    if (!process) {
        char why[LAUNCHER_TEXT_BYTES];
        launcher_fail(self, "rank %d cannot be started: %s", seat,
                      status == EEP_ERR_SYSTEM ? eepi_descriptors_error(errno, why, sizeof why)
                                               : eep_strerror(EEP_ERR_NO_MEMORY));
        return;
    }
    process->seat = seat;
    process->spawn_ns = spawn_ns;
    process->rejoin = joiner;
    self->process[seat] = (int64_t)self->run.num_processes - 1;
    launcher_note(self, joiner ? "rejoin" : "spawn", process, 0);
    launcher_saw(self, STATE_SPAWNED, seat);
}
