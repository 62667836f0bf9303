#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An engine in asyncio: a front and three ranks. One rank is killed and comes back; the others serve.

    python3 front.py                      the front: store, ranks, kill, rejoin
    python3 front.py --rank N --store P   one rank, as the front starts it

The front follows the views by `async for view in watch`. A rank steps in a thread of its own, while
its event loop hears the front and prints libeep's log.
"""
import argparse
import asyncio
import concurrent.futures
import signal
import sys

import numpy as np

import eep

RANKS, EXPERTS, TOP_K, HIDDEN, TOKENS = 3, 6, 2, 16, 8
SHARES = np.array([0.25, 0.75], np.float32)


# ---------------------------------------------------------------- a rank

def run_experts(rows, slot_begin, results, *weights):
    """Expert e multiplies its rows by e + 1."""
    for slot, weight in enumerate(weights):
        here = slice(slot_begin[slot], slot_begin[slot + 1])
        results[here] = rows[here] * weight


class Rank:
    """Weights, a captured step, and a state that changes only after a step that ended OK."""

    def __init__(self, context):
        self.context = context
        self.position = 0
        self.ending = False
        weights = []
        for slot in range(context.num_slots):
            (weight,) = context.slot_alloc(0, slot, [(HIDDEN,)])
            weight[:] = context.slot_expert(0, slot) + 1
            weights.append(weight)
        self.buffers = b = context.buffers()
        with context.capture() as self.graph:
            context.dispatch(0, **b.dispatch)
            context.stream.launch(run_experts, b.rows, b.slot_begin, b.results, *weights)
            context.combine(0, **b.combine)

    def batch(self):
        """The tokens of this position, their experts, and what must come of them."""
        random = np.random.default_rng([self.context.rank, self.position])
        x = random.integers(-8, 8, (TOKENS, HIDDEN)).astype(np.float32)
        topk = np.array([random.choice(EXPERTS, TOP_K, replace=False) for _ in range(TOKENS)])
        return x, topk, x * ((topk + 1) @ SHARES)[:, None]

    def step(self):
        """One step: how many ranks took part, or None if its position has to run again."""
        x, topk, expected = self.batch()
        try:
            with self.context.step(timeout=0.5) as step:
                self.buffers.fill(x, topk, np.tile(SHARES, (TOKENS, 1)))
                self.graph.replay()
        except (eep.Aborted, eep.Timeout):
            return None
        if not np.array_equal(self.buffers.out.numpy(), expected):
            raise RuntimeError(f"step {step.number}: a wrong result")
        self.position += 1
        return step.num_active


async def serve(number, store_path):
    loop = asyncio.get_running_loop()
    thread = concurrent.futures.ThreadPoolExecutor(1)  # the rank thread
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    with eep.Context(store_path, rank=number, num_ranks=RANKS, num_experts=EXPERTS, top_k=TOP_K,
                     hidden=HIDDEN, num_max_tokens_per_rank=TOKENS, profile="quick", log_level="info",
                     log=lambda line: print(f"  log: {line.text}", file=sys.stderr)) as context:
        loop.add_reader(context.fileno(), context.poll)
        rank = await loop.run_in_executor(thread, Rank, context)
        await loop.run_in_executor(thread, context.join)
        asking = asyncio.ensure_future(commands.read(1))  # the front has closed: end
        counted, members = 0, 0
        while True:
            try:
                active = await loop.run_in_executor(thread, rank.step)
            except (eep.Drained, eep.Evicted) as over:
                print(f"rank {number} generation {context.generation}: {type(over).__name__}, "
                      f"{rank.position} steps right", flush=True)
                break
            if asking.done() and not rank.ending:
                rank.ending = True
                context.end_instance()
            if active is not None:
                counted = counted + 1 if active == members else 1
                members = active
                if counted == 20:
                    print(f"rank {number} generation {context.generation}: 20 steps right with "
                          f"{active} ranks", flush=True)
        loop.remove_reader(context.fileno())


# ---------------------------------------------------------------- the front

class Front:
    def __init__(self, store_path):
        self.store_path = store_path
        self.ranks = {}
        self.listeners = []
        self.said = asyncio.Queue()

    async def start(self, number):
        rank = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--rank", str(number), "--store", self.store_path,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        self.ranks[number] = rank
        self.listeners.append(asyncio.ensure_future(self.listen(rank)))

    async def listen(self, rank):
        async for line in rank.stdout:
            text = line.decode().strip()
            print(text, flush=True)
            self.said.put_nowait(text)

    async def until(self, *texts):
        """All of these lines have come."""
        waiting = set(texts)
        while waiting:
            waiting.discard(await self.said.get())

    async def view(self, watch, num_active):
        """The next view with so many ranks that serves."""
        async for view in watch:
            if view.is_serving and view.num_active == num_active:
                print(f"front: epoch {view.epoch}, {num_active} ranks serve: "
                      f"{[seat.generation if seat.serves else None for seat in view.seats]}", flush=True)
                return

    async def run(self):
        for number in range(RANKS):
            await self.start(number)
        with eep.Watch(self.store_path) as watch:
            await self.view(watch, 3)
            await self.until(*(f"rank {number} generation 1: 20 steps right with 3 ranks"
                               for number in range(RANKS)))
            self.ranks[1].send_signal(signal.SIGKILL)
            await self.view(watch, 2)
            await self.ranks[1].wait()
            await self.until("rank 0 generation 1: 20 steps right with 2 ranks",
                             "rank 2 generation 1: 20 steps right with 2 ranks")
            await self.start(1)
            await self.view(watch, 3)
            await self.until("rank 1 generation 2: 20 steps right with 3 ranks")
        self.ranks[0].stdin.close()
        ends = [await rank.wait() for _, rank in sorted(self.ranks.items())]
        await asyncio.gather(*self.listeners)  # what a rank says last may come behind its end
        print(f"front: all ranks have ended: {ends}", flush=True)
        return max(map(abs, ends))

    def kill(self):
        for rank in self.ranks.values():
            if rank.returncode is None:
                rank.kill()


async def front():
    with eep.Store() as store:
        it = Front(store.path)
        try:
            return await asyncio.wait_for(it.run(), 60)
        finally:
            it.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rank", type=int)
    parser.add_argument("--store")
    arguments = parser.parse_args()
    if arguments.rank is None:
        sys.exit(asyncio.run(front()))
    asyncio.run(serve(arguments.rank, arguments.store))


if __name__ == "__main__":
    main()
