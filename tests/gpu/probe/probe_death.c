/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of memory and stores when a process on the GPU is killed: its window, if it owned
 * one, and what its kernels still store into another's. */
#include "tests/gpu/probe/probe_report.h"

#include "graphs/device/device_share.h"
#include "transport/window/peer_descriptor.h"

#include <stdio.h>
#include <unistd.h>

enum {
    STORE_BEFORE_KILL_MS = 500,
    NUM_KILLS = 3,
    NEIGHBOUR_S = 30, /* beyond all kills */
};

/* ------------------------------------------------------------------ an owner dies */

/* While the survivor stores: the owner is killed, and a successor's window mapped. */
static int kill_owner(probe_actor *owner, probe_actor *successor, const probe_actor *survivor,
                      const char *probe)
{
    probe_report *to = owner->to;
    probe_message window, said;
    int64_t us;

    probe_pause_ms(STORE_BEFORE_KILL_MS);
    us = probe_end(owner);
    probe_row(to, probe, "kill_to_end_us", (double)us, us >= 0);
    if (!probe_start_owner(successor, to, probe, 2, &window) ||
        !probe_ask(survivor, &window, PROBE_ASK_MS, &said)) {
        return 0;
    }
    probe_row(to, probe, "successor_map_us", (double)said.values[0], 1);
    probe_row(to, probe, "successor_elsewhere", (double)said.values[1], said.values[1] == 1);
    probe_row(to, probe, "kernel_goes_on", (double)said.values[2], 1);
    return 1;
}

static void owner_dies(probe_report *to, const char *probe, int with_keeper)
{
    probe_actor owner = {.child.pid = 0}, survivor = {.child.pid = 0}, successor = {.child.pid = 0};
    probe_message window = {.fd = -1}, said;
    int kept = -1, well = probe_start_owner(&owner, to, probe, 1, &window);

    if (well && with_keeper) {
        char why[400] = "";
        well = eepi_peer_descriptors_copy(owner.child.pid, &window.fd, 1, &kept, why, sizeof why) ==
               EEP_OK;
        if (!well) {
            fprintf(stderr, "gpu_probe: %s: %s\n", probe, why);
        }
        probe_row(to, probe, "descriptor_kept", well, well);
    }
    well = well && probe_start(&survivor, to, probe, "survivor") &&
           probe_ask(&survivor, &window, PROBE_START_MS, &said) &&
           kill_owner(&owner, &successor, &survivor, probe) &&
           probe_listen(&survivor, to->how.seconds * 1000u + PROBE_ASK_MS, &said);
    if (well) {
        probe_row(to, probe, "rounds_stored", (double)said.values[0], said.values[0] > 0);
        probe_row(to, probe, "words_wrong", (double)said.values[1], said.values[1] == 0);
    }
    probe_row(to, probe, "survivor_has_no_error", well, well);
    (void)probe_end(&owner);
    (void)probe_end(&survivor);
    (void)probe_end(&successor);
    if (kept >= 0) {
        close(kept);
    }
}

void probe_owner_dies(probe_report *to)
{
    owner_dies(to, "owner_killed", 0);
    owner_dies(to, "owner_killed_one_keeps", 1);
}

/* ------------------------------------------------------------------ the dead store no more */

/* The last store, in microseconds after a mark (negative: before it). It lies between two looks:
 * what counts for a mark is the later one, and for what is sure the earlier one, which cannot be
 * too late. */
typedef struct last_stores {
    double after_vsize0, after_zombie, after_pidfd, surely_after_pidfd;
} last_stores;

static void keep_largest(double *largest, double value)
{
    if (value > *largest) {
        *largest = value;
    }
}

/* Row of one mark. A mark that the kernel never showed has none, and a row that says so. */
static void add_mark(probe_report *to, const char *probe, const char *name, uint64_t mark_ns,
                     uint64_t kill_ns, uint64_t last_ns, double *largest)
{
    char check[64];
    double after_us = ((double)last_ns - (double)mark_ns) / 1000.0;

    snprintf(check, sizeof check, "kill_to_%s_us", name);
    if (mark_ns == 0) {
        probe_row(to, probe, check, -1, 1);
        return;
    }
    probe_row(to, probe, check, (double)(mark_ns - kill_ns) / 1000.0, 1);
    snprintf(check, sizeof check, "last_store_after_%s_us", name);
    probe_row(to, probe, check, after_us, 1);
    keep_largest(largest, after_us);
}

static void add_death(probe_report *to, const char *probe, const probe_marks *marks,
                      const probe_message *said, last_stores *largest)
{
    const uint64_t last_ns = said->values[PROBE_WATCH_LAST_NS];

    add_mark(to, probe, "vsize0", marks->vsize0_ns, marks->kill_ns, last_ns,
             &largest->after_vsize0);
    add_mark(to, probe, "Z", marks->zombie_ns, marks->kill_ns, last_ns, &largest->after_zombie);
    add_mark(to, probe, "pidfd", marks->pidfd_ns, marks->kill_ns, last_ns, &largest->after_pidfd);
    if (marks->pidfd_ns) {
        keep_largest(
            &largest->surely_after_pidfd,
            ((double)(last_ns - said->values[PROBE_WATCH_LAST_GAP_NS]) - (double)marks->pidfd_ns) /
                1000.0);
    }
    probe_row(to, probe, "last_store_uncertain_us",
              (double)said->values[PROBE_WATCH_LAST_GAP_NS] / 1000.0, 1);
    probe_row(to, probe, "longest_gap_of_samples_us",
              (double)said->values[PROBE_WATCH_LONGEST_GAP_NS] / 1000.0, 1);
    probe_row(to, probe, "samples", (double)said->values[PROBE_WATCH_SAMPLES],
              said->values[PROBE_WATCH_SAMPLES] > 0);
}

/* One writer is killed while the owner looks at what it stores, again and again. What still changed
 * after the first look that comes after the end is told as well. */
static int kill_writer(const probe_actor *owner, const probe_message *window, const char *probe,
                       last_stores *largest)
{
    probe_report *to = owner->to;
    probe_message said, watch = {.values = {PROBE_WATCH}}, ended = {.status = EEP_OK};
    probe_marks marks = {0};
    probe_actor writer;
    int64_t us;
    int well = probe_start(&writer, to, probe, "counter") &&
               probe_ask(&writer, window, PROBE_START_MS, &said) &&
               probe_ask(owner, &watch, PROBE_ASK_MS, &said);

    if (well) {
        probe_pause_ms(STORE_BEFORE_KILL_MS);
    }
    us = probe_child_kill_marked(&writer.child, &marks);
    well = well && probe_ask(owner, &ended, PROBE_ASK_MS, &said);
    if (well) {
        uint64_t counted = said.values[PROBE_WATCH_AT_END];
        uint64_t after = said.values[PROBE_WATCH_LATER] - counted;
        probe_row(to, probe, "kill_to_end_us", (double)us, us >= 0);
        probe_row(to, probe, "counted", (double)counted, counted > 0);
        probe_row(to, probe, "stores_after_the_end", (double)after, after == 0);
        add_death(to, probe, &marks, &said, largest);
    }
    return well;
}

static int kill_writers(probe_report *to, const char *name, last_stores *largest)
{
    char probe[48];
    probe_actor owner = {.child.pid = 0};
    probe_message window;
    int well = probe_start_owner(&owner, to, name, 1, &window);

    for (int i = 0; i < NUM_KILLS && well; i++) {
        snprintf(probe, sizeof probe, "%s/%d", name, i);
        well = kill_writer(&owner, &window, probe, largest);
    }
    probe_row(to, name, "owner_has_no_error", well, well);
    (void)probe_end(&owner);
    return well;
}

static void writer_dies(probe_report *to, const char *name)
{
    last_stores largest = {-1e12, -1e12, -1e12, -1e12};

    if (!kill_writers(to, name, &largest)) {
        return;
    }
    probe_row(to, name, "most_after_vsize0_us", largest.after_vsize0, 1);
    probe_row(to, name, "most_after_Z_us", largest.after_zombie, 1);
    probe_row(to, name, "most_after_pidfd_us", largest.after_pidfd, 1);
}

/* Alone, and beside a process whose kernel keeps the same GPU busy: there the dead one's kernels
 * get time slices only. */
void probe_writer_dies(probe_report *to)
{
    const uint32_t seconds = to->how.seconds;
    probe_message said, go = {.status = EEP_OK};
    probe_actor neighbour = {.child.pid = 0};
    int well;

    writer_dies(to, "writer_killed");
    to->how.seconds = NEIGHBOUR_S;
    well = probe_start(&neighbour, to, "writer_killed_beside", "spin");
    to->how.seconds = seconds;
    well = well && probe_listen(&neighbour, PROBE_START_MS, &said);
    if (well && probe_send(neighbour.child.socket, &go) == 0) {
        probe_pause_ms(STORE_BEFORE_KILL_MS);
        writer_dies(to, "writer_killed_beside");
    }
    (void)probe_end(&neighbour);
}
