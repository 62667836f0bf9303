/* SPDX-License-Identifier: Apache-2.0 */
/* Safetensors files: what is read, and what is refused with the name of file, tensor and cause. */
#include "eep/checkpoint.h"
#include "experiments/base/random.h"
#include "tests/lib/tensor_file.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPLAY "seed %llu (replay: EEP_TEST_SEED=%llu and this test)"
#define F32(shape, begin, end)                                                                     \
    "{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static eep_checkpoint *open_good(const char *path)
{
    eep_checkpoint *checkpoint = NULL;
    char error[512] = "";
    cr_assert_eq(eep_checkpoint_open(path, error, sizeof error, &checkpoint), EEP_OK, "%s", error);
    return checkpoint;
}

static void expect_refused(const char *path, eep_status wanted, const char *word)
{
    eep_checkpoint *checkpoint = NULL;
    char error[512] = "";
    eep_status status = eep_checkpoint_open(path, error, sizeof error, &checkpoint);
    cr_expect_eq(status, wanted, "%s: %s (%s)", word, eep_strerror(status), error);
    cr_expect(strstr(error, word), "'%s' is not in: %s", word, error);
    cr_expect(strstr(error, path), "the path is not in: %s", error);
    cr_expect_null(checkpoint);
    eep_checkpoint_close(checkpoint);
}

Test(checkpoint, one_file_is_read_by_name)
{
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},\"b\":" F32(
        "[2,3]", "8", "32") ",\"a\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]},"
                            "\"none\":" F32("[0,5]", "32", "32") ",\"one\":" F32("[]", "32",
                                                                                 "36") "}   ";
    eep_checkpoint_tensor tensor;
    eep_checkpoint *checkpoint;
    uint8_t bytes[24] = {0};
    tensor_folder folder;

    tensor_folder_open(&folder);
    tensor_file_write(&folder, "model.safetensors", header, 36);
    checkpoint = open_good(folder.path);
    cr_expect_str_eq(eep_checkpoint_name(checkpoint, 0), "a");
    cr_expect_str_eq(eep_checkpoint_name(checkpoint, 3), "one");
    cr_expect_null(eep_checkpoint_name(checkpoint, 4));
    cr_assert_eq(eep_checkpoint_find(checkpoint, "b", EEP_SIZED(&tensor)), EEP_OK);
    cr_expect_eq(tensor.num_dims, 2);
    cr_expect(tensor.shape[0] == 2 && tensor.shape[1] == 3 && tensor.shape[2] == 0);
    cr_expect_eq(tensor.bytes, 24);
    cr_expect_str_eq(tensor.dtype, "F32");
    cr_assert_eq(eep_checkpoint_read(checkpoint, "b", 4, 20, bytes), EEP_OK);
    for (int i = 0; i < 20; i++) {
        cr_expect_eq(bytes[i], 8 + 4 + i);
    }
    cr_expect_eq(eep_checkpoint_read(checkpoint, "b", 5, 20, bytes), EEP_ERR_INVALID);
    cr_expect_eq(eep_checkpoint_read(checkpoint, "b", UINT64_MAX, 2, bytes), EEP_ERR_INVALID);
    cr_expect_eq(eep_checkpoint_find(checkpoint, "c", EEP_SIZED(&tensor)), EEP_ERR_NOT_FOUND);
    cr_expect(strstr(eep_error_text(), "no tensor c"));
    eep_checkpoint_close(checkpoint);
    checkpoint = open_good(tensor_folder_file(&folder, "model.safetensors"));
    eep_checkpoint_close(checkpoint);
    tensor_folder_close(&folder);
}

typedef struct bad_header {
    const char *word, *header;
} bad_header;

static const bad_header bad_headers[] = {
    {"no JSON object", "[]"},
    {"no JSON object", ""},
    {"no JSON object", " {}"},
    {"no JSON object", "{\"a\":" F32("[2]", "0", "8")},
    {"no JSON object", "{\"a\":" F32("[2]", "0", "8") "} x"},
    {"__metadata__", "{\"__metadata__\":{\"a\":1},\"a\":" F32("[2]", "0", "8") "}"},
    {"__metadata__", "{\"__metadata__\":[],\"a\":" F32("[2]", "0", "8") "}"},
    {"tensor a does not have one", "{\"a\":5}"},
    {"tensor a does not have one", "{\"a\":[1,2]}"},
    {"tensor a does not have one", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}"},
    {"tensor a does not have one", "{\"a\":{\"dtype\":5,\"shape\":[2],\"data_offsets\":[0,8]}}"},
    {"tensor a does not have one",
     "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"},
    {"unknown dtype F33", "{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}"},
    {"no whole number", "{\"a\":" F32("[2.5]", "0", "8") "}"},
    {"no whole number", "{\"a\":" F32("[-2]", "0", "8") "}"},
    {"no whole number", "{\"a\":" F32("[\"2\"]", "0", "8") "}"},
    {"no whole number", "{\"a\":" F32("[1e300]", "0", "8") "}"},
    {"more elements than", "{\"a\":" F32("[4503599627370496,4503599627370496]", "0", "8") "}"},
    {"more than 8 dimensions", "{\"a\":" F32("[1,1,1,1,1,1,1,1,2]", "0", "8") "}"},
    {"whole bytes", "{\"a\":{\"dtype\":\"F4\",\"shape\":[15],\"data_offsets\":[0,8]}}"},
    {"ascending", "{\"a\":" F32("[2]", "8", "0") "}"},
    {"ascending", "{\"a\":" F32("[2]", "-8", "0") "}"},
    {"ascending", "{\"a\":" F32("[2]", "0,8", "8") "}"},
    {"tensor a ends at byte 12", "{\"a\":" F32("[3]", "0", "12") "}"},
    {"ends at byte 9007199254740992", "{\"a\":" F32("[2]", "0", "9007199254740992") "}"},
    {"its shape of F32 wants 12", "{\"a\":" F32("[3]", "0", "8") "}"},
    {"its shape of BF16 wants 4",
     "{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,8]}}"},
    {"named twice", "{\"a\":" F32("[1]", "0", "4") ",\"a\":" F32("[1]", "4", "8") "}"},
    {"share bytes", "{\"a\":" F32("[2]", "0", "8") ",\"b\":" F32("[1]", "4", "8") "}"},
    {"share bytes", "{\"a\":" F32("[2]", "0", "8") ",\"b\":" F32("[2]", "0", "8") "}"},
    {"there is a hole", "{\"a\":" F32("[1]", "4", "8") "}"},
    {"4 bytes lie behind", "{\"a\":" F32("[1]", "0", "4") "}"},
    {"8 bytes lie behind", "{}"},
};

Test(checkpoint, a_wrong_header_is_refused_by_tensor_and_cause)
{
    tensor_folder folder;

    tensor_folder_open(&folder);
    for (size_t i = 0; i < sizeof bad_headers / sizeof bad_headers[0]; i++) {
        tensor_file_write(&folder, "model.safetensors", bad_headers[i].header, 8);
        expect_refused(folder.file, EEP_ERR_PROTOCOL, bad_headers[i].word);
    }
    tensor_folder_close(&folder);
}

Test(checkpoint, a_file_that_is_none_is_refused)
{
    static const char header[] = "{\"a\":" F32("[2]", "0", "8") "}";
    const size_t length = strlen(header);
    const uint8_t data[8] = {0};
    tensor_folder folder;

    tensor_folder_open(&folder);
    expect_refused(tensor_folder_file(&folder, "absent"), EEP_ERR_NOT_FOUND, "No such file");
    expect_refused(folder.path, EEP_ERR_NOT_FOUND, "neither model.safetensors.index.json nor");
    text_file_write(&folder, "short", "1234567");
    expect_refused(folder.file, EEP_ERR_PROTOCOL, "7 bytes are no safetensors file");
    tensor_file_write_raw(&folder, "huge", UINT64_MAX, header, length, data, 8);
    expect_refused(folder.file, EEP_ERR_PROTOCOL, "at most 100000000 are possible");
    tensor_file_write_raw(&folder, "long", length + 9, header, length, data, 8);
    expect_refused(folder.file, EEP_ERR_PROTOCOL, "truncated");
    tensor_file_write_raw(&folder, "zero", 0, header, length, data, 8);
    expect_refused(folder.file, EEP_ERR_PROTOCOL, "no JSON object");
    cr_assert_eq(mkfifo(tensor_folder_file(&folder, "fifo"), 0600), 0);
    expect_refused(folder.file, EEP_ERR_PROTOCOL, "no regular file");
    for (size_t cut = 1; cut <= 8 + length + 8; cut++) { /* at every byte */
        tensor_file_write_raw(&folder, "cut", length, header, length, data, 8);
        cr_assert_eq(truncate(folder.file, (off_t)(8 + length + 8 - cut)), 0);
        expect_refused(folder.file, EEP_ERR_PROTOCOL, "");
    }
    tensor_folder_close(&folder);
}

Test(checkpoint, a_file_cut_off_while_it_is_open_is_an_error_and_no_signal)
{
    static const char header[] = "{\"a\":" F32("[25000]", "0", "100000") "}";
    eep_checkpoint *checkpoint;
    uint8_t *bytes = malloc(100000);
    tensor_folder folder;

    tensor_folder_open(&folder);
    tensor_file_write(&folder, "model.safetensors", header, 100000);
    checkpoint = open_good(folder.file);
    cr_expect_eq(eep_checkpoint_read(checkpoint, "a", 0, 100000, bytes), EEP_OK);
    cr_assert_eq(truncate(folder.file, 50000), 0);
    cr_expect_eq(eep_checkpoint_read(checkpoint, "a", 0, 100000, bytes), EEP_ERR_PROTOCOL);
    cr_expect(strstr(eep_error_text(), "tensor a") && strstr(eep_error_text(), folder.file) &&
                  strstr(eep_error_text(), "cut it off"),
              "%s", eep_error_text());
    cr_expect_eq(eep_checkpoint_read(checkpoint, "a", 0, 40000, bytes), EEP_OK);
    eep_checkpoint_close(checkpoint);
    free(bytes);
    tensor_folder_close(&folder);
}

/* ---------------------------------------------------------------- shards */

static const char index_text[] =
    "{\"metadata\":{\"total_size\":24},\"weight_map\":{\"a\":\"one.safetensors\",\n"
    "\"c\":\"two.safetensors\",\"b\":\"one.safetensors\"}}\n";

static void write_shards(tensor_folder *folder)
{
    tensor_file_write(folder, "one.safetensors",
                      "{\"a\":" F32("[2]", "0", "8") ",\"b\":" F32("[1]", "8", "12") "}", 12);
    tensor_file_write(folder, "two.safetensors",
                      "{\"c\":" F32("[2]", "4", "12") ",\"x\":" F32("[1]", "0", "4") "}", 12);
    text_file_write(folder, "model.safetensors.index.json", index_text);
}

Test(checkpoint, shards_are_read_by_their_index)
{
    eep_checkpoint_tensor tensor;
    eep_checkpoint *checkpoint;
    uint8_t bytes[8];
    tensor_folder folder;

    tensor_folder_open(&folder);
    write_shards(&folder);
    checkpoint = open_good(folder.path);
    cr_assert_eq(eep_checkpoint_read(checkpoint, "c", 0, 8, bytes), EEP_OK);
    cr_expect(bytes[0] == 4 && bytes[7] == 11);
    cr_assert_eq(eep_checkpoint_read(checkpoint, "b", 0, 4, bytes), EEP_OK);
    cr_expect(bytes[0] == 8 && bytes[3] == 11);
    cr_expect_eq(eep_checkpoint_find(checkpoint, "x", EEP_SIZED(&tensor)), EEP_ERR_NOT_FOUND);
    eep_checkpoint_close(checkpoint);
    tensor_folder_close(&folder);
}

Test(checkpoint, an_index_that_is_not_kept_is_refused)
{
    static const bad_header indexes[] = {
        {"no JSON object with a weight_map", "[]"},
        {"no JSON object with a weight_map", "{\"weight_map\":[]}"},
        {"no JSON object with a weight_map", "{\"a\":\"one.safetensors\"}"},
        {"no plain name", "{\"weight_map\":{\"a\":5}}"},
        {"no plain name", "{\"weight_map\":{\"a\":\"../one.safetensors\"}}"},
        {"no plain name", "{\"weight_map\":{\"a\":\"/dev/zero\"}}"},
        {"no plain name", "{\"weight_map\":{\"a\":\"..\"}}"},
        {"no plain name", "{\"weight_map\":{\"a\":\"\"}}"},
        {"named twice", "{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"one.safetensors\"}}"},
    };
    tensor_folder folder;

    tensor_folder_open(&folder);
    write_shards(&folder);
    for (size_t i = 0; i < sizeof indexes / sizeof indexes[0]; i++) {
        text_file_write(&folder, "model.safetensors.index.json", indexes[i].header);
        expect_refused(folder.path, EEP_ERR_PROTOCOL, indexes[i].word);
    }
    text_file_write(&folder, "model.safetensors.index.json",
                    "{\"weight_map\":{\"z\":\"two.safetensors\"}}");
    expect_refused(folder.path, EEP_ERR_NOT_FOUND, "tensor z is not in");
    write_shards(&folder);
    unlink(tensor_folder_file(&folder, "two.safetensors"));
    expect_refused(folder.path, EEP_ERR_NOT_FOUND, "two.safetensors: it cannot be opened");
    tensor_folder_close(&folder);
}

/* ---------------------------------------------------------------- mutated files */

static uint64_t num_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

/* A file of up to 6 tensors, and then a few bytes of its header are others. What is opened all the
 * same has tensors that can be read whole; nothing is read outside of the file. */
static size_t random_header(uint64_t *random, char *header, size_t *data_bytes_out)
{
    static const char *const dtypes[] = {"F32", "BF16", "U8", "F64", "F8_E4M3"};
    static const size_t sizes[] = {4, 2, 1, 8, 1};
    size_t used = (size_t)sprintf(header, "{\"__metadata__\":{\"k\":\"v\"}"), end = 0;
    int num = (int)(random_next(random) % 7);

    for (int i = 0; i < num; i++) {
        size_t type = random_next(random) % 5, rows = random_next(random) % 5;
        size_t columns = 1 + random_next(random) % 9, bytes = rows * columns * sizes[type];
        used += (size_t)sprintf(header + used,
                                ",\"t%d\":{\"dtype\":\"%s\",\"shape\":[%zu,%zu],\"data_offsets\":"
                                "[%zu,%zu]}",
                                i, dtypes[type], rows, columns, end, end + bytes);
        end += bytes;
    }
    *data_bytes_out = end;
    return used + (size_t)sprintf(header + used, "}");
}

static void mutate(uint64_t *random, char *header, size_t bytes)
{
    static const char likely[] = "0123456789[]{},:\"-.eE \\\0";
    int num = 1 + (int)(random_next(random) % 4);

    for (int i = 0; i < num; i++) {
        size_t at = random_next(random) % bytes;
        header[at] = random_next(random) % 4 ? likely[random_next(random) % sizeof likely]
                                             : (char)random_next(random);
    }
}

static bool reads_whole(eep_checkpoint *checkpoint, uint64_t file_bytes)
{
    eep_checkpoint_tensor tensor;
    const char *name;

    for (size_t i = 0; (name = eep_checkpoint_name(checkpoint, i)) != NULL; i++) {
        void *bytes;
        eep_status status = eep_checkpoint_find(checkpoint, name, EEP_SIZED(&tensor));
        if (status != EEP_OK || tensor.bytes > file_bytes) {
            return false;
        }
        bytes = malloc(tensor.bytes + 1);
        status = eep_checkpoint_read(checkpoint, name, 0, tensor.bytes, bytes);
        free(bytes);
        if (status != EEP_OK) {
            return false;
        }
    }
    return true;
}

Test(checkpoint, mutated_headers_are_refused_or_whole)
{
    const uint64_t first = num_from("EEP_TEST_SEED", 1);
    const uint64_t num = getenv("EEP_TEST_SEED") ? 1 : num_from("EEP_TEST_HEADERS", 2000);
    const int fd = memfd_create("mutated", MFD_CLOEXEC); /* a disk would take most of the time */
    uint64_t num_opened = 0;
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (uint64_t seed = first; seed < first + num; seed++) {
        uint64_t random = seed;
        size_t data_bytes, bytes;
        char header[1024], error[512] = "";
        eep_checkpoint *checkpoint = NULL;
        bytes = random_header(&random, header, &data_bytes);
        if (seed % 8 != 0) { /* every eighth is as it should be */
            mutate(&random, header, bytes);
        }
        cr_assert_eq(ftruncate(fd, 0), 0);
        cr_assert_eq(ftruncate(fd, (off_t)(8 + bytes + data_bytes)), 0);
        cr_assert_eq(pwrite(fd, &(uint64_t){bytes}, 8, 0), 8);
        cr_assert_eq(pwrite(fd, header, bytes, 8), (ssize_t)bytes);
        if (eep_checkpoint_open(path, error, sizeof error, &checkpoint) == EEP_OK) {
            num_opened++;
            cr_assert(reads_whole(checkpoint, data_bytes), REPLAY, (unsigned long long)seed,
                      (unsigned long long)seed);
        } else {
            cr_assert(seed % 8 != 0 && strstr(error, path), REPLAY ": %s", (unsigned long long)seed,
                      (unsigned long long)seed, error);
        }
        eep_checkpoint_close(checkpoint);
    }
    cr_assert_geq(num_opened, num / 8);
    close(fd);
}

/* ---------------------------------------------------------------- what ranks do */

Test(checkpoint, a_file_that_is_removed_is_read_on)
{
    eep_checkpoint *checkpoint;
    tensor_folder folder;
    uint8_t byte;

    tensor_folder_open(&folder);
    tensor_file_write(&folder, "model.safetensors", "{\"a\":" F32("[2]", "0", "8") "}", 8);
    checkpoint = open_good(folder.path);
    unlink(folder.file); /* the file that was opened stays */
    cr_expect_eq(eep_checkpoint_read(checkpoint, "a", 7, 1, &byte), EEP_OK);
    cr_expect_eq(byte, 7);
    eep_checkpoint_close(checkpoint);
    tensor_folder_close(&folder);
}
