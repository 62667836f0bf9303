/* SPDX-License-Identifier: Apache-2.0 */
/* One safetensors file: opening, reading, its header. */
#include "transport/checkpoint/tensor_shard.h"

#include "transport/checkpoint/tensor_header.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static eep_status fail_errno(const char *path, const char *what, char *why)
{
    return eepi_tensor_fail(errno == ENOENT || errno == ENOTDIR ? EEP_ERR_NOT_FOUND
                                                                : EEP_ERR_SYSTEM,
                            why, "%.150s: %s: %s", path, what, strerror(errno));
}

eep_status eepi_tensor_shard_open(const char *path, eepi_tensor_shard *shard_out,
                                  char why[EEPI_TENSOR_WHY_BYTES])
{
    /* a FIFO is not waited for */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat facts;
    char *name;

    if (fd < 0) {
        return fail_errno(path, "it cannot be opened", why);
    }
    if (fstat(fd, &facts) != 0) {
        eep_status status = fail_errno(path, "it cannot be looked at", why);
        close(fd);
        return status;
    }
    if (!S_ISREG(facts.st_mode)) {
        close(fd);
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why, "%.150s is no regular file", path);
    }
    name = strdup(path);
    if (!name) {
        close(fd);
        return eepi_tensor_fail(EEP_ERR_NO_MEMORY, why, "out of memory");
    }
    *shard_out = (eepi_tensor_shard){fd, (uint64_t)facts.st_size, name};
    return EEP_OK;
}

void eepi_tensor_shard_close(eepi_tensor_shard *shard)
{
    if (shard->fd >= 0) {
        close(shard->fd);
    }
    free(shard->path);
    *shard = (eepi_tensor_shard){.fd = -1};
}

eep_status eepi_tensor_shard_read(const eepi_tensor_shard *shard, uint64_t offset, void *to,
                                  size_t bytes, char why[EEPI_TENSOR_WHY_BYTES])
{
    uint8_t *next = to;

    while (bytes > 0) {
        ssize_t got = pread(shard->fd, next, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail_errno(shard->path, "it cannot be read", why);
        }
        if (got == 0) {
            return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                    "%.150s ends at byte %" PRIu64 " and had %" PRIu64
                                    ": somebody has cut it off",
                                    shard->path, offset, shard->bytes);
        }
        next += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return EEP_OK;
}

void eepi_tensor_shard_expect(const eepi_tensor_shard *shard, uint64_t offset, uint64_t bytes)
{
    (void)posix_fadvise(shard->fd, (off_t)offset, (off_t)bytes, POSIX_FADV_WILLNEED);
}

eep_status eepi_tensor_shard_text(const eepi_tensor_shard *shard, uint64_t offset, uint64_t bytes,
                                  char **text_out, char why[EEPI_TENSOR_WHY_BYTES])
{
    char *text;
    eep_status status;

    if (bytes > EEPI_HEADER_MAX_BYTES) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                "%.150s: a header of %" PRIu64 " bytes; at most %d are possible",
                                shard->path, bytes, EEPI_HEADER_MAX_BYTES);
    }
    if (offset > shard->bytes || bytes > shard->bytes - offset) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                "%.150s: a header of %" PRIu64 " bytes in a file of %" PRIu64
                                ": the file is truncated, or no safetensors file",
                                shard->path, bytes, shard->bytes);
    }
    text = malloc((size_t)bytes + 1);
    if (!text) {
        return eepi_tensor_fail(EEP_ERR_NO_MEMORY, why, "%.150s: out of memory for its header",
                                shard->path);
    }
    status = eepi_tensor_shard_read(shard, offset, text, (size_t)bytes, why);
    if (status != EEP_OK) {
        free(text);
        return status;
    }
    text[bytes] = '\0';
    *text_out = text;
    return EEP_OK;
}

eep_status eepi_tensor_shard_tensors(const eepi_tensor_shard *shard, uint32_t number,
                                     eepi_tensor_list *list, char why[EEPI_TENSOR_WHY_BYTES])
{
    uint8_t raw[EEPI_HEADER_LENGTH_BYTES];
    char reason[EEPI_TENSOR_WHY_BYTES], *text;
    uint64_t bytes = 0;
    eep_status status;

    if (shard->bytes < sizeof raw) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                "%.150s: %" PRIu64 " bytes are no safetensors file", shard->path,
                                shard->bytes);
    }
    status = eepi_tensor_shard_read(shard, 0, raw, sizeof raw, why);
    for (int i = (int)sizeof raw - 1; i >= 0; i--) {
        bytes = bytes << 8 | raw[i];
    }
    if (status == EEP_OK) {
        status = eepi_tensor_shard_text(shard, sizeof raw, bytes, &text, why);
    }
    if (status != EEP_OK) {
        return status;
    }
    status = eepi_tensor_header_parse(text, (size_t)bytes, shard->bytes, number, list, reason);
    free(text);
    if (status != EEP_OK) {
        return eepi_tensor_fail(status, why, "%.150s: %.240s", shard->path, reason);
    }
    return EEP_OK;
}
