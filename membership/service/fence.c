/* SPDX-License-Identifier: Apache-2.0 */
/* Before a rank is expelled: one that said that it is busy is spared, the others are warned, then
 * killed. Service thread. */
#include "membership/service/fence.h"

#include "membership/agent/rank_agent.h"
#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/process/process.h"
#include "membership/service/peer.h"
#include "membership/service/peers.h"

#include <stdlib.h>
#include <unistd.h>

/* A victim whose heart beats hears its warning within a period. */
enum { WARN_PERIODS = 5, WARNED_POLL_US = 2000, ASK_PERIOD_US = 1000000 };

/* A process that was warned, and is killed. */
typedef struct warned {
    eepi_suspect suspect;
    uint64_t kill_at_us; /* then at the latest; 0: it is not */
} warned;

struct eepi_fence {
    int num_warned;
    uint64_t asked_us;      /* agents were asked last */
    uint32_t *behind_gates; /* [max_ranks] generations that agents are to kill; 0: none */
    bool has_proposed;      /* the last view that has left out some of them */
    warned victims[];       /* [max_ranks] */
};

eep_status eepi_fence_open(eep_context *context)
{
    const size_t seats = (size_t)context->config.max_ranks;

    context->fence = calloc(1, sizeof *context->fence + seats * sizeof(warned));
    if (context->fence) {
        context->fence->behind_gates = calloc(seats, sizeof(uint32_t));
    }
    return context->fence && context->fence->behind_gates ? EEP_OK : EEP_ERR_NO_MEMORY;
}

void eepi_fence_close(eep_context *context)
{
    if (context->fence) {
        free(context->fence->behind_gates);
    }
    free(context->fence);
}

void eepi_note_behind_gates(eep_context *context, const eepi_view *view,
                            const eepi_suspect *suspect)
{
    if (context->config.kill_fence &&
        eepi_peer_is_remote(context, suspect->seat, suspect->generation)) {
        context->fence->behind_gates[suspect->seat] = suspect->generation;
        context->fence->asked_us = 0;
        context->fence->has_proposed = view->proposer == context->config.rank;
    }
}

/* All members know whom a view left out. Whoever proposed it asks for the kill, and the lowest
 * member does: so somebody asks as long as an instance is there. */
static bool asks(const eep_context *context, const eepi_view *view)
{
    int lowest = 0;

    while (lowest < view->shape.max_ranks && !eepi_view_is_member(view, lowest)) {
        lowest++;
    }
    return context->fence->has_proposed || lowest == context->config.rank;
}

void eepi_kill_behind_gates(eep_context *context)
{
    const eepi_view *view = eepi_core_view(context->core);
    const uint64_t now_us = eepi_now_us();

    if (!view || now_us - context->fence->asked_us < ASK_PERIOD_US) {
        return;
    }
    context->fence->asked_us = now_us;
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        const eepi_suspect victim = {seat, context->fence->behind_gates[seat], EEP_FAULT_EXPELLED};
        if (victim.generation != 0 && (!eepi_view_may_live_outside(view, seat, victim.generation) ||
                                       !eepi_peer_is_remote(context, seat, victim.generation))) {
            context->fence->behind_gates[seat] = 0; /* another process has the seat */
        } else if (victim.generation != 0 && asks(context, view)) {
            (void)eepi_rank_agent_kill(context, &victim);
        }
    }
}

void eepi_forget_behind_gates(eep_context *context, int32_t seat, uint32_t generation)
{
    if (context->fence->behind_gates[seat] <= generation) {
        context->fence->behind_gates[seat] = 0;
    }
}

int eepi_num_warned(const eep_context *context)
{
    return context->fence->num_warned;
}

static eepk_window_header *header_of(const eep_context *context, int seat)
{
    const eepi_peer *peer = &context->peers[seat];

    return peer->window ? eepi_window_header(peer->window) : NULL;
}

/* Until when a member says that it does not answer: in its window, or by its host's agent. */
static uint64_t busy_until_ns(const eep_context *context, int seat, uint32_t *generation_out)
{
    const eepi_peer *peer = &context->peers[seat];
    const eepk_window_header *header = header_of(context, seat);

    if (peer->record_bytes && eepi_peer_is_remote(context, seat, peer->record.member.generation)) {
        *generation_out = peer->record.member.generation;
        return 1000u * eepi_detector_remote_busy_until_us(context->detector, seat, *generation_out);
    }
    *generation_out = peer->window_generation;
    return header ? __atomic_load_n(&header->busy_until_ns, __ATOMIC_ACQUIRE) : 0;
}

void eepi_spare_busy(const eep_context *context, uint64_t *seats)
{
    uint32_t generation;

    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        if (seats[seat / 64] >> (seat % 64) & 1u &&
            busy_until_ns(context, seat, &generation) > eepi_now_ns()) {
            seats[seat / 64] &= ~(1ull << (seat % 64));
        }
    }
}

bool eepi_post_busy(eep_context *context, int seat)
{
    uint64_t now_ns = eepi_now_ns(), most_ns = (uint64_t)EEP_BUSY_MAX_US * 1000u;
    eepi_input busy = {.kind = EEPI_INPUT_BUSY, .suspect = {seat, 0, EEP_FAULT_SILENT}};
    uint64_t until_ns = busy_until_ns(context, seat, &busy.suspect.generation);

    if (until_ns <= now_ns) {
        return false;
    }
    busy.step = (until_ns - now_ns < most_ns ? until_ns - now_ns : most_ns) / 1000u;
    eepi_inbox_post(context->inbox, &busy);
    return true;
}

static void kill_now(eep_context *context, const eepi_suspect *suspect, bool is_own)
{
    const eepi_input not_killed = {.kind = EEPI_INPUT_NOT_KILLED, .suspect = *suspect};

    if (!is_own && eepi_process_kill(context->peers[suspect->seat].pidfd)) {
        eepi_log(context, EEP_LOG_WARN, "killed rank %d (generation %u: %s) before it is expelled",
                 suspect->seat, suspect->generation,
                 eep_fault_kind_name((eep_fault_kind)suspect->kind));
    } else {
        eepi_inbox_post(context->inbox, &not_killed);
    }
}

static bool heart_beats(const eep_context *context, const eepi_suspect *suspect)
{
    const eepk_window_header *header = header_of(context, suspect->seat);

    return header && context->peers[suspect->seat].window_generation == suspect->generation &&
           eepi_now_us() < __atomic_load_n(&header->heartbeat_ns, __ATOMIC_ACQUIRE) / 1000u +
                               3 * context->config.heartbeat_period_us;
}

/* The last look before a kill. True: the victim has given a sign of life since, and lateness is all
 * that it is accused of. The core is told,
 * and asks again if it still wants the process killed. */
static bool speaks(eep_context *context, const eepi_suspect *suspect)
{
    const eepi_input alive = {.kind = EEPI_INPUT_ALIVE, .suspect = *suspect};

    const bool is_late = suspect->kind == EEP_FAULT_SILENT || suspect->kind == EEP_FAULT_DEADLINE ||
                         suspect->kind == EEP_FAULT_LEFT_OUT;

    if (is_late && context->peers[suspect->seat].window_generation == suspect->generation &&
        eepi_post_busy(context, suspect->seat)) {
        return true;
    }
    if (suspect->kind != EEP_FAULT_SILENT || !heart_beats(context, suspect)) {
        return false;
    }
    eepi_inbox_post(context->inbox, &alive);
    return true;
}

/* Tell the victim, in its own window, which rank kills it and why. True: its heart beats, so it
 * will read that. */
static bool warn(eep_context *context, const eepi_suspect *suspect)
{
    eepk_window_header *header = header_of(context, suspect->seat);

    if (!header || context->peers[suspect->seat].window_generation != suspect->generation) {
        return false;
    }
    __atomic_store_n(&header->warning,
                     eepi_warning_of(context->config.rank, suspect->kind, context->generation),
                     __ATOMIC_RELEASE);
    return heart_beats(context, suspect);
}

static void forget_warned(eep_context *context, int seat)
{
    context->fence->num_warned -= context->fence->victims[seat].kill_at_us != 0;
    context->fence->victims[seat].kill_at_us = 0;
}

/* A thread of this process cannot be killed, nor can another user's process. About an unknown
 * process nothing is posted: its end is waited for as long as that of a killed one. */
void eepi_kill_suspect(eep_context *context, const eepi_suspect *suspect)
{
    const eepi_peer *peer = &context->peers[suspect->seat];
    const bool is_own = peer->record_bytes && peer->record.pid == getpid() &&
                        peer->record.member.generation == suspect->generation;
    bool hears;

    forget_warned(context, suspect->seat);
    if (speaks(context, suspect) ||
        (!is_own && (peer->pidfd < 0 || peer->pidfd_generation != suspect->generation))) {
        return;
    }
    hears = warn(context, suspect);
    if (is_own || !hears) {
        kill_now(context, suspect, is_own);
        return;
    }
    context->fence->victims[suspect->seat] =
        (warned){*suspect, eepi_now_us() + WARN_PERIODS * context->config.heartbeat_period_us};
    context->fence->num_warned++;
}

/* What it was warned of does not come: it may be warned anew. */
static void spare(eep_context *context, int seat)
{
    const eepi_suspect *suspect = &context->fence->victims[seat].suspect;
    eepk_window_header *header = header_of(context, seat);

    if (header && context->peers[seat].window_generation == suspect->generation) {
        __atomic_store_n(&header->warning, 0, __ATOMIC_RELEASE);
    }
    eepi_log(context, EEP_LOG_INFO,
             "does not kill rank %d (generation %u: %s): it has spoken since it was warned", seat,
             suspect->generation, eep_fault_kind_name((eep_fault_kind)suspect->kind));
}

void eepi_kill_warned(eep_context *context, int seat)
{
    const eepi_peer *peer = &context->peers[seat];
    const warned *victim = &context->fence->victims[seat];
    const eepk_window_header *header = header_of(context, seat);

    if (victim->kill_at_us == 0) {
        return;
    }
    if (header && eepi_now_us() < victim->kill_at_us && peer->pidfd >= 0 &&
        __atomic_load_n(&header->warning_heard, __ATOMIC_ACQUIRE) !=
            eepi_warning_of(context->config.rank, victim->suspect.kind, context->generation)) {
        return;
    }
    forget_warned(context, seat);
    if (speaks(context, &victim->suspect) ||
        !eepi_core_wants_killed(context->core, seat, victim->suspect.generation)) {
        spare(context, seat);
    } else if (peer->pidfd >= 0 && peer->pidfd_generation == victim->suspect.generation) {
        kill_now(context, &victim->suspect, false);
    }
}

uint64_t eepi_warned_poll_us(const eep_context *context)
{
    return context->fence->num_warned > 0 ? WARNED_POLL_US : UINT64_MAX;
}
