/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a step's nodes, and what a step that is not whole lacks. */
#include "membership/context/sequence.h"

#include <stdio.h>

static int32_t number_of(const eepi_sequence *s, eepi_sequence_node node, int32_t layer)
{
    switch (node) {
    case EEPI_NODE_LATCH:
        return 0;
    case EEPI_NODE_FINISH:
        return 2 * s->num_layers + 1;
    default:
        return 1 + 2 * layer + (node == EEPI_NODE_COMBINE);
    }
}

static const char *name_of(const eepi_sequence *s, int32_t number, char text[64])
{
    if (number == 0) {
        return "eep_step_latch";
    }
    if (number == 2 * s->num_layers + 1) {
        return "eep_step_finish";
    }
    snprintf(text, 64, "%s of layer %d", number % 2 ? "eep_dispatch" : "eep_combine",
             (number - 1) / 2);
    return text;
}

bool eepi_sequence_lacks(const eepi_sequence *s, char *what_out, size_t what_bytes)
{
    char next[64];

    if (s->broken) {
        snprintf(what_out, what_bytes, "the step was broken off by a node that failed");
    } else if (s->next != 0) {
        snprintf(what_out, what_bytes,
                 "the step was begun with eep_step_latch and lacks what follows from %s on, of %d "
                 "layers",
                 name_of(s, s->next, next), s->num_layers);
    }
    return s->broken || s->next != 0;
}

void eepi_sequence_drop(eepi_sequence *s)
{
    s->next = 0;
    s->broken = false;
}

/* Is what was begun still to be finished, or did its capture end without that? */
static bool is_abandoned(const eepi_sequence *s, const eepi_sequence_place *place)
{
    if (s->place.stream != place->stream) {
        return false;
    }
    if (s->place.capture != 0) {
        return s->place.capture != place->capture;
    }
    return s->place.is_captured && !place->is_captured;
}

static bool may_latch(eepi_sequence *s, const eepi_sequence_place *place, char *why, size_t bytes)
{
    bool is_open = s->next != 0 || s->broken;
    char next[64];

    if (place->capture != 0 && place->stream == s->place.stream &&
        place->capture == s->place.capture) {
        snprintf(
            why, bytes,
            "a second eep_step_latch came in one capture, where %s was expected: a graph holds "
            "one step; end this capture and begin another",
            is_open ? name_of(s, s->next, next) : "the end of the capture");
        return false;
    }
    if (place->step != 0 && !place->is_captured && place->step == s->place.step && !is_open) {
        snprintf(why, bytes, "a second eep_step_latch came in step %llu: end it first",
                 (unsigned long long)place->step);
        return false;
    }
    if (!is_open || s->broken || is_abandoned(s, place)) {
        return true;
    }
    snprintf(
        why, bytes,
        "a second eep_step_latch came where %s was expected, of a step of %d layers: that step "
        "is dropped; begin another with eep_step_latch",
        name_of(s, s->next, next), s->num_layers);
    eepi_sequence_drop(s);
    return false;
}

bool eepi_sequence_may(eepi_sequence *s, eepi_sequence_node node, int32_t layer,
                       const eepi_sequence_place *place, char *why, size_t bytes)
{
    int32_t number = number_of(s, node, layer);
    char came[64], expected[64];

    if (node == EEPI_NODE_LATCH) {
        return may_latch(s, place, why, bytes);
    }
    if (s->broken) {
        snprintf(why, bytes, "%s came after a node that failed: begin again with eep_step_latch",
                 name_of(s, number, came));
    } else if (number != s->next) {
        snprintf(why, bytes,
                 "%s came where %s was expected: a step is eep_step_latch, per layer 0 to %d "
                 "eep_dispatch and eep_combine, then eep_step_finish",
                 name_of(s, number, came), name_of(s, s->next, expected), s->num_layers - 1);
    } else if (place->stream != s->place.stream) {
        snprintf(why, bytes,
                 "%s came in another stream than its eep_step_latch: all nodes of a step are put "
                 "into one stream",
                 name_of(s, number, came));
    } else if (place->capture != s->place.capture || place->is_captured != s->place.is_captured) {
        snprintf(why, bytes,
                 "%s came in another capture than its eep_step_latch: a graph holds a whole step",
                 name_of(s, number, came));
    } else {
        return true;
    }
    return false;
}

void eepi_sequence_put(eepi_sequence *s, eepi_sequence_node node, int32_t layer,
                       const eepi_sequence_place *place)
{
    s->broken = false;
    s->next = node == EEPI_NODE_FINISH ? 0 : number_of(s, node, layer) + 1;
    if (node != EEPI_NODE_LATCH) {
        return;
    }
    s->place = *place;
    s->by_others |= place->is_captured && place->capture == 0;
    if (!place->is_captured) {
        s->loose_stream = place->stream;
        s->loose_step = place->step;
    }
}

bool eepi_sequence_is_loose(const eepi_sequence *s, const void *stream, uint64_t step)
{
    return step != 0 && s->loose_step == step && s->loose_stream == stream;
}

void eepi_sequence_break(eepi_sequence *s)
{
    s->broken = true;
}
