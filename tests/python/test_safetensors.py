#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""test_safetensors.py BIN [--package FOLDER]: what eep-run writes as a checkpoint has, bit by bit, the
weights that docs/MODEL.md defines. They are computed here from that text. The files are read with the
standard library alone, and with Python's package safetensors where it can be imported; with --package
it must be: from FOLDER, where pip has put it."""
import json
import os
import pathlib
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

import numpy

SEED, LAYERS, HIDDEN, INNER, EXPERTS, VOCABULARY = 7, 2, 40, 24, 6, 50
SHAPE = ["--seed", SEED, "--layers", LAYERS, "--hidden", HIDDEN, "--inner", INNER, "--experts", EXPERTS,
         "--vocab", VOCABULARY, "--topk", 2, "--ranks", 2]
SCALES = [1.0, 1.0, 0.25, 0.0625, 0.0625, 0.125, 0.125]
EMBEDDING, DECAY, ROUTER, GATE, UP, DOWN, UNEMBEDDING = range(7)
GOLDEN = 0x9e3779b97f4a7c15
MASK = (1 << 64) - 1


def mix(z):
    """Of an int, or of an array of uint64."""
    wrap = (lambda x: x & MASK) if isinstance(z, int) else (lambda x: x)
    number = int if isinstance(z, int) else numpy.uint64
    z = z ^ (z >> number(30))
    z = wrap(z * number(0xbf58476d1ce4e5b9))
    z = z ^ (z >> number(27))
    z = wrap(z * number(0x94d049bb133111eb))
    return z ^ (z >> number(31))


def weights(kind, layer, expert, shape):
    key = mix((SEED + GOLDEN * (1 + kind + 16 * (layer + 256 * expert))) & MASK)
    index = numpy.arange(int(numpy.prod(shape)), dtype=numpy.uint64)
    random = mix(numpy.uint64(key) + index * numpy.uint64(GOLDEN)) >> numpy.uint64(40)
    value = (random.astype(numpy.int64) - 8388608).astype(numpy.float32) * numpy.float32(2.0 ** -23)
    value = value * numpy.float32(SCALES[kind])
    if kind == DECAY:
        value = numpy.float32(0.5) + numpy.float32(0.375) * value
    return value.reshape(shape)


def model():
    """All tensors, by name."""
    tensors = {"model.embed_tokens.weight": weights(EMBEDDING, 0, 0, (VOCABULARY, HIDDEN)),
               "lm_head.weight": weights(UNEMBEDDING, 0, 0, (HIDDEN, VOCABULARY))}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        tensors[f"{prefix}.decay.weight"] = weights(DECAY, layer, 0, (HIDDEN,))
        tensors[f"{prefix}.mlp.router.weight"] = weights(ROUTER, layer, 0, (HIDDEN, EXPERTS))
        for expert in range(EXPERTS):
            for kind, name, shape in ((GATE, "gate", (HIDDEN, INNER)), (UP, "up", (HIDDEN, INNER)),
                                      (DOWN, "down", (INNER, HIDDEN))):
                tensors[f"{prefix}.mlp.experts.{expert}.{name}_proj.weight"] = weights(
                    kind, layer, expert, shape)
    return tensors


def read_plainly(path):
    """A safetensors file by the format's description alone."""
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__")
    tensors = {}
    for name, tensor in header.items():
        begin, end = (8 + length + offset for offset in tensor["data_offsets"])
        assert tensor["dtype"] == "F32"
        tensors[name] = numpy.frombuffer(data[begin:end], "<f4").reshape(tensor["shape"])
    return tensors


def read_with_package(path):
    from safetensors.numpy import load_file
    return load_file(path)


def eep_run(*arguments, **how):
    return subprocess.run([str(BIN / "eep-run"), "--quiet", *map(str, SHAPE), *map(str, arguments)],
                          capture_output=True, text=True, timeout=60, check=False, **how)


class Checkpoint(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name, "weights")

    def tearDown(self):
        self.temporary.cleanup()

    def expect_all(self, read):
        done = eep_run("--checkpoint-write", self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        index = json.loads((self.folder / "model.safetensors.index.json").read_text())
        shards = sorted(set(index["weight_map"].values()))
        self.assertGreater(len(shards), 3)
        self.assertEqual(sorted(os.listdir(self.folder)), sorted(shards + ["model.safetensors.index.json"]))
        found = {}
        for shard in shards:
            tensors = read(self.folder / shard)
            self.assertEqual({index["weight_map"][name] for name in tensors}, {shard})
            found.update(tensors)
        wanted = model()
        self.assertEqual(sorted(found), sorted(wanted))
        self.assertEqual(index["metadata"]["total_size"], sum(t.nbytes for t in wanted.values()))
        for name, tensor in wanted.items():
            self.assertEqual(found[name].shape, tensor.shape, name)
            self.assertEqual(found[name].dtype, numpy.float32, name)
            self.assertEqual(found[name].tobytes(), tensor.tobytes(), name)

    def test_a_plain_reader_finds_the_models_bits(self):
        self.expect_all(read_plainly)

    def test_the_package_finds_the_models_bits(self):
        try:
            import safetensors
        except ImportError:
            if PACKAGE:
                raise
            self.skipTest("no Python package safetensors here")
        print("with safetensors", safetensors.__version__, file=sys.stderr)
        self.expect_all(read_with_package)

    def test_a_checkpoint_is_not_overwritten(self):
        self.assertEqual(eep_run("--checkpoint-write", self.folder).returncode, 0)
        before = {path: path.read_bytes() for path in self.folder.iterdir()}
        again = eep_run("--checkpoint-write", self.folder, "--seed", 8)
        self.assertEqual(again.returncode, 1)
        self.assertIn("has a checkpoint already", again.stderr)
        self.assertEqual({path: path.read_bytes() for path in self.folder.iterdir()}, before)

    def test_a_full_disk_is_named_and_leaves_nothing(self):
        # as a full disk: a file that may not grow further; at once, in a tensor, in the last file
        for limit in (4, 20000, 29000):
            def limited(most=limit):
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            done = eep_run("--checkpoint-write", self.folder, preexec_fn=limited)
            self.assertEqual(done.returncode, 1, limit)
            self.assertRegex(done.stderr, r"weights/\.model-0000\d-of-0000\d\.safetensors\.new: it cannot be "
                                          r"written: File too large")
            self.assertFalse(self.folder.exists())
        self.folder.mkdir()
        (self.folder / "mine").write_text("stays")
        done = eep_run("--checkpoint-write", self.folder, preexec_fn=limited)
        self.assertEqual((done.returncode, os.listdir(self.folder)), (1, ["mine"]))

    def test_a_folder_that_cannot_be_is_named(self):
        done = eep_run("--checkpoint-write", self.folder / "deeper")
        self.assertEqual(done.returncode, 1)
        self.assertIn("deeper/: the folder cannot be made: No such file or directory", done.stderr)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    BIN = pathlib.Path(sys.argv[1])
    PACKAGE = len(sys.argv) == 4
    if PACKAGE:
        sys.path.insert(0, sys.argv[3])
    unittest.main(argv=sys.argv[:1])
