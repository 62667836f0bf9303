/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a job's key: who may read it, and what it holds. */
#include "transport/secure/secure_key.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[64];

static void make_file(void)
{
    int fd;
    strcpy(path, "/tmp/eep-key-XXXXXX");
    fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    unsetenv("EEP_KEY_FILE");
}

static void remove_file(void)
{
    unlink(path);
}

TestSuite(secure_key, .init = make_file, .fini = remove_file);

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static eepi_secure_key read_key(const char *text)
{
    eepi_secure_key key;
    char why[300] = "";
    write_file(text);
    cr_assert_eq(eepi_secure_key_read(path, &key, why, sizeof why), EEP_OK, "%s", why);
    return key;
}

static void refuse(eep_status status, const char *word)
{
    eepi_secure_key key;
    char why[300] = "";
    cr_expect_eq(eepi_secure_key_read(path, &key, why, sizeof why), status, "%s", word);
    cr_expect(strstr(why, word) && strstr(why, path), "'%s' does not say '%s'", why, word);
    cr_expect_eq(eepi_secure_key_read(path, &key, NULL, 0), status);
}

#define DIGITS "00112233445566778899aabbccddeeff"

Test(secure_key, digits_make_a_key)
{
    const eepi_secure_key key = read_key(DIGITS);
    const eepi_secure_key same = read_key("00112233445566778899AABBCCDDEEFF\n");
    const eepi_secure_key other = read_key("00112233445566778899aabbccddeefe");
    cr_expect_arr_eq(key.bytes, same.bytes, sizeof key.bytes);
    cr_expect_arr_neq(key.bytes, other.bytes, sizeof key.bytes);
    (void)read_key(DIGITS DIGITS DIGITS DIGITS " \r\n");
}

Test(secure_key, what_is_no_key_is_refused)
{
    static const char *const wrong[] = {"",
                                        "00112233445566778899aabbccddeef",
                                        DIGITS "0",
                                        DIGITS "g",
                                        " " DIGITS,
                                        DIGITS "\n" DIGITS,
                                        DIGITS DIGITS DIGITS DIGITS "00",
                                        "a password of more than 32 characters"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        write_file(wrong[i]);
        refuse(EEP_ERR_INVALID, "hexadecimal digits");
    }
}

Test(secure_key, a_file_that_others_read_is_refused)
{
    static const mode_t modes[] = {0640, 0604, 0660, 0666, 0700 | 01};
    write_file(DIGITS);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        cr_assert_eq(chmod(path, modes[i]), 0);
        refuse(EEP_ERR_INVALID, "mode 0600");
    }
    cr_assert_eq(chmod(path, 0400), 0);
    (void)!eepi_secure_key_read(path, &(eepi_secure_key){0}, NULL, 0);
}

/* It is not waited for (a FIFO without a writer). */
Test(secure_key, what_is_no_file_is_refused)
{
    unlink(path);
    refuse(EEP_ERR_SYSTEM, "No such file");
    cr_assert_eq(mkfifo(path, 0600), 0);
    refuse(EEP_ERR_INVALID, "plain file");
    unlink(path);
    cr_assert_eq(mkdir(path, 0700), 0);
    refuse(EEP_ERR_INVALID, "plain file");
    rmdir(path);
}

Test(secure_key, another_users_file_is_refused)
{
    if (geteuid() != 0) {
        cr_skip_test("only root can give a file away");
    }
    write_file(DIGITS);
    cr_assert_eq(chown(path, 12345, 12345), 0);
    refuse(EEP_ERR_INVALID, "owner 12345");
}

Test(secure_key, the_environment_names_the_file)
{
    eepi_secure_key key, same;
    char why[300] = "";
    cr_expect_eq(eepi_secure_key_read(NULL, &key, why, sizeof why), EEP_ERR_NOT_FOUND);
    cr_expect(strstr(why, "EEP_KEY_FILE"));
    key = read_key(DIGITS);
    setenv("EEP_KEY_FILE", path, 1);
    cr_expect_eq(eepi_secure_key_read(NULL, &same, why, sizeof why), EEP_OK, "%s", why);
    cr_expect_arr_eq(key.bytes, same.bytes, sizeof key.bytes);
    eepi_secure_key_wipe(&key);
    cr_expect_arr_neq(key.bytes, same.bytes, sizeof key.bytes);
    setenv("EEP_KEY_FILE", "", 1);
    cr_expect_eq(eepi_secure_key_read("", &same, why, sizeof why), EEP_ERR_NOT_FOUND);
}
