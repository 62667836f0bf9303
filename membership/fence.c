/* Before a rank is expelled: who is spared because it said that it is busy, who is warned, and the
 * kill itself. Service thread. */
#include "membership/context.h"
#include "membership/process.h"

#include <unistd.h>

/* A victim whose heart beats hears its warning within a period. */
enum { WARN_PERIODS = 5, WARNED_POLL_US = 2000 };

static eepk_window_header *header_of(const eep_context *context, int seat)
{
    const eepi_peer *peer = &context->peers[seat];

    return peer->window ? eepi_window_header(peer->window) : NULL;
}

void eepi_spare_busy(const eep_context *context, uint64_t *seats)
{
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        const eepk_window_header *header = header_of(context, seat);
        if (seats[seat / 64] >> (seat % 64) & 1u && header && eepi_is_busy(header, eepi_now_us()))
            seats[seat / 64] &= ~(1ull << (seat % 64));
    }
}

/* The core waits for the promises of all who stay: for those of a busy one as long as it is. */
void eepi_give_busy(eep_context *context)
{
    uint64_t now_ns = eepi_now_ns(), most_ns = (uint64_t)EEP_BUSY_MAX_US * 1000u;

    for (int seat = 0; eepi_core_is_wedged(context->core) && seat < context->config.max_ranks;
         seat++) {
        const eepi_peer *peer = &context->peers[seat];
        const eepk_window_header *header = header_of(context, seat);
        uint64_t until_ns = header ? __atomic_load_n(&header->busy_until_ns, __ATOMIC_ACQUIRE) : 0;
        eepi_input busy = {.kind = EEPI_INPUT_BUSY,
                           .suspect = {seat, peer->window_generation, EEP_FAULT_SILENT}};
        if (until_ns <= now_ns)
            continue;
        busy.step = (until_ns - now_ns < most_ns ? until_ns - now_ns : most_ns) / 1000u;
        eepi_give(context, &busy);
    }
}

static void kill_now(eep_context *context, const eepi_suspect *suspect, int is_own)
{
    const eepi_input not_killed = {.kind = EEPI_INPUT_NOT_KILLED, .suspect = *suspect};

    if (!is_own && eepi_process_kill(context->peers[suspect->seat].pidfd))
        eepi_log(context, EEP_LOG_WARN, "killed rank %d (generation %u: %s) before it is expelled",
                 suspect->seat, suspect->generation,
                 eep_fault_kind_name((eep_fault_kind)suspect->kind));
    else if (context->num_later < EEPI_INPUTS_LATER - EEPI_INPUTS_KEPT)
        eepi_give(context, &not_killed); /* else its end is waited for a while, in vain */
}

/* Tell the victim, in its own window, who does it and why. 1: its heart beats, so it will hear. */
static int warn(eep_context *context, const eepi_suspect *suspect)
{
    eepk_window_header *header = header_of(context, suspect->seat);
    uint64_t beat_us;

    if (!header || context->peers[suspect->seat].window_generation != suspect->generation)
        return 0;
    __atomic_store_n(&header->warning,
                     eepi_warning_of(context->config.rank, suspect->kind, context->generation),
                     __ATOMIC_RELEASE);
    beat_us = __atomic_load_n(&header->heartbeat_ns, __ATOMIC_ACQUIRE) / 1000u;
    return eepi_now_us() < beat_us + 3 * context->config.heartbeat_period_us;
}

/* A thread of this process cannot be killed, nor can another user's process. Of one that is not
 * known nothing is said: its end is waited for as long as that of one that was killed. */
void eepi_kill_suspect(eep_context *context, const eepi_suspect *suspect)
{
    eepi_peer *peer = &context->peers[suspect->seat];
    int is_own = peer->record_bytes && peer->record.pid == getpid() &&
                 peer->record.member.generation == suspect->generation;
    int hears;

    if (!is_own && (peer->pidfd < 0 || peer->pidfd_generation != suspect->generation))
        return;
    hears = warn(context, suspect);
    if (is_own || !hears) {
        kill_now(context, suspect, is_own);
        return;
    }
    peer->to_kill = *suspect;
    peer->kill_at_us = eepi_now_us() + WARN_PERIODS * context->config.heartbeat_period_us;
    context->num_warned++;
}

void eepi_kill_warned(eep_context *context)
{
    for (int seat = 0; context->num_warned > 0 && seat < context->config.max_ranks; seat++) {
        eepi_peer *peer = &context->peers[seat];
        const eepk_window_header *header = header_of(context, seat);
        if (peer->kill_at_us == 0)
            continue;
        if (header && eepi_now_us() < peer->kill_at_us && peer->pidfd >= 0 &&
            __atomic_load_n(&header->warning_heard, __ATOMIC_ACQUIRE) !=
                eepi_warning_of(context->config.rank, peer->to_kill.kind, context->generation))
            continue;
        peer->kill_at_us = 0;
        context->num_warned--;
        if (peer->pidfd >= 0 && peer->pidfd_generation == peer->to_kill.generation)
            kill_now(context, &peer->to_kill, 0);
    }
}

uint64_t eepi_warned_poll_us(const eep_context *context)
{
    return context->num_warned > 0 ? WARNED_POLL_US : UINT64_MAX;
}
