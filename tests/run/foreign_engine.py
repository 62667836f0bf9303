#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A serving engine in Python that knows nothing of the laboratory: one rank, by ctypes.

    EEP_RANK=.. EEP_SIZE=.. EEP_STORE=.. foreign_engine.py LIBEEP

It steps until libeep says that its service is over. An expert multiplies rows by its number plus
one, so each result is checked. Exit codes: 0 drained, 1 wrong or failed, 7 expelled.
"""
import ctypes as c
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples"))
import engine as e  # noqa: E402  (it takes the library from sys.argv)

EXPERTS, SLOTS, HIDDEN, TOP_K = 8, 4, 16, 2
TIMEOUT, ABORTED, EVICTED, DRAINED, UNCOVERED = -3, -32, -48, -49, -64
eep, check = e.eep, e.check


class ExpertArgs(c.Structure):
    _fields_ = [("rows", c.c_void_p), ("slot_begin", c.c_void_p), ("weights", c.c_void_p)]


@e.Body
def multiply(args, grid):
    if grid.block != 0:
        return
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
        error = c.create_string_buffer(256)
        check("eep_device_open", b"host", 0, c.byref(self.device))
        check("eep_stream_open", self.device, c.byref(self.stream))
        config = e.Config()
        eep.eep_config_init_sized(c.byref(config), c.c_size_t(c.sizeof(config)))
        config.device = self.device
        config.num_layers, config.num_experts, config.num_slots = 1, EXPERTS, SLOTS
        config.top_k, config.hidden, config.num_max_tokens_per_rank = TOP_K, HIDDEN, 1
        config.backup_copies = 0
        check("eep_open", c.byref(config), error, c.c_size_t(256), c.byref(self.context))
        self.weights = e.pinned(self.device, c.c_float, SLOTS)
        for slot in range(SLOTS):
            expert = eep.eep_slot_expert(self.context, 0, slot)
            self.weights[slot] = expert + 1
            tensor = e.Tensor(c.addressof(self.weights) + 4 * slot, 4)
            check("eep_slot_set", self.context, 0, slot, c.byref(tensor), 1)
        self.capture()

    def capture(self):
        device, address = self.device, c.addressof
        capacity = eep.eep_rows_capacity(self.context)
        self.x, self.out = (e.pinned(device, c.c_float, HIDDEN) for _ in range(2))
        self.rows = e.pinned(device, c.c_float, capacity * HIDDEN)
        self.topk, self.shares = (e.pinned(device, c.c_int32, TOP_K),
                                  e.pinned(device, c.c_float, TOP_K))
        self.num_tokens = e.pinned(device, c.c_int32, 1)
        self.slot_begin = e.pinned(device, c.c_int32, SLOTS + 1)
        self.kernel = e.Kernel(c.sizeof(e.Kernel), 0, b"multiply", multiply, None, None)
        expert = ExpertArgs(address(self.rows), address(self.slot_begin), address(self.weights))
        dispatch = e.Dispatch(c.sizeof(e.Dispatch), 0, address(self.x), address(self.topk),
                              address(self.num_tokens), address(self.rows),
                              address(self.slot_begin), None)
        combine = e.Combine(c.sizeof(e.Combine), e.FP32, address(self.rows), address(self.shares),
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
        step = e.Step(c.sizeof(e.Step))
        status = eep.eep_step_begin(self.context, c.c_uint64(200000), c.byref(step))
        if status in (TIMEOUT, UNCOVERED):
            return False, e.OK
        if status != e.OK:
            return False, status
        first, second = position % EXPERTS, (position + 3) % EXPERTS
        self.num_tokens[0], self.topk[0], self.topk[1] = 1, first, second
        self.shares[0] = self.shares[1] = 0.5
        for at in range(HIDDEN):
            self.x[at] = position % 1000 + at
        check("eep_graph_replay", self.graph, self.stream)
        status = eep.eep_step_end(self.context)
        if status == ABORTED:
            return False, e.OK
        if status != e.OK:
            return False, status
        scale = (first + second + 2) / 2
        if list(self.out) != [scale * (position % 1000 + at) for at in range(HIDDEN)]:
            print(f"step {step.step}: a wrong result", file=sys.stderr)
            sys.exit(1)
        return True, e.OK


def main():
    rank, position, status = Rank(), 0, e.OK
    check("eep_join", rank.context)
    while status == e.OK:
        done, status = rank.step(position)
        position += done
    eep.eep_close(rank.context)
    if status not in (DRAINED, EVICTED):
        print(eep.eep_strerror(status).decode(), file=sys.stderr)
    sys.exit(0 if status == DRAINED else 7 if status == EVICTED else 1)


if __name__ == "__main__":
    main()
