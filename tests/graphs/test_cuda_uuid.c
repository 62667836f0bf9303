/* SPDX-License-Identifier: Apache-2.0 */
/* GPUs are named by what is the same in all processes. An ordinal is not: each process counts the
 * devices that it sees. Over a GPU made of host threads (tests/fake_gpu), whose driver says a UUID.
 */
#include "graphs/device/device_ops.h"
#include "tests/lib/window_fixture.h"
#include "transport/window/window.h"

#include <criterion/criterion.h>
#include <string.h>

enum { WINDOW_BYTES = 3 * 4096, HOST_BYTES = 4096, MAPPED_BYTES_AT = 40 };

static eep_device *open_device(void)
{
    eep_device *device;

    cr_assert_eq(eep_device_open("cuda", 0, &device), EEP_OK, "%s", eep_device_error_text());
    return device;
}

Test(cuda_uuid, a_device_says_the_one_of_its_driver)
{
    uint8_t said[16];
    eep_device *device = open_device();
    eepi_device_facts facts = eepi_device_facts_of(device);
    memset(said, 0xab, sizeof said);
    said[15] = 0;
    cr_expect_arr_eq(facts.uuid, said, sizeof said);
    eep_device_close(device);
}

Test(cuda_uuid, a_window_that_cannot_be_mapped_names_both_gpus)
{
    const eepi_window_spec spec = {1, 1, WINDOW_BYTES, HOST_BYTES};
    const char *text = "(its window is on GPU-abababab-abab-abab-abab-ababababab00, "
                       "this rank is on GPU-abababab-abab-abab-abab-ababababab00)";
    eep_device *device = open_device();
    eepi_window_descriptor descriptor;
    eepi_window *window, *mapped;
    uint64_t mapped_bytes;
    char why[512] = "";
    cr_assert_eq(window_make(device, &spec, why, sizeof why, &window), EEP_OK, "%s", why);
    eepi_window_describe(window, &descriptor);
    memcpy(&mapped_bytes, descriptor.bytes + MAPPED_BYTES_AT, sizeof mapped_bytes);
    mapped_bytes++; /* nobody has made such a one */
    memcpy(descriptor.bytes + MAPPED_BYTES_AT, &mapped_bytes, sizeof mapped_bytes);
    cr_expect_neq(window_map_whole(device, &descriptor, &spec, why, sizeof why, &mapped), EEP_OK);
    cr_expect(strstr(why, text), "'%s'", why);
    eepi_window_close(window);
    eep_device_close(device);
}
