#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A serving engine in Python that knows nothing of the laboratory: one rank, by ctypes.

    EEP_RANK=.. EEP_SIZE=.. EEP_STORE=.. foreign_engine.py LIBEEP

It steps until libeep says that its service is over. An expert multiplies rows by its number plus
one, so each result is checked. Exit codes: 0 drained, 1 wrong or failed, 7 expelled.

A step's compute takes COMPUTE_S, as a model's does. Ranks that step without a pause use up the
processors, and then each wait for a rank, also for one that joins, is a wait for a processor.
"""
import ctypes as c
import sys
import time

COMPUTE_S = 0.002
EXPERTS, SLOTS, HIDDEN, TOP_K = 8, 4, 16, 2
TIMEOUT, ABORTED, EVICTED, DRAINED, UNCOVERED = -3, -32, -48, -49, -64
PINNED, FP32, OK = 1, 0, 0


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
                 ("seats_per_group", c.c_int32)]


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


eep = c.CDLL(sys.argv[1])
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


class ExpertArgs(c.Structure):
    _fields_ = [("rows", c.c_void_p), ("slot_begin", c.c_void_p), ("weights", c.c_void_p)]


@Body
def multiply(args, grid):
    if grid.block != 0:
        return
    time.sleep(COMPUTE_S)
    expert = ExpertArgs.from_address(args)
    begin = (c.c_int32 * (SLOTS + 1)).from_address(expert.slot_begin)
    weights = (c.c_float * SLOTS).from_address(expert.weights)
    rows = (c.c_float * (begin[SLOTS] * HIDDEN)).from_address(expert.rows)
    for slot in range(SLOTS):
        for at in range(begin[slot] * HIDDEN, begin[slot + 1] * HIDDEN):
            rows[at] *= weights[slot]


class Rank:
    def __init__(self):
        self.device, self.stream, self.graph, self.context = (c.c_void_p() for _ in range(4))
        self.aborted = 0  # steps that are to be done again
        error = c.create_string_buffer(256)
        check("eep_device_open", b"host", 0, c.byref(self.device))
        check("eep_stream_open", self.device, c.byref(self.stream))
        config = Config()
        eep.eep_config_init_sized(c.byref(config), c.c_size_t(c.sizeof(config)))
        config.device = self.device
        config.num_layers, config.num_experts, config.num_slots = 1, EXPERTS, SLOTS
        config.top_k, config.hidden, config.num_max_tokens_per_rank = TOP_K, HIDDEN, 1
        config.backup_copies = 0
        check("eep_open", c.byref(config), error, c.c_size_t(256), c.byref(self.context))
        self.weights = pinned(self.device, c.c_float, SLOTS)
        for slot in range(SLOTS):
            expert = eep.eep_slot_expert(self.context, 0, slot)
            self.weights[slot] = expert + 1
            tensor = Tensor(c.addressof(self.weights) + 4 * slot, 4)
            check("eep_slot_set", self.context, 0, slot, c.byref(tensor), 1)
        self.capture()

    def capture(self):
        device, address = self.device, c.addressof
        capacity = eep.eep_rows_capacity(self.context)
        self.x, self.out = (pinned(device, c.c_float, HIDDEN) for _ in range(2))
        self.rows = pinned(device, c.c_float, capacity * HIDDEN)
        self.topk, self.shares = (pinned(device, c.c_int32, TOP_K),
                                  pinned(device, c.c_float, TOP_K))
        self.num_tokens = pinned(device, c.c_int32, 1)
        self.slot_begin = pinned(device, c.c_int32, SLOTS + 1)
        self.kernel = Kernel(c.sizeof(Kernel), 0, b"multiply", multiply, None, None)
        expert = ExpertArgs(address(self.rows), address(self.slot_begin), address(self.weights))
        dispatch = Dispatch(c.sizeof(Dispatch), 0, address(self.x), address(self.topk),
                              address(self.num_tokens), address(self.rows),
                              address(self.slot_begin), None)
        combine = Combine(c.sizeof(Combine), FP32, address(self.rows), address(self.shares),
                            address(self.num_tokens), address(self.out))
        check("eep_capture_begin", self.stream)
        check("eep_step_latch", self.context, self.stream)
        check("eep_dispatch", self.context, 0, self.stream, c.byref(dispatch))
        check("eep_launch", self.stream, c.byref(self.kernel), 1, 1, c.byref(expert),
              c.c_size_t(c.sizeof(expert)))
        check("eep_combine", self.context, 0, self.stream, c.byref(combine))
        check("eep_step_finish", self.context, self.stream)
        check("eep_capture_end", self.stream, c.byref(self.graph))

    def step(self, position):
        """True: the position is done. A status ends the rank's service."""
        step = self.last = Step(c.sizeof(Step))
        status = eep.eep_step_begin(self.context, c.c_uint64(200000), c.byref(step))
        if status in (TIMEOUT, UNCOVERED):
            return False, OK
        if status != OK:
            return False, status
        first, second = position % EXPERTS, (position + 3) % EXPERTS
        self.num_tokens[0], self.topk[0], self.topk[1] = 1, first, second
        self.shares[0] = self.shares[1] = 0.5
        for at in range(HIDDEN):
            self.x[at] = position % 1000 + at
        check("eep_graph_replay", self.graph, self.stream)
        status = eep.eep_step_end(self.context)
        if status == ABORTED:
            self.aborted += 1
            return False, OK
        if status != OK:
            return False, status
        scale = (first + second + 2) / 2
        if list(self.out) != [scale * (position % 1000 + at) for at in range(HIDDEN)]:
            print(f"step {step.step}: a wrong result", file=sys.stderr)
            sys.exit(1)
        return True, OK


def main():
    rank, position, status = Rank(), 0, OK
    check("eep_join", rank.context)
    while status == OK:
        done, status = rank.step(position)
        position += done
    eep.eep_close(rank.context)
    if status not in (DRAINED, EVICTED):
        print(eep.eep_strerror(status).decode(), file=sys.stderr)
    sys.exit(0 if status == DRAINED else 7 if status == EVICTED else 1)


if __name__ == "__main__":
    main()
