#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What documents and comments name must exist: files, links, functions, constants, options, and
the keys of summary.json."""

import glob
import os
import re
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Options of other programs, and forms that stand for many.
FOREIGN_OPTIONS = {"--cflags", "--libs", "--buildtype", "--no-rebuild", "--dry-run", "--prefix",
                   "--variable", "--map-user",
                   # of mpirun, Slurm and systemctl, in docs/DEPLOY.md
                   "--max-restarts", "--kill-on-bad-exit", "--wait", "--no-kill", "--requeue", "--ntasks-per-node", "--now",
                   "--no-python", "--nproc-per-node", "--nodelist", "--cpu-bind", "--cpus-per-task",
                   "--apart"}  # the last: of a former release, in CHANGELOG.md
CODE = (".c", ".h", ".cu", ".py", ".sh", ".yaml", ".in", ".patch", ".txt", ".build", ".S", ".pml")
PATH_ENDS = r"\.(?:c|h|cu|py|sh|md|yaml|json|csv|png|txt|patch|pml)"
# Named as what a run or a person makes, not as files of the project.
MADE = ("DIR/", "out/", "build", "/", "~", "OUT/", "$", "..", "plan.json", "requests.jsonl")


def tracked():
    names = subprocess.run(["git", "-C", ROOT, "ls-files"], stdout=subprocess.PIPE, text=True,
                           check=False).stdout.split("\n")
    if len(names) < 2:  # no checkout: the files that are there
        names = [os.path.relpath(os.path.join(folder, name), ROOT)
                 for folder, folders, files in os.walk(ROOT) for name in files
                 if not any(part.startswith(("build", ".git")) for part in folder.split(os.sep))]
    return [name for name in names if name and os.path.isfile(os.path.join(ROOT, name))]


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8", errors="replace") as file:
        return file.read()


FILES = tracked()
DOCS = [name for name in FILES if name.endswith(".md")]
SOURCES = {name: read(name) for name in FILES if name.endswith(CODE) or name in ("check", "demo")
           or name.startswith("tools/")}
BASENAMES = {os.path.basename(name) for name in FILES}
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
CODE_WORDS = set()
for source, content in SOURCES.items():
    plain = COMMENT.sub(" ", content) if source.endswith((".c", ".h", ".cu")) else content
    CODE_WORDS.update(re.findall(r"\w+", plain))
# Names that macros put together: EEPI_STORE_##name, prefix ## _open.
for content in SOURCES.values():
    for prefix in re.findall(r"\b(\w+_)\s*##", content):
        CODE_WORDS.add(prefix)


def exists(path, document):
    """As a file or folder of the project, from its root, from the document, or below a folder that
    documents leave out."""
    folders = ("", "experiments", "tests", "docs", "graphs", "include", os.path.dirname(document))
    places = [os.path.join(ROOT, folder) for folder in folders]
    path = re.sub(r":\d+$", "", path)
    return any(glob.glob(os.path.join(place, path)) for place in places)


def is_known(word):
    """In the code, or the beginning of names that are (`eep_slot_...`, `EEP_ERR_*`)."""
    kernel = word.removesuffix("_cuda") + "_body"  # macros make its other names
    return word in CODE_WORDS or kernel in CODE_WORDS or (word.endswith("_") and any(
        name.startswith(word) for name in CODE_WORDS))


class Checked(unittest.TestCase):
    def check(self, wrong):
        self.assertFalse(wrong, "\n" + "\n".join(sorted(set(wrong))))


class Documents(Checked):
    def test_literals_of_sized_structs_have_their_size(self):
        """A literal that leaves struct_bytes 0 is refused, or read as an older version's. What libeep
        itself fills is copied into the caller's struct, which has its size."""
        headers = "".join(read(name) for name in FILES if re.match(r"include/eep/\w+\.h$", name))
        sized = [name for body, name in
                 re.findall(r"typedef struct \w+ \{([^}]*)\} (\w+);", headers) if "struct_bytes" in body]
        self.assertIn("eep_config", sized)
        literal = re.compile(r"\b((?:%s)(?: \w+ =|\)) ?\{(?!0\})[^,}]*)" % "|".join(sized))
        self.check([f"{name}: '{first}': its struct_bytes is missing"
                    for name in FILES if name.endswith((".c", ".cu", ".h", ".md"))
                    and not name.startswith(("membership/", "tests/lib/fake_eep.c"))
                    for first in literal.findall(read(name))
                    if not re.search(r"struct_bytes = |sizeof", first)])

    def test_files_exist(self):
        wrong = []
        for name in DOCS:
            for quoted in re.findall(r"`([^`\n]+)`", read(name)):
                for path in re.findall(rf"[\w./*-]+/[\w.*-]+{PATH_ENDS}\b|\b[\w-]+\.(?:c|h|cu|py)\b",
                                       quoted):
                    known = os.path.basename(path) in BASENAMES if "/" not in path else \
                        exists(path, name)
                    if not known and not path.startswith(MADE):
                        wrong.append(f"{name}: no file '{path}'")
        self.check(wrong)

    def test_links_lead_somewhere(self):
        wrong = []
        for name in DOCS:
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", read(name)):
                path = os.path.join(ROOT, os.path.dirname(name), target)
                if not target.startswith(("http:", "https:", "mailto:")) and not os.path.exists(path):
                    wrong.append(f"{name}: a link to '{target}'")
        self.check(wrong)

    def test_names_of_the_api_exist(self):
        wrong = []
        for name in DOCS:
            for word in re.findall(r"\b(?:eep|eepi|eepk|eepx|EEP|EEPI|EEPK|EEPX)_\w+", read(name)):
                if not is_known(word):
                    wrong.append(f"{name}: no '{word}' in the code")
        self.check(wrong)

    def test_what_begins_with_an_interpreter_can_be_run(self):
        wrong = [f"{name}: not executable" for name, content in SOURCES.items()
                 if content.startswith("#!") and not os.access(os.path.join(ROOT, name), os.X_OK)]
        self.check(wrong)

    def test_options_exist(self):
        options = set(FOREIGN_OPTIONS)
        for content in SOURCES.values():
            options.update(re.findall(r"--[a-z][\w-]*", content))
        wrong = [f"{name}: no option '{option}'" for name in DOCS
                 if name != "CHANGELOG.md"  # it names options of former days
                 for option in re.findall(r"(?<![\w-])--[a-z][\w-]*(?=[\s`=,.;:)\]|]|$)", re.sub(r".*(?:-->|<--).*", "", read(name)))  # not in drawings
                 if option not in options]
        self.check(wrong)

    def test_keys_of_the_summary_are_told(self):
        told = read("docs/SUMMARY.md")
        keys = set()
        for name in ("experiments/rows/summary_json.c", "experiments/rows/summary_events.c"):
            keys.update(re.findall(r'(?:add_\w+|cJSON_Add\w+)\(\w+, "(\w+)"', SOURCES[name]))
        self.assertGreater(len(keys), 40)
        words = set(re.findall(r"\w+", told))
        shortened = {f"{stem}{end}" for stem in ("requests", "captures_after_start")
                     for end in re.findall(r"`(_\w+)`", told)}
        self.check([f"docs/SUMMARY.md: nothing about '{key}'" for key in keys
                    if key not in words | shortened])


    def test_the_ten_lines_are_a_program(self):
        """The calls of README's example are those of examples/ten_lines.c between its marks."""
        def calls(text):
            return re.findall(r"\b(eep_\w+)\(", re.sub(r"/\*.*?\*/", "", text, flags=re.S))
        told = re.search(r"## The API in ten lines\s+```c\n(.*?)```", read("README.md"), re.S)
        program = re.findall(r"// README begins\n(.*?)// README ends", read("examples/ten_lines.c"), re.S)
        self.assertEqual(calls(told.group(1)), calls("".join(program)))

    def test_the_size_of_the_store_is_as_told(self):
        told = re.search(r"socket\) is about ([\d,]+) lines", read("docs/ARCHITECTURE.md"))
        lines = sum(content.count("\n") for name, content in SOURCES.items()
                    if re.match(r"membership/store/(?!etcd/)|experiments/store/", name))
        self.assertLess(abs(lines / int(told.group(1).replace(",", "")) - 1), 0.1, f"{lines} lines")

    def test_mutants_are_counted(self):
        """README and STATUS say how many there are, and who notices them."""
        patches = {os.path.basename(path)[:-len(".patch")]
                   for path in glob.glob(f"{ROOT}/tests/mutants/*.patch")}
        rows = [line.split() for line in read("tests/mutants/caught.txt").split("\n")
                if line and not line.startswith("#")]
        names = [row[0] for row in rows]
        simulated = sum(row[1] == "sim:" for row in rows)
        self.assertEqual(sorted(names), sorted(set(names)), "two rows for one mutant")
        self.assertEqual(set(names) - patches, set(), "rows without a mutant")
        status = re.sub(r"\s+", " ", read("docs/STATUS.md"))
        for said in (f"breaks {len(patches)} places",
                     f"has a row for {len(rows)} of them: the simulator noticed {simulated} first, "
                     f"and unit tests {len(rows) - simulated}."):
            self.assertIn(said, status)
        self.assertIn(f"| {len(patches)} mutants, each", read("README.md"))

    def test_rules_that_are_cited_are_defined(self):
        """A rule's number in code, tests, models or mutants: docs/PROTOCOL.md says what it demands;
        a must's: docs/MUSTS.md does."""
        defined = set(re.findall(r"^\*\*([TDMRPSL]\d+)\. ", read("docs/PROTOCOL.md"), re.M))
        self.assertEqual(len(defined), 55)
        musts = set(re.findall(r"^## (\d+)\. ", read("docs/MUSTS.md"), re.M))
        self.assertEqual(len(musts), 12)
        cited = re.compile(r"\brules? ([TDMRPSL]\d+)|[(,:] ?([TDMRPSL]\d+)[),:]|\b([TDMRPSL]\d+)[_-][a-z]")
        wrong = []
        for name, content in SOURCES.items():
            for found in cited.finditer(f"{os.path.basename(name)}\n{content}"):
                rule = found.group(1) or found.group(2) or found.group(3)
                if rule not in defined and "HWLOC" not in content:
                    wrong.append(f"{name}: rule {rule} is not in docs/PROTOCOL.md")
            for must in re.findall(r"\bmust (\d+)\b", content):
                if must not in musts:
                    wrong.append(f"{name}: must {must} is not in docs/MUSTS.md")
        self.check(wrong)


class Comments(Checked):
    def test_a_comment_stands_before_what_it_is_about(self):
        """Two in a row: what the first was about has gone elsewhere."""
        twice = re.compile(r"^(?:/\*| \*)[^\n]*\*/\n/\*", re.M)
        self.check([f"{name}: a comment stands before another: '{found.group(0)[:60]}'"
                    for name, content in SOURCES.items() if name.endswith((".c", ".h", ".cu"))
                    for found in twice.finditer(content)
                    if "----" not in found.group(0) and "SPDX-License" not in found.group(0)
                    and not content.startswith("/* clang-format", found.end() - 2)])

    def test_functions_in_comments_exist(self):
        """`name(...)` in a comment, with an underscore: our own, or one of the system's."""
        wrong = []
        for name, content in SOURCES.items():
            if not name.endswith((".c", ".h", ".cu")) or name.startswith("tests/fake_gpu"):
                continue
            for comment in COMMENT.findall(content):
                for word in re.findall(r"\b([a-z]\w*_\w+)\(", comment):
                    if word not in CODE_WORDS:
                        wrong.append(f"{name}: a comment names '{word}(', which is nowhere")
        self.check(wrong)

    def test_names_in_comments_exist(self):
        wrong = []
        for name, content in SOURCES.items():
            if not name.endswith((".c", ".h", ".cu")):
                continue
            for comment in COMMENT.findall(content):
                for word in re.findall(r"\b(?:eep|eepi|eepk|EEP|EEPI|EEPK)_\w+", comment):
                    if not is_known(word):
                        wrong.append(f"{name}: a comment names '{word}', which is nowhere")
                for word in re.findall(r"\b[\w/]+\.(?:c|h|cu|py)\b", comment):
                    if os.path.basename(word) not in BASENAMES and not word.startswith(("/", "sys")):
                        wrong.append(f"{name}: a comment names the file '{word}'")
        self.check(wrong)


if __name__ == "__main__":
    unittest.main()
