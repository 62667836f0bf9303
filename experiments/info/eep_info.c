/* SPDX-License-Identifier: Apache-2.0 */
/* eep-info: what libeep sees of this machine (topology, RDMA ports, UCX, devices), or with --sizes
 * what a shape costs in window memory. Everything is collected into one JSON tree; --json prints
 * that, otherwise lines for people are printed from it. */
#include "eep/eep.h"
#include "experiments/base/output.h"
#include "experiments/info/gpu_direct_info.h"
#include "experiments/info/launch_info.h"
#include "experiments/info/probe.h"
#include "graphs/cuda/cuda_environment.h"
#include "graphs/device/device_ops.h"
#include "transport/locality.h"
#include "transport/ports.h"
#include "transport/topology.h"
#include "transport/ucx/ucx_process.h"
#include "experiments/base/args.h"

#include <cjson/cJSON.h>
#include <dlfcn.h>
#include <errno.h>
#include <hwloc.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucp/api/ucp.h>
#include <uct/api/uct.h>

enum { EXIT_USAGE = ARGS_EXIT_USAGE };

/* ---------------------------------------------------------------- options */

enum { LAYERS, EXPERTS, SLOTS, TOPK, HIDDEN, TOKENS, RANKS, NUM_SHAPE };

typedef struct info_options {
    bool json, sizes, launch;
    int32_t shape[NUM_SHAPE]; /* 0: not given */
    const char *dtype;        /* NULL: not given */
    const char *probe;        /* where a file is written and read; NULL: nothing is measured */
    args_given given;
} info_options;

#define AT(field) ARGS_AT(info_options, field)
static const args_row rows[] = {
    [LAYERS] = {"--layers", ARGS_WHOLE, AT(shape[LAYERS]), 1, EEP_MAX_LAYERS, NULL, "L", NULL,
                "MoE layers"},
    [EXPERTS] = {"--experts", ARGS_WHOLE, AT(shape[EXPERTS]), 1, EEP_MAX_EXPERTS, NULL, "E", NULL,
                 "logical experts per layer"},
    [SLOTS] = {"--slots", ARGS_WHOLE, AT(shape[SLOTS]), 1, EEP_MAX_EXPERTS, NULL, "S", NULL,
               "expert slots per rank and layer"},
    [TOPK] = {"--topk", ARGS_WHOLE, AT(shape[TOPK]), 1, EEP_MAX_TOPK, NULL, "K", NULL,
              "experts per token"},
    [HIDDEN] = {"--hidden", ARGS_WHOLE, AT(shape[HIDDEN]), 1, 1 << 20, NULL, "H", NULL,
                "elements per row"},
    [TOKENS] = {"--tokens", ARGS_WHOLE, AT(shape[TOKENS]), 1, 1 << 20, NULL, "T", NULL,
                "most tokens of a rank in a step"},
    [RANKS] = {"--ranks", ARGS_WHOLE, AT(shape[RANKS]), 1, EEP_MAX_RANKS, NULL, "R", NULL,
               "rank slots"},
    {"--dtype", ARGS_ONE_OF, AT(dtype), 0, 0, "fp32|bf16|fp8", "TYPE", NULL,
     "of the rows, bf16 if not given; fp8 is dispatched in FP8, combined in BF16"},
    {"--sizes", ARGS_FLAG, AT(sizes), 0, 0, NULL, NULL, NULL,
     "bytes of one rank's receive windows for the shape that the options above give"},
    {"--probe", ARGS_TEXT, AT(probe), 0, 0, NULL, "FOLDER", NULL,
     "measure copies in memory, and how fast a file of 64 MiB in FOLDER is read"},
    {"--launch", ARGS_FLAG, AT(launch), 0, 0, NULL, NULL, NULL,
     "rank, size and place on the host of a rank that this environment starts, and which variables "
     "say so"},
    {"--json", ARGS_FLAG, AT(json), 0, 0, NULL, NULL, NULL, "one JSON object"},
};
static const args_table table = {
    .program = "eep-info",
    .synopsis = "[--probe FOLDER] [--json]\n"
                "--sizes --layers L --experts E --slots S --topk K --hidden H --tokens T\n"
                "         --ranks R [--dtype fp32|bf16|fp8] [--json]\n"
                "--launch [--json]",
    .about =
        "Tell what libeep sees of this machine: topology, RDMA ports, UCX lanes and memory types,\n"
        "devices, and with --probe how fast memory and files are. With --sizes it tells what a\n"
        "shape costs in window memory instead, and with --launch what a launcher says about a "
        "rank\n"
        "(docs/DEPLOY.md).",
    .section = {ARGS_SECTION(NULL, rows)},
    .given = offsetof(info_options, given),
    .shortens = true,
};

/* What does not depend on one option alone. */
static int check_together(const info_options *options)
{
    for (int i = 0; i < NUM_SHAPE; i++) {
        if (options->sizes && options->shape[i] == 0) {
            fprintf(stderr, "eep-info: --sizes needs %s\n", rows[i].name);
            return -1;
        }
        if (!options->sizes && options->shape[i] != 0) {
            fprintf(stderr, "eep-info: %s is only for --sizes\n", rows[i].name);
            return -1;
        }
    }
    if ((options->sizes || options->launch) && options->probe) {
        fprintf(stderr, "eep-info: --probe does not go with %s\n",
                options->sizes ? "--sizes" : "--launch");
        return -1;
    }
    if (options->sizes && options->launch) {
        fprintf(stderr, "eep-info: --sizes does not go with --launch\n");
        return -1;
    }
    if (!options->sizes && options->dtype) {
        fprintf(stderr, "eep-info: --dtype is only for --sizes\n");
        return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- collecting */

static void add_cache(cJSON *caches, hwloc_topology_t machine, hwloc_obj_type_t type,
                      const char *name)
{
    int found = hwloc_get_nbobjs_by_type(machine, type);
    if (found <= 0) {
        return;
    }
    cJSON *cache = cJSON_CreateObject();
    cJSON_AddStringToObject(cache, "name", name);
    cJSON_AddNumberToObject(cache, "count", found);
    cJSON_AddNumberToObject(cache, "bytes",
                            (double)hwloc_get_obj_by_type(machine, type, 0)->attr->cache.size);
    cJSON_AddItemToArray(caches, cache);
}

/* The whole machine as hwloc sees it, and what of it this process may use. */
static void collect_machine(cJSON *root)
{
    cJSON *machine = cJSON_AddObjectToObject(root, "machine");
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0) {
        return;
    }
    if (hwloc_topology_load(topology) == 0) {
        hwloc_obj_t package = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PACKAGE, 0);
        const char *model = package ? hwloc_obj_get_info_by_name(package, "CPUModel") : NULL;
        cJSON_AddStringToObject(machine, "cpu", model ? model : "unknown");
        static const struct {
            const char *name;
            hwloc_obj_type_t type;
        } kinds[] = {{"packages", HWLOC_OBJ_PACKAGE},
                     {"numa_nodes", HWLOC_OBJ_NUMANODE},
                     {"cores", HWLOC_OBJ_CORE},
                     {"pus", HWLOC_OBJ_PU}};
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            int found = hwloc_get_nbobjs_by_type(topology, kinds[i].type);
            cJSON_AddNumberToObject(machine, kinds[i].name, found > 0 ? found : 0);
        }
        cJSON *caches = cJSON_AddArrayToObject(machine, "caches");
        add_cache(caches, topology, HWLOC_OBJ_L1CACHE, "L1d");
        add_cache(caches, topology, HWLOC_OBJ_L2CACHE, "L2");
        add_cache(caches, topology, HWLOC_OBJ_L3CACHE, "L3");
    }
    hwloc_topology_destroy(topology);
    eepi_topology *own = NULL;
    if (eepi_topology_open(&own) == EEP_OK) {
        cJSON_AddNumberToObject(machine, "usable_pus", eepi_topology_num_pus(own));
        eepi_topology_close(own);
    }
}

/* MB/s of a PCIe link, package and NUMA node; what is unknown is left out. */
static void add_place(cJSON *object, const eepi_place *place)
{
    if (place->pci[0]) {
        cJSON_AddStringToObject(object, "pci", place->pci);
    }
    if (place->package >= 0) {
        cJSON_AddNumberToObject(object, "package", place->package);
    }
    if (place->pcie_bytes_per_s > 0) {
        cJSON_AddNumberToObject(object, "pcie_mb_per_s", (double)place->pcie_bytes_per_s / 1e6);
    }
}

static void collect_ports(cJSON *root, const eepi_locality *locality)
{
    cJSON *list = cJSON_AddArrayToObject(root, "rdma_ports");
    eepi_ports *ports = NULL;
    if (eepi_ports_open(eepi_verbs_system(), &ports) != EEP_OK) {
        return;
    }
    for (int i = 0; i < eepi_ports_count(ports); i++) {
        const eepi_port *at = eepi_ports_at(ports, i);
        cJSON *port = cJSON_CreateObject();
        cJSON_AddStringToObject(port, "device", at->device);
        cJSON_AddNumberToObject(port, "port", at->port);
        cJSON_AddStringToObject(port, "state", at->state);
        cJSON_AddStringToObject(port, "link_layer", at->link_layer);
        cJSON_AddNumberToObject(port, "gbit_per_s", at->gbit_per_s);
        cJSON_AddNumberToObject(port, "numa_node", at->numa_node);
        eepi_place place;
        if (locality != NULL && eepi_locality_nic(locality, at->device, &place)) {
            add_place(port, &place);
        }
        cJSON_AddItemToArray(list, port);
    }
    eepi_ports_close(ports);
}

/* Transports and devices of one memory domain. */
static void collect_domain(cJSON *lanes, uct_component_h component, const char *name)
{
    uct_md_config_t *config = NULL;
    uct_md_h domain = NULL;
    uct_tl_resource_desc_t *resources = NULL;
    unsigned num_resources = 0;
    if (uct_md_config_read(component, NULL, NULL, &config) != UCS_OK) {
        return;
    }
    if (uct_md_open(component, name, config, &domain) == UCS_OK) {
        if (uct_md_query_tl_resources(domain, &resources, &num_resources) == UCS_OK) {
            for (unsigned i = 0; i < num_resources; i++) {
                cJSON *lane = cJSON_CreateObject();
                cJSON_AddStringToObject(lane, "transport", resources[i].tl_name);
                cJSON_AddStringToObject(lane, "device", resources[i].dev_name);
                cJSON_AddItemToArray(lanes, lane);
            }
            uct_release_tl_resource_list(resources);
        }
        uct_md_close(domain);
    }
    uct_config_release(config);
}

static void collect_lanes(cJSON *ucx)
{
    cJSON *lanes = cJSON_AddArrayToObject(ucx, "lanes");
    uct_component_h *components = NULL;
    unsigned num_components = 0;
    if (uct_query_components(&components, &num_components) != UCS_OK) {
        return;
    }
    for (unsigned i = 0; i < num_components; i++) {
        uct_component_attr_t attributes = {.field_mask =
                                               UCT_COMPONENT_ATTR_FIELD_MD_RESOURCE_COUNT};
        if (uct_component_query(components[i], &attributes) != UCS_OK ||
            attributes.md_resource_count == 0) {
            continue;
        }
        attributes.md_resources =
            calloc(attributes.md_resource_count, sizeof *attributes.md_resources);
        attributes.field_mask = UCT_COMPONENT_ATTR_FIELD_MD_RESOURCES;
        if (attributes.md_resources != NULL &&
            uct_component_query(components[i], &attributes) == UCS_OK) {
            for (unsigned d = 0; d < attributes.md_resource_count; d++) {
                collect_domain(lanes, components[i], attributes.md_resources[d].md_name);
            }
        }
        free(attributes.md_resources);
    }
    uct_release_component_list(components);
}

static void collect_ucx(cJSON *root)
{
    cJSON *ucx = cJSON_AddObjectToObject(root, "ucx");
    eepi_ucx_quiet();
    cJSON_AddStringToObject(ucx, "version", ucp_get_version_string());
    const char *chosen = getenv("EEP_UCX_TLS");
    cJSON_AddStringToObject(ucx, "bulk_lanes", chosen ? chosen : "tcp");
    collect_lanes(ucx);
    cJSON *types = cJSON_AddArrayToObject(ucx, "memory_types");
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES, .features = UCP_FEATURE_AM};
    ucp_context_attr_t attributes = {.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES};
    ucp_context_h context = NULL;
    ucs_status_t status = ucp_init(&params, NULL, &context);
    if (status != UCS_OK) {
        cJSON_AddStringToObject(ucx, "error", ucs_status_string(status));
        return;
    }
    if (ucp_context_query(context, &attributes) == UCS_OK) {
        for (int type = UCS_MEMORY_TYPE_HOST; type < UCS_MEMORY_TYPE_LAST; type++) {
            if ((attributes.memory_types & UCS_BIT(type)) != 0) {
                cJSON_AddItemToArray(types, cJSON_CreateString(ucs_memory_type_names[type]));
            }
        }
    }
    ucp_cleanup(context);
}

static bool can_load(const char *library)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle != NULL) {
        dlclose(handle);
    }
    return handle != NULL;
}

/* Where a device is on PCI, and its nearest NIC. */
static void collect_place(cJSON *entry, const eep_device *device, const eepi_locality *locality)
{
    const eepi_device_facts facts = eepi_device_facts_of(device);
    eepi_place place;
    char nic[64];

    if (facts.pci[0] == '\0' || locality == NULL ||
        !eepi_locality_device(locality, facts.pci, &place)) {
        return;
    }
    add_place(entry, &place);
    cJSON_AddNumberToObject(entry, "numa_node", place.numa_node);
    if (eepi_locality_nearest_nic(locality, facts.pci, nic, sizeof nic)) {
        cJSON_AddStringToObject(entry, "nearest_nic", nic);
    }
}

static void collect_devices(cJSON *root, const eepi_locality *locality)
{
    cJSON *devices = cJSON_AddArrayToObject(root, "devices");
    static const char *const backends[] = {"host", "cuda"};
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++) {
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddItemToArray(devices, entry);
        cJSON_AddStringToObject(entry, "backend", backends[i]);
        cJSON *missing = cJSON_AddArrayToObject(entry, "missing");
        if (strcmp(backends[i], "cuda") == 0) {
            if (!can_load("libcuda.so.1")) {
                cJSON_AddItemToArray(missing, cJSON_CreateString("driver library libcuda.so.1"));
            }
            if (!can_load("libeep_cuda.so")) {
                cJSON_AddItemToArray(missing, cJSON_CreateString("plugin libeep_cuda.so"));
            }
        }
        eep_device *device = NULL;
        bool usable = eep_device_open(backends[i], 0, &device) == EEP_OK;
        if (usable) {
            collect_place(entry, device, locality);
            gpu_direct_collect(entry, device);
            eep_device_close(device);
        } else if (cJSON_GetArraySize(missing) == 0) {
            cJSON_AddStringToObject(entry, "error", eep_device_error_text());
        }
        cJSON_AddBoolToObject(entry, "usable", usable);
    }
}

static int collect_probe(cJSON *root, const char *folder)
{
    probe_rates rates;

    if (probe_run(folder, &rates) != EEP_OK) {
        fprintf(stderr, "eep-info: --probe: no file of 64 MiB can be written in %s: %s\n", folder,
                strerror(errno));
        return 1;
    }
    cJSON *probe = cJSON_AddObjectToObject(root, "probe");
    cJSON_AddNumberToObject(probe, "memory_copy_mb_per_s", (double)(rates.memory_copy / 1000000));
    cJSON_AddNumberToObject(probe, "shared_copy_mb_per_s", (double)(rates.shared_copy / 1000000));
    cJSON_AddNumberToObject(probe, "file_read_mb_per_s", (double)(rates.file_read / 1000000));
    cJSON_AddNumberToObject(probe, "file_again_mb_per_s", (double)(rates.file_again / 1000000));
    return 0;
}

static int collect_sizes(cJSON *root, const info_options *options)
{
    const char *dtype = options->dtype ? options->dtype : "bf16";
    eep_config config;
    eep_window_sizes sizes;
    eep_config_init(&config);
    config.rank = 0;
    config.num_ranks = options->shape[RANKS];
    config.max_ranks = options->shape[RANKS];
    config.num_layers = options->shape[LAYERS];
    config.num_experts = options->shape[EXPERTS];
    config.num_slots = options->shape[SLOTS];
    config.top_k = options->shape[TOPK];
    config.hidden = options->shape[HIDDEN];
    config.num_max_tokens_per_rank = options->shape[TOKENS];
    config.dtype = strcmp(dtype, "fp32") == 0 ? EEP_FP32 : EEP_BF16;
    config.fp8_dispatch = strcmp(dtype, "fp8") == 0;
    eep_status status = eep_window_sizes_get(&config, EEP_SIZED(&sizes));
    if (status != EEP_OK) {
        fprintf(stderr, "eep-info: --sizes: no window for this shape: %s\n", eep_error_text());
        return EXIT_USAGE;
    }
    cJSON *windows = cJSON_AddObjectToObject(root, "window");
    for (int i = 0; i < NUM_SHAPE; i++) {
        cJSON_AddNumberToObject(windows, rows[i].name + strlen("--"), options->shape[i]);
    }
    cJSON_AddStringToObject(windows, "dtype", dtype);
    cJSON_AddNumberToObject(windows, "dispatch_bytes", (double)sizes.dispatch_bytes);
    cJSON_AddNumberToObject(windows, "combine_bytes", (double)sizes.combine_bytes);
    cJSON_AddNumberToObject(windows, "control_bytes", (double)sizes.control_bytes);
    cJSON_AddNumberToObject(
        windows, "total_bytes",
        (double)(sizes.dispatch_bytes + sizes.combine_bytes + sizes.control_bytes));
    return 0;
}

/* ---------------------------------------------------------------- printing for people */

static double number(const cJSON *object, const char *name)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(member) ? member->valuedouble : 0;
}

static const char *string(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text != NULL ? text : "";
}

static void print_machine(const cJSON *machine)
{
    printf(
        "machine   %s: %.0f packages, %.0f NUMA nodes, %.0f cores, %.0f PUs (%.0f usable here)\n",
        string(machine, "cpu"), number(machine, "packages"), number(machine, "numa_nodes"),
        number(machine, "cores"), number(machine, "pus"), number(machine, "usable_pus"));
    const cJSON *cache = NULL;
    cJSON_ArrayForEach(cache, cJSON_GetObjectItemCaseSensitive(machine, "caches"))
    {
        printf("          %s: %.0f x %.0f KiB\n", string(cache, "name"), number(cache, "count"),
               number(cache, "bytes") / 1024);
    }
}

static void print_ports(const cJSON *ports)
{
    if (cJSON_GetArraySize(ports) == 0) {
        printf("rdma      no ports (normal on a machine without RDMA hardware)\n");
    }
    const cJSON *port = NULL;
    cJSON_ArrayForEach(port, ports)
    {
        printf("rdma      %s port %.0f: %s, %s, %.0f Gbit/s, NUMA node %.0f\n",
               string(port, "device"), number(port, "port"), string(port, "state"),
               string(port, "link_layer"), number(port, "gbit_per_s"), number(port, "numa_node"));
    }
}

static void print_ucx(const cJSON *ucx)
{
    const cJSON *entry = NULL;
    printf("ucx       version %s, bulk copies use: %s\n", string(ucx, "version"),
           string(ucx, "bulk_lanes"));
    printf("          lanes here:");
    cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(ucx, "lanes"))
    {
        printf(" %s/%s", string(entry, "transport"), string(entry, "device"));
    }
    printf("\n          memory types:");
    cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(ucx, "memory_types"))
    {
        printf(" %s", entry->valuestring);
    }
    printf("\n");
    if (cJSON_HasObjectItem(ucx, "error")) {
        printf("          ucp_init: %s\n", string(ucx, "error"));
    }
}

static void print_place(const cJSON *entry)
{
    if (cJSON_HasObjectItem(entry, "pci")) {
        printf("          at %s, NUMA node %.0f, PCIe %.0f MB/s, nearest NIC: %s\n",
               string(entry, "pci"), number(entry, "numa_node"), number(entry, "pcie_mb_per_s"),
               cJSON_HasObjectItem(entry, "nearest_nic") ? string(entry, "nearest_nic") : "none");
    }
}

static void print_devices(const cJSON *devices)
{
    const cJSON *entry = NULL, *missing = NULL;
    cJSON_ArrayForEach(entry, devices)
    {
        printf("device    %s: ", string(entry, "backend"));
        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(entry, "usable"))) {
            printf("usable\n");
            print_place(entry);
            gpu_direct_print(entry);
            continue;
        }
        printf("not usable");
        const char *separator = "; missing: ";
        cJSON_ArrayForEach(missing, cJSON_GetObjectItemCaseSensitive(entry, "missing"))
        {
            printf("%s%s", separator, missing->valuestring);
            separator = ", ";
        }
        if (cJSON_HasObjectItem(entry, "error")) {
            printf("; %s", string(entry, "error"));
        }
        printf("\n");
    }
}

static void print_probe(const cJSON *probe)
{
    if (probe != NULL) {
        printf("probe     copies in memory %.0f MB/s, out of shared memory %.0f MB/s\n"
               "          a file is read at %.0f MB/s, and again out of the page cache at %.0f "
               "MB/s\n",
               number(probe, "memory_copy_mb_per_s"), number(probe, "shared_copy_mb_per_s"),
               number(probe, "file_read_mb_per_s"), number(probe, "file_again_mb_per_s"));
    }
}

static void print_sizes(const cJSON *window)
{
    printf("window of one rank: %.0f layers, %.0f experts, %.0f slots, top-%.0f, hidden %.0f, "
           "%.0f tokens, %.0f ranks, %s\n",
           number(window, "layers"), number(window, "experts"), number(window, "slots"),
           number(window, "topk"), number(window, "hidden"), number(window, "tokens"),
           number(window, "ranks"), string(window, "dtype"));
    static const char *const parts[] = {"dispatch", "combine", "control", "total"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s_bytes", parts[i]);
        printf("  %-8s %14.0f bytes %10.1f MB\n", parts[i], number(window, name),
               number(window, name) / 1e6);
    }
}

static void print_tree(const cJSON *root, const info_options *options)
{
    if (options->sizes) {
        print_sizes(cJSON_GetObjectItemCaseSensitive(root, "window"));
        return;
    }
    if (options->launch) {
        launch_info_print(cJSON_GetObjectItemCaseSensitive(root, "launch"));
        return;
    }
    print_machine(cJSON_GetObjectItemCaseSensitive(root, "machine"));
    print_ports(cJSON_GetObjectItemCaseSensitive(root, "rdma_ports"));
    print_ucx(cJSON_GetObjectItemCaseSensitive(root, "ucx"));
    print_devices(cJSON_GetObjectItemCaseSensitive(root, "devices"));
    print_probe(cJSON_GetObjectItemCaseSensitive(root, "probe"));
}

static int run(const info_options *options, cJSON *root)
{
    if (options->sizes) {
        int failed = collect_sizes(root, options);
        if (failed) {
            return failed;
        }
    } else if (options->launch) {
        int failed = launch_info_collect(root);
        if (failed) {
            return failed;
        }
    } else {
        eepi_locality *locality = NULL;
        if (eepi_locality_open(NULL, 0, &locality) != EEP_OK) {
            locality = NULL;
        }
        collect_machine(root);
        collect_ports(root, locality);
        collect_ucx(root);
        collect_devices(root, locality);
        eepi_locality_close(locality);
        int failed = options->probe ? collect_probe(root, options->probe) : 0;
        if (failed) {
            return failed;
        }
    }
    if (!options->json) {
        print_tree(root, options);
        return 0;
    }
    char *text = cJSON_Print(root);
    if (text == NULL) {
        return 1;
    }
    puts(text);
    cJSON_free(text);
    return 0;
}

int main(int argc, char **argv)
{
    info_options options = {0};
    int failed = 0;
    output_begin();
    eepi_cuda_environment_set();
    if (!args_begin(&table, &options, argc, argv, &failed)) {
        return failed;
    }
    if (check_together(&options) != 0) {
        return EXIT_USAGE;
    }
    cJSON *root = cJSON_CreateObject();
    failed = root == NULL ? 1 : run(&options, root);
    cJSON_Delete(root);
    return failed;
}
