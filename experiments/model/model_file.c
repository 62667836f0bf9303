/* SPDX-License-Identifier: Apache-2.0 */
/* Writing the model: which tensors go into which shard, and files that are there whole or not at
 * all. */
#include "experiments/model/model_file.h"

#include "experiments/model/model_tensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX_NAME "model.safetensors.index.json"
enum { PIECE_FLOATS = 1 << 18, FILE_NAME_BYTES = 64 };

typedef struct writer {
    const model_config *config;
    const char *folder;
    int at; /* the folder */
    bool made_folder;
    int64_t *first; /* [num_shards + 1]: number of each shard's first tensor */
    int num_shards;
    float *piece; /* [PIECE_FLOATS] */
    char *error;
} writer;

static eep_status fail_at(const writer *w, const char *file, const char *what)
{
    snprintf(w->error, MODEL_FILE_ERROR_BYTES, "%.200s/%s: %s: %s", w->folder, file, what,
             strerror(errno));
    return EEP_ERR_SYSTEM;
}

static eep_status fail_memory(const writer *w)
{
    snprintf(w->error, MODEL_FILE_ERROR_BYTES, "%.200s: out of memory", w->folder);
    return EEP_ERR_NO_MEMORY;
}

static void shard_name(const writer *w, int shard, char name_out[FILE_NAME_BYTES])
{
    snprintf(name_out, FILE_NAME_BYTES, "model-%05d-of-%05d.safetensors", shard + 1, w->num_shards);
}

static size_t bytes_of(const writer *w, int64_t tensor)
{
    const model_tensor t = model_tensor_at(w->config, tensor);

    return model_tensor_count(&t) * sizeof(float);
}

/* A shard takes tensors until it has `shard_bytes`. */
static eep_status divide(writer *w, uint64_t shard_bytes)
{
    const int64_t num = model_tensors_num(w->config);
    uint64_t used = 0;

    w->first = malloc(((size_t)num + 1) * sizeof *w->first);
    w->piece = malloc(PIECE_FLOATS * sizeof *w->piece);
    if (!w->first || !w->piece) {
        return fail_memory(w);
    }
    w->first[0] = 0;
    for (int64_t i = 0; i < num; i++) {
        const uint64_t bytes = bytes_of(w, i);
        if (used > 0 && used + bytes > shard_bytes) {
            w->first[++w->num_shards] = i;
            used = 0;
        }
        used += bytes;
    }
    w->first[++w->num_shards] = num;
    return EEP_OK;
}

/* ---------------------------------------------------------------- texts */

/* Text that grows, and at its end whether there was memory for it. */
typedef struct text {
    FILE *stream;
    char *bytes;
    size_t num;
} text;

static bool text_open(text *t)
{
    t->stream = open_memstream(&t->bytes, &t->num);
    return t->stream != NULL;
}

static bool text_end(text *t)
{
    const bool good = ferror(t->stream) == 0;

    return fclose(t->stream) == 0 && good;
}

static bool make_header(const writer *w, int shard, text *header)
{
    uint64_t end = 0;

    if (!text_open(header)) {
        return false;
    }
    fprintf(header->stream, "{\"__metadata__\":{\"format\":\"pt\",\"seed\":\"%" PRIu64 "\"}",
            w->config->seed);
    for (int64_t i = w->first[shard]; i < w->first[shard + 1]; i++) {
        const model_tensor t = model_tensor_at(w->config, i);
        const uint64_t begin = end;
        end += model_tensor_count(&t) * sizeof(float);
        fprintf(header->stream, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%d", t.name, t.shape[0]);
        if (t.num_dims == 2) {
            fprintf(header->stream, ",%d", t.shape[1]);
        }
        fprintf(header->stream, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin, end);
    }
    fputc('}', header->stream);
    /* numbers begin at a multiple of their size */
    for (long at = ftell(header->stream); at % 8 != 0; at++) {
        fputc(' ', header->stream);
    }
    return text_end(header);
}

static bool make_index(const writer *w, text *index)
{
    char name[FILE_NAME_BYTES];
    uint64_t total = 0;
    const char *comma = "";

    if (!text_open(index)) {
        return false;
    }
    for (int64_t i = 0; i < w->first[w->num_shards]; i++) {
        total += bytes_of(w, i);
    }
    fprintf(index->stream, "{\n  \"metadata\": {\"total_size\": %" PRIu64 "},\n  \"weight_map\": {",
            total);
    for (int shard = 0; shard < w->num_shards; shard++) {
        shard_name(w, shard, name);
        for (int64_t i = w->first[shard]; i < w->first[shard + 1]; i++, comma = ",") {
            const model_tensor t = model_tensor_at(w->config, i);
            fprintf(index->stream, "%s\n    \"%s\": \"%s\"", comma, t.name, name);
        }
    }
    fprintf(index->stream, "\n  }\n}\n");
    return text_end(index);
}

/* ---------------------------------------------------------------- files */

static bool write_all(int fd, const void *from, size_t bytes)
{
    const char *next = from;

    while (bytes > 0) {
        const ssize_t done = write(fd, next, bytes);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return false;
        }
        next += done;
        bytes -= (size_t)done;
    }
    return true;
}

static bool write_tensor(const writer *w, int fd, const model_tensor *t)
{
    const size_t count = model_tensor_count(t);

    for (size_t at = 0; at < count; at += PIECE_FLOATS) {
        const size_t part = count - at < PIECE_FLOATS ? count - at : PIECE_FLOATS;
        weights_generate_from(w->config->seed, t->kind, (uint32_t)t->layer, (uint32_t)t->expert, at,
                              part, w->piece);
        if (!write_all(fd, w->piece, part * sizeof(float))) {
            return false;
        }
    }
    return true;
}

static bool write_data(const writer *w, int fd, int shard)
{
    bool good = true;

    for (int64_t i = w->first[shard]; i < w->first[shard + 1] && good; i++) {
        const model_tensor t = model_tensor_at(w->config, i);
        good = write_tensor(w, fd, &t);
    }
    return good;
}

static bool write_length(int fd, uint64_t number)
{
    uint8_t bytes[8];

    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(number >> (8 * i));
    }
    return write_all(fd, bytes, sizeof bytes);
}

/* A file of that name with the text and, for a shard (-1: none), its length before and the data
 * behind: on the disk, or not there. */
static eep_status write_file(const writer *w, const char *name, const text *head, int shard)
{
    char other_name[FILE_NAME_BYTES + 8];
    eep_status status = EEP_OK;
    int fd;

    snprintf(other_name, sizeof other_name, ".%s.new", name);
    fd = openat(w->at, other_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) {
        return fail_at(w, other_name, "it cannot be made");
    }
    if ((shard >= 0 && !write_length(fd, head->num)) || !write_all(fd, head->bytes, head->num) ||
        (shard >= 0 && !write_data(w, fd, shard)) || fsync(fd) != 0) {
        status = fail_at(w, other_name, "it cannot be written");
    }
    if (close(fd) != 0 && status == EEP_OK) {
        status = fail_at(w, other_name, "it cannot be closed");
    }
    if (status == EEP_OK && renameat(w->at, other_name, w->at, name) != 0) {
        status = fail_at(w, name, "it cannot get its name");
    }
    if (status != EEP_OK) {
        unlinkat(w->at, other_name, 0);
    }
    return status;
}

static eep_status write_shard(const writer *w, int shard)
{
    char name[FILE_NAME_BYTES];
    text header = {0};
    eep_status status;

    shard_name(w, shard, name);
    status = make_header(w, shard, &header) ? write_file(w, name, &header, shard) : fail_memory(w);
    free(header.bytes);
    return status;
}

static eep_status write_index(const writer *w)
{
    text index = {0};
    eep_status status =
        make_index(w, &index) ? write_file(w, INDEX_NAME, &index, -1) : fail_memory(w);

    free(index.bytes);
    if (status == EEP_OK && fsync(w->at) != 0) {
        status = fail_at(w, "", "the folder cannot be brought to the disk");
        unlinkat(w->at, INDEX_NAME, 0);
    }
    return status;
}

static eep_status open_folder(writer *w)
{
    w->made_folder = mkdir(w->folder, 0755) == 0;
    if (!w->made_folder && errno != EEXIST) {
        return fail_at(w, "", "the folder cannot be made");
    }
    w->at = open(w->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->at < 0) {
        return fail_at(w, "", "the folder cannot be opened");
    }
    if (faccessat(w->at, INDEX_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        snprintf(w->error, MODEL_FILE_ERROR_BYTES,
                 "%.200s has a checkpoint already: remove it, or name another folder", w->folder);
        return EEP_ERR_CONFLICT;
    }
    return EEP_OK;
}

static void take_back(const writer *w, int num_written)
{
    char name[FILE_NAME_BYTES];

    for (int shard = 0; shard < num_written; shard++) {
        shard_name(w, shard, name);
        unlinkat(w->at, name, 0);
    }
    if (w->made_folder) {
        (void)!rmdir(w->folder);
    }
}

eep_status model_file_write(const model_config *config, const char *folder, uint64_t shard_bytes,
                            char error_out[MODEL_FILE_ERROR_BYTES])
{
    writer w = {.config = config, .folder = folder, .at = -1, .error = error_out};
    int num_written = 0;
    eep_status status = open_folder(&w);

    if (status == EEP_OK) {
        status = divide(&w, shard_bytes);
    }
    for (; num_written < w.num_shards && status == EEP_OK; num_written += status == EEP_OK) {
        status = write_shard(&w, num_written);
    }
    if (status == EEP_OK) {
        status = write_index(&w);
    }
    if (status != EEP_OK) {
        take_back(&w, num_written);
    }
    if (w.at >= 0) {
        close(w.at);
    }
    free(w.first);
    free(w.piece);
    return status;
}
