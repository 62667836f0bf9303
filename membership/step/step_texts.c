/* SPDX-License-Identifier: Apache-2.0 */
/* How a step ended, in words. */
#include "membership/step/step_texts.h"

#include "graphs/base/public_call.h"
#include "membership/context/context.h"
#include "membership/step/capture.h"

eep_status eepi_step_say_aborted(eep_context *context, const eepk_status *s)
{
    static const char *const reasons[] = {
        [EEPK_STEP_OK] = "it did not end in time",
        [EEPK_STEP_DEADLINE] = "a peer missed the deadline",
        [EEPK_STEP_PEER_ABORT] = "a peer aborted it",
        [EEPK_STEP_HOST_ABORT] = "the host aborted it",
        [EEPK_STEP_JUMP] = "peers are ahead",
        [EEPK_STEP_NEWER_EPOCH] = "peers serve a newer view",
        [EEPK_STEP_STALE] = "a peer's tag changed",
        [EEPK_STEP_WRONG_BANK] = "the live bank is another",
        [EEPK_STEP_SHAPE] = "a peer began it with another shape",
        [EEPK_STEP_NO_ROOM] = "the ring to a peer is full, since the network to it is slower than "
                              "the steps (a ring of more slots bridges more)"};
    uint32_t reason =
        s->result < sizeof reasons / sizeof reasons[0] && reasons[s->result] ? s->result : 0;

    return eepi_fail(context, EEP_ERR_ABORTED, "step %llu: %s (layer %u, %s): run it again",
                     (unsigned long long)context->stepper.step, reasons[reason], s->layer,
                     s->phase == EEPK_PHASE_COMBINE ? "combine" : "dispatch");
}

/* The stream is empty, and the step's last node was not among what ran in it. */
eep_status eepi_step_say_unfinished(eep_context *context, uint64_t step)
{
    uint64_t began = eepk_load_acquire(&eepi_tables_status(context->tables)->began_step);
    eep_status status = eepi_check_sequence(context, "eep_step_end");

    if (status != EEP_OK) {
        return status;
    }
    if (began == step) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "step %llu: what was replayed began with eep_step_latch and did not reach "
                         "eep_step_finish: replay a whole step",
                         (unsigned long long)step);
    }
    return eepi_fail(context, EEP_ERR_STATE,
                     "step %llu was begun but no graph of this context was replayed in it",
                     (unsigned long long)step);
}

/* Dispatches of the running step, of all chains. */
uint32_t eepi_step_num_exchanges(const eep_context *context)
{
    const eepk_shape *s = &context->shape;

    return s->num_layers * s->num_chains * s->shapes[context->stepper.shape].num_chunks;
}

/* The graph ran to its end, and what it ran was not one step. Another try would end likewise. */
eep_status eepi_step_say_no_step(eep_context *context, const eepk_status *s)
{
    if (s->result == EEPK_STEP_OTHER_GRAPH) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "step %llu has shape %u, and a graph of another shape was replayed: "
                         "eep_step_begin_shape says which one (eep_step_latch_shape)",
                         (unsigned long long)context->stepper.step, context->stepper.shape);
    }
    if (s->result == EEPK_STEP_AGAIN) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "step %llu was replayed twice: one replay belongs between eep_step_begin "
                         "and eep_step_end",
                         (unsigned long long)context->stepper.step);
    }
    return eepi_fail(
        context, EEP_ERR_STATE,
        "step %llu: %u of the %u halves of exchanges of %d layers ran in order in what was "
        "replayed: replay a whole step, from eep_step_latch to eep_step_finish",
        (unsigned long long)context->stepper.step, s->num_nodes,
        EEPK_NODES_PER_LAYER * eepi_step_num_exchanges(context), context->config.num_layers);
}
