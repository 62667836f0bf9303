/* SPDX-License-Identifier: Apache-2.0 */
/* The rate of copies behind live traffic. */
#include "repair/executor/pace.h"

#include <string.h>

enum {
    BEGIN_SHARE = 8,   /* the first rate is the ceiling divided by this */
    QUIET_LEAST = 16,  /* fewer steps are no measure */
    LISTEN_STEPS = 16, /* after so many, or LISTEN_US, copies go on */
    LISTEN_US = 250000,
    RENEW_US = 4000000,      /* copies pause after that time, to listen */
    NO_TRAFFIC_US = 1000000, /* without a step for so long there is nobody to spare */
    OVER_MOST = 4, /* of a window: more are too many. A tenth, 2, are over without copies */
    OVER_FEW = 2
};

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void eepi_pace_open(eepi_pace *p, uint64_t ceiling, int32_t percent)
{
    *p = (eepi_pace){.ceiling = larger(ceiling, 1), .percent = percent > 0 ? (uint32_t)percent : 0};
    p->floor = larger(p->ceiling / EEPI_PACE_FLOOR_SHARE, 1);
    p->rate = larger(p->ceiling / BEGIN_SHARE, p->floor);
}

static bool has_measure(const eepi_pace *p)
{
    return p->num_quiet >= QUIET_LEAST;
}

static void listen(eepi_pace *p, bool listens, uint64_t now_us)
{
    p->listens = listens;
    p->since_us = now_us;
    p->num_heard = 0;
    p->num_window = 0;
    p->skips = true;
}

void eepi_pace_begin(eepi_pace *p, uint64_t now_us)
{
    listen(p, p->percent > 0 && !has_measure(p), now_us);
}

void eepi_pace_end(eepi_pace *p)
{
    listen(p, false, 0);
}

/* The least duration of the slowest tenth without copies. */
static uint32_t quiet_tenth(const eepi_pace *p)
{
    const uint32_t num = p->num_quiet < EEPI_PACE_QUIET ? p->num_quiet : EEPI_PACE_QUIET;
    uint32_t sorted[EEPI_PACE_QUIET];

    memcpy(sorted, p->quiet_us, sizeof sorted);
    for (uint32_t i = 1; i < num; i++) { /* few, and rarely: by insertion */
        const uint32_t at = sorted[i];
        uint32_t to = i;
        for (; to > 0 && sorted[to - 1] > at; to--) {
            sorted[to] = sorted[to - 1];
        }
        sorted[to] = at;
    }
    return sorted[num - 1 - num / 10];
}

static void slow_down(eepi_pace *p)
{
    p->too_much = p->rate;
    p->rate = larger(p->rate / 2, p->floor);
}

/* A quarter more; an eighth of that near what was too much, which is forgotten little by little. */
static void speed_up(eepi_pace *p)
{
    const uint64_t quarter = larger(p->rate / 4, 1);
    const bool is_near = p->too_much > 0 && p->rate + quarter >= p->too_much;

    p->rate += is_near ? larger(quarter / 8, 1) : quarter;
    p->rate = p->rate < p->ceiling ? p->rate : p->ceiling;
    p->too_much += p->too_much / 32;
}

static void judge(eepi_pace *p)
{
    const uint64_t budget_us = (uint64_t)quiet_tenth(p) * (100 + p->percent) / 100;
    int over = 0;

    for (int i = 0; i < EEPI_PACE_WINDOW; i++) {
        over += p->window_us[i] > budget_us;
    }
    if (over > OVER_MOST) {
        slow_down(p);
    } else if (over <= OVER_FEW) {
        speed_up(p);
    }
}

void eepi_pace_step(eepi_pace *p, bool copies, uint32_t took_us, uint64_t now_us)
{
    p->step_us = now_us;
    if (p->skips) {
        p->skips = false;
        return;
    }
    if (!copies || p->listens) {
        p->quiet_us[p->num_quiet++ % EEPI_PACE_QUIET] = took_us;
        p->num_heard++;
        return;
    }
    p->window_us[p->num_window++] = took_us;
    if (p->num_window == EEPI_PACE_WINDOW) {
        p->num_window = 0;
        if (has_measure(p)) {
            judge(p);
        }
    }
}

static bool has_traffic(const eepi_pace *p, uint64_t now_us)
{
    return p->step_us != 0 && now_us < p->step_us + NO_TRAFFIC_US;
}

bool eepi_pace_may(eepi_pace *p, uint64_t now_us, uint64_t *wake_us_out)
{
    if (p->percent == 0) {
        return true;
    }
    if (p->listens && (p->num_heard >= LISTEN_STEPS || now_us >= p->since_us + LISTEN_US)) {
        listen(p, false, now_us);
    } else if (!p->listens && has_traffic(p, now_us) && now_us >= p->since_us + RENEW_US) {
        listen(p, true, now_us);
    }
    if (p->listens) {
        *wake_us_out = p->since_us + LISTEN_US;
    }
    return !p->listens;
}

uint64_t eepi_pace_rate(const eepi_pace *p, uint64_t now_us)
{
    return p->percent == 0 || !has_traffic(p, now_us) ? p->ceiling : p->rate;
}
