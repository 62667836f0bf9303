/* SPDX-License-Identifier: Apache-2.0 */
/* Which experts the members of the present view hold, and what follows from that: which ranks may
 * die or leave, and from which rank a slot is filled. */
#include "experiments/launcher/launcher_experts.h"

#include "experiments/base/monotonic.h"
#include "graphs/base/say.h"

#include <stdio.h>
#include <unistd.h>

static const uint64_t LONGEST_COVER_NS = 200000000;

/* A slot of the member is filled from the seat (-1: from any). */
static bool fills_from(const eepi_view *view, int member, int source)
{
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        for (int i = 0; i < view->shape.num_slots; i++) {
            const eepi_view_slot *slot = eepi_view_slot_at(view, layer, member, i);
            if (slot->state == EEPI_SLOT_FILLING &&
                (source < 0 || eepi_source_seat(slot->source, member) == source)) {
                return true;
            }
        }
    }
    return false;
}

bool launcher_seat_is_source(const void *user, int seat)
{
    const launcher *self = user;
    const eepi_view *view = self->view;
    bool found = false;
    if (!view || !launcher_is_active(self, seat)) {
        return false;
    }
    for (int s = 0; s < view->shape.max_ranks && !found; s++) {
        found = eepi_view_is_member(view, s) && fills_from(view, s, seat);
    }
    return found;
}

bool launcher_is_filling(const launcher *self, int member)
{
    return fills_from(self->view, member, -1);
}

/* How many experts, in the layer where they are most, no slot of a member but `without` holds. */
static int num_unheld(const eepi_view *view, const bool *without)
{
    int max = 0;
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        bool held[EEP_MAX_EXPERTS] = {false};
        int left = view->shape.num_experts;
        for (int s = 0; s < view->shape.max_ranks; s++) {
            bool counts = eepi_view_is_member(view, s) && !without[s];
            for (int i = 0; counts && i < view->shape.num_slots; i++) {
                const eepi_view_slot *slot = eepi_view_slot_at(view, layer, s, i);
                if (slot->state == EEPI_SLOT_HOLDS && !held[slot->expert]) {
                    held[slot->expert] = true;
                    left--;
                }
            }
        }
        max = left > max ? left : max;
    }
    return max;
}

bool launcher_is_covered_without(const void *user, const bool *without)
{
    const eepi_view *view = ((const launcher *)user)->view;
    return view && num_unheld(view, without) == 0;
}

/* A new process in a seat holds nothing of what the view says of the process before it. */
int launcher_uncovered(const launcher *self)
{
    bool ended[EEP_MAX_RANKS] = {false};
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        const record_process *process = launcher_process_of(self, seat);
        ended[seat] =
            !self->ranks->seat[seat].lives || !process || !launcher_is_member(self, process);
    }
    return self->view ? num_unheld(self->view, ended) : 0;
}

/* A first expert that the seat alone holds: true. */
static bool holds_alone(const eepi_view *view, int seat, int *layer_out, int *expert_out)
{
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        bool held[EEP_MAX_EXPERTS] = {false};
        for (int s = 0; s < view->shape.max_ranks; s++) {
            for (int i = 0; eepi_view_is_member(view, s) && i < view->shape.num_slots; i++) {
                const eepi_view_slot *slot = eepi_view_slot_at(view, layer, s, i);
                if (s != seat && slot->state == EEPI_SLOT_HOLDS) {
                    held[slot->expert] = true;
                }
            }
        }
        for (int i = 0; i < view->shape.num_slots; i++) {
            const eepi_view_slot *slot = eepi_view_slot_at(view, layer, seat, i);
            if (slot->state == EEPI_SLOT_HOLDS && !held[slot->expert]) {
                *layer_out = layer;
                *expert_out = slot->expert;
                return true;
            }
        }
    }
    return false;
}

bool launcher_lacks_room(const launcher *self, int seat, char *text, size_t size)
{
    const record_process *leaver = launcher_process_of(self, seat);
    const eepi_view *view = self->view;
    int staying = 0, layer = 0, expert = 0;
    if (!view || !leaver || !leaver->drain_ns || leaver->exit_ns ||
        !launcher_is_member(self, leaver)) {
        return false;
    }
    for (int s = 0; s < self->run.max_ranks; s++) {
        const record_process *other = launcher_process_of(self, s);
        staying += eepi_view_is_member(view, s) && !(other && other->drain_ns);
    }
    if (!staying || staying * view->shape.num_slots >= view->shape.num_experts ||
        !holds_alone(view, seat, &layer, &expert)) {
        return false;
    }
    if (text) {
        snprintf(text, size,
                 "is leaving, and the others have no room for its experts (layer %d, expert %d, "
                 "...): %d slots for %d experts",
                 layer, expert, staying * view->shape.num_slots, view->shape.num_experts);
    }
    return true;
}

/* Requests wait meanwhile. */
static bool is_early(void *until_ns)
{
    return now_ns() < *(uint64_t *)until_ns;
}

void launcher_record_cover(launcher *self)
{
    cover *found = &self->run.cover;
    char text[COVER_TEXT_BYTES];
    uint64_t until_ns = now_ns() + LONGEST_COVER_NS;
    cover_status status =
        self->view ? cover_of(self->view, is_early, &until_ns, found) : COVER_NO_MEMORY;
    if (status == COVER_GIVEN_UP) {
        launcher_complain(self, "which deaths the placement survives is not known within %g s",
                          (double)LONGEST_COVER_NS / 1e9);
    }
    if (status != COVER_KNOWN) {
        return;
    }
    cover_describe(found, (int)self->options.num_slots, text);
    if (found->adjacent == 0 && found->num_ranks > 1) {
        launcher_complain(self, "%s", text);
    } else if (!self->options.quiet) {
        char line[sizeof text + 32];
        int bytes =
            snprintf(line, sizeof line, "%s%s\n", self->screen.is_tty ? "\r\033[K" : "", text);
        eepi_say(STDOUT_FILENO, line, (size_t)bytes);
    }
}
