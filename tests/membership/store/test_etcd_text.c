/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 and numbers, as etcd's JSON gateway has them. */
#include "membership/store/etcd/etcd_text.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *encode(const void *first, size_t first_bytes, const void *second, size_t second_bytes)
{
    eepi_etcd_text text = {0};
    eepi_etcd_text_base64(&text, first, first_bytes, second, second_bytes);
    cr_assert_not(text.failed);
    return text.bytes ? text.bytes : strdup("");
}

Test(etcd_text, base64_there_and_back)
{
    static const char *const examples[][2] = {
        {"", ""},        {"a", "YQ=="},        {"ab", "YWI="},
        {"abc", "YWJj"}, {"abcd", "YWJjZA=="}, {"abcdef", "YWJjZGVm"}};
    unsigned char bytes[300];
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        char *text = encode(examples[i][0], strlen(examples[i][0]), NULL, 0);
        cr_expect_str_eq(text, examples[i][1]);
        free(text);
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i * 7);
    }
    for (size_t size = 0; size <= sizeof bytes; size++) {
        const size_t cut = size / 3;
        char *text = encode(bytes, cut, bytes + cut, size - cut);
        cJSON *object = cJSON_CreateObject();
        size_t found = 0;
        unsigned char *back;
        cJSON_AddStringToObject(object, "value", text);
        back = eepi_etcd_bytes(object, "value", &found);
        cr_expect(back && found == size && memcmp(back, bytes, size) == 0, "%zu bytes", size);
        free(back);
        cJSON_Delete(object);
        free(text);
    }
}

Test(etcd_text, what_is_no_base64_is_refused)
{
    static const char *const wrong[] = {
        "Z", "Zg", "Zg=", "Zg==Zg==", "====", "Z===", "Zm9*", "Zm9v\n", "Z=g="};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cJSON *object = cJSON_CreateObject();
        size_t size = 0;
        unsigned char *bytes;
        cJSON_AddStringToObject(object, "value", wrong[i]);
        bytes = eepi_etcd_bytes(object, "value", &size);
        cr_expect(!bytes && size == SIZE_MAX, "%s", wrong[i]);
        free(bytes);
        cJSON_Delete(object);
    }
}

Test(etcd_text, numbers_are_strings_and_may_be_left_out)
{
    cJSON *object = cJSON_Parse("{\"a\":\"18446744073709551615\",\"b\":7,\"c\":\"x\",\"d\":-1}");
    cr_expect_eq(eepi_etcd_number(object, "a"), UINT64_MAX);
    cr_expect_eq(eepi_etcd_number(object, "b"), 7);
    cr_expect_eq(eepi_etcd_number(object, "c"), 0);
    cr_expect_eq(eepi_etcd_number(object, "d"), 0);
    cr_expect_eq(eepi_etcd_number(object, "e"), 0);
    cr_expect_eq(eepi_etcd_number(NULL, "e"), 0);
    cJSON_Delete(object);
}

Test(etcd_text, a_range_ends_behind_its_prefix)
{
    eepi_etcd_text text = {0};
    eepi_etcd_text_range_end(&text, "range_end", "a/");
    cr_expect_str_eq(text.bytes, "\"range_end\":\"YTA=\""); /* a0 */
    eepi_etcd_text_free(&text);
}
