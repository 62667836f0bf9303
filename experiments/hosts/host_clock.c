/* SPDX-License-Identifier: Apache-2.0 */
/* Times of one host by the clock of another one. */
#include "experiments/hosts/host_clock.h"

#include "experiments/wire/wire.h"

#include <stddef.h>

void host_clock_add(host_clock *self, uint64_t asked_ns, uint64_t answered_ns, uint64_t theirs_ns)
{
    const uint64_t took_ns = answered_ns - asked_ns;
    const uint64_t at = self->num++ % HOST_CLOCK_SAMPLES;
    self->sample[at].ahead_ns = (int64_t)(theirs_ns - (asked_ns + took_ns / 2));
    self->sample[at].took_ns = took_ns;
    uint64_t best = 0, num = self->num < HOST_CLOCK_SAMPLES ? self->num : HOST_CLOCK_SAMPLES;
    for (uint64_t i = 1; i < num; i++) {
        best = self->sample[i].took_ns < self->sample[best].took_ns ? i : best;
    }
    self->ahead_ns = self->sample[best].ahead_ns;
    self->took_ns = self->sample[best].took_ns;
}

uint64_t host_clock_ours(const host_clock *self, uint64_t theirs_ns)
{
    return theirs_ns ? theirs_ns - (uint64_t)self->ahead_ns : 0;
}

/* Where the times of each kind of packet are. */
static const struct {
    uint32_t kind;
    size_t bytes; /* of the packet, at least */
    size_t at[4]; /* 0: no more */
} times[] = {
    {WIRE_HELLO, sizeof(wire_hello), {offsetof(wire_hello, time_ns)}},
    {WIRE_STARTUP,
     sizeof(wire_startup),
     {offsetof(wire_startup, main_ns), offsetof(wire_startup, open_ns),
      offsetof(wire_startup, loaded_ns), offsetof(wire_startup, captured_ns)}},
    {WIRE_JOINED, sizeof(wire_joined), {offsetof(wire_joined, time_ns)}},
    {WIRE_STEP, sizeof(wire_step), {offsetof(wire_step, begin_ns), offsetof(wire_step, end_ns)}},
    {WIRE_EVENT, sizeof(wire_event), {offsetof(wire_event, record.time_ns)}},
    {WIRE_PLACEMENT, sizeof(wire_placement), {offsetof(wire_placement, time_ns)}},
};

void host_clock_translate(const host_clock *self, void *packet, uint64_t bytes)
{
    const wire_header *header = packet;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        if (times[i].kind != header->kind || bytes < times[i].bytes) {
            continue;
        }
        for (int t = 0; t < 4 && times[i].at[t]; t++) {
            uint64_t *time_ns = (uint64_t *)(void *)((char *)packet + times[i].at[t]);
            *time_ns = host_clock_ours(self, *time_ns);
        }
    }
}
