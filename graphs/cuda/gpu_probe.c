/* The GPU probes: what the design takes for granted about memory that is shared between processes
 * on a GPU, about death, and about time, asked of the machine. Prints a table; writes rows in the
 * form of gpu_smoke's.
 *
 * This process opens no device: it starts the roles of probe_roles.c and probe_timing.c, listens
 * to them, and kills. Every wait has a bound, and every child ends with this process. */
#include "graphs/cuda/probe_child.h"
#include "graphs/cuda_environment.h"

#include "transport/peer_descriptor.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    EXIT_SKIPPED = 77,
    START_MS = 60000, /* of a process: the driver, the context, all kernels */
    ASK_MS = 40000,   /* beyond the longest kernel */
    STORE_BEFORE_KILL_MS = 500,
    NUM_KILLS = 3,
    MOST_SPINNERS = 4,
    CHILD_SOCKET = 3,
};

typedef struct options {
    const char *device, *csv, *commit, *driver, *role, *seconds;
} options;

typedef struct report {
    FILE *csv; /* NULL: no file */
    const options *with;
    probe_how how;
    char gpu[128];
    int num_failed;
} report;

/* ------------------------------------------------------------------ the report */

static void add_row(report *to, const char *probe, const char *check, double value, int ok)
{
    printf("%-26s %-26s %14.6g  %s\n", probe, check, value, ok ? "ok" : "FAILED");
    fflush(stdout);
    if (to->csv)
        fprintf(to->csv, "%s,%s,%s,%s/%s,%.9g,%d\n", to->with->commit, to->gpu, to->with->driver,
                probe, check, value, ok);
    to->num_failed += !ok;
}

/* A process of the probe did not do its part; its text says why. */
static void add_failure(report *to, const char *probe, const char *role, const probe_message *said)
{
    fprintf(stderr, "gpu_probe: %s: %s: %s: %.*s\n", probe, role, eep_strerror(said->status),
            (int)sizeof(said->text), said->text);
    add_row(to, probe, role, said->status, 0);
}

/* ------------------------------------------------------------------ talking to roles */

typedef struct actor {
    report *to;
    const char *probe, *role;
    probe_child child;
} actor;

/* 1, or 0 with a row. */
static int start(actor *a, report *to, const char *probe, const char *role)
{
    probe_how how = to->how;

    *a = (actor){.to = to, .probe = probe, .role = role};
    how.role = role;
    if (probe_child_start(&how, &a->child) == 0)
        return 1;
    perror("gpu_probe: starting a process");
    add_row(to, probe, role, 0, 0);
    return 0;
}

static int hear(const actor *a, uint64_t timeout_ms, probe_message *said)
{
    if (probe_receive(a->child.socket, timeout_ms, said) == 0 && said->status == EEP_OK)
        return 1;
    add_failure(a->to, a->probe, a->role, said);
    return 0;
}

static int ask(const actor *a, const probe_message *question, uint64_t timeout_ms,
               probe_message *said)
{
    probe_message gone = {.status = EEP_ERR_UNREACHABLE, .text = "the process has ended"};

    if (probe_send(a->child.socket, question) == 0)
        return hear(a, timeout_ms, said);
    add_failure(a->to, a->probe, a->role, &gone);
    return 0;
}

static int64_t end(actor *a)
{
    int64_t us = probe_child_kill(&a->child);

    if (us < 0)
        add_row(a->to, a->probe, "killed_within_20s", 0, 0);
    return us;
}

/* An owner of a window of that generation, and where it is. */
static int start_owner(actor *a, report *to, const char *probe, uint32_t generation,
                       probe_message *window_out)
{
    probe_message question = {.generation = generation};

    return start(a, to, probe, "owner") && ask(a, &question, START_MS, window_out);
}

/* ------------------------------------------------------------------ (a) descriptors */

/* EXIT_SUCCESS, EXIT_FAILURE or EXIT_SKIPPED: whether there is any use in going on. */
static int probe_descriptors(report *to)
{
    static const char *const names[] = {"mapped_bytes",
                                        "make_us",
                                        "map_us",
                                        "close_us",
                                        "busy_make_us",
                                        "busy_map_us",
                                        "busy_close_us",
                                        "busy_goes_on",
                                        "busy_longest_launch_us",
                                        "alloc_us",
                                        "alloc_pinned_us",
                                        "open_stream_us",
                                        "busy_alloc_us",
                                        "busy_alloc_pinned_us",
                                        "busy_open_stream_us",
                                        "busy_alloc_goes_on",
                                        "busy_alloc_longest_launch_us"};
    probe_message said;
    actor a;
    int got;

    if (!start(&a, to, "descriptors", "look"))
        return EXIT_FAILURE;
    got = probe_receive(a.child.socket, START_MS, &said) == 0;
    (void)end(&a);
    if (got && said.status != EEP_OK && said.values[0] == PROBE_NO_DEVICE) {
        fprintf(stderr, "gpu_probe: device %s: %.*s\n", to->how.device, (int)sizeof(said.text),
                said.text);
        return said.status == EEP_ERR_UNSUPPORTED ? EXIT_SKIPPED : EXIT_FAILURE;
    }
    snprintf(to->gpu, sizeof(to->gpu), "%.*s", (int)sizeof(to->gpu) - 1,
             said.status == EEP_OK ? said.text : to->how.device);
    for (char *c = to->gpu; *c; c++) {
        if (*c == ',')
            *c = ' ';
    }
    if (to->csv)
        fprintf(to->csv, "commit,gpu,driver,check,value,ok\n");
    if (!got || said.status != EEP_OK) {
        add_failure(to, "descriptors", "look", &said);
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        add_row(to, "descriptors", names[i], (double)said.values[i], i > 0 || said.values[0] > 0);
    return EXIT_SUCCESS;
}

/* ------------------------------------------------------------------ (b) an owner dies */

/* While the survivor stores: the owner is killed, and a successor's window mapped. */
static int kill_owner(actor *owner, actor *successor, const actor *survivor, const char *probe)
{
    report *to = owner->to;
    probe_message window, said;
    int64_t us;

    probe_pause_ms(STORE_BEFORE_KILL_MS);
    us = end(owner);
    add_row(to, probe, "kill_to_end_us", (double)us, us >= 0);
    if (!start_owner(successor, to, probe, 2, &window) || !ask(survivor, &window, ASK_MS, &said))
        return 0;
    add_row(to, probe, "successor_map_us", (double)said.values[0], 1);
    add_row(to, probe, "successor_elsewhere", (double)said.values[1], said.values[1] == 1);
    add_row(to, probe, "kernel_goes_on", (double)said.values[2], 1);
    return 1;
}

static void owner_dies(report *to, const char *probe, int with_keeper)
{
    actor owner = {.child.pid = 0}, survivor = {.child.pid = 0}, successor = {.child.pid = 0};
    probe_message window = {.fd = -1}, said;
    int kept = -1, well = start_owner(&owner, to, probe, 1, &window);

    if (well && with_keeper) {
        char why[400] = "";
        well = eepi_peer_descriptors_copy(owner.child.pid, &window.fd, 1, &kept, why,
                                          sizeof(why)) == EEP_OK;
        if (!well)
            fprintf(stderr, "gpu_probe: %s: %s\n", probe, why);
        add_row(to, probe, "descriptor_kept", well, well);
    }
    well = well && start(&survivor, to, probe, "survivor") &&
           ask(&survivor, &window, START_MS, &said) &&
           kill_owner(&owner, &successor, &survivor, probe) &&
           hear(&survivor, to->how.seconds * 1000u + ASK_MS, &said);
    if (well) {
        add_row(to, probe, "rounds_stored", (double)said.values[0], said.values[0] > 0);
        add_row(to, probe, "words_wrong", (double)said.values[1], said.values[1] == 0);
    }
    add_row(to, probe, "survivor_has_no_error", well, well);
    (void)end(&owner);
    (void)end(&survivor);
    (void)end(&successor);
    if (kept >= 0)
        close(kept);
}

/* ------------------------------------------------------------------ (c) the dead store no more */

/* One writer is killed. What still changed after the first look is told, which comes as soon as the
 * process is seen ended: a store before that look cannot be told from one before the end. */
static int kill_writer(const actor *owner, const probe_message *window, const char *probe)
{
    report *to = owner->to;
    probe_message said, question = {.status = EEP_OK};
    actor writer;
    int64_t us;
    int well = start(&writer, to, probe, "counter") && ask(&writer, window, START_MS, &said);

    if (well)
        probe_pause_ms(STORE_BEFORE_KILL_MS);
    us = end(&writer);
    well = well && ask(owner, &question, ASK_MS, &said);
    if (well) {
        uint64_t after = said.values[3] - said.values[0];
        add_row(to, probe, "kill_to_end_us", (double)us, us >= 0);
        add_row(to, probe, "counted", (double)said.values[0], said.values[0] > 0);
        add_row(to, probe, "stores_after_the_end", (double)after, after == 0);
    }
    return well;
}

static void writer_dies(report *to)
{
    char probe[32];
    actor owner = {.child.pid = 0};
    probe_message window;
    int well = start_owner(&owner, to, "writer_killed", 1, &window);

    for (int i = 0; i < NUM_KILLS && well; i++) {
        snprintf(probe, sizeof(probe), "writer_killed/%d", i);
        well = kill_writer(&owner, &window, probe);
    }
    add_row(to, "writer_killed", "owner_has_no_error", well, well);
    (void)end(&owner);
}

/* ------------------------------------------------------------------ (d) waiting ranks */

static void ranks_wait(report *to)
{
    const char *probe = "ring_of_8_threads";
    probe_message said;
    actor ranks;

    if (!start(&ranks, to, probe, "ring"))
        return;
    if (hear(&ranks, START_MS + ASK_MS, &said)) {
        add_row(to, probe, "rounds", (double)said.values[0], said.values[0] == said.values[1]);
        add_row(to, probe, "with_start_us", (double)said.values[2], 1);
    }
    (void)end(&ranks);
}

/* ------------------------------------------------------------------ (e) time slices */

static void add_slices(report *to, const char *of, int index, const probe_message *said)
{
    char probe[48];

    snprintf(probe, sizeof(probe), "%s/%d", of, index);
    add_row(to, probe, "gaps", (double)said->values[0], 1);
    add_row(to, probe, "gap_median_us", (double)said->values[1] / 1000.0, 1);
    add_row(to, probe, "gap_longest_us", (double)said->values[2] / 1000.0, 1);
    add_row(to, probe, "slice_median_us", (double)said->values[3] / 1000.0, 1);
    add_row(to, probe, "away_share", (double)said->values[4] / (to->how.seconds * 1e9), 1);
}

/* Kernels of that many processes spin on one GPU at the same time: rows of each of them. */
static void slices(report *to, const char *probe, int count)
{
    actor spinners[MOST_SPINNERS] = {{.child.pid = 0}};
    probe_message said, go = {.status = EEP_OK};
    int well = 1;

    for (int i = 0; i < count && well; i++)
        well = start(&spinners[i], to, probe, "spin");
    for (int i = 0; i < count && well; i++)
        well = hear(&spinners[i], START_MS, &said);
    for (int i = 0; i < count && well; i++)
        well = probe_send(spinners[i].child.socket, &go) == 0;
    for (int i = 0; i < count && well; i++) {
        well = hear(&spinners[i], to->how.seconds * 1000u + ASK_MS, &said);
        if (well)
            add_slices(to, probe, i, &said);
    }
    add_row(to, probe, "all_spun", well, well);
    for (int i = 0; i < count; i++)
        (void)end(&spinners[i]);
}

/* ------------------------------------------------------------------ the run */

static int run_all(report *to)
{
    int result;

    printf("driver %s, commit %s\n%-26s %-26s %14s\n", to->with->driver, to->with->commit, "probe",
           "check", "value");
    result = probe_descriptors(to);
    if (result != EXIT_SUCCESS)
        return result;
    owner_dies(to, "owner_killed", 0);
    owner_dies(to, "owner_killed_one_keeps", 1);
    writer_dies(to);
    ranks_wait(to);
    to->how.seconds = to->how.seconds < 3 ? to->how.seconds : 3;
    slices(to, "slices_of_1_process", 1);
    slices(to, "slices_of_2_processes", 2);
    slices(to, "slices_of_4_processes", 4);
    printf("%s: %d checks failed\n", to->gpu, to->num_failed);
    return to->num_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int usage(FILE *to, int result)
{
    fputs(
        "usage: gpu_probe [--device cuda|host] [--csv FILE] [--commit ID] [--driver VERSION]\n"
        "                 [--seconds N]\n"
        "Ask the GPU what the design takes for granted: descriptors of device memory, survival of\n"
        "their owner's death, no stores by the dead, ranks that wait for each other, time slices.\n"
        "--device host asks the same of shared memory, which checks this program. --seconds: the\n"
        "longest kernel (10). Exit status 77: no such device here.\n",
        to);
    return result;
}

static int parse(int argc, char **argv, options *out)
{
    struct {
        const char *name, **to;
    } known[] = {{"--device", &out->device}, {"--csv", &out->csv},   {"--commit", &out->commit},
                 {"--driver", &out->driver}, {"--role", &out->role}, {"--seconds", &out->seconds}};
    size_t num_known = sizeof(known) / sizeof(known[0]);

    for (int i = 1; i < argc; i += 2) {
        size_t j = 0;
        while (j < num_known && strcmp(argv[i], known[j].name) != 0)
            j++;
        if (j == num_known || i + 1 == argc)
            return -1;
        *known[j].to = argv[i + 1];
    }
    return atoi(out->seconds) >= 1 && atoi(out->seconds) <= 60 ? 0 : -1;
}

int main(int argc, char **argv)
{
    options with = {"cuda", NULL, "unknown", "unknown", NULL, "10"};
    report to = {.with = &with};
    int result;

    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return usage(stdout, EXIT_SUCCESS);
    if (parse(argc, argv, &with) != 0)
        return usage(stderr, 2);
    to.how = (probe_how){with.device, with.role, (uint32_t)atoi(with.seconds)};
    if (with.role) {
        /* before the first context, of this program's own runtime too */
        eepi_cuda_environment_set();
        return probe_role_run(&to.how, CHILD_SOCKET);
    }
    to.csv = with.csv ? fopen(with.csv, "we") : NULL;
    if (with.csv && !to.csv) {
        perror(with.csv);
        return EXIT_FAILURE;
    }
    result = run_all(&to);
    if (to.csv && fclose(to.csv) != 0) {
        perror(with.csv);
        return EXIT_FAILURE;
    }
    return result;
}
