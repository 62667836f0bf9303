/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/secure/secure_key.h"

#include "graphs/base/own_user.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LEAST_DIGITS = 32, MOST_DIGITS = 128, TEXT_BYTES = MOST_DIGITS + 8 };

__attribute__((format(printf, 4, 5))) static eep_status
refuse(eep_status status, char *why, size_t why_bytes, const char *format, ...)
{
    if (why && why_bytes > 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(why, why_bytes, format, arguments);
        va_end(arguments);
    }
    return status;
}

/* The file's text, with a NUL. Judged by its descriptor, so that nobody exchanges it meanwhile; a
 * FIFO or a device is not waited for. */
static eep_status read_file(const char *path, char text_out[TEXT_BYTES], char *why,
                            size_t why_bytes)
{
    struct stat file;
    ssize_t got;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &file) != 0) {
        const int error = errno;
        if (fd >= 0) {
            close(fd);
        }
        return refuse(EEP_ERR_SYSTEM, why, why_bytes, "the key file %.200s: %s", path,
                      strerror(error));
    }
    if (!S_ISREG(file.st_mode) || !eepi_user_is_trusted(file.st_uid) ||
        (file.st_mode & 0077) != 0) {
        close(fd);
        return refuse(EEP_ERR_INVALID, why, why_bytes,
                      "the key file %.200s must be a plain file of this user or root with mode "
                      "0600; it has owner %u and mode %04o",
                      path, (unsigned)file.st_uid, (unsigned)file.st_mode & 07777);
    }
    got = read(fd, text_out, TEXT_BYTES - 1);
    close(fd);
    if (got < 0) {
        return refuse(EEP_ERR_SYSTEM, why, why_bytes, "the key file %.200s: %s", path,
                      strerror(errno));
    }
    text_out[got] = '\0';
    return EEP_OK;
}

/* How many digits it begins with; 0 where something else than white space follows them. */
static size_t count_digits(const char *text)
{
    const size_t digits = strspn(text, "0123456789abcdefABCDEF");
    return text[digits + strspn(text + digits, " \t\r\n")] == '\0' ? digits : 0;
}

eep_status eepi_secure_key_read(const char *path, eepi_secure_key *key_out, char *why,
                                size_t why_bytes)
{
    char text[TEXT_BYTES];
    eep_status status;
    if (!path || !*path) {
        path = getenv("EEP_KEY_FILE");
    }
    if (!path || !*path) {
        return refuse(EEP_ERR_NOT_FOUND, why, why_bytes, "no key file is named (EEP_KEY_FILE)");
    }
    status = read_file(path, text, why, why_bytes);
    if (status == EEP_OK) {
        const size_t digits = count_digits(text);
        if (digits < LEAST_DIGITS || digits > MOST_DIGITS || digits % 2 != 0) {
            status = refuse(EEP_ERR_INVALID, why, why_bytes,
                            "the key file %.200s must hold %d to %d hexadecimal digits, an even "
                            "number of them, as `openssl rand -hex 32` writes them",
                            path, LEAST_DIGITS, MOST_DIGITS);
        } else {
            for (size_t i = 0; i < digits; i++) {
                text[i] = (char)tolower((unsigned char)text[i]);
            }
            static_assert(sizeof key_out->bytes == crypto_hash_sha256_BYTES, "a digest is a key");
            crypto_hash_sha256(key_out->bytes, (const unsigned char *)text, digits);
        }
    }
    sodium_memzero(text, sizeof text);
    return status;
}

void eepi_secure_key_wipe(eepi_secure_key *key)
{
    sodium_memzero(key, sizeof *key);
}
