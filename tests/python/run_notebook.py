#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Execute a notebook's code cells in order, in one namespace, and stop at the first that fails.

usage: run_notebook.py FILE.ipynb [WORK]     WORK: the folder to be in (default: that of FILE)

Checked as well: it is of format 4, and no output is kept in it, since that would grow old.
"""

import json
import linecache
import os
import sys
import traceback


def cells_of(path):
    with open(path, encoding="utf-8") as file:
        notebook = json.load(file)
    if notebook.get("nbformat") != 4:
        sys.exit(f"{path}: not a notebook of format 4")
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] == "code":
            if cell["outputs"] or cell["execution_count"]:
                sys.exit(f"{path}: cell {number} keeps an output: clear it")
            yield number, "".join(cell["source"])


def main():
    path = os.path.abspath(sys.argv[1])
    os.chdir(sys.argv[2] if len(sys.argv) > 2 else os.path.dirname(path))
    namespace = {"__name__": "__main__"}
    for number, source in cells_of(path):
        name = f"{os.path.basename(path)}, cell {number}"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        print(f"--- cell {number}", flush=True)
        try:
            exec(compile(source, name, "exec"), namespace)  # pylint: disable=exec-used
        except Exception:  # pylint: disable=broad-except; whatever a cell raises
            traceback.print_exc()
            sys.exit(f"{name} failed")


if __name__ == "__main__":
    main()
