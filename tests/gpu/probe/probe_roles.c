/* SPDX-License-Identifier: Apache-2.0 */
/* Which roles a process of the GPU probes can play. */
#include "tests/gpu/probe/probe_role.h"

#include <stdlib.h>
#include <string.h>

/* Says the device's name. */
static eep_status probe_hello(probe_role *r)
{
    return probe_say(r);
}

int probe_role_run(const probe_how *how, int socket)
{
    static const struct {
        const char *name;
        eep_status (*play)(probe_role *r);
    } roles[] = {
        {"hello", probe_hello},     {"look", probe_look},   {"allocating", probe_allocating},
        {"calls", probe_calls},     {"owner", probe_owner}, {"survivor", probe_survivor},
        {"counter", probe_counter}, {"ring", probe_ring},   {"graphs", probe_ring_of_graphs},
        {"spin", probe_spin},       {"fence", probe_fence}, {"pinned", probe_pinned},
        {"nodes", probe_nodes},     {"pass", probe_pass}};
    probe_role r = {.how = how, .socket = socket};
    eep_status status = EEP_ERR_INVALID;
    size_t i = 0;

    while (i < sizeof roles / sizeof roles[0] && strcmp(roles[i].name, how->role) != 0) {
        i++;
    }
    if (i < sizeof roles / sizeof roles[0]) {
        status = probe_open(&r);
    }
    if (status == EEP_OK) {
        status = roles[i].play(&r);
    }
    if (status == EEP_OK) {
        probe_close(&r);
        return EXIT_SUCCESS;
    }
    if (!r.device) {
        r.say.values[0] = PROBE_NO_DEVICE;
    }
    /* a kernel may still run: nothing is closed under it, the process's end takes all */
    r.say.status = status;
    (void)probe_send(socket, &r.say);
    return EXIT_FAILURE;
}
