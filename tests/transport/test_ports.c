/* SPDX-License-Identifier: Apache-2.0 */
/* Ports: rates and states from a test double of libibverbs, events that tell of a port that goes
 * down or comes back, devices that fail, and no wait anywhere. */
#include "tests/transport/fake_verbs.h"
#include "transport/ports.h"

#include <criterion/criterion.h>
#include <infiniband/verbs.h>
#include <poll.h>

#define PORT_RATE ((uint64_t)(4 * 25.78125e9 / 8)) /* 4 lanes of EDR */

static eepi_ports *ports_open(int num_devices, int ports_per_device)
{
    eepi_ports *ports = NULL;

    fake_verbs_begin(num_devices, ports_per_device);
    cr_assert_eq(eepi_ports_open(fake_verbs(), &ports), EEP_OK);
    return ports;
}

static void ports_close(eepi_ports *ports)
{
    cr_assert_eq(fake_verbs_unacknowledged(), 0);
    eepi_ports_close(ports);
    cr_assert_eq(fake_verbs_end(), 0, "every device is closed");
}

static bool is_readable(const eepi_ports *ports, int device)
{
    struct pollfd fd = {.fd = eepi_ports_fd(ports, device), .events = POLLIN};

    return poll(&fd, 1, 0) == 1;
}

Test(ports, absent_hardware_is_an_empty_list)
{
    eepi_port_change change;
    eepi_ports *ports = ports_open(0, 0);

    cr_assert_eq(eepi_ports_count(ports), 0);
    cr_assert_eq(eepi_ports_num_devices(ports), 0);
    cr_assert_null(eepi_ports_at(ports, 0));
    cr_assert_not(eepi_ports_next(ports, &change));
    cr_assert_eq(eepi_ports_rate(ports, -1), 0);
    cr_assert_eq(eepi_ports_device(ports, "fake_0"), -1);
    ports_close(ports);
    eepi_ports_close(NULL);
}

Test(ports, this_machine_answers)
{
    eepi_ports *ports = NULL;
    eepi_port_change change;

    cr_assert_eq(eepi_ports_open(eepi_verbs_system(), &ports), EEP_OK);
    for (int i = 0; i < eepi_ports_count(ports); i++) {
        cr_assert_neq(eepi_ports_at(ports, i)->device[0], '\0');
        cr_assert_neq(eepi_ports_at(ports, i)->state[0], '\0');
        cr_assert_geq(eepi_ports_at(ports, i)->gbit_per_s, 0);
    }
    (void)eepi_ports_next(ports, &change);
    eepi_ports_close(ports);
}

Test(ports, rates_and_states_are_read)
{
    eepi_ports *ports;

    fake_verbs_begin(2, 2);
    fake_verbs_set(0, 2, IBV_PORT_DOWN, 2, 32);
    fake_verbs_set(1, 1, IBV_PORT_ACTIVE, 8, 64);  /* 12 lanes of HDR */
    fake_verbs_set(1, 2, IBV_PORT_INIT, 255, 255); /* codes that nobody knows */
    cr_assert_eq(eepi_ports_open(fake_verbs(), &ports), EEP_OK);
    cr_assert_eq(eepi_ports_count(ports), 4);
    cr_assert_str_eq(eepi_ports_at(ports, 0)->state, "active");
    cr_assert_str_eq(eepi_ports_at(ports, 1)->state, "down");
    cr_assert_str_eq(eepi_ports_at(ports, 3)->state, "init");
    cr_assert_str_eq(eepi_ports_at(ports, 3)->link_layer, "InfiniBand");
    cr_assert_eq(eepi_ports_at(ports, 2)->port, 1);
    cr_assert_str_eq(eepi_ports_at(ports, 2)->device, "fake_1");
    cr_assert_eq(eepi_ports_rate(ports, 0), PORT_RATE, "the port that is down carries nothing");
    cr_assert_eq(eepi_ports_rate(ports, 1), (uint64_t)(12 * 53.125e9 / 8));
    cr_assert_eq(eepi_ports_rate(ports, -1), PORT_RATE + (uint64_t)(12 * 53.125e9 / 8));
    cr_assert_eq(eepi_ports_device(ports, "fake_1"), 1);
    ports_close(ports);
}

Test(ports, a_port_goes_down_and_comes_back)
{
    eepi_port_change change;
    eepi_ports *ports = ports_open(2, 1);

    cr_assert_not(is_readable(ports, 0));
    cr_assert_not(eepi_ports_next(ports, &change), "nothing has happened, and nobody waits");
    fake_verbs_port_down(0, 1);
    cr_assert(is_readable(ports, 0));
    cr_assert_not(is_readable(ports, 1));
    cr_assert(eepi_ports_next(ports, &change));
    cr_assert_str_eq(change.port->device, "fake_0");
    cr_assert(change.was_active && !change.port->is_active);
    cr_assert_not(eepi_ports_next(ports, &change), "told once");
    cr_assert_eq(eepi_ports_rate(ports, 0), 0);
    cr_assert_eq(eepi_ports_rate(ports, -1), PORT_RATE, "the other port is left");
    fake_verbs_port_up(0, 1);
    cr_assert(eepi_ports_next(ports, &change));
    cr_assert(!change.was_active && change.port->is_active);
    cr_assert_eq(eepi_ports_rate(ports, -1), 2 * PORT_RATE);
    ports_close(ports);
}

Test(ports, both_ports_of_a_device_go_down_one_by_one)
{
    eepi_port_change change;
    eepi_ports *ports = ports_open(1, 2);

    fake_verbs_port_down(0, 2);
    cr_assert(eepi_ports_next(ports, &change));
    cr_assert_eq(change.port->port, 2);
    cr_assert_eq(eepi_ports_rate(ports, 0), PORT_RATE);
    fake_verbs_port_down(0, 1);
    cr_assert(eepi_ports_next(ports, &change));
    cr_assert_eq(change.port->port, 1);
    cr_assert_eq(eepi_ports_rate(ports, 0), 0);
    cr_assert_not(eepi_ports_next(ports, &change));
    ports_close(ports);
}

Test(ports, a_rank_keeps_its_own_nic_alone)
{
    eepi_port_change change;
    eepi_ports *ports = ports_open(3, 2);

    fake_verbs_port_down(1, 1);
    eepi_ports_keep(ports, 1);
    cr_assert_eq(eepi_ports_count(ports), 2);
    cr_assert_eq(eepi_ports_at(ports, 0)->device_at, 1);
    cr_assert_eq(eepi_ports_at(ports, 0)->guid, 0x11);
    cr_assert_eq(eepi_ports_fd(ports, 0), -1);
    cr_assert_geq(eepi_ports_fd(ports, 1), 0);
    cr_assert(eepi_ports_next(ports, &change), "what had happened is told");
    cr_assert_not(change.port->is_active);
    fake_verbs_port_down(0, 1); /* nobody has it open */
    cr_assert_not(eepi_ports_next(ports, &change));
    cr_assert_eq(eepi_ports_rate(ports, -1), PORT_RATE);
    ports_close(ports);
}

Test(ports, a_flap_that_is_over_by_the_time_it_is_read_is_none)
{
    eepi_port_change change;
    eepi_ports *ports = ports_open(1, 1);

    fake_verbs_port_down(0, 1);
    fake_verbs_port_up(0, 1);
    cr_assert_not(eepi_ports_next(ports, &change));
    cr_assert_not(is_readable(ports, 0), "its events were taken");
    ports_close(ports);
}

Test(ports, a_rate_that_changes_is_told)
{
    eepi_port_change change;
    eepi_ports *ports = ports_open(1, 1);

    fake_verbs_set(0, 1, IBV_PORT_ACTIVE, 1, 32); /* one lane is left of four */
    fake_verbs_tell(0, 1, IBV_EVENT_PORT_ACTIVE);
    cr_assert(eepi_ports_next(ports, &change));
    cr_assert(change.was_active && change.port->is_active);
    cr_assert_float_eq(change.gbit_per_s_before, 4 * 25.78125, 1e-9);
    cr_assert_eq(eepi_ports_rate(ports, 0), PORT_RATE / 4);
    ports_close(ports);
}

Test(ports, events_that_are_about_no_port_change_nothing)
{
    static const int others[] = {IBV_EVENT_LID_CHANGE, IBV_EVENT_PKEY_CHANGE, IBV_EVENT_SM_CHANGE,
                                 IBV_EVENT_GID_CHANGE, IBV_EVENT_CLIENT_REREGISTER};
    eepi_port_change change;
    eepi_ports *ports = ports_open(1, 1);

    for (int i = 0; i < 200; i++) { /* more than are taken at once */
        fake_verbs_tell(0, 1, others[i % 5]);
    }
    for (int i = 0; i < 200 / 64 + 1; i++) {
        cr_assert_not(eepi_ports_next(ports, &change));
    }
    cr_assert_not(is_readable(ports, 0));
    ports_close(ports);
}

Test(ports, a_device_that_fails_is_watched_no_longer)
{
    eepi_port_change change;
    eepi_ports *ports = ports_open(2, 2);

    fake_verbs_tell(1, 0, IBV_EVENT_DEVICE_FATAL);
    for (int port = 1; port <= 2; port++) {
        cr_assert(eepi_ports_next(ports, &change));
        cr_assert_eq(change.port->port, port);
        cr_assert_str_eq(change.port->state, "lost");
        cr_assert_not(change.port->is_active);
    }
    cr_assert_not(eepi_ports_next(ports, &change));
    cr_assert_eq(eepi_ports_fd(ports, 1), -1);
    cr_assert_geq(eepi_ports_fd(ports, 0), 0);
    cr_assert_eq(eepi_ports_rate(ports, 1), 0);
    cr_assert_eq(eepi_ports_rate(ports, 0), 2 * PORT_RATE);
    ports_close(ports);
}

Test(ports, a_device_that_is_taken_out_keeps_nobody_busy)
{
    eepi_port_change change;
    eepi_ports *ports = ports_open(1, 1);

    fake_verbs_remove(0);
    cr_assert(eepi_ports_next(ports, &change));
    cr_assert_str_eq(change.port->state, "lost");
    cr_assert_eq(eepi_ports_fd(ports, 0), -1, "or poll would come back at once, for ever");
    cr_assert_not(eepi_ports_next(ports, &change));
    eepi_ports_close(ports);
    cr_assert_eq(fake_verbs_end(), 0);
}
