/* SPDX-License-Identifier: Apache-2.0 */
/* What speaks against processes, by whom (rule M5), and pairs of hosts (N10). Nothing is decided
 * here. */
#include "membership/core/core_evidence.h"

#include "membership/core/core_common.h"
#include "membership/core/core_ends.h"
#include "membership/core/core_expel.h"
#include "membership/core/core_turn.h"

#include <string.h>

/* A fault view settles the evidence that it was made for. It may keep a rank that steps waited for,
 * or whose promise came late; that evidence is void then. Otherwise one stuck rank would take along
 * all that waited for it. */
void eepi_core_settle_evidence(eepi_core *core, const eepi_view *view)
{
    for (int seat = 0; view->cause == EEPI_VIEW_FAULT && seat < view->shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        bool is_hearsay =
            peer->evidence == EEP_FAULT_SILENT && peer->evidence_by != core->config.seat;
        if (eepi_view_has(view, seat, peer->evidence_generation) &&
            (peer->evidence == EEP_FAULT_DEADLINE || peer->evidence == EEP_FAULT_LEFT_OUT ||
             is_hearsay)) {
            peer->evidence = NO_EVIDENCE;
        }
    }
}

/* Evidence against that generation is not to replace what is known: it is no stronger, or about a
 * process that is not in the view while the known one's is, or about an older process. */
static bool is_outweighed(const eepi_core *core, const core_peer *peer, const eepi_suspect *suspect)
{
    uint32_t generation;
    bool known_in, new_in;

    if (peer->evidence == NO_EVIDENCE) {
        return false;
    }
    if (suspect->generation == peer->evidence_generation) {
        return peer->evidence <= suspect->kind;
    }
    generation = core->has_view ? eepi_view_seat_at(core->view, suspect->seat)->generation : 0;
    known_in = peer->evidence_generation == generation;
    new_in = suspect->generation == generation;
    return known_in || (!new_in && suspect->generation < peer->evidence_generation);
}

static void weigh_evidence(eepi_core *core, const eepi_suspect *suspect, int by)
{
    core_peer *peer = &core->peers[suspect->seat];

    if (suspect->seat == core->config.seat) {
        return;
    }
    if (by == core->config.seat && suspect->kind == peer->evidence &&
        suspect->generation == peer->evidence_generation) {
        peer->evidence_by = by;
    }
    if (is_outweighed(core, peer, suspect)) {
        return;
    }
    peer->evidence = suspect->kind;
    peer->evidence_generation = suspect->generation;
    peer->evidence_by = by;
    if (eepi_core_evidence(core, suspect->seat) != NO_EVIDENCE) {
        eepi_core_note(core, EEPI_ACTION_SUSPECTED)->suspect = *suspect;
    }
}

void eepi_core_on_evidence(eepi_core *core, const eepi_suspect *suspect, int by)
{
    if (suspect->kind == EEP_FAULT_EXIT) {
        eepi_core_on_first_sign(core, suspect);
    }
    weigh_evidence(core, suspect, by);
}

/* Rule N10: what this rank does not hear of another host accuses the pair, and nobody by itself. */
static bool is_unheard_elsewhere(const eepi_core *core, const eepi_suspect *suspect)
{
    return suspect->kind == EEP_FAULT_SILENT && suspect->seat != core->config.seat &&
           (core->peers[suspect->seat].generation == suspect->generation
                ? core->peers[suspect->seat].host != core->config.host
                : core->has_view && !eepi_core_is_local(core, suspect->seat));
}

void eepi_core_on_own_evidence(eepi_core *core, const eepi_suspect *suspect)
{
    core_peer *peer = &core->peers[suspect->seat];

    if (!is_unheard_elsewhere(core, suspect)) {
        eepi_core_on_evidence(core, suspect, core->config.seat);
        return;
    }
    peer->unheard = suspect->generation > peer->unheard ? suspect->generation : peer->unheard;
    if (eepi_core_is_unheard(core, suspect->seat)) {
        eepi_core_note(core, EEPI_ACTION_SUSPECTED)->suspect = *suspect;
    }
}

/* A whole end is evidence, as its first sign is. */
void eepi_core_on_told_end(eepi_core *core, const eepi_end *end, int by)
{
    const eepi_suspect suspect = {end->seat, end->generation, EEP_FAULT_EXIT};

    eepi_core_on_end(core, end, by);
    weigh_evidence(core, &suspect, by);
}

/* A fresh heartbeat takes back silence, and nothing stronger. */
void eepi_core_on_alive(eepi_core *core, const eepi_suspect *alive)
{
    core_peer *peer = &core->peers[alive->seat];

    if (alive->generation > peer->beats) {
        peer->beats = alive->generation;
    }
    if (peer->unheard == alive->generation) {
        peer->unheard = 0;
    }
    if (peer->evidence_generation == alive->generation && peer->evidence == EEP_FAULT_SILENT) {
        peer->evidence = NO_EVIDENCE;
    }
}

/* A rank that says that it is busy is not to blame for what it does not do meanwhile, nor for what
 * it did not do just before. */
void eepi_core_on_busy(eepi_core *core, const eepi_suspect *busy, uint64_t for_us)
{
    core_peer *peer = &core->peers[busy->seat];

    peer->busy_generation = busy->generation;
    peer->busy_until_us = core->now_us + for_us;
    if (peer->evidence_generation == busy->generation &&
        (peer->evidence == EEP_FAULT_SILENT || peer->evidence == EEP_FAULT_DEADLINE ||
         peer->evidence == EEP_FAULT_LEFT_OUT)) {
        peer->evidence = NO_EVIDENCE;
    }
}

/* A report replaces what its sender said before. Silence that it no longer names is no evidence. */
static void forget_silence(eepi_core *core, int by)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        if (peer->evidence == EEP_FAULT_SILENT && peer->evidence_by == by) {
            peer->evidence = NO_EVIDENCE;
        }
    }
}

/* Rule N10: it is evidence against the pair of hosts, and void under another view. */
static bool accuses_pair(eepi_core *core, const eepi_report *report, const eepi_suspect *suspect,
                         bool is_current)
{
    core_peer *peer = &core->peers[report->seat];

    if (!core->has_view || !eepi_core_is_of_pair(suspect->kind) ||
        !eepi_core_are_apart(core, report->seat, suspect->seat)) {
        return false;
    }
    if (is_current && eepi_view_has(core->view, suspect->seat, suspect->generation)) {
        const uint64_t bit = 1ull << (suspect->seat % 64);
        const bool is_word = suspect->kind == EEP_FAULT_RESET;
        peer->report_resets[suspect->seat / 64] |= is_word ? bit : 0;
        peer->report_unheard[suspect->seat / 64] |=
            is_word && core->spared_epoch == core->view->epoch ? 0 : bit;
        core->pairs_epoch = report->epoch;
        eepi_core_note(core, EEPI_ACTION_SUSPECTED)->suspect = *suspect;
    }
    return true;
}

/* What a report says against other ranks. That a process ended stays true; all else counts only
 * from a member, under the newest view. */
static void on_suspects(eepi_core *core, const eepi_report *report, bool is_current)
{
    core_peer *peer = &core->peers[report->seat];

    for (int i = 0; i < report->num_suspects; i++) {
        const eepi_suspect *suspect = &report->suspects[i];
        if (suspect->kind == EEP_FAULT_DEADLINE) {
            peer->report_accused[suspect->seat / 64] |= 1ull << (suspect->seat % 64);
        }
        if (report->seat == core->config.seat) {
            continue;
        }
        if (accuses_pair(core, report, suspect, is_current)) {
            continue;
        }
        if (is_current && eepi_core_is_word(suspect->kind)) {
            eepi_core_hear_word(core, report, suspect);
        } else if (is_current || suspect->kind == EEP_FAULT_EXIT) {
            eepi_core_on_evidence(core, suspect, report->seat);
        }
        if (is_current && suspect->seat == core->config.seat &&
            suspect->generation == core->config.generation) {
            core->suspected_epoch = report->epoch;
        }
    }
}

void eepi_core_on_report(eepi_core *core, const eepi_report *report)
{
    core_peer *peer = &core->peers[report->seat];
    bool is_current = core->has_view && report->epoch >= core->view->epoch &&
                      eepi_view_has(core->view, report->seat, report->generation);

    if (report->generation < peer->report_generation ||
        (report->generation == peer->report_generation && report->epoch < peer->report_epoch)) {
        return;
    }
    eepi_core_take_report(peer, report);
    if (is_current && report->epoch > core->view->epoch) {
        eepi_core_act(core, EEPI_ACTION_READ); /* N18: no watch has told of it */
    }
    if (is_current && peer->evidence == EEP_FAULT_LEFT_OUT &&
        peer->evidence_generation == report->generation) {
        peer->evidence = NO_EVIDENCE; /* late, but nobody has decided without it yet */
    }
    if (report->seat != core->config.seat) {
        forget_silence(core, report->seat);
    }
    on_suspects(core, report, is_current);
}

/* Rule N16: this rank waits for whoever does not take its rows, and says so where it is itself
 * accused of what did not arrive. */
void eepi_core_on_blocked(eepi_core *core, const uint64_t *seats)
{
    for (int seat = 0; core->has_view && seat < core->config.shape.max_ranks; seat++) {
        const eepi_suspect suspect = {seat, eepi_view_seat_at(core->view, seat)->generation,
                                      EEP_FAULT_DEADLINE};
        if (seats[seat / 64] >> (seat % 64) & 1u && eepi_core_needs(core, seat)) {
            eepi_core_on_evidence(core, &suspect, core->config.seat);
        }
    }
}

/* Rule M5: the first missed deadline of a living rank is remembered; a second one of the same
 * process within the window is evidence. */
void eepi_core_on_accused(eepi_core *core, const uint64_t *seats, uint64_t step)
{
    for (int seat = 0; core->has_view && seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        eepi_suspect suspect = {seat, eepi_view_seat_at(core->view, seat)->generation,
                                EEP_FAULT_DEADLINE};
        if (!(seats[seat / 64] >> (seat % 64) & 1u) || !eepi_core_needs(core, seat)) {
            continue;
        }
        if (peer->missed_generation == suspect.generation && peer->missed_step != 0 &&
            step - peer->missed_step <= core->config.missed_window_steps) {
            eepi_core_on_evidence(core, &suspect, core->config.seat);
        }
        peer->missed_step = step;
        peer->missed_generation = suspect.generation;
    }
}
