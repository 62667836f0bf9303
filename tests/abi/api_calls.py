# SPDX-License-Identifier: Apache-2.0
"""api_calls.py INCLUDE: a C program, to stdout, that calls every public function with NULL in each of
its pointer arguments, and every function on a handle in a forked child (docs/INTEGRATION.md, NULL and
fork). It is made from the headers, so that a new function is tried as well."""
import pathlib
import re
import sys

# What a valid argument is, by type and name, or by type alone.
VALID = {
    "eep_device *": "device",
    "const eep_device *": "device",
    "eep_stream *": "stream",
    "const eep_stream *": "stream",
    "eep_event *": "event",
    "eep_graph *": "graph",
    "const eep_graph *": "graph",
    "eep_context *": "context",
    "const eep_context *": "context",
    "eep_sink *": "sink",
    "const eep_sink *": "sink",
    "eep_store *": "store",
    "eep_checkpoint *": "checkpoint",
    "const eep_checkpoint *": "checkpoint",
    "eep_checkpoint_tensor *": "EEP_SIZED(&tensor)",
    "eep_checkpoint_place_fn": "place_expert",
    "const char *const *": "names",
    "const char *name": '"a"',
    "eep_watch *": "watch",
    "const eep_watch *": "watch",
    "eep_view_info *": "EEP_SIZED(&view)",
    "const char *store_path": "path",
    "int32_t num_seats": "4",
    "const char *backend": '"host"',
    "const char *path": "other_path",
    "char *": "text",
    "const eep_config *": "&config",
    "eep_config *": "&config",
    "const eep_kernel *": "&kernel",
    "const eep_dispatch_args *": "EEP_SIZED(&dispatch)",
    "const eep_combine_args *": "EEP_SIZED(&combine)",
    "eep_step *": "EEP_SIZED(&step)",
    "eep_snapshot *": "EEP_SIZED(&snapshot)",
    "eep_counters *": "EEP_SIZED(&counters)",
    "eep_fault *": "EEP_SIZED(&fault)",
    "const eep_placement *": "EEP_SIZED(&placement)",
    "eep_placement_info *": "EEP_SIZED(&info)",
    "eep_bad_input *": "EEP_SIZED(&bad)",
    "eep_step_words *": "EEP_SIZED(&words)",
    "eep_form_sizes *": "EEP_SIZED(&form_sizes)",
    "eep_live_placement *": "EEP_SIZED(&live)",
    "eep_shape_info *": "EEP_SIZED(&shape_info)",
    "eep_window_sizes *": "EEP_SIZED(&sizes)",
    "eep_launch_info *": "(void *)buffer",
    "eep_collective_result *": "EEP_SIZED(&collective)",
    "eep_verdict *": "EEP_SIZED(&verdict)",
    "eep_memory_sizes *": "EEP_SIZED(&memory)",
    "eep_fault_kind": "EEP_FAULT_RESET",
    "uint32_t *": "(void *)buffer",
    "eep_seat *": "seats",
    "const eep_tensor *": "tensors",
    "eep_tensor *": "tensors",
    "const void *": "buffer",
    "void *": "buffer",
    "uint64_t *": "(void *)buffer",
    "int32_t *": "(void *)buffer",
    "uint8_t *": "(void *)buffer",
    "const uint32_t *": "(void *)buffer",
    "size_t": "8",
    "eep_memory": "EEP_MEMORY_PINNED",
    "int32_t num_tensors": "1",
    "uint32_t num_blocks": "1",
    "uint32_t num_threads": "1",
    "uint32_t max_requests": "1",
    "uint32_t generation": "1",
}
# NULL says something here: the argument is not wanted, or there is nothing to close.
MAY_BE_NULL = {("eep_open", "error_out"), ("eep_store_open", "error_out"), ("eep_store_forget", "error_out"), ("eep_watch_open", "error_out"),
               ("eep_checkpoint_open", "error_out"), ("eep_checkpoint_set", "user"),
               ("eep_snapshot_get", "counters_out"), ("eep_snapshot_get", "seats_out"),
               ("eep_loads_set", "loads"),
               ("eep_live_placement_get", "experts_out"), ("eep_mask_get", "epoch_out"),
               ("eep_loads_set", "loads"), ("eep_collective_allgather", "bytes_out"),
               *((f"eep_collective_{kind}", "result_out") for kind in ("barrier", "broadcast", "allgather", "allreduce")),
               ("eep_expel", "verdict_out"),
               ("eep_placement_get", "experts_out"), ("eep_placement_get", "pinned_out"),
               ("eep_last_error", "context")}
HANDLES = {"watch", "checkpoint", "device", "stream", "event", "graph", "context", "sink", "store"}
# Not on a handle of the parent's, or the test's own clean-up.
OWN = {"eep_store_close"}
# What it answers of NULL, where that is no eep_status and not 0.
ANSWERS = {"eep_rank": "-1", "eep_slot_expert": "-1", "eep_device_ordinal": "-1",
           "eep_watch_fd": "-1", "eep_event_fd": "-1",
           "eep_device_backend": '""'}


def functions(include):
    for header in sorted(pathlib.Path(include, "eep").glob("*.h")):
        text = re.sub(r"/\*.*?\*/", " ", header.read_text(), flags=re.S)
        text = re.sub(r"^#.*?(?<!\\)$", " ", text, flags=re.S | re.M)
        for returns, name, rest in re.findall(
                r"EEP_API\s+(?:EEP_MUST_CHECK\s+)?([\w\s]+?[\s*]+)(eep_\w+)\(([^;]*)\);", text):
            parameters = []
            for parameter in " ".join(rest.split()).split(","):
                match = re.fullmatch(r"\s*(.*?[\s*])(\w+)", parameter)
                if match and parameter.strip() != "void":
                    parameters.append((match[1].strip().replace("* *", "**"), match[2]))
            yield " ".join(returns.split()), name, parameters


def valid(kind, name):
    if kind.endswith("**"):
        return "(%s)&made" % kind
    value = VALID.get((kind if kind.endswith("*") else kind + " ") + name, VALID.get(kind))
    if value is None and kind.endswith("*"):
        sys.exit("api_calls.py: give a valid %s %s" % (kind, name))
    return value or "0"


def call(returns, name, arguments, how, label):
    text = "%s(%s)" % (name, ", ".join(arguments))
    label = '"%s"' % label
    if returns == "eep_status":
        return "    begin(%s); %s(%s, \"%s\", %s);" % (label, how, label, name, text)
    if returns == "void":
        return "    begin(%s); %s;" % (label, text)
    if how == "in_child":
        return "    begin(%s); (void)%s;" % (label, text)
    answer = ANSWERS.get(name, "0")
    if answer == '""':
        return "    begin(%s); answers(%s, strcmp(%s, \"\") == 0);" % (label, label, text)
    return "    begin(%s); answers(%s, %s == %s);" % (label, label, text, answer)


nulls, forked, closes = [], [], []
for returns, name, parameters in functions(sys.argv[1]):
    arguments = [valid(kind, parameter) for kind, parameter in parameters]
    for i, (kind, parameter) in enumerate(parameters):
        if "*" not in kind or (name, parameter) in MAY_BE_NULL:
            continue
        with_null = arguments[:i] + ["NULL"] + arguments[i + 1:]
        nulls.append(call(returns, name, with_null, "refuses", "%s: %s" % (name, parameter)))
    if name not in OWN and any(parameter in HANDLES for _, parameter in parameters):
        lines = closes if name.endswith("_close") else forked
        lines.append(call(returns, name, arguments, "in_child", name))
print("static void call_with_null(void)\n{\n%s\n}\n" % "\n".join(nulls))
print("static void call_in_child(void)\n{\n%s\n}" % "\n".join(forked + closes))
print("enum { NUM_NULLS = %d, NUM_FORKED = %d };" % (len(nulls), len(forked) + len(closes)))
