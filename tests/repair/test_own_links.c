/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank tells of its links: ports from a test double, measurements as given. */
#include "repair/own_links.h"
#include "tests/transport/fake_verbs.h"

#include <criterion/criterion.h>
#include <infiniband/verbs.h>

enum { PORT_MB = 12890, LATER_US = 100000 };

static eepi_own_links *own_open(void)
{
    const eepi_own_links_config config = {fake_verbs(), "", NULL};
    eepi_own_links *own = NULL;

    cr_assert_eq(eepi_own_links_open(&config, &own), EEP_OK);
    return own;
}

static void own_close(eepi_own_links *own)
{
    eepi_own_links_close(own);
    cr_assert_eq(fake_verbs_end(), 0);
}

/* Take what the ports tell; the NIC's rate that is told afterwards. */
static uint32_t nic_after(eepi_own_links *own, uint64_t now_us)
{
    eepi_port_change change;

    while (eepi_own_links_next_port(own, &change)) {
    }
    (void)eepi_own_links_tell(own, now_us);
    return eepi_own_links_rates(own)[EEPI_RATE_NIC];
}

Test(own_links, nothing_is_known_without_hardware)
{
    static const uint32_t unknown[EEPI_NUM_RATES];
    int fds[EEPI_PORTS_MAX_DEVICES], num_ports;
    uint32_t rate;

    fake_verbs_begin(0, 0);
    eepi_own_links *own = own_open();
    cr_assert_arr_eq(eepi_own_links_rates(own), unknown, sizeof unknown);
    cr_assert_eq(eepi_own_links_fds(own, fds), 0);
    cr_assert_eq(eepi_own_links_active(own, &num_ports, &rate), 0);
    cr_assert_not(eepi_own_links_tell(own, 1));
    own_close(own);
    eepi_own_links_close(NULL);
}

Test(own_links, the_nic_carries_what_its_active_ports_do)
{
    int fds[EEPI_PORTS_MAX_DEVICES], num_ports;
    uint32_t rate;

    fake_verbs_begin(2, 1);
    eepi_own_links *own = own_open();
    cr_assert_eq(eepi_own_links_fds(own, fds), 2);
    cr_assert_eq(eepi_own_links_active(own, &num_ports, &rate), 2);
    cr_assert_eq(num_ports, 2);
    cr_assert_eq(eepi_own_links_rates(own)[EEPI_RATE_NIC], 2 * PORT_MB + 1, "25781.25");
    cr_assert_eq(eepi_own_links_rates(own)[EEPI_RATE_NIC_AT], 0, "all ranks share all NICs");
    fake_verbs_port_down(1, 1);
    cr_assert_eq(nic_after(own, 1), PORT_MB);
    fake_verbs_port_down(0, 1);
    cr_assert_eq(nic_after(own, 2), PORT_MB, "told a moment ago");
    cr_assert_eq(nic_after(own, 1 + LATER_US), EEPI_RATE_DOWN);
    fake_verbs_port_up(0, 1);
    cr_assert_eq(nic_after(own, 1 + 2 * LATER_US), PORT_MB);
    own_close(own);
}

/* A port without a cable is down all its life. */
Test(own_links, ports_that_were_never_active_are_not_missed)
{
    fake_verbs_begin(1, 2);
    fake_verbs_set(0, 1, IBV_PORT_DOWN, 2, 32);
    fake_verbs_set(0, 2, IBV_PORT_DOWN, 2, 32);
    eepi_own_links *own = own_open();
    cr_assert_eq(eepi_own_links_rates(own)[EEPI_RATE_NIC], 0, "unknown, not down");
    fake_verbs_port_up(0, 2);
    cr_assert_eq(nic_after(own, 1), PORT_MB);
    fake_verbs_port_down(0, 2);
    cr_assert_eq(nic_after(own, 1 + LATER_US), EEPI_RATE_DOWN);
    own_close(own);
}

Test(own_links, what_is_measured_is_told_once_it_is_news)
{
    const uint64_t bytes = 64 << 20;

    fake_verbs_begin(0, 0);
    eepi_own_links *own = own_open();
    eepi_own_links_measured(own, EEPI_RATE_IN, EEPI_OWN_LINKS_SAMPLE_BYTES - 1, 1);
    cr_assert_not(eepi_own_links_tell(own, 1), "too short to say anything");
    eepi_own_links_measured(own, EEPI_RATE_IN, bytes, bytes); /* 1 GB/s */
    cr_assert(eepi_own_links_tell(own, 1));
    cr_assert_eq(eepi_own_links_rates(own)[EEPI_RATE_IN], 1000);
    for (int i = 0; i < 20; i++) { /* noise */
        eepi_own_links_measured(own, EEPI_RATE_IN, bytes, i % 2 ? bytes * 3 / 2 : bytes * 2 / 3);
    }
    cr_assert_not(eepi_own_links_tell(own, 1 + LATER_US));
    for (int i = 0; i < 60; i++) { /* ten times slower */
        eepi_own_links_measured(own, EEPI_RATE_IN, bytes, 10 * bytes);
    }
    cr_assert(eepi_own_links_tell(own, 1 + 2 * LATER_US));
    cr_assert_leq(eepi_own_links_rates(own)[EEPI_RATE_IN], 110);
    cr_assert_eq(eepi_own_links_rates(own)[EEPI_RATE_OUT], 0);
    own_close(own);
}

Test(own_links, pieces_count_together)
{
    fake_verbs_begin(0, 0);
    eepi_own_links *own = own_open();
    for (int i = 0; i < 3; i++) {
        eepi_own_links_piece(own, EEPI_RATE_FILE, 1 << 20, 1 << 20);
    }
    cr_assert_not(eepi_own_links_tell(own, 1));
    eepi_own_links_piece(own, EEPI_RATE_FILE, 1 << 20, 1 << 20);
    cr_assert(eepi_own_links_tell(own, 1));
    cr_assert_eq(eepi_own_links_rates(own)[EEPI_RATE_FILE], 1000);
    own_close(own);
}

/* In a pause all that holds a fill back is the links; what began behind traffic does not count. */
Test(own_links, a_fill_in_a_pause_says_what_the_rank_takes_in)
{
    fake_verbs_begin(0, 0);
    eepi_own_links *own = own_open();
    eepi_own_links_fill_ended(own, 1 << 30, 5);
    cr_assert_not(eepi_own_links_tell(own, 1), "it never began");
    eepi_own_links_fill_began(own, 1000);
    eepi_own_links_fill_ended(own, 64000000, 1000 + 32000);
    cr_assert(eepi_own_links_tell(own, 1));
    cr_assert_eq(eepi_own_links_rates(own)[EEPI_RATE_IN], 2000);
    own_close(own);
}

Test(own_links, an_interface_says_its_rate_where_there_is_no_rdma)
{
    const eepi_own_links_config lo = {fake_verbs(), "", "lo"}, odd = {fake_verbs(), "", "../lo"};
    eepi_own_links *own = NULL;

    fake_verbs_begin(0, 0);
    cr_assert_eq(eepi_own_links_open(&lo, &own), EEP_OK); /* lo has no speed */
    cr_assert_eq(eepi_own_links_rates(own)[EEPI_RATE_NIC], 0);
    eepi_own_links_close(own);
    cr_assert_eq(eepi_own_links_open(&odd, &own), EEP_OK);
    cr_assert_eq(eepi_own_links_rates(own)[EEPI_RATE_NIC], 0);
    own_close(own);
}
