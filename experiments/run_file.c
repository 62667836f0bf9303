#include "experiments/run_file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *open_in(const char *dir, const char *name, const char *mode)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    return fopen(path, mode);
}

char *run_file_text(const char *dir, const char *name)
{
    FILE *file = open_in(dir, name, "re");
    size_t bytes = 0, room = 0, got = 1;
    char *text = NULL;
    while (file && got > 0) {
        if (bytes + 1 >= room) {
            room = room ? 2 * room : 1 << 16;
            char *grown = realloc(text, room);
            if (!grown) {
                free(text);
                text = NULL;
                break;
            }
            text = grown;
        }
        got = fread(text + bytes, 1, room - 1 - bytes, file);
        bytes += got;
        text[bytes] = '\0';
    }
    if (file) {
        fclose(file);
    }
    return text;
}

cJSON *run_file_json(const char *dir, const char *name)
{
    char *text = run_file_text(dir, name);
    cJSON *root = text ? cJSON_Parse(text) : NULL;
    free(text);
    return root;
}

eep_status run_file_write_json(cJSON *root, const char *dir, const char *name)
{
    char *text = root ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (!text) {
        return EEP_ERR_NO_MEMORY;
    }
    FILE *file = open_in(dir, name, "we");
    int failed = !file;
    if (file) {
        failed |= fputs(text, file) < 0 || fputc('\n', file) < 0;
        failed |= fclose(file);
    }
    cJSON_free(text);
    return failed ? EEP_ERR_SYSTEM : EEP_OK;
}

void run_file_add_ms(cJSON *object, const char *name, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.3f", value);
    cJSON_AddRawToObject(object, name, text);
}
