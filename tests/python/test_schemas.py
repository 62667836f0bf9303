#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas of docs/schemas against eep-run: what it writes and what it reads is what they say.

usage: test_schemas.py BIN [SUMMARY...]     BIN has eep-run; SUMMARY: a summary.json to look at
"""

import copy
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

import jsonschema
import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCENARIOS = sorted(glob.glob(os.path.join(ROOT, "experiments", "scenarios", "*.yaml")))
# Ranks that are killed and come back, a restart of all, and a run by a scenario.
RUNS = (["--kill", "1@300ms", "--rejoin", "1@700ms", "--stop", "2=50ms@200ms"],
        ["--baseline", "restart", "--kill", "1@300ms", "--no-oracle"],
        ["--scenario", os.path.join(ROOT, "experiments", "scenarios", "idle.yaml")])
SMALL = ["--ranks", "4", "--slots", "32", "--requests", "20", "--rate", "40", "--input", "2:4", "--output",
         "4:8", "--keep-busy", "4", "--quiet", "--no-picture"]
BIN, SUMMARIES = "", []


def schema(name):
    with open(os.path.join(ROOT, "docs", "schemas", f"{name}.schema.json"), encoding="utf-8") as file:
        found = json.load(file)
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


class Loader(yaml.SafeLoader):
    """`!= null` is a condition, and no tag."""


Loader.add_multi_constructor("!", lambda _, tag, node: f"!{tag} {node.value}")


def as_json(text):
    """A scenario's YAML, with values as eep-run reads them: dates and the like are texts."""
    return json.loads(json.dumps(yaml.load(text, Loader), default=str))


def paths_of(value, path=()):
    """The place of every key of an object, however deep."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield (*path, key)
            yield from paths_of(one, (*path, key))
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield from paths_of(one, (*path, i))


class Summaries(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.schema, cls.found = schema("summary"), []
        with tempfile.TemporaryDirectory(prefix="eep-schema-") as folder:
            for i, options in enumerate(RUNS):
                out = os.path.join(folder, str(i))
                subprocess.run([os.path.join(BIN, "eep-run"), *options, *SMALL, "--out", out], check=False,
                               stdout=subprocess.DEVNULL)
                with open(os.path.join(out, "summary.json"), encoding="utf-8") as file:
                    cls.found.append(json.load(file))
                with open(os.path.join(out, "steps.csv"), encoding="utf-8") as file:
                    cls.head = [file.readline() for _ in range(4)]
        for path in SUMMARIES:
            with open(path, encoding="utf-8") as file:
                cls.found.append(json.load(file))

    def test_what_a_run_writes_is_what_the_schema_says(self):
        for found in self.found:
            errors = [f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
                      for error in self.schema.iter_errors(found)]
            self.assertEqual(errors, [], found["command"])
        self.assertTrue(self.found[0]["faults"] and self.found[0]["joins"] and self.found[1]["restarts"])
        self.assertEqual(self.found[2]["scenario"]["name"], "idle")

    def test_every_key_is_asked_for_and_no_other_is_allowed(self):
        found = self.found[0]
        optional = {"digests_wrong", "tokens_missing", "tokens_doubled", "oracle_seconds"}
        for path in paths_of(found):
            changed = copy.deepcopy(found)
            place = changed
            for key in path[:-1]:
                place = place[key]
            place["never heard of"] = place.pop(path[-1])
            self.assertFalse(self.schema.is_valid(changed), path)
            del place["never heard of"]
            if path[-1] not in optional:
                self.assertFalse(self.schema.is_valid(changed), path)

    def test_rows_begin_with_commit_seed_and_command(self):
        found = self.found[-1 - len(SUMMARIES)]
        self.assertEqual(self.head[0], f"# commit {found['commit']}\n")
        self.assertEqual(self.head[1], f"# seed {found['seed']}\n")
        self.assertEqual(self.head[2], f"# command {found['command']}\n")
        self.assertTrue(self.head[3].startswith("time_ms,seat,"))


class Scenarios(unittest.TestCase):
    GOOD = """
name: one
about: Words.
instance: {ranks: 4, slots: "32", threads: true, dtype: bf16}
load: {requests: 10, rate: 2.5, input: "4:16", output: 8, keep-busy: 2}
events:
  - {at: {time: 1.5}, do: kill, ranks: [0, 2]}
  - {at: {state: repairing, after: 20ms, count: 2}, do: stop, ranks: source, for: 0.9x}
  - {at: {step: 40}, do: slow, ranks: random, count: 2, factor: 4, for: 1s}
  - {at: {time: 2s}, do: burn, value: 3}
  - {at: {state: placed}, do: placement, ranks: 1, file: order.json}
expect: {tokens_wrong: 0, "faults[*].pause_ms": "<= 500", good: true}
"""
    BAD = (("name: one", "nme: one"), ("about: Words.\n", ""), ("ranks: 4", "ranks: -4"),
           ("ranks: 4", "requests: 4"), ("threads: true", "threads: maybe"), ("bf16", "bf17"),
           ("rate: 2.5", "rate: fast"), ("time: 1.5", "time: soon"), ("do: kill", "do: murder"),
           ("time: 1.5", "time: 1.5, step: 3"), ("time: 1.5", "time: 1.5, after: 3s"),
           ("[0, 2]", "[0, 0]"), ("[0, 2]", "nobody"), ("repairing", "resting"),
           ("after: 20ms", "before: 20ms"), ("factor: 4", "factor: x"), ('"4:16"', '"4-16"'),
           ("output: 8", "outputs: 8"), ("ranks: 4", "out: x"), ("keep-busy: 2", "keep-busy: [2]"),
           ("file: order.json", "value: order.json"), ("file: order.json", "file: [order.json]"))

    ON_HOSTS = """
name: one
about: Words.
instance: {hosts: hosts.yaml, store: "etcd://127.0.0.1:2379?local=/run/eep"}
events:
  - {at: {time: 1.5}, do: partition, hosts: "h1|h2", for: 2s}
  - {at: {time: 1.5}, do: delay, hosts: "h1|h2:20ms"}
  - {at: {time: 2s}, do: host-kill, hosts: h2}
  - {at: {time: 3s}, do: rejoin, ranks: [2, 3], hosts: h1}
"""
    BAD_HOSTS = (("hosts.yaml", "[hosts.yaml]"), ("do: partition", "do: wall"), ('"h1|h2"', '"h1|h2|h1"'),
                 ('"h1|h2"', "[h1]"), ("hosts: h2}", 'hosts: ""}'), ("20ms", "soon"))

    @classmethod
    def setUpClass(cls):
        cls.schema = schema("scenario")

    def accepted(self, texts):
        """What eep-run says to each: "" where it takes the scenario."""
        with tempfile.TemporaryDirectory(prefix="eep-schema-") as folder:
            files = [os.path.join(folder, f"{i}.yaml") for i in range(len(texts))]
            for path, text in zip(files, texts):
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            with open(os.path.join(folder, "order.json"), "w", encoding="utf-8") as file:
                file.write('{"number": 1, "ranks": [{"rank": 1, "experts": [3]}]}')
            with open(os.path.join(folder, "hosts.yaml"), "w", encoding="utf-8") as file:
                file.write(Hosts.GOOD)
            said = subprocess.run([os.path.join(BIN, "eep-run"), "--check-only", *files], check=False,
                                  capture_output=True, text=True, cwd=folder).stderr
            return ["\n".join(line for line in said.splitlines() if f"{path}:" in line) for path in files]

    def test_the_library_is_what_the_schema_says(self):
        self.assertGreater(len(SCENARIOS), 30)
        for path in SCENARIOS:
            with open(path, encoding="utf-8") as file:
                self.schema.validate(as_json(file.read()))

    def test_both_take_and_refuse_the_same(self):
        texts = [self.GOOD] + [self.GOOD.replace(*change, 1) for change in self.BAD]
        for text, why in zip(texts, self.accepted(texts)):
            self.assertEqual(self.schema.is_valid(as_json(text)), text == self.GOOD, text)
            self.assertEqual(why == "", text == self.GOOD, f"{text}\n{why}")

    def test_both_take_and_refuse_the_same_of_hosts(self):
        texts = [self.ON_HOSTS] + [self.ON_HOSTS.replace(*change, 1) for change in self.BAD_HOSTS]
        for text, why in zip(texts, self.accepted(texts)):
            self.assertEqual(self.schema.is_valid(as_json(text)), text == self.ON_HOSTS, text)
            self.assertEqual(why == "", text == self.ON_HOSTS, f"{text}\n{why}")

    def test_both_know_the_same_options(self):
        text = subprocess.run([os.path.join(BIN, "eep-run"), "--help"], check=True, capture_output=True,
                              text=True).stdout
        names = sorted(set(re.findall(r"^  (?:-\w, )?--([a-z-]+)", text, re.MULTILINE)))
        for block in ("instance", "load"):
            texts = [f"name: a\nabout: b\n{block}: {{{name}: [1]}}\n" for name in names]
            known = {name for name, why in zip(names, self.accepted(texts))
                     if "is not an option about the" not in why}
            self.assertEqual(known, set(self.schema.schema["properties"][block]["properties"]), block)


class Hosts(unittest.TestCase):
    GOOD = """
hosts:
  - name: h1
    address: 10.0.0.1:7800
    agent: 10.0.0.1:7700
    ranks: 2
    start: ssh h1 eep-run --worker 10.0.0.1:7800
    store: "etcd://127.0.0.1:2379?local=/run/eep"
    environment: {EEP_NETWORK_INTERFACE: eth1}
  - {name: h2, address: "[fd00::2]:7800", ranks: 2}
commands: {partition: "true", delay: "true", heal: "true", one-way: "true", reset: "true", nic-down: "true",
           nic-up: "true", host-kill: "true", host-start: "true"}
"""
    BAD = (("name: h1", "names: h1"), ("name: h1", "name: h 1"), ("10.0.0.1:7800", "10.0.0.1"), ("ranks: 2", "ranks: -1"),
           ("EEP_NETWORK", "LD_PRELOAD"), ("partition:", "kill:"), ("commands:", "command:"), ("hosts:", "host:"),
           ("    agent: 10.0.0.1:7700\n", "    agents: 10.0.0.1:7700\n"))

    def test_both_take_and_refuse_the_same(self):
        found = schema("hosts")
        with tempfile.TemporaryDirectory(prefix="eep-schema-") as folder:
            for text in [self.GOOD] + [self.GOOD.replace(*change, 1) for change in self.BAD]:
                for name, words in (("hosts.yaml", text),
                                    ("a.yaml", 'name: a\nabout: b\ninstance: {hosts: hosts.yaml, store: '
                                               '"etcd://127.0.0.1:2379?local=/run/eep"}\n')):
                    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                        file.write(words)
                done = subprocess.run([os.path.join(BIN, "eep-run"), "--check-only", "a.yaml"], check=False,
                                      capture_output=True, text=True, cwd=folder)
                self.assertEqual(found.is_valid(as_json(text)), text == self.GOOD, text)
                self.assertEqual(done.returncode == 0, text == self.GOOD, f"{text}\n{done.stderr}")


if __name__ == "__main__":
    BIN, SUMMARIES = os.path.abspath(sys.argv[1]), sys.argv[2:]
    unittest.main(argv=sys.argv[:1])
