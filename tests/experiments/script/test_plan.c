/* SPDX-License-Identifier: Apache-2.0 */
/* NIXL EP plans: their text, and their phases against a small world that does what it is told. */
#include "experiments/script/plan.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static plan *parse(const char *text)
{
    plan *self = NULL;
    char error[PLAN_ERROR_BYTES] = "";
    eep_status status = plan_parse("p.json", text, strlen(text), &self, error);
    cr_assert_eq(status, EEP_OK, "%s: %s", text, error);
    return self;
}

/* ---------------------------------------------------------------- the text */

Test(plan, reads_the_form_of_nixl_ep)
{
    plan *self = parse("[[0,1,2,3],\n [0, 1,2,3,4,5,6,7],[0,1,2,3,4,5,-6,7],[7,2,0]]\n");
    cr_assert_eq(self->num_phases, 4);
    cr_assert_eq(self->num_seats, 8);
    cr_assert_eq(self->phase[0].num_ranks, 4);
    cr_assert_eq(self->phase[2].num_ranks, 7);
    cr_assert_eq(self->phase[2].num_deaths, 1);
    cr_assert_eq(self->phase[2].role[6], ROLE_DIES);
    cr_assert_eq(self->phase[3].role[6], ROLE_OUT);
    cr_assert_eq(self->phase[3].role[2], ROLE_IN);
    cr_assert_eq(plan_fewest_ranks(self), 3);
    plan_free(self);
}

/* Those that stay hold each expert once more than ranks leave or die. */
Test(plan, says_how_many_slots_it_needs)
{
    static const struct {
        const char *text;
        int64_t slots;
    } plans[] = {{"[[0,1,2,3]]", 16},
                 {"[[0,1,2,3],[0,1]]", 64},
                 {"[[0,1,2,3,4,5,6,7],[0,1,2,3,4,5,-6,7]]", 19},
                 {"[[0,1,2,3,4,5],[0,1,2,3,-4],[0,1,2,3]]", 48}};
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        plan *self = parse(plans[i].text);
        cr_expect_eq(plan_needed_slots(self, 64), plans[i].slots, "%s: %d", plans[i].text,
                     (int)plan_needed_slots(self, 64));
        plan_free(self);
    }
}

Test(plan, a_rank_may_die_while_another_one_leaves)
{
    plan *self = parse("[\n  [0, 1],\n  [0, 1, 2, 3],\n  [0, -2, 3]\n]\n");
    cr_assert_eq(self->phase[2].role[1], ROLE_OUT);
    cr_assert_eq(self->phase[2].role[2], ROLE_DIES);
    plan_free(self);
}

static void refused(const char *text, const char *place, const char *why)
{
    plan *self = NULL;
    char error[PLAN_ERROR_BYTES] = "", begin[64];
    cr_expect_eq(plan_parse("p.json", text, strlen(text), &self, error), EEP_ERR_INVALID, "%s",
                 text);
    cr_expect_null(self);
    snprintf(begin, sizeof begin, "p.json:%s", place);
    cr_expect_eq(strncmp(error, begin, strlen(begin)), 0, "%s: '%s' is not at %s", text, error,
                 place);
    cr_expect_not_null(strstr(error, why), "%s: '%s' does not say '%s'", text, error, why);
}

Test(plan, names_the_phase_and_the_entry_that_are_wrong)
{
    refused("{}", " '{}'", "is not a plan");
    refused("[]", " '[]'", "is not a plan");
    refused("7", " '7'", "is not a plan");
    refused("[[]]", " phase 1: ", "it is empty");
    refused("[[0],\n[ ]]", " phase 2: ", "it is empty");
    refused("[0,1]", " phase 1: ", "'0' is not a phase");
    refused("[[0,1.5]]", " phase 1, entry 2: ", "'1.5' is not a rank");
    refused("[[0,\"1\"]]", " phase 1, entry 2: ", "'\"1\"' is not a rank");
    refused("[[0,null]]", " phase 1, entry 2: ", "'null' is not a rank");
    refused("[[0,1024]]", " phase 1, entry 2: ", "from 0 to 1023");
    refused("[[0,-1024]]", " phase 1, entry 2: ", "from 0 to 1023");
    refused("[[0,99999999999999999999]]", " phase 1, entry 2: ", "is not a rank");
    refused("[[0,1e999]]", " phase 1, entry 2: ", "is not a rank");
    refused("[[0,[1]]]", " phase 1, entry 2: ", "'[1]' is not a rank");
    refused("[[0,1],[-0,1]]", " phase 2, entry 1: ", "-0 is the same number as 0");
    refused("[[0,1,1]]", " phase 1, entry 3: ", "rank 1 is in it twice");
    refused("[[0,1],[0,1,-1]]", " phase 2, entry 3: ", "rank 1 is in it twice");
    refused("[[0,-1]]", " phase 1, entry 2: ", "rank 1 cannot die");
    refused("[[0,1],\n [0,1,-2]]", " phase 2, entry 3: ", "rank 2 cannot die");
    refused("[[0,1,2],[0,1,-2],[0,1,-2]]", " phase 3, entry 3: ", "rank 2 cannot die");
    refused("[[0,2,5]]", " phase 1: ", "rank 1 is missing");
    refused("[[0,1],[1],[-1]]", " phase 3: ", "all its ranks die");
    refused("[[0,1],[1],[-1,0]]", " phase 3: ", "one of them must live");
}

Test(plan, names_the_line_where_the_text_is_no_json)
{
    refused("", "1: ", "no JSON at ''");
    refused("[[0,,1]]", "1: ", "',1]]'");
    refused("[[0,1,]]", "1: ", "']]'");
    refused("[[0],\n[0,--1]]", "2: ", "'--1]]'");
    refused("[[0,1]\n,\n[0", "3: ", "no JSON");
    refused("[[0 1]]", "1: ", "'1]]'");
    refused("[[0,1]] x", "1: ", "'x'");
    refused("[[0,1]]\n,", "2: ", "','");
    refused("[[0,1],[-1,0]", "1: ", "a plan is a list of phases");
}

/* A text that is cut anywhere, or has another letter anywhere, is a plan or is refused in words. */
Test(plan, a_broken_text_is_taken_or_refused)
{
    static const char text[] = "\xef\xbb\xbf[[0,1,2],\n [0, 1, -2],[0,3]]\n";
    static const char letters[] = "[]{},-0129.e\" \n\x80\xff";
    for (size_t at = 0; at < sizeof text - 1; at++) {
        for (size_t i = 0; i < sizeof letters; i++) { /* the last one is NUL */
            char changed[sizeof text], error[PLAN_ERROR_BYTES] = "";
            plan *self = NULL;
            memcpy(changed, text, sizeof text);
            changed[at] = letters[i];
            size_t bytes = i ? sizeof text - 1 : at;
            eep_status status = plan_parse("p.json", changed, bytes, &self, error);
            cr_expect(status == EEP_OK ? self != NULL : strncmp(error, "p.json:", 7) == 0, "%s",
                      error);
            if (status == EEP_OK) {
                plan_free(self);
            }
        }
    }
}

Test(plan, a_zero_byte_ends_nothing_silently)
{
    static const char text[] = "[[0,1]]\0[";
    plan *self = NULL;
    char error[PLAN_ERROR_BYTES] = "";
    cr_expect_eq(plan_parse("p.json", text, sizeof text - 1, &self, error), EEP_ERR_INVALID);
}

/* ---------------------------------------------------------------- the phases */

typedef struct world {
    uint32_t generation[8], newest[8];
    bool active[8], running[8], crashed[8];
    double now_ms;
    uint64_t epoch;
    int num_actions;
    char actions[256];
} world;

static uint32_t generation_of(const void *user, int seat)
{
    return ((const world *)user)->generation[seat];
}

static bool is_active(const void *user, int seat)
{
    return ((const world *)user)->active[seat];
}

static bool is_running(const void *user, int seat)
{
    return ((const world *)user)->running[seat];
}

static bool is_crashed(const void *user, int seat)
{
    return ((const world *)user)->crashed[seat];
}

static void start(world *self, int seat)
{
    self->generation[seat] = ++self->newest[seat];
    self->active[seat] = self->running[seat] = true;
    self->epoch++;
}

static void end(world *self, int seat)
{
    self->generation[seat] = 0;
    self->active[seat] = self->running[seat] = false;
    self->epoch++;
}

static bool next(world *self, plan *asked, script_action *action_out)
{
    plan_world seen = {self->now_ms, self->epoch, generation_of, is_active,
                       is_running,   is_crashed,  self};
    return plan_next(asked, &seen, action_out);
}

/* All that is due, written down as "verb seat;" and not done. */
static const char *ask(world *self, plan *asked)
{
    script_action action;
    self->actions[0] = '\0';
    while (next(self, asked, &action)) {
        size_t used = strlen(self->actions);
        const char *name = action.verb == VERB_ADD     ? "add"
                           : action.verb == VERB_DRAIN ? "drain"
                           : action.verb == VERB_DIE   ? "die"
                                                       : "?";
        snprintf(self->actions + used, sizeof self->actions - used, "%s %d;", name, action.seat);
        cr_assert_lt(++self->num_actions, 100);
    }
    return self->actions;
}

static void step_all(world *self, plan *asked, int times)
{
    for (int i = 0; i < times; i++) {
        for (int seat = 0; seat < 8; seat++) {
            if (self->active[seat]) {
                plan_on_step(asked, seat, self->epoch);
            }
        }
    }
}

Test(plan, shrinks_and_regrows)
{
    world w = {.epoch = 1};
    plan *self = parse("[[0,1],[0,1,2,5],[0,-1,2,5],[0,1,5]]");
    start(&w, 0), start(&w, 1);
    cr_assert_str_eq(ask(&w, self), "");
    step_all(&w, self, 39);
    cr_assert_str_eq(ask(&w, self), "", "39 steps are less than 40");
    step_all(&w, self, 1);
    cr_assert_str_eq(ask(&w, self), "add 2;add 5;");
    cr_assert_str_eq(ask(&w, self), "", "each once");
    start(&w, 2);
    step_all(&w, self, 100);
    cr_assert_str_eq(ask(&w, self), "", "steps before it has settled do not count");
    start(&w, 5);
    cr_assert_str_eq(ask(&w, self), "");
    step_all(&w, self, 40);
    cr_assert_str_eq(ask(&w, self), "die 1;");
    w.active[1] = w.running[1] = false;
    cr_assert_str_eq(ask(&w, self), "");
    step_all(&w, self, 100);
    cr_assert_str_eq(ask(&w, self), "", "dead, but not expelled");
    end(&w, 1);
    cr_assert_str_eq(ask(&w, self), "");
    step_all(&w, self, 40);
    cr_assert_str_eq(ask(&w, self), "drain 2;add 1;");
    start(&w, 1);
    w.generation[2] = 0, w.active[2] = false;
    cr_assert_str_eq(ask(&w, self), "");
    step_all(&w, self, 100);
    cr_assert_str_eq(ask(&w, self), "", "its process has not ended");
    w.running[2] = false;
    ask(&w, self);
    step_all(&w, self, 40);
    ask(&w, self);
    cr_assert(plan_is_over(self) && !self->failed);
    int index = -1, num = 0;
    while (plan_ended(self, &index)) {
        char text[PLAN_TEXT_BYTES];
        plan_phase_text(self, index, text);
        cr_assert_eq(index, num++);
        cr_assert(self->phase[index].good);
        cr_assert_not_null(strstr(text, "as planned"), "%s", text);
    }
    cr_assert_eq(num, 4);
    cr_assert(self->phase[2].faulted[1] && !self->phase[3].faulted[2]);
    plan_free(self);
}

Test(plan, a_seat_is_free_before_its_next_process_is_added)
{
    world w = {.epoch = 1};
    plan *self = parse("[[0,1],[0],[0,1]]");
    self->num_steps = 1;
    start(&w, 0), start(&w, 1);
    ask(&w, self);
    step_all(&w, self, 1);
    cr_assert_str_eq(ask(&w, self), "drain 1;");
    end(&w, 1);
    ask(&w, self);
    w.running[1] = true; /* something lingers in the seat */
    step_all(&w, self, 1);
    cr_assert_str_eq(ask(&w, self), "");
    w.running[1] = false;
    cr_assert_str_eq(ask(&w, self), "add 1;");
    plan_free(self);
}

static void failed_with(plan *self, int wanted_index, const char *why)
{
    char text[PLAN_TEXT_BYTES];
    int index = -1, last = -1;
    while (plan_ended(self, &index)) {
        last = index;
    }
    cr_assert(self->failed && plan_is_over(self));
    cr_assert_eq(last, wanted_index);
    cr_assert(!self->phase[last].good);
    plan_phase_text(self, last, text);
    cr_assert_not_null(strstr(text, why), "'%s' does not say '%s'", text, why);
}

Test(plan, a_fault_that_was_not_planned_fails_it)
{
    world w = {.epoch = 1};
    plan *self = parse("[[0,1,2],[0,1,-2]]");
    self->num_steps = 1;
    for (int seat = 0; seat < 3; seat++) {
        start(&w, seat);
    }
    ask(&w, self);
    step_all(&w, self, 1);
    cr_assert_str_eq(ask(&w, self), "die 2;");
    end(&w, 1);
    cr_assert_str_eq(ask(&w, self), "");
    failed_with(self, 1, "faulted [1], planned [2]");
    plan_free(self);
}

Test(plan, a_seat_that_was_replaced_between_two_looks_is_faulted)
{
    world w = {.epoch = 1};
    plan *self = parse("[[0,1]]");
    start(&w, 0), start(&w, 1);
    ask(&w, self);
    end(&w, 1), start(&w, 1);
    ask(&w, self);
    failed_with(self, 0, "faulted [1], planned []");
    plan_free(self);
}

Test(plan, a_phase_that_never_settles_fails_it)
{
    world w = {.epoch = 1};
    plan *self = parse("[[0,1],[0,1,2]]");
    self->num_steps = 1;
    start(&w, 0), start(&w, 1);
    ask(&w, self);
    step_all(&w, self, 1);
    cr_assert_str_eq(ask(&w, self), "add 2;");
    w.now_ms = self->settle_ms + 1;
    ask(&w, self);
    failed_with(self, 1, "after 60 s active [0,1], planned [0,1,2]");
    plan_free(self);
}

Test(plan, a_rank_that_cannot_leave_is_named)
{
    world w = {.epoch = 1};
    plan *self = parse("[[0,1],[0]]");
    self->num_steps = 1;
    start(&w, 0), start(&w, 1);
    ask(&w, self);
    step_all(&w, self, 1);
    cr_assert_str_eq(ask(&w, self), "drain 1;");
    w.active[1] = false;
    w.now_ms = self->settle_ms + 1;
    ask(&w, self);
    failed_with(self, 1, "asked to leave and still in the view [1]");
    plan_free(self);
}

Test(plan, a_rank_that_reports_no_steps_fails_it)
{
    world w = {.epoch = 1};
    plan *self = parse("[[0,1]]");
    start(&w, 0), start(&w, 1);
    ask(&w, self);
    for (int i = 0; i < 100; i++) {
        plan_on_step(self, 0, w.epoch);
    }
    w.now_ms = self->settle_ms + 1;
    ask(&w, self);
    failed_with(self, 0, "not every rank reported 40 OK steps");
    plan_free(self);
}

Test(plan, steps_of_an_older_view_do_not_count)
{
    world w = {.epoch = 5};
    plan *self = parse("[[0]]");
    self->num_steps = 1;
    start(&w, 0);
    ask(&w, self);
    plan_on_step(self, 0, w.epoch - 1);
    ask(&w, self);
    cr_assert(!plan_is_over(self));
    plan_on_step(self, 0, w.epoch);
    ask(&w, self);
    cr_assert(plan_is_over(self) && !self->failed);
    plan_free(self);
}

Test(plan, a_rank_that_crashes_on_its_way_out_fails_it)
{
    world w = {.epoch = 1};
    plan *self = parse("[[0,1],[0]]");
    self->num_steps = 1;
    start(&w, 0), start(&w, 1);
    ask(&w, self);
    step_all(&w, self, 1);
    cr_assert_str_eq(ask(&w, self), "drain 1;");
    w.crashed[1] = true;
    end(&w, 1);
    ask(&w, self);
    failed_with(self, 1, "faulted [1], planned []");
    plan_free(self);
}

Test(plan, what_is_cut_off_has_not_failed)
{
    world w = {.epoch = 1};
    plan *self = parse("[[0,1],[0,1,2]]");
    self->num_steps = 1;
    start(&w, 0), start(&w, 1);
    ask(&w, self);
    step_all(&w, self, 1);
    cr_assert_str_eq(ask(&w, self), "add 2;");
    plan_cut_off(self);
    w.now_ms = self->settle_ms + 1;
    cr_assert_str_eq(ask(&w, self), "");
    cr_assert(plan_is_over(self) && !self->failed);
    cr_assert(self->phase[0].good && !self->phase[1].good);
    int index = -1;
    cr_assert_not_null(plan_ended(self, &index));
    cr_assert_null(plan_ended(self, &index), "phase 2 did not end");
    plan_free(self);
}
