/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of inputs that wait for the core. */
#include "membership/context/inbox.h"

#include <assert.h>
#include <stdlib.h>

struct eepi_inbox {
    int capacity, first, num;
    eepi_input inputs[];
};

eepi_inbox *eepi_inbox_open(int32_t max_ranks)
{
    const int capacity = max_ranks + EEPI_CORE_MAX_ACTIONS;
    eepi_inbox *inbox = calloc(1, sizeof *inbox + (size_t)capacity * sizeof inbox->inputs[0]);

    if (inbox) {
        inbox->capacity = capacity;
    }
    return inbox;
}

void eepi_inbox_close(eepi_inbox *inbox)
{
    free(inbox);
}

void eepi_inbox_post(eepi_inbox *inbox, const eepi_input *input)
{
    assert(inbox->num < inbox->capacity);
    assert(!input->view && !input->member && !input->report && !input->ack && !input->seats);
    inbox->inputs[(inbox->first + inbox->num++) % inbox->capacity] = *input;
}

bool eepi_inbox_take(eepi_inbox *inbox, eepi_input *input_out)
{
    if (inbox->num == 0) {
        return false;
    }
    *input_out = inbox->inputs[inbox->first];
    inbox->first = (inbox->first + 1) % inbox->capacity;
    inbox->num--;
    return true;
}
