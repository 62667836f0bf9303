#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libeep from Python with nothing but ctypes: a store and one rank, alone in its instance.

    LD_LIBRARY_PATH=... python3 engine.py [libeep.so]

The expert is a Python function that libeep calls as a kernel of the host backend: it doubles rows.
"""
import ctypes as c
import os
import shutil
import sys
import tempfile

HIDDEN, EXPERTS, TOP_K = 8, 2, 2
PINNED, FP32, LOG_WARN = 1, 0, 2
OK = 0


class Config(c.Structure):
    """eep_config: the fields of include/eep/eep.h, in its order."""
    _fields_ = [("struct_bytes", c.c_uint32), ("rank", c.c_int32), ("num_ranks", c.c_int32),
                ("max_ranks", c.c_int32), ("store_path", c.c_char_p), ("device", c.c_void_p),
                ("num_layers", c.c_int32), ("num_experts", c.c_int32), ("num_slots", c.c_int32),
                ("top_k", c.c_int32), ("hidden", c.c_int32),
                ("num_max_tokens_per_rank", c.c_int32), ("dtype", c.c_int),
                ("fp8_dispatch", c.c_int32)]
    _fields_ += [(name, c.c_uint64) for name in (
        "heartbeat_period_us", "heartbeat_suspect_us", "step_deadline_us", "warmup_deadline_us",
        "expel_floor_us", "drain_bound_us", "propose_delay_us", "stores_margin_us",
        "join_timeout_us", "background_bytes_per_s")]
    _fields_ += [("num_blocks", c.c_int32), ("kill_fence", c.c_int32), ("bind_threads", c.c_int32),
                 ("log", c.c_void_p), ("log_level", c.c_int), ("event", c.c_void_p),
                 ("user", c.c_void_p), ("bulk", c.c_int), ("bulk_interface", c.c_char_p)]
    _fields_ += [(name, c.c_int32) for name in (
        "ranks_per_node", "spread_distance", "backup_copies", "background_latency_percent")]
    _fields_ += [("loads_period_us", c.c_uint64), ("num_chains", c.c_int32),
                 ("reserved", c.c_int32)]


class Tensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("bytes", c.c_size_t)]


class Grid(c.Structure):
    _fields_ = [(name, c.c_uint32) for name in ("block", "num_blocks", "thread", "num_threads")]


Body = c.CFUNCTYPE(None, c.c_void_p, Grid)


class Kernel(c.Structure):
    _fields_ = [("struct_bytes", c.c_uint32), ("num_args", c.c_uint32), ("name", c.c_char_p),
                ("host", Body), ("cuda", c.c_void_p), ("args", c.c_void_p)]


class Dispatch(c.Structure):
    _fields_ = [("struct_bytes", c.c_uint32), ("chain", c.c_int32)] + [
        (name, c.c_void_p) for name in ("x", "topk_idx", "num_tokens", "rows", "slot_begin",
                                        "row_scales")]


class Combine(c.Structure):
    _fields_ = [("struct_bytes", c.c_uint32), ("out_dtype", c.c_int)] + [
        (name, c.c_void_p) for name in ("rows", "topk_weights", "num_tokens", "out")] + [
            ("chain", c.c_int32), ("reserved", c.c_int32)]


class Step(c.Structure):
    _fields_ = [("struct_bytes", c.c_uint32), ("num_active", c.c_int32), ("step", c.c_uint64),
                ("epoch", c.c_uint64)]


class ExpertArgs(c.Structure):
    _fields_ = [("rows", c.c_void_p), ("slot_begin", c.c_void_p)]


eep = c.CDLL(sys.argv[1] if len(sys.argv) > 1 else "libeep.so")
for text in ("eep_error_text", "eep_strerror"):
    getattr(eep, text).restype = c.c_char_p
eep.eep_rows_capacity.restype = c.c_size_t


def check(name, *arguments):
    """Call a function that answers with a status; an error is an exception with libeep's text."""
    status = getattr(eep, name)(*arguments)
    if status != OK:
        raise RuntimeError(f"{name}: {eep.eep_error_text().decode()}")


def pinned(device, ctype, count):
    """An array in memory that kernels reach."""
    memory = c.c_void_p()
    check("eep_device_alloc", device, PINNED, c.c_size_t(c.sizeof(ctype) * count), c.byref(memory))
    return (ctype * count).from_address(memory.value)


@Body
def double_rows(args, grid):
    if grid.block == 0:
        expert = ExpertArgs.from_address(args)
        last = c.c_int32.from_address(expert.slot_begin + EXPERTS * 4).value
        rows = (c.c_float * (last * HIDDEN)).from_address(expert.rows)
        for at, value in enumerate(rows):
            rows[at] = 2 * value


def serve(folder):
    store, device, stream, graph, context = (c.c_void_p() for _ in range(5))
    error = c.create_string_buffer(256)
    path = os.path.join(folder, "store").encode()
    check("eep_store_open", path, error, c.c_size_t(256), c.byref(store))
    check("eep_device_open", b"host", 0, c.byref(device))
    check("eep_stream_open", device, c.byref(stream))
    config = Config()
    eep.eep_config_init_sized(c.byref(config), c.c_size_t(c.sizeof(config)))
    config.rank, config.num_ranks, config.store_path, config.device = 0, 1, path, device
    config.num_layers, config.num_experts, config.num_slots = 1, EXPERTS, EXPERTS
    config.top_k, config.hidden, config.num_max_tokens_per_rank = TOP_K, HIDDEN, 1
    config.log_level = LOG_WARN
    check("eep_open", c.byref(config), error, c.c_size_t(256), c.byref(context))
    for slot in range(EXPERTS):
        weights = pinned(device, c.c_float, 1)
        tensor = Tensor(c.addressof(weights), c.sizeof(weights))
        check("eep_slot_set", context, 0, slot, c.byref(tensor), 1)

    x, out = pinned(device, c.c_float, HIDDEN), pinned(device, c.c_float, HIDDEN)
    rows = pinned(device, c.c_float, eep.eep_rows_capacity(context) * HIDDEN)
    topk, shares = pinned(device, c.c_int32, TOP_K), pinned(device, c.c_float, TOP_K)
    num_tokens, slot_begin = pinned(device, c.c_int32, 1), pinned(device, c.c_int32, EXPERTS + 1)
    address = c.addressof
    kernel = Kernel(c.sizeof(Kernel), 0, b"double_rows", double_rows, None, None)
    expert = ExpertArgs(address(rows), address(slot_begin))
    dispatch = Dispatch(c.sizeof(Dispatch), 0, address(x), address(topk), address(num_tokens),
                        address(rows), address(slot_begin), None)
    combine = Combine(c.sizeof(Combine), FP32, address(rows), address(shares), address(num_tokens),
                      address(out))
    check("eep_capture_begin", stream)
    check("eep_step_latch", context, stream)
    check("eep_dispatch", context, 0, stream, c.byref(dispatch))
    check("eep_launch", stream, c.byref(kernel), 1, 1, c.byref(expert), c.c_size_t(c.sizeof(expert)))
    check("eep_combine", context, 0, stream, c.byref(combine))
    check("eep_step_finish", context, stream)
    check("eep_capture_end", stream, c.byref(graph))
    check("eep_join", context)

    for number in range(1, 4):
        step = Step(c.sizeof(Step))
        check("eep_step_begin", context, c.c_uint64(1000000), c.byref(step))
        num_tokens[0], topk[0], topk[1], shares[0], shares[1] = 1, 0, 1, 0.5, 0.5
        for at in range(HIDDEN):
            x[at] = number + at
        check("eep_graph_replay", graph, stream)
        check("eep_step_end", context)
        if list(out) != [2 * (number + at) for at in range(HIDDEN)]:
            raise RuntimeError(f"step {step.step}: a wrong result: {list(out)}")
        print(f"step {step.step} of epoch {step.epoch}: right", flush=True)
    eep.eep_close(context)
    eep.eep_graph_close(graph)
    eep.eep_stream_close(stream)
    eep.eep_device_close(device)
    eep.eep_store_close(store)


def main():
    folder = tempfile.mkdtemp(prefix="eep-python-")
    try:
        serve(folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
