#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The house style as a test: folders, sizes, names, words. Prints a line for each fault it finds.

    tests/tidy.py [--root FOLDER] [--circles]      exit status 1: there is a fault

--circles lists the circles of files, with the reason why each may stay. tests/python/test_tidy.py
breaks every rule here once and expects its line.
"""
import argparse
import collections
import os
import re
import subprocess
import sys

CODE = (".c", ".h", ".cu")
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_FOLDER_FILES, MAX_DOC_COLUMNS = 600, 70, 15, 100

# A file may include what stands in its own folder or in a line above it. Folders of one line may not
# include each other.
FLOORS = [
    ("include/eep",),
    ("bindings/python/native",),
    ("graphs/base",),
    ("graphs/kernels",),
    ("graphs/vector",),
    ("graphs/device",),
    ("graphs/host", "graphs/cuda"),
    ("membership/view",),
    ("transport/secure",),
    ("transport/window",),
    ("transport/proxy",),
    ("transport/holder",),
    ("transport/ucx",),
    ("transport/bulk",),
    ("transport/checkpoint",),
    ("transport",),
    ("repair",),
    ("membership/hosts",),
    ("membership/core",),
    ("membership/stepper",),
    ("membership/process",),
    ("membership/store",),
    ("membership/backup",),
    ("membership/trace",),
    ("membership/launch",),
    ("membership/context",),
    ("membership/claim",),
    ("membership/control",),
    ("membership/loads",),
    ("membership/order",),
    ("membership/step",),
    ("membership/weights",),
    ("membership/agent",),
    ("membership/collective",),
    ("membership/service",),
    ("membership",),
    ("experiments/base",),
    ("experiments/wire",),
    ("experiments/script",),
    ("experiments/foreign",),
    ("experiments/model",),
    ("experiments/load",),
    ("experiments/rank",),
    ("experiments/setup",),
    ("experiments/rows",),
    ("experiments/control",),
    ("experiments/hosts",),
    ("experiments/chaos", "experiments/children"),
    ("experiments/launcher",),
    ("experiments/run",),
    ("experiments/bench/fixed",),
    ("experiments/bench", "experiments/info", "experiments/plan_tool", "experiments/store",
     "experiments/oracle", "experiments/avail", "experiments/netlab", "experiments/agent"),
    ("tests", "examples", "tools"),
]
# Below, and nevertheless closed: what stays pure or independent (docs/ARCHITECTURE.md).
NEVER = [
    ("membership/core", ("transport", "graphs/device", "graphs/host", "membership/store",
                         "membership/process")),
    ("membership/view", ("graphs",)),
    ("repair/link_costs", ("transport", "graphs")),
    ("repair/planner", ("transport", "graphs")),
    ("repair/placement", ("transport", "graphs")),
    ("repair/background", ("transport", "graphs")),
    ("membership/store/store_table", ("graphs", "transport", "membership/process")),
    ("membership/sink", ("transport", "membership/core", "membership/context")),
]
# The only folders and files of the project that these may include.
ONLY = {"experiments/oracle": ("experiments/oracle/", "experiments/base/", "include/eep/status.h")}
# Pure: no clock, thread, socket or device, of the project or of the system.
PURE = ("membership/core", "membership/stepper", "membership/hosts", "membership/view", "repair/planner", "repair/placement",
        "repair/link_costs", "repair/background", "membership/store/store_table", "experiments/script/script")
IMPURE = ("graphs/base/", "time.h", "pthread.h", "poll.h", "unistd.h", "sys/")
# Bags that were emptied once: how many members they may have.
MEMBERS = {"struct eep_context": 40, "struct launcher": 15}
# Who looks into a peer's entry of a bank, and what that looks like.
PEER_FILES = ("graphs/kernels/peer_puts.h", "graphs/kernels/table_layout.h")
PEER_ADDRESS = r"(\.|->)address\b|\beepk_peers\(|\bwindows\s*\[|\beepk_windows\([^)]*\)\s*\["
# Circles of files that stay, each with its reason.
CIRCLES = {}
# Private words of former days, and the word to use (docs/GLOSSARY.md).
WORDS = {
    r"\bdeeds?\b": "action", r"\boutbox\b": "send queue", r"\bis_apart\b": "is_discrete",
    r"\bbeside_us\b": "program_dir", r"\blauncher_(do|did)\b": "apply, record",
    r"\bsay_again\b": "republish", r"\blab_(halt|gaps|kernel)": "fault_",
    r"(?m)^(?:[-*#/ ]*)(Who(?! =)|Whoever|Whatever) (?![^.?]*\?)": "the subject itself",
}
NO_SPDX = (".md", ".json", ".ipynb", ".jsonl", ".csv", ".png", ".gz", ".txt", ".patch", ".in", ".toml", ".cff",
           ".map", "LICENSE", ".gitignore", ".clang-format", ".clang-tidy", ".editorconfig")


def find_files(root):
    try:
        names = subprocess.run(["git", "-C", root, "ls-files", "-z"], check=True,
                               capture_output=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        names = [os.path.relpath(os.path.join(folder, name), root)
                 for folder, _, files in os.walk(root) for name in files]
    return sorted(name for name in names if name and os.path.isfile(os.path.join(root, name)))


def read_sources(root):
    sources = {}
    for name in find_files(root):
        if name.endswith((".png", ".gz", ".csv", ".jsonl")):
            sources[name] = ""
            continue
        with open(os.path.join(root, name), encoding="utf-8", errors="replace") as file:
            sources[name] = file.read()
    return sources


def code_of(sources):
    return {name: text for name, text in sources.items() if name.endswith(CODE)}


def floor_of(name):
    """The number of its folder's floor, and the folder; the deepest folder that has one."""
    folder = os.path.dirname(name)
    while folder:
        for number, folders in enumerate(FLOORS):
            if folder in folders:
                return number, folder
        folder = os.path.dirname(folder)
    return None, None


def check_includes(sources):
    names = set(sources)
    for name, text in code_of(sources).items():
        here, folder = floor_of(name)
        if here is None:
            yield f"{name}: its folder has no floor in tests/tidy.py"
            continue
        for line, found in enumerate(text.split("\n"), 1):
            match = re.match(r'\s*#\s*include\s+[<"](.+?)[>"]', found)
            if not match:
                continue
            target = match.group(1)
            if name.startswith(PURE) and target.startswith(IMPURE):
                yield f"{name}:{line}: it is pure, and includes {target}"
            target = target if target in names else os.path.join("include", target)
            if target not in names:
                continue
            there, other = floor_of(target)
            if other != folder and there >= here:
                yield f"{name}:{line}: {folder} may not include {other} ({match.group(1)})"
            for closed, doors in ONLY.items():
                if name.startswith(closed + "/") and not target.startswith(doors):
                    yield f"{name}:{line}: {closed} stays independent of {target}"
            for closed, doors in NEVER:
                if name.startswith(closed) and target.startswith(doors):
                    yield f"{name}:{line}: {closed} stays independent of {os.path.dirname(target)}"


def check_sizes(sources):
    for name, text in code_of(sources).items():
        lines = text.split("\n")
        if len(lines) - 1 > MAX_FILE_LINES:
            yield f"{name}: {len(lines) - 1} lines, more than {MAX_FILE_LINES}"
        begin = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                begin = number
            elif line.startswith("}") and begin is not None:
                if number - begin + 1 > MAX_FUNCTION_LINES:
                    yield (f"{name}:{begin}: a function of {number - begin + 1} lines, more than "
                           f"{MAX_FUNCTION_LINES}")
                begin = None


def check_folders(sources):
    count = collections.Counter(os.path.dirname(name) for name in sources if name.endswith(".c"))
    for folder, files in sorted(count.items()):
        if files > MAX_FOLDER_FILES:
            yield f"{folder}: {files} .c files, more than {MAX_FOLDER_FILES}"


def check_basenames(sources):
    places = collections.defaultdict(list)
    for name in sources:
        if name.endswith(CODE + (".py", ".sh")) and os.path.basename(name) not in ("run.sh", "__init__.py"):
            places[os.path.basename(name)].append(name)
    for base, names in sorted(places.items()):
        if len(names) > 1:
            yield f"{base}: the name of {len(names)} files: {', '.join(names)}"


def check_documents(sources):
    for name, text in sources.items():
        if not name.endswith(".md"):
            continue
        in_code = False
        for number, line in enumerate(text.split("\n"), 1):
            if line.lstrip().startswith("```"):
                in_code = not in_code
            if in_code or line.lstrip().startswith("|") or line.startswith("    ") or "](" in line:
                continue
            if len(line) > MAX_DOC_COLUMNS:
                yield f"{name}:{number}: {len(line)} columns, more than {MAX_DOC_COLUMNS}"


def check_references(sources):
    """`file.c:12`, in a document or a comment: the file is there and has that line."""
    lines = {}
    for name, text in sources.items():
        lines.setdefault(os.path.basename(name), []).append((name, text.count("\n")))
    for name, text in sources.items():
        if not name.endswith(CODE + (".md", ".py", ".sh")) or name == "tests/tidy.py":
            continue
        for match in re.finditer(r"(?<![\w/.-])((?:[\w-]+/)*[\w-]+\.(?:c|h|cu|py|sh|md)):(\d+)\b", text):
            path, line = match.group(1), int(match.group(2))
            known = [count for full, count in lines.get(os.path.basename(path), [])
                     if full.endswith(path)]
            number = text.count("\n", 0, match.start()) + 1
            if not known:
                yield f"{name}:{number}: there is no file {path}"
            elif line > max(known):
                yield f"{name}:{number}: {path} has no line {line}"


def check_words(sources):
    for name, text in sources.items():
        if not name.endswith(CODE + (".md", ".py", ".sh")) or name in (
                "tests/tidy.py", "tests/python/test_tidy.py", "docs/GLOSSARY.md", "CHANGELOG.md"):
            continue
        for word, better in WORDS.items():
            for match in re.finditer(word, text):
                number = text.count("\n", 0, match.start()) + 1
                yield f"{name}:{number}: '{match.group(0).strip()}': say {better}"


def check_licence(sources):
    for name, text in sources.items():
        if name.endswith(NO_SPDX) or "/results/" in name:
            continue
        if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(text.split("\n")[:3]):
            yield f"{name}: no SPDX line among its first three"


def without_comments(text):
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)
    return re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)


def members_of(text, name):
    """How many members a struct has: declarators at its first level."""
    match = re.search(rf"\b{name} \{{", text)
    if not match:
        return None
    depth, body = 1, ""
    for character in text[match.end():]:
        depth += (character == "{") - (character == "}")
        if depth == 0:
            break
        if depth == 1 and character != "}":
            body += character
    declarations = [re.sub(r"\([^()]*\)\s*$|\[[^\]]*\]", "", part) for part in body.split(";")]
    return sum(part.count(",") + 1 for part in declarations if part.strip())


def check_members(sources):
    for struct, most in MEMBERS.items():
        for name, text in code_of(sources).items():
            count = members_of(without_comments(text), struct)
            if count is not None and count > most:
                yield f"{name}: {struct} has {count} members, more than {most}"


def find_circles(sources):
    """Groups of .c files that call each other in a circle."""
    defined, used = {}, {}
    for name, text in sources.items():
        if not name.endswith(".c") or name.startswith(("tests/", "examples/")):
            continue
        plain = without_comments(text)
        for match in re.finditer(r"^(?!static\b|typedef\b|return\b)[A-Za-z_][\w \*]*?\b(\w+)\([^;{}]*\)\n\{",
                                 plain, re.M):
            defined.setdefault(match.group(1), set()).add(name)
        used[name] = set(re.findall(r"\b[a-z]\w+\b", plain))
    graph = {name: set() for name in used}
    for name, words in used.items():
        for word in words:
            for owner in defined.get(word, ()):
                if owner != name and len(defined[word]) == 1:
                    graph[name].add(owner)
    return [sorted(group) for group in components(graph) if len(group) > 1]


def components(graph):
    """Strongly connected components, by Tarjan's algorithm without recursion."""
    index, low, on_stack, stack, found = {}, {}, set(), [], []
    for root in sorted(graph):
        if root in index:
            continue
        work = [(root, iter(sorted(graph[root])))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            below = next(rest, None)
            if below is not None:
                if below not in index:
                    index[below] = low[below] = len(index)
                    stack.append(below)
                    on_stack.add(below)
                    work.append((below, iter(sorted(graph[below]))))
                elif below in on_stack:
                    low[node] = min(low[node], index[below])
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[node])
            if low[node] == index[node]:
                group = []
                while not group or group[-1] != node:
                    group.append(stack.pop())
                    on_stack.discard(group[-1])
                found.append(group)
    return found


def check_peers(sources):
    """Must 11: what reaches a peer goes through the primitives, and one file alone has its address."""
    for name, text in code_of(sources).items():
        if not name.startswith("graphs/kernels/") or name in PEER_FILES:
            continue
        for line, found in enumerate(text.split("\n"), 1):
            if re.search(PEER_ADDRESS, found):
                yield f"{name}:{line}: a peer's address, which only {PEER_FILES[0]} uses"


def check_circles(sources):
    for group in find_circles(sources):
        if not any(set(group) <= set(allowed) for allowed in CIRCLES):
            yield "a circle of files: " + ", ".join(group)


CHECKS = [check_includes, check_peers, check_sizes, check_folders, check_basenames, check_documents,
          check_references, check_words, check_licence, check_members, check_circles]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser.add_argument("--circles", action="store_true", help="list the circles of files")
    arguments = parser.parse_args()
    sources = read_sources(arguments.root)
    if arguments.circles:
        for group in find_circles(sources):
            reasons = [why for files, why in CIRCLES.items() if set(group) <= set(files)]
            print(f"{len(group)} files: {', '.join(group)}\n    {reasons[0] if reasons else 'not defended'}")
        return 0
    wrong = [fault for check in CHECKS for fault in check(sources)]
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
