# SPDX-License-Identifier: Apache-2.0
"""abi_headers.py INCLUDE OUT shorter|first|longer STRUCT...: copies libeep's public headers with each
named struct changed. longer: one field more, as a newer version's would be. first: without the fields
that came after the first release (graphs/base/public_call.h names its last one). shorter: without
that one too, as no version's is."""
import pathlib
import re
import sys

source, out, change, names = sys.argv[1], sys.argv[2], sys.argv[3], set(sys.argv[4:])
calls = pathlib.Path(source).parent / "graphs" / "base" / "public_call.h"
first = dict(re.findall(r"#define EEPI_FIRST_(\w+)\s+(\w+)", calls.read_text()))


def fields_of(body):
    """One declaration for each field: `int a, b` is two."""
    for declaration in (part.strip() for part in body.split(";")):
        if "," in declaration and "(" not in declaration:
            kind, declarators = declaration.split(None, 1)
            for declarator in declarators.split(","):
                yield "%s %s" % (kind, declarator.strip())
        elif declaration:
            yield declaration


def changed(match):
    name = match[1]
    if name not in names:
        return match[0]
    names.remove(name)
    fields = list(fields_of(match[2]))
    if change == "longer":
        fields.append("uint64_t field_of_the_next_version")
    elif name in first:
        last = next(i for i, field in enumerate(fields)
                    if re.search(r"\b%s\b(\[.*\])?$" % first[name], field))
        fields = fields[:last + (change == "first")]
    elif change == "shorter":
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
