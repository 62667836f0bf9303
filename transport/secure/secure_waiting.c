/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/secure/secure_waiting.h"

#include <string.h>

static void *remove_at(eepi_secure_waiting *waiting, int at)
{
    void *owner = waiting->waiter[at].owner;
    waiting->num--;
    memmove(&waiting->waiter[at], &waiting->waiter[at + 1],
            (size_t)(waiting->num - at) * sizeof waiting->waiter[0]);
    return owner;
}

static int count_of(const eepi_secure_waiting *waiting, uint64_t address)
{
    int num = 0;
    for (int i = 0; i < waiting->num; i++) {
        num += waiting->waiter[i].address == address;
    }
    return num;
}

/* The oldest of the address that has most; the newcomer counts for its own. */
static int find_victim(const eepi_secure_waiting *waiting, uint64_t newcomer)
{
    int victim = 0, most = 0;
    for (int i = 0; i < waiting->num; i++) {
        const uint64_t address = waiting->waiter[i].address;
        const int num = count_of(waiting, address) + (address == newcomer);
        if (num > most) {
            most = num;
            victim = i;
        }
    }
    return victim;
}

void *eepi_secure_waiting_add(eepi_secure_waiting *waiting, void *owner, uint64_t address,
                              uint64_t now_us)
{
    void *gone = NULL;
    if (waiting->num == EEPI_SECURE_BEFORE_MAX) {
        gone = remove_at(waiting, find_victim(waiting, address));
    }
    waiting->waiter[waiting->num++] =
        (eepi_secure_waiter){.owner = owner, .address = address, .since_us = now_us};
    return gone;
}

void eepi_secure_waiting_remove(eepi_secure_waiting *waiting, const void *owner)
{
    for (int i = 0; i < waiting->num; i++) {
        if (waiting->waiter[i].owner == owner) {
            (void)remove_at(waiting, i);
            return;
        }
    }
}

void *eepi_secure_waiting_expire(eepi_secure_waiting *waiting, uint64_t now_us,
                                 uint64_t *next_us_out)
{
    uint64_t end_us;
    if (waiting->num == 0) {
        *next_us_out = UINT64_MAX;
        return NULL;
    }
    end_us = waiting->waiter[0].since_us +
             (waiting->bound_us ? waiting->bound_us : EEPI_SECURE_BEFORE_US);
    *next_us_out = end_us;
    return end_us <= now_us ? remove_at(waiting, 0) : NULL;
}
