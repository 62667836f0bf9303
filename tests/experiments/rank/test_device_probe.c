/* SPDX-License-Identifier: Apache-2.0 */
/* Asking a device before ranks are started: in children, so that the asker stays as it was. */
#include "experiments/children/device_probe.h"

#include <criterion/criterion.h>
#include <string.h>

/* Two processes spin on one device at the same time: each misses some time, and far from all. */
Test(device_probe, two_processes_measure_their_time_slices)
{
    device_probe_result found;
    cr_assert(device_probe("guarded", true, &found), "%s", found.why);
    cr_expect_eq(found.num_devices, 1);
    cr_expect(found.slice_ms > 0 && found.slice_ms < 6000, "%g ms", found.slice_ms);
}

Test(device_probe, one_process_measures_nothing)
{
    device_probe_result found;
    cr_assert(device_probe("host", false, &found), "%s", found.why);
    cr_expect_eq(found.slice_ms, 0);
}

Test(device_probe, what_cannot_be_used_is_said)
{
    device_probe_result found;
    cr_assert_not(device_probe("abacus", true, &found));
    cr_expect(strstr(found.why, "abacus"), "%s", found.why);
    cr_expect_eq(found.slice_ms, 0);
}
