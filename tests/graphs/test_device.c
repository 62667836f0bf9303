/* SPDX-License-Identifier: Apache-2.0 */
/* The device layer on its host backend: opening, errors, memory. */
#include "tests/lib/device_fixture.h"

#include "graphs/device/device_ops.h"
#include "graphs/kernels/kernels.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

TestSuite(device, .init = device_set_up, .fini = device_tear_down, .timeout = 60);

Test(device, unknown_backend_is_refused_with_a_text)
{
    eep_device *opened = NULL;

    FAILS(eep_device_open("abacus", 0, &opened), EEP_ERR_INVALID);
    cr_assert_null(opened);
    cr_assert(strstr(eep_device_error_text(), "\"abacus\""), "%s", eep_device_error_text());
    FAILS(eep_device_open(NULL, 0, &opened), EEP_ERR_INVALID);
    FAILS(eep_device_open("host", 1, &opened), EEP_ERR_UNSUPPORTED);
    cr_assert(strstr(eep_device_error_text(), "number 0, not 1"), "%s", eep_device_error_text());
    OK(eep_device_open("host", 0, &opened));
    cr_assert_str_empty(eep_device_error_text());
    cr_assert_str_eq(eep_device_backend(opened), "host");
    eep_device_close(opened);
    eep_device_close(NULL);
}

Test(device, missing_plugin_or_hardware_is_named)
{
    eep_device *opened = NULL;

    FAILS(eep_device_open("cuda", 100000, &opened), EEP_ERR_UNSUPPORTED);
    cr_assert_null(opened);
    cr_assert_str_not_empty(eep_device_error_text());
    cr_assert(strcasestr(eep_device_error_text(), "cuda"), "%s", eep_device_error_text());
}

static void *read_error_text(void *user)
{
    *(size_t *)user = strlen(eep_device_error_text());
    return NULL;
}

Test(device, error_text_belongs_to_the_thread)
{
    eep_device *opened = NULL;
    pthread_t thread;
    size_t length = 99;

    FAILS(eep_device_open("abacus", 0, &opened), EEP_ERR_INVALID);
    cr_assert_eq(pthread_create(&thread, NULL, read_error_text, &length), 0);
    pthread_join(thread, NULL);
    cr_assert_eq(length, 0);
    cr_assert_str_not_empty(eep_device_error_text());
}

Test(device, devices_are_counted)
{
    cr_assert_eq(eep_device_count("host"), 1);
    cr_assert_eq(eep_device_count("nothing"), 0);
    cr_assert_str_not_empty(eep_device_error_text());
    cr_assert_eq(eep_device_ordinal(device), 0);
}

Test(device, kernels_of_the_library_are_listed)
{
    for (uint32_t id = 0; id < EEPI_NUM_KERNELS; id++) {
        cr_assert_not_null(eepi_device_kernel(device, id)->host);
    }
    cr_assert_str_eq(eepi_device_kernel(device, EEPI_KERNEL_flip)->name, "flip");
    cr_assert_null(eepi_device_kernel(device, EEPI_NUM_KERNELS));
}

Test(device, memory_is_aligned_and_zeroed)
{
    static const size_t sizes[] = {1, 127, 128, 129, 100000};

    for (size_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
        eep_memory kind = i % 2 ? EEP_MEMORY_PINNED : EEP_MEMORY_DEVICE;
        void *memory = NULL;

        OK(eep_device_alloc(device, kind, sizes[i / 2], &memory));
        cr_assert_eq((uintptr_t)memory % 128, 0);
        for (size_t b = 0; b < sizes[i / 2]; b++) {
            cr_assert_eq(((uint8_t *)memory)[b], 0);
        }
        memset(memory, 0xa5, sizes[i / 2]); /* so that a reused block would show */
        eep_device_free(device, kind, memory);
    }
}

/* Rings are large, and most are of seats and generations that never come. */
Test(device, pinned_memory_takes_no_pages_before_it_is_used)
{
    enum { BYTES = 3 << 20, LEAST_PAGE_BYTES = 4096 };
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned char is_there[BYTES / LEAST_PAGE_BYTES];
    uint8_t *memory;
    uint32_t num = 0;

    for (int turn = 0; turn < 2; turn++) { /* the second time it may be what was freed */
        void *given;
        OK(eep_device_alloc(device, EEP_MEMORY_PINNED, BYTES, &given));
        memory = (uint8_t *)(((uintptr_t)given + page - 1) & ~(page - 1));
        cr_assert_eq(mincore(memory, BYTES - page, is_there), 0);
        for (uintptr_t i = 0; i < (BYTES - page) / page; i++) {
            num += is_there[i] & 1u;
        }
        cr_expect_eq(num, 0, "%u pages", num);
        for (int i = 0; i < BYTES; i++) {
            cr_assert_eq(((const uint8_t *)given)[i], 0, "byte %d", i);
        }
        memset(given, 0xa5, BYTES);
        eep_device_free(device, EEP_MEMORY_PINNED, given);
    }
}

Test(device, impossible_memory_is_refused)
{
    void *memory = &device;

    FAILS(eep_device_alloc(device, EEP_MEMORY_DEVICE, 0, &memory), EEP_ERR_INVALID);
    FAILS(eep_device_alloc(device, (eep_memory)7, 8, &memory), EEP_ERR_INVALID);
    FAILS(eep_device_alloc(device, EEP_MEMORY_DEVICE, SIZE_MAX, &memory), EEP_ERR_NO_MEMORY);
    cr_assert_eq(memory, &device); /* outputs only on success */
    eep_device_free(device, EEP_MEMORY_DEVICE, NULL);
}
