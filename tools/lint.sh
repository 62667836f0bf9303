#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Linters over the sources: shellcheck, codespell and clang-tidy.
#   tools/lint.sh BUILD [--all]    BUILD: a build folder, for its compile_commands.json
# clang-tidy looks at what differs from the last commit but one; --all: at every C file.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$(cd "${1:?usage: tools/lint.sh BUILD [--all]}" && pwd)
cd "$root"
failed=0

mapfile -t scripts < <(git ls-files '*.sh' '*.sbatch' check demo .ci/run tools/gpu-check tools/gpu-pack \
    tools/gpu-sources tools/hooks)
shellcheck --severity=warning "${scripts[@]}" || failed=1

# keep-alives: the store's messages of that name
git ls-files | grep -vE '\.(csv|png|gz|json|jsonl|svg)$|^LICENSE$' |
    xargs codespell --ignore-words-list keep-alives,keepalives || failed=1

if [ "${2:-}" = --all ]; then
    mapfile -t sources < <(git ls-files '*.c')
else
    before=$(git rev-parse -q --verify HEAD~1 || git rev-parse HEAD)
    mapfile -t sources < <(git diff --name-only --diff-filter=d "$before" -- '*.c')
fi
# Only what this build compiles; a compiler's launcher is not a compiler.
database=$(mktemp -d)
trap 'rm -rf "$database"' EXIT
mapfile -t known < <(/usr/bin/python3 - "$build" "$database" "${sources[@]}" <<'PY'
import json, os, sys
build, out, wanted = sys.argv[1], sys.argv[2], set(sys.argv[3:])
entries = {}
for entry in json.load(open(os.path.join(build, "compile_commands.json"))):
    path = os.path.relpath(os.path.realpath(os.path.join(entry["directory"], entry["file"])))
    if path in wanted and path not in entries:
        command = entry["command"].split(" ", 1)
        entry["command"] = entry["command"] if not command[0].endswith("ccache") else command[1]
        entry["command"] = entry["command"].replace(" -Wno-tsan", "")
        entry["file"] = os.path.realpath(path)
        entries[path] = entry
json.dump(list(entries.values()), open(os.path.join(out, "compile_commands.json"), "w"))
print("\n".join(sorted(entries)), end="\n" if entries else "")
PY
)
if [ "${#known[@]}" -gt 0 ]; then
    echo "clang-tidy: ${#known[@]} files"
    printf '%s\0' "${known[@]}" | xargs -0 -P "$(nproc)" -n 4 clang-tidy -p "$database" --quiet 2>/dev/null || failed=1
fi
exit "$failed"
