/* SPDX-License-Identifier: Apache-2.0 */
/* The library of CUDA bodies: found, opened, called. */
#include "experiments/model/model_plugin.h"
#include "graphs/device/device_ops.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, FIRST_BYTES = 256 };

/* The plugin's path beside the running program; 0 if that is unknown. */
static int path_beside_program(char *path_out, size_t path_bytes)
{
    ssize_t length = readlink("/proc/self/exe", path_out, path_bytes - 1);
    char *slash;

    if (length <= 0) {
        return 0;
    }
    path_out[length] = '\0';
    slash = strrchr(path_out, '/');
    if (slash == NULL || (size_t)(slash + 1 - path_out) + sizeof MODEL_PLUGIN_FILE > path_bytes) {
        return 0;
    }
    memcpy(slash + 1, MODEL_PLUGIN_FILE, sizeof MODEL_PLUGIN_FILE);
    return 1;
}

static void *open_library(char *why_out, size_t why_bytes)
{
    char path[PATH_BYTES], first[FIRST_BYTES];
    void *library = dlopen(MODEL_PLUGIN_FILE, RTLD_NOW | RTLD_LOCAL);

    if (library != NULL) {
        return library;
    }
    snprintf(first, sizeof(first), "%s", dlerror());
    if (path_beside_program(path, sizeof path)) {
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library != NULL) {
            return library;
        }
    }
    snprintf(why_out, why_bytes,
             "the model's CUDA kernels cannot be loaded: %s, nor beside eep-run", first);
    return NULL;
}

const model_plugin *model_plugin_open(int ordinal, char *why_out, size_t why_bytes)
{
    void *library = open_library(why_out, why_bytes);
    const model_plugin *(*get)(void);
    const model_plugin *plugin;
    const char *why;

    if (library == NULL) {
        return NULL;
    }
    get = (const model_plugin *(*)(void))(uintptr_t)dlsym(library, MODEL_PLUGIN_SYMBOL);
    plugin = get != NULL ? get() : NULL;
    if (plugin == NULL || plugin->version != MODEL_PLUGIN_VERSION ||
        plugin->num_kernels != MODEL_PLUGIN_NUM_KERNELS) {
        snprintf(why_out, why_bytes, "%s is of another version of eep-run", MODEL_PLUGIN_FILE);
        dlclose(library);
        return NULL;
    }
    why = plugin->load(ordinal);
    if (why != NULL) {
        snprintf(why_out, why_bytes, "%s on device %d: %s", MODEL_PLUGIN_FILE, ordinal, why);
        return NULL;
    }
    return plugin;
}

eep_status model_plugin_put(const model_plugin *plugin, int ordinal, eep_stream *stream,
                            model_bodies kernel, uint32_t num_blocks, uint32_t num_threads,
                            const void *args, size_t args_bytes, const char **why_out)
{
    const char *why = NULL;
    eep_status status = plugin
                            ? eepi_capture_show(stream, kernel.host, num_blocks, args, args_bytes)
                            : eep_launch(stream, kernel.host, num_blocks, 1, args, args_bytes);

    if (status != EEP_OK) {
        why = eep_device_error_text();
    } else if (plugin) {
        why = plugin->launch(ordinal, eep_stream_native(stream), kernel.number, num_blocks,
                             num_threads, args);
    }
    if (why) {
        *why_out = why;
    }
    return status != EEP_OK ? status : why ? EEP_ERR_DEVICE : EEP_OK;
}
