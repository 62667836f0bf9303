/* SPDX-License-Identifier: Apache-2.0 */
/* Structs of callers with an older and a newer header: what is taken, given and refused. */
#include "graphs/base/public_call.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* The first release's struct, today's, and one of a version to come. */
typedef struct first {
    uint32_t struct_bytes, a;
    uint64_t b;
} first;
typedef struct today {
    uint32_t struct_bytes, a;
    uint64_t b, later;
} today;
typedef struct next {
    uint32_t struct_bytes, a;
    uint64_t b, later, unknown;
} next;

static eep_status take(today *ours, const void *theirs)
{
    return eepi_struct_take("the_call", "the_type", ours, sizeof *ours, sizeof(first), theirs);
}

Test(public_call, an_older_struct_is_taken_with_defaults)
{
    const first old = {sizeof old, 1, 2};
    today ours = {0, 0, 0, 77};

    cr_assert_eq(take(&ours, &old), EEP_OK);
    cr_expect(ours.struct_bytes == sizeof ours && ours.a == 1 && ours.b == 2 && ours.later == 77);
}

Test(public_call, a_newer_struct_is_taken_without_what_is_unknown)
{
    next new = {sizeof new, 1, 2, 3, 0};
    today ours = {0, 0, 0, 77};

    cr_assert_eq(take(&ours, &new), EEP_OK);
    cr_expect(ours.b == 2 && ours.later == 3);
    new.unknown = 1;
    cr_expect_eq(take(&ours, &new), EEP_ERR_INVALID);
    cr_expect(strstr(eep_error_text(), "the field at byte 24 is set"), "%s", eep_error_text());
}

/* Sizes that no version has: the least, and the one before it, in and out. */
Test(public_call, no_size_below_the_first_release_is_taken)
{
    union {
        next any;
        unsigned char bytes[sizeof(next)];
    } theirs = {.any = {.a = 1}};

    for (uint32_t bytes = 0; bytes <= sizeof(next); bytes++) {
        const int is_right = bytes >= sizeof(first) && bytes % 8 == 0;
        today ours = {0};
        char text[160];
        theirs.any.struct_bytes = bytes;
        cr_expect_eq(take(&ours, &theirs), is_right ? EEP_OK : EEP_ERR_INVALID, "%u", bytes);
        cr_expect_eq(eepi_struct_check("the_call", "the_type", sizeof(first), &theirs),
                     is_right ? EEP_OK : EEP_ERR_INVALID, "%u", bytes);
        if (is_right) {
            continue;
        }
        snprintf(text, sizeof text,
                 "the_call: struct_bytes of the the_type is %u, and at least 16, a multiple of 8, "
                 "are needed: set it to its sizeof, as EEP_SIZED does",
                 bytes);
        cr_expect_str_eq(eep_error_text(), text);
    }
}

Test(public_call, no_byte_behind_an_older_struct_is_written)
{
    const today ours = {sizeof ours, 1, 2, 3};
    struct {
        first old;
        uint64_t guard;
    } out = {{sizeof(first), 0, 0}, 9};
    next new = {sizeof(next), 0, 0, 0, 9};

    eepi_struct_give(&out.old, &ours, sizeof ours);
    cr_expect(out.old.struct_bytes == sizeof(first) && out.old.a == 1 && out.old.b == 2);
    cr_expect_eq(out.guard, 9);
    eepi_struct_give(&new, &ours, sizeof ours);
    cr_expect(new.struct_bytes == sizeof(next) && new.later == 3 && new.unknown == 9);
}
