// SPDX-License-Identifier: Apache-2.0
// libeep from C++: handles that close themselves, errors as exceptions. One rank, alone in its
// instance, opens and joins, and runs two empty steps.
//
//     c++ -std=c++17 embed.cpp -o embed $(pkg-config --cflags --libs eep)
#include <eep/eep.h>
#include <eep/store.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace
{

// A handle of libeep's and the function that closes it.
template <auto Close> struct closer {
    template <typename Handle> void operator()(Handle *handle) const
    {
        Close(handle);
    }
};
using store_handle = std::unique_ptr<eep_store, closer<eep_store_close>>;
using device_handle = std::unique_ptr<eep_device, closer<eep_device_close>>;
using stream_handle = std::unique_ptr<eep_stream, closer<eep_stream_close>>;
using graph_handle = std::unique_ptr<eep_graph, closer<eep_graph_close>>;
using context_handle = std::unique_ptr<eep_context, closer<eep_close>>;

void check(eep_status status)
{
    if (status != EEP_OK) {
        throw std::runtime_error(std::string(eep_strerror(status)) + ": " + eep_error_text());
    }
}

// A folder of its own that is removed at the end.
struct folder {
    std::filesystem::path path;
    folder()
    {
        std::string name = std::filesystem::temp_directory_path() / "eep-embed-XXXXXX";
        if (!mkdtemp(name.data())) {
            throw std::runtime_error("no temporary folder: " + name);
        }
        path = name;
    }
    ~folder()
    {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
};

template <typename T> T *pinned(eep_device *device, std::size_t count)
{
    void *memory = nullptr;
    check(eep_device_alloc(device, EEP_MEMORY_PINNED, count * sizeof(T), &memory));
    return static_cast<T *>(memory);
}

void run()
{
    constexpr std::int32_t hidden = 8, experts = 2, top_k = 1;
    folder home;
    const std::string path = home.path / "store";
    char text[256] = "";
    eep_store *opened_store = nullptr;
    if (eep_store_open(path.c_str(), text, sizeof text, &opened_store) != EEP_OK) {
        throw std::runtime_error(text);
    }
    store_handle store(opened_store);
    eep_device *opened_device = nullptr;
    check(eep_device_open("host", 0, &opened_device));
    device_handle device(opened_device);
    eep_stream *opened_stream = nullptr;
    check(eep_stream_open(device.get(), &opened_stream));
    stream_handle stream(opened_stream);

    eep_config config;
    eep_config_init(&config);
    config.rank = 0;
    config.num_ranks = 1;
    config.store_path = path.c_str();
    config.device = device.get();
    config.num_layers = 1;
    config.num_experts = config.num_slots = experts;
    config.top_k = top_k;
    config.hidden = hidden;
    config.num_max_tokens_per_rank = 1;
    config.log_level = EEP_LOG_WARN;
    eep_context *opened = nullptr;
    if (eep_open(&config, text, sizeof text, &opened) != EEP_OK) {
        throw std::runtime_error(text);
    }
    context_handle context(opened);
    for (std::int32_t slot = 0; slot < experts; slot++) {
        eep_tensor weights = {pinned<float>(device.get(), hidden), hidden * sizeof(float)};
        check(eep_slot_set(context.get(), 0, slot, &weights, 1));
    }
    float *x = pinned<float>(device.get(), hidden), *out = pinned<float>(device.get(), hidden);
    float *rows = pinned<float>(device.get(), eep_rows_capacity(context.get()) * hidden);
    std::int32_t *topk = pinned<std::int32_t>(device.get(), top_k);
    std::int32_t *num_tokens = pinned<std::int32_t>(device.get(), 1);
    std::int32_t *slot_begin = pinned<std::int32_t>(device.get(), experts + 1);
    eep_dispatch_args dispatch{};
    dispatch.struct_bytes = sizeof dispatch;
    dispatch.x = x;
    dispatch.topk_idx = topk;
    dispatch.num_tokens = num_tokens;
    dispatch.rows = rows;
    dispatch.slot_begin = slot_begin;
    eep_combine_args combine{};
    combine.struct_bytes = sizeof combine;
    combine.out_dtype = EEP_FP32;
    combine.rows = rows;
    combine.topk_weights = pinned<float>(device.get(), top_k);
    combine.num_tokens = num_tokens;
    combine.out = out;
    check(eep_capture_begin(stream.get()));
    check(eep_step_latch(context.get(), stream.get()));
    check(eep_dispatch(context.get(), 0, stream.get(), &dispatch));
    check(eep_combine(context.get(), 0, stream.get(), &combine));
    check(eep_step_finish(context.get(), stream.get()));
    eep_graph *captured = nullptr;
    check(eep_capture_end(stream.get(), &captured));
    graph_handle graph(captured);
    check(eep_join(context.get()));
    for (int steps = 0; steps < 2;) {
        eep_step step;
        check(eep_step_begin(context.get(), 1000000, EEP_SIZED(&step)));
        *num_tokens = 0; // a rank without work steps along
        check(eep_graph_replay(graph.get(), stream.get()));
        if (eep_step_end(context.get()) == EEP_OK) {
            steps++;
            std::printf("step %llu of epoch %llu\n", static_cast<unsigned long long>(step.step),
                        static_cast<unsigned long long>(step.epoch));
        }
    }
}

} // namespace

int main()
{
    try {
        run();
    } catch (const std::exception &error) {
        std::fprintf(stderr, "embed: %s\n", error.what());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
