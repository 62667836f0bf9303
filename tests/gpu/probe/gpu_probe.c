/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU probes: what the design takes for granted about memory that processes share on a GPU,
 * about death, and about time, asked of the machine. Prints a table; writes rows in the form of
 * gpu_smoke's.
 *
 * This process opens no device: it starts the roles of probe_roles.c, listens to them, and kills.
 * Every wait has a bound, and every child ends with this process. */
#include "tests/gpu/probe/probe_report.h"
#include "graphs/cuda/cuda_environment.h"
#include "experiments/base/args.h"
#include "experiments/base/child.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { EXIT_SKIPPED = 77, MOST_SPINNERS = 4, SLICES_S = 3 };

typedef struct options {
    const char *device, *csv, *commit, *driver, *role, *probes;
    uint32_t seconds;
    args_given given;
} options;

/* ------------------------------------------------------------------ descriptors, allocations */

static void rows_of_values(probe_report *to, const char *probe, const char *const *names,
                           size_t count, const probe_message *said)
{
    for (size_t i = 0; i < count; i++) {
        probe_row(to, probe, names[i], (double)said->values[i], 1);
    }
}

/* Is that call there? Sandboxes may lack it, and ranks that are processes map windows through it.
 */
static void look_for_getfd(probe_report *to, const probe_actor *a)
{
    int fd = (int)syscall(SYS_pidfd_getfd, a->child.pidfd, CHILD_CHANNEL, 0);

    if (fd < 0) {
        perror("gpu_probe: pidfd_getfd");
    } else {
        close(fd);
    }
    probe_row(to, "descriptors", "pidfd_getfd", fd >= 0, fd >= 0);
}

static void ask_descriptors(probe_report *to)
{
    static const char *const names[] = {"mapped_bytes",  "make_us",      "map_us",
                                        "close_us",      "busy_make_us", "busy_map_us",
                                        "busy_close_us", "busy_goes_on", "busy_longest_launch_us"};
    probe_message said;
    probe_actor a;
    bool well = probe_start(&a, to, "descriptors", "look");

    if (well) {
        look_for_getfd(to, &a);
    }
    well = well && probe_listen(&a, PROBE_START_MS, &said);
    if (well) {
        rows_of_values(to, "descriptors", names, sizeof names / sizeof names[0], &said);
    }
    /* the descriptor was this process's own, as it is between ranks that are threads */
    probe_row(to, "descriptors", "own_descriptor_mapped", well && said.values[0] > 0,
              well && said.values[0] > 0);
    (void)probe_end(&a);
}

static void ask_allocating(probe_report *to)
{
    static const char *const names[] = {"alloc_us",
                                        "alloc_pinned_us",
                                        "open_stream_us",
                                        "busy_alloc_us",
                                        "busy_alloc_pinned_us",
                                        "busy_open_stream_us",
                                        "busy_alloc_goes_on",
                                        "busy_alloc_longest_launch_us"};
    probe_message said;
    probe_actor a;

    if (probe_start(&a, to, "allocating", "allocating") &&
        probe_listen(&a, PROBE_START_MS, &said)) {
        rows_of_values(to, "allocating", names, sizeof names / sizeof names[0], &said);
    }
    (void)probe_end(&a);
}

/* ------------------------------------------------------------------ waiting ranks */

static void ranks_wait(probe_report *to, const char *probe, const char *role)
{
    probe_message said;
    probe_actor ranks;

    if (probe_start(&ranks, to, probe, role) &&
        probe_listen(&ranks, PROBE_START_MS + PROBE_ASK_MS, &said)) {
        probe_row(to, probe, "rounds", (double)said.values[0], said.values[0] == said.values[1]);
        probe_row(to, probe, "with_start_us", (double)said.values[2], 1);
        if (said.values[4] > 0) { /* graphs */
            probe_row(to, probe, "graphs_waiting_at_once", (double)said.values[3],
                      said.values[3] == said.values[4]);
            probe_row(to, probe, "copies_beside_them", (double)said.values[5],
                      said.values[5] == said.values[6]);
            probe_row(to, probe, "longest_launch_us", (double)said.values[7], 1);
        }
        probe_row(to, probe, "round_us", (double)said.values[8] / 1000.0, 1);
    }
    (void)probe_end(&ranks);
}

static void ask_graphs(probe_report *to)
{
    ranks_wait(to, "ring_of_8_graphs", "graphs");
}

static void ask_ring(probe_report *to)
{
    ranks_wait(to, "ring_of_8_threads", "ring");
}

/* ------------------------------------------------------------------ time slices */

static void add_slices(probe_report *to, const char *of, int index, const probe_message *said)
{
    char probe[48];

    snprintf(probe, sizeof probe, "%s/%d", of, index);
    probe_row(to, probe, "gaps", (double)said->values[0], 1);
    probe_row(to, probe, "gap_median_us", (double)said->values[1] / 1000.0, 1);
    probe_row(to, probe, "gap_longest_us", (double)said->values[2] / 1000.0, 1);
    probe_row(to, probe, "slice_median_us", (double)said->values[3] / 1000.0, 1);
    probe_row(to, probe, "away_share", (double)said->values[4] / (to->how.seconds * 1e9), 1);
}

/* Kernels of that many processes spin on one GPU at the same time: rows of each of them. */
static void slices(probe_report *to, const char *probe, int count)
{
    probe_actor spinners[MOST_SPINNERS] = {{.child.pid = 0}};
    probe_message said, go = {.status = EEP_OK};
    bool well = true;

    for (int i = 0; i < count && well; i++) {
        well = probe_start(&spinners[i], to, probe, "spin");
    }
    for (int i = 0; i < count && well; i++) {
        well = probe_listen(&spinners[i], PROBE_START_MS, &said);
    }
    for (int i = 0; i < count && well; i++) {
        well = probe_send(spinners[i].child.socket, &go) == 0;
    }
    for (int i = 0; i < count && well; i++) {
        well = probe_listen(&spinners[i], to->how.seconds * 1000u + PROBE_ASK_MS, &said);
        if (well) {
            add_slices(to, probe, i, &said);
        }
    }
    probe_row(to, probe, "all_spun", well, well);
    for (int i = 0; i < count; i++) {
        (void)probe_end(&spinners[i]);
    }
}

static void ask_slices(probe_report *to)
{
    const uint32_t seconds = to->how.seconds;

    to->how.seconds = seconds < SLICES_S ? seconds : SLICES_S;
    slices(to, "slices_of_1_process", 1);
    slices(to, "slices_of_2_processes", 2);
    slices(to, "slices_of_4_processes", 4);
    to->how.seconds = seconds;
}

/* ------------------------------------------------------------------ small numbers */

/* A role that names its own rows, until it says that there are no more. */
static void ask_role(probe_report *to, const char *role)
{
    probe_message said;
    probe_actor a;
    bool well = probe_start(&a, to, role, role);

    while (well) {
        well = probe_listen(&a, PROBE_START_MS, &said);
        if (well && !said.is_row) {
            break;
        }
        if (well) {
            probe_row(to, role, said.text, said.number, said.ok);
        }
    }
    (void)probe_end(&a);
}

static void ask_fence(probe_report *to)
{
    ask_role(to, "fence");
}
static void ask_pinned(probe_report *to)
{
    ask_role(to, "pinned");
}
static void ask_nodes(probe_report *to)
{
    ask_role(to, "nodes");
}
static void ask_pass(probe_report *to)
{
    ask_role(to, "pass");
}
static void ask_calls(probe_report *to)
{
    ask_role(to, "calls");
}

/* ------------------------------------------------------------------ the run */

static const struct {
    const char *name;
    void (*ask)(probe_report *to);
    const char *what;
} probes[] = {
    {"graphs", ask_graphs, "eight ranks whose graphs wait for each other, launched in reverse"},
    {"descriptors", ask_descriptors, "memory made, and mapped by its own process; pidfd_getfd"},
    {"allocating", ask_allocating, "the library's allocations, also on a busy device"},
    {"calls", ask_calls, "the runtime's calls while a kernel waits; launches beside them"},
    {"owner", probe_owner_dies, "the owner of a window is killed while another stores into it"},
    {"writer", probe_writer_dies, "who stores into a window is killed: the last store"},
    {"fence", ask_fence, "a fence of system scope, idle and with stores under way"},
    {"pinned", ask_pinned, "an acquire of pinned memory, and of device memory"},
    {"nodes", ask_nodes, "from node to node of a graph, also launched early"},
    {"pass", ask_pass, "from a block's release to another block that sees it"},
    {"ring", ask_ring, "eight ranks whose kernels wait for each other"},
    {"slices", ask_slices, "time slices of one, two and four processes"},
};
enum { NUM_PROBES = sizeof probes / sizeof probes[0] };

/* EXIT_SUCCESS, EXIT_FAILURE or EXIT_SKIPPED: whether there is any use in going on. */
static int look_for_device(probe_report *to)
{
    probe_message said;
    probe_actor a;
    bool got;

    gpu_rows_name(&to->rows, to->how.device);
    if (!probe_start(&a, to, "device", "hello")) {
        return EXIT_FAILURE;
    }
    got = probe_receive(a.child.socket, PROBE_START_MS, &said) == 0;
    (void)probe_end(&a);
    if (got && said.status == EEP_OK) {
        gpu_rows_name(&to->rows, said.text);
        printf("device %s\n", to->rows.gpu);
        fflush(stdout);
        return EXIT_SUCCESS;
    }
    fprintf(stderr, "gpu_probe: device %s: %.*s\n", to->how.device, (int)sizeof said.text,
            said.text);
    return got && said.values[0] == PROBE_NO_DEVICE && said.status == EEP_ERR_UNSUPPORTED
               ? EXIT_SKIPPED
               : EXIT_FAILURE;
}

/* Is that probe in the list of those asked for? NULL: all are. */
static bool is_wanted(const char *list, const char *name)
{
    const size_t length = strlen(name);

    for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',') {
        if (strcspn(at, ",") == length && strncmp(at, name, length) == 0) {
            return true;
        }
    }
    return list == NULL;
}

static int run_all(probe_report *to, const char *list)
{
    int result = look_for_device(to);

    if (result != EXIT_SUCCESS) {
        return result;
    }
    printf("driver %s, commit %s\n%-26s %-30s %14s\n", to->rows.driver, to->rows.commit, "probe",
           "check", "value");
    for (size_t i = 0; i < NUM_PROBES; i++) {
        if (is_wanted(list, probes[i].name)) {
            probes[i].ask(to);
        }
    }
    printf("%s: %d checks failed\n", to->rows.gpu, to->num_failed);
    return to->num_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Are all names of the list names of probes? */
static eep_status parse_probes(const args_row *row, const char *text, void *with, char *error)
{
    ((options *)with)->probes = text;
    for (const char *at = text; *at; at += strcspn(at, ","), at += *at == ',') {
        const int length = (int)strcspn(at, ",");
        size_t i = 0;
        while (i < NUM_PROBES && ((int)strlen(probes[i].name) != length ||
                                  strncmp(at, probes[i].name, (size_t)length) != 0)) {
            i++;
        }
        if (i == NUM_PROBES) {
            return args_fail(error, "%s: there is no probe %.*s", row->name, length, at);
        }
    }
    return EEP_OK;
}

#define AT(field) ARGS_AT(options, field)
static const args_row rows[] = {
    {"--device", ARGS_ONE_OF, AT(device), 0, 0, "cuda|host", "NAME", "cuda",
     "host: the same of shared memory, which checks this program"},
    {"--probe", ARGS_PARSED, AT(probes), 0, 0, NULL, "NAME[,NAME...]", NULL,
     "only these; default: all of them, in this order", parse_probes},
    {"--seconds", ARGS_WHOLE, AT(seconds), 1, 60, NULL, "N", "10", "the longest kernel"},
    {"--csv", ARGS_TEXT, AT(csv), 0, 0, NULL, "FILE", NULL,
     "rows go behind those that the file has"},
    {"--commit", ARGS_TEXT, AT(commit), 0, 0, NULL, "ID", "unknown", "for the rows"},
    {"--driver", ARGS_TEXT, AT(driver), 0, 0, NULL, "VERSION", "unknown", "for the rows"},
    {"--role", ARGS_TEXT, AT(role), 0, 0, NULL, "NAME", NULL,
     "be a process that this program has started"},
};

static const args_table *table(void)
{
    static args_row names[NUM_PROBES];
    static const args_table all = {
        .program = "gpu_probe",
        .synopsis = "[OPTION]...",
        .about = "Ask the GPU what the design takes for granted.",
        .section = {ARGS_SECTION(NULL, rows), ARGS_SECTION("Probes", names)},
        .notes = "Exit status: 0 all right; 1 a check failed; 2 usage; 77 no such device here.",
        .given = offsetof(options, given),
    };
    for (size_t i = 0; i < NUM_PROBES; i++) {
        names[i] = (args_row){probes[i].name, ARGS_NOTE, .doc = probes[i].what};
    }
    return &all;
}

int main(int argc, char **argv)
{
    options with = {0};
    probe_report to = {.num_failed = 0};
    int result;

    if (!args_begin(table(), &with, argc, argv, &result)) {
        return result;
    }
    to.how = (probe_how){with.device, with.role, with.seconds};
    if (with.role) {
        /* before the first context, of this program's own runtime too */
        eepi_cuda_environment_set();
        return probe_role_run(&to.how, CHILD_CHANNEL);
    }
    to.rows.commit = with.commit;
    to.rows.driver = with.driver;
    if (gpu_rows_open(&to.rows, with.csv) != 0) {
        perror(with.csv);
        return EXIT_FAILURE;
    }
    result = run_all(&to, with.probes);
    if (gpu_rows_close(&to.rows) != 0) {
        perror(with.csv);
        return EXIT_FAILURE;
    }
    return result;
}
