/* SPDX-License-Identifier: Apache-2.0 */
/* Digests, base64 and numbers, as etcd's JSON gateway has them. */
#include "membership/store/etcd/etcd_text.h"
#include "membership/store/etcd/sha256.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect_digest(const char *text, const char *hex)
{
    unsigned char digest[EEPI_SHA256_BYTES];
    char found[2 * EEPI_SHA256_BYTES + 1];
    eepi_sha256(text, strlen(text), digest);
    for (int i = 0; i < EEPI_SHA256_BYTES; i++) {
        snprintf(found + 2 * i, 3, "%02x", digest[i]);
    }
    cr_expect_str_eq(found, hex);
}

/* FIPS 180-4's examples, and sizes around a block. */
Test(etcd_text, digests)
{
    char text[130];
    expect_digest("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect_digest("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect_digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(text, 'a', sizeof text);
    text[55] = '\0';
    expect_digest(text, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
    text[55] = 'a';
    text[64] = '\0';
    expect_digest(text, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
    text[64] = 'a';
    text[129] = '\0';
    expect_digest(text, "c12cb024a2e5551cca0e08fce8f1c5e314555cc3fef6329ee994a3db752166ae");
}

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
