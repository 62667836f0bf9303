# SPDX-License-Identifier: Apache-2.0
"""abi_headers.py INCLUDE OUT shorter|longer STRUCT...: copies libeep's public headers with each named
struct one field shorter or longer, as an older or a newer version's would be."""
import pathlib
import re
import sys

source, out, change, names = sys.argv[1], sys.argv[2], sys.argv[3], set(sys.argv[4:])


def changed(match):
    name = match[1]
    if name not in names:
        return match[0]
    names.remove(name)
    fields = [f for f in (f.strip() for f in match[2].split(";")) if f]
    if change == "longer":
        fields.append("uint64_t field_of_the_next_version")
    elif "," in fields[-1] and "(" not in fields[-1]:
        fields[-1] = fields[-1].rsplit(",", 1)[0]
    else:
        fields.pop()
    return "typedef struct %s {\n    %s;\n} %s;" % (name, ";\n    ".join(fields), name)


folder = pathlib.Path(out) / "eep"
folder.mkdir(parents=True)
for header in sorted(pathlib.Path(source, "eep").glob("*.h")):
    text = re.sub(r"/\*.*?\*/", " ", header.read_text(), flags=re.S)
    text = re.sub(r"typedef struct (\w+) \{(.*?)\} \1;", changed, text, flags=re.S)
    (folder / header.name).write_text(text)
if names:
    sys.exit("no header has " + " ".join(sorted(names)))
