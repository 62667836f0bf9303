/* SPDX-License-Identifier: Apache-2.0 */
/* The members of an epoch and their memory: who has given what, who is woken and told. Nothing is
 * decided here. */
#include "membership/collective/collective_state.h"
#include "membership/context/context.h"
#include "membership/step/proxies.h"
#include "repair/checksum.h"

#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

eepi_collective_area *eepi_collective_area_hold(eepi_collective_area *area)
{
    area->num_users++;
    return area;
}

void eepi_collective_area_drop(eepi_collective_area *area)
{
    if (area && --area->num_users == 0) {
        eepi_collective_area_close(area);
    }
}

eepi_collective_group *eepi_collective_group_hold(eepi_collective_group *group)
{
    group->num_users++;
    return group;
}

void eepi_collective_group_drop(eepi_collective_group *group)
{
    if (!group || --group->num_users > 0) {
        return;
    }
    for (int seat = 0; seat < group->max_ranks; seat++) {
        eepi_collective_area_drop(group->member[seat].area);
    }
    free(group);
}

eepi_collective_reach eepi_collective_find_reach(const eepi_collective_group *group)
{
    eepi_collective_reach reach = EEPI_REACH_NEAR;

    for (int seat = 0; seat < group->max_ranks; seat++) {
        const eepi_collective_area *area = group->member[seat].area;
        if (eepi_collective_has(group, seat) && !area) {
            return EEPI_REACH_UNKNOWN;
        }
        reach = area && area->mirror ? EEPI_REACH_FAR : reach;
    }
    return reach;
}

eepi_collective_memory *eepi_collective_holder(const eepi_collective_group *group)
{
    switch (eepi_collective_reach_of(group)) {
    case EEPI_REACH_NEAR:
        return group->member[group->holder].area->memory;
    case EEPI_REACH_FAR:
        return group->member[group->self].area->memory;
    default:
        return NULL;
    }
}

static void ring(eepi_collective_memory *memory)
{
    __atomic_fetch_add(&memory->wakes, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &memory->wakes, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void eepi_collective_ring(const eepi_collective_group *group)
{
    const eepi_collective_reach reach = eepi_collective_reach_of(group);

    if (reach == EEPI_REACH_NEAR) {
        ring(eepi_collective_holder(group));
    }
    for (int seat = 0; reach == EEPI_REACH_FAR && seat < group->max_ranks; seat++) {
        const eepi_collective_area *area = group->member[seat].area;
        if (area && !area->mirror) {
            ring(area->memory);
        }
    }
}

void eepi_collective_wake_in(const struct eepi_collectives *all,
                             const eepi_collective_group *waited_in)
{
    pthread_cond_broadcast((pthread_cond_t *)(uintptr_t)&all->changed);
    if (waited_in) {
        eepi_collective_ring(waited_in);
    }
}

void eepi_collective_wake(struct eepi_collectives *all)
{
    pthread_cond_broadcast(&all->changed);
    ring(all->own->memory);
}

void eepi_collective_tell(struct eepi_collectives *all)
{
    const eepi_collective_group *group = all->group;

    all->version++;
    for (int seat = 0;
         group && eepi_collective_reach_of(group) != EEPI_REACH_NEAR && seat < group->max_ranks;
         seat++) {
        const eepi_collective_area *area = group->member[seat].area;
        if (area && area->mirror) {
            eepi_proxies_speak(all->context, (uint32_t)seat, area->generation);
        }
    }
}

/* ------------------------------------------------------------------ contributions */

uint64_t eepi_contribution_checksum(const eepi_contribution *head, uint64_t number)
{
    struct {
        eepi_collective_what what;
        uint64_t number, identity, bytes, checksum;
    } fields;

    memset(&fields, 0, sizeof fields);
    fields.what = head->what;
    fields.number = number;
    fields.identity = (uint64_t)head->seat << 32 | head->generation;
    fields.bytes = head->bytes;
    fields.checksum = head->checksum;
    return eepi_checksum_bytes(&fields, sizeof fields);
}

bool eepi_contribution_is_sound(const eepi_contribution *head, uint64_t number, int seat,
                                uint32_t generation, uint64_t slot_bytes)
{
    return head->seat == (uint32_t)seat && head->generation == generation &&
           head->bytes <= slot_bytes &&
           head->head_checksum == eepi_contribution_checksum(head, number);
}

bool eepi_collective_all_have_given(const eepi_collective_group *group, uint64_t number)
{
    for (int seat = 0; seat < group->max_ranks; seat++) {
        const eepi_collective_area *area = group->member[seat].area;
        const eepi_contribution *head;
        if (group->member[seat].generation == 0) {
            continue;
        }
        head = area ? eepi_contribution_of(area, number) : NULL;
        if (!head || __atomic_load_n(&head->number, __ATOMIC_ACQUIRE) != number ||
            __atomic_load_n(&head->epoch, __ATOMIC_ACQUIRE) != group->epoch) {
            return false;
        }
    }
    return true;
}

void eepi_collective_judge(struct eepi_collectives *all, bool is_final)
{
    eepi_collective_pending *pending = &all->pending;

    if (!pending->is_given || pending->verdict != EEPI_COLLECTIVE_UNDER_WAY) {
        return;
    }
    if (pending->number <= all->last) {
        pending->verdict = EEPI_COLLECTIVE_ENDED;
    } else if (is_final) {
        pending->verdict = EEPI_COLLECTIVE_ABORTED;
    }
}
