#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the Python package `eep`: libeep by meson, the extension module by cffi and cc, the wheel.

    pip install bindings/python                    a wheel of this tree, by pip (this is its backend)
    bindings/python/eep_build.py --wheel DIR       the same without pip
    bindings/python/eep_build.py --tree DIR --libeep build/libeep.so
                                                   a folder to put into PYTHONPATH, for tests

What Python sees of libeep is made from include/eep/*.h: each public function, struct and constant,
so that a new header needs no word here. The C compiler checks every layout against the headers.
A function on objects of libeep (`eep_context *`) becomes one on handles, `py_NAME`, which enters
them first (native/extension.h): so no call uses an object behind its close.
"""
import argparse
import base64
import contextlib
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
INCLUDE = os.path.join(ROOT, "include")
LIBEEP = "libeep.so.1"
MODULE = "eep._eep"
# Standard types, for a parser that sees no standard header.
TYPES = "".join(f"typedef int {name};" for name in (
    "int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t", "uint32_t", "int64_t", "uint64_t",
    "size_t"))
# Written by hand in native/handles.c, with more than an entry.
BY_HAND = {"eep_step_begin", "eep_step_begin_shape", "eep_step_end"}
STEP_LOCKS = {"eep_context"}


def version():
    with open(os.path.join(ROOT, "meson.build"), encoding="utf-8") as file:
        return re.search(r"version: '([^']+)'", file.read()).group(1)


def public_headers():
    return sorted(os.path.basename(name) for name in glob.glob(os.path.join(INCLUDE, "eep", "*.h")))


def compiler():
    return os.environ.get("CC", "cc").split()


# ---------------------------------------------------------------- what the headers declare

def preprocessed():
    """The declarations of all headers, without those of the system and without inline bodies."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("stddef.h", "stdint.h", "string.h"):
            open(os.path.join(folder, name), "w", encoding="utf-8").close()
        text = "".join(f"#include <eep/{name}>\n" for name in public_headers())
        text += '#include "extension.h"\n'
        done = subprocess.run(
            compiler() + ["-E", "-P", "-U__GNUC__", "-nostdinc", "-I", folder, "-I", INCLUDE, "-I",
                          os.path.join(HERE, "native"), "-x", "c", "-"],
            input=text, stdout=subprocess.PIPE, universal_newlines=True, check=True)
    return without_inline(done.stdout)


def without_inline(text):
    """`static inline` functions left out."""
    kept, at = "", 0
    for match in re.finditer(r"\bstatic inline\b", text):
        if match.start() < at:
            continue
        kept += text[at:match.start()]
        depth, at = 0, text.index("{", match.start())
        while True:
            depth += (text[at] == "{") - (text[at] == "}")
            at += 1
            if depth == 0:
                break
    return kept + text[at:]


class Headers:
    """Functions of libeep, sorted by whether they need handles."""

    def __init__(self, exported):
        from pycparser import c_ast, c_generator, c_parser
        self.text = preprocessed()
        self.ast = c_ast
        self.generator = c_generator.CGenerator()
        tree = c_parser.CParser().parse(TYPES + self.text)
        self.opaque = {node.name for node in tree.ext
                       if isinstance(node, c_ast.Typedef) and isinstance(node.type, c_ast.TypeDecl)
                       and isinstance(node.type.type, c_ast.Struct)
                       and not node.type.type.decls and node.name.startswith("eep_")}
        defined = {node.type.type.name for node in tree.ext if isinstance(node, c_ast.Typedef)
                   and isinstance(node.type, c_ast.TypeDecl)
                   and isinstance(node.type.type, c_ast.Struct) and node.type.type.decls}
        self.opaque -= defined
        declared = [node for node in tree.ext if isinstance(node, c_ast.Decl)
                    and isinstance(node.type, c_ast.FuncDecl) and node.name.startswith("eep_")]
        self.functions = [node for node in declared if node.name in exported]
        self.lacking = [node for node in declared if node.name not in exported]

    def handle_of(self, type_, stars=1):
        """The opaque struct that a parameter points to by so many stars; None for others."""
        for _ in range(stars):
            if not isinstance(type_, self.ast.PtrDecl):
                return None
            type_ = type_.type
        if not isinstance(type_, self.ast.TypeDecl) or \
                not isinstance(type_.type, self.ast.IdentifierType):
            return None
        name = type_.type.names[0]
        return name if name in self.opaque else None

    def code_of(self, node):
        return self.generator.visit(node)

    def wrappers(self):
        """(prototypes, C code) of the functions on handles."""
        prototypes, code = [], []
        for function in self.functions:
            params = [] if function.type.args is None else function.type.args.params
            kinds = [(self.handle_of(param.type), self.handle_of(param.type, 2))
                     for param in params]
            if not any(one or two for one, two in kinds) or function.name in BY_HAND:
                continue
            if function.name.endswith("close") and len(params) == 1:
                prototype, body = self.close(function, kinds[0][0])
            else:
                prototype, body = self.call(function, params, kinds)
            prototypes.append(prototype + ";\n")
            code.append(prototype + "\n" + body)
        return "".join(prototypes), "".join(code)

    @staticmethod
    def close(function, kind):
        name = "py_" + function.name[len("eep_"):]
        return (f"int {name}(eepy_handle *handle)", f"""{{
    void *it;
    int begun = eepy_begin_close(handle, {int(kind in STEP_LOCKS)}, &it);

    if (begun > 0) {{
        {function.name}(it);
    }}
    return begun;
}}
""")

    def call(self, function, params, kinds):
        name = "py_" + function.name[len("eep_"):]
        result = self.code_of(function.type.type).replace(function.name, "").strip()
        says_status = result == "eep_status"
        given, passed, before, after, inside = [], [], [], [], []
        for param, (one, two) in zip(params, kinds):
            if two:
                given.append(f"eepy_handle *{param.name}")
                passed.append(f"({two} **)&{param.name}_out")
                before.append(f"void *{param.name}_out = NULL;")
                inside.append(f"if ({param.name}) {{ eepy_fill({param.name}, {param.name}_out); }}")
            elif one:
                given.append(f"eepy_handle *{param.name}")
                passed.append(f"{param.name}_it")
                before.append(f"void *{param.name}_it = NULL; int {param.name}_in = 0;")
                after.append(param.name)
            else:
                given.append(self.code_of(param))
                passed.append(param.name)
        enter = " && ".join(f"({one}_in = eepy_enter({one}, &{one}_it))" for one in after) or "1"
        leave = "".join(f"    if ({one}_in) {{ eepy_leave({one}); }}\n" for one in after)
        fill = "".join(f"        {line}\n" for line in inside)
        if fill and says_status:
            fill = "        if (result == EEP_OK) {\n" + fill + "        }\n"
        closed = "EEPY_CLOSED" if says_status else "-1" if name.endswith("_fd") else "0"
        call = f"{function.name}({', '.join(passed)});"
        if result == "void":
            body = f"        {call}\n"
            first, last = "", ""
        else:
            body = f"        result = {call}\n" + fill
            first = f"    {result} result = ({result}){closed};\n"
            last = "    return result;\n"
        lines = "".join(f"    {line}\n" for line in before)
        return (f"{result} {name}({', '.join(given)})",
                f"{{\n{first}{lines}\n    if ({enter}) {{\n{body}    }}\n{leave}{last}}}\n")

    def plain_text(self):
        """All declarations, with those functions alone that need no handle."""
        text = self.text
        for function in self.functions + self.lacking:
            params = [] if function.type.args is None else function.type.args.params
            if function in self.lacking or any(self.handle_of(param.type) or self.handle_of(param.type, 2)
                   for param in params) or function.name in BY_HAND:
                text = re.sub(rf"[^;}}]*\b{function.name}\([^;]*\);", "", text)
        return text


def exported_by(libeep):
    """The public functions of a libeep, which may lack what the newest header declares."""
    done = subprocess.run(["nm", "-D", "--defined-only", libeep], stdout=subprocess.PIPE,
                          universal_newlines=True, check=True)
    return sorted(set(re.findall(r"\b(eep_\w+)", done.stdout)))


def emit(folder, libeep):
    """Write _eep.c, the module's C code."""
    import cffi
    headers = Headers(set(exported_by(libeep)))
    prototypes, code = headers.wrappers()
    ffi = cffi.FFI()
    ffi.cdef(headers.plain_text() + prototypes + "#define EEP_FP8_GROUP ...\n")
    source = "".join(f"#include <eep/{name}>\n" for name in public_headers())
    # The library's own names are warn_unused_result; the wrappers below hand every status on.
    ffi.set_source(MODULE, source + '#include "extension.h"\n' + code)
    path = os.path.join(folder, "_eep.c")
    with contextlib.redirect_stdout(sys.stderr):
        ffi.emit_c_code(path)
    return path


# ---------------------------------------------------------------- building

def environment():
    """LIBRARY_PATH may name folders of stub libraries, which would come before the system's."""
    return {name: value for name, value in os.environ.items() if name != "LIBRARY_PATH"}


def run(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, env=options.pop("env", environment()), **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-6000:]}\nfailed ({done.returncode})")


def ucx_of_wheel():
    """The folder of the package libucx, which the wheel libucx-cu12 installs; None: it is not there."""
    import importlib.util
    found = importlib.util.find_spec("libucx")
    return os.path.dirname(found.origin) if found and found.origin else None


def build_libeep(folder):
    """libeep of this tree, and the CUDA plugin where nvcc is; returns their paths."""
    build = os.path.join(folder, "libeep")
    env = environment()
    found = subprocess.run(["pkg-config", "--exists", "ucx"], check=False).returncode == 0
    wheel = ucx_of_wheel()
    if not found and wheel:
        lib = os.path.join(wheel, "lib")
        env["PKG_CONFIG_PATH"] = os.path.join(lib, "pkgconfig") + ":" + env.get("PKG_CONFIG_PATH", "")
        env["CPATH"] = os.path.join(wheel, "include") + ":" + env.get("CPATH", "")
        env["LIBRARY_PATH"] = lib
    meson = [sys.executable, "-m", "mesonbuild.mesonmain"]
    if subprocess.run(meson + ["--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                      check=False).returncode != 0:
        meson = [shutil.which("meson", path="/usr/bin:" + os.environ.get("PATH", "")) or "meson"]
    # As the tests build it; a warning of a compiler that is newer than the code ends no build.
    run(meson + ["setup", build, ROOT, "--buildtype=debugoptimized", "-Dwerror=false",
                 "-Dlaboratory=false", "-Dtests=false", "-Ddocs=disabled"], env=env)
    run(meson + ["compile", "-C", build, "eep:shared_library"], env=env)
    with contextlib.suppress(SystemExit):  # there is none without nvcc
        run(meson + ["compile", "-C", build, "eep_cuda"], env=env)
    names = [os.path.join(build, "libeep.so"), os.path.join(build, "libeep_cuda.so")]
    return [name for name in names if os.path.exists(name)]


def build_tree(folder, libeep):
    """The same as a folder for tests. The module is made again where what it is made of changed."""
    parts = [__file__, *sorted(glob.glob(os.path.join(INCLUDE, "eep", "*.h"))),
             *sorted(glob.glob(os.path.join(HERE, "native", "*")))]
    recipe = hashlib.sha256(" ".join(compiler() + [sys.version] + exported_by(libeep)).encode())
    for name in parts:
        with open(name, "rb") as file:
            recipe.update(file.read())
    note = os.path.join(folder, "recipe")
    made = ""
    if os.path.exists(note):
        with open(note, encoding="utf-8") as file:
            made = file.read()
    if made == recipe.hexdigest():
        copy_files(folder, [libeep])
        return
    build_package(folder, [libeep])
    with open(note, "w", encoding="utf-8") as file:
        file.write(recipe.hexdigest())


def copy_files(folder, libraries):
    """Python files and libeep. Returns the package's folder and that of libeep."""
    package = os.path.join(folder, "eep")
    lib = os.path.join(package, "lib")
    os.makedirs(lib, exist_ok=True)
    for name in sorted(os.listdir(os.path.join(HERE, "eep"))):
        if name.endswith((".py", ".pyi", ".typed")):
            shutil.copy(os.path.join(HERE, "eep", name), package)
    for library in libraries:
        name = os.path.basename(library)
        to = os.path.join(lib, LIBEEP if name.startswith("libeep.so") else name)
        shutil.copy(library, to + ".new")
        os.replace(to + ".new", to)  # a process may have the old one mapped
    return package, lib


def build_package(folder, libraries):
    """The package `eep` in `folder`: Python files, libeep, the extension module."""
    package, lib = copy_files(folder, libraries)
    with tempfile.TemporaryDirectory() as work:
        source = emit(work, os.path.join(lib, LIBEEP))
        natives = sorted(glob.glob(os.path.join(HERE, "native", "*.c")))
        run(compiler() + ["-shared", "-fPIC", "-O2", "-g", "-std=gnu17", "-fvisibility=hidden",
                          "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wno-unused-parameter",
                          "-Wno-missing-field-initializers", "-I", sysconfig.get_paths()["include"],
                          "-I", INCLUDE, "-I", os.path.join(HERE, "native"), source, *natives, "-o",
                          os.path.join(package, "_eep.abi3.so"), os.path.join(lib, LIBEEP),
                          "-Wl,-rpath,$ORIGIN/lib", "-pthread"])
    return package


def metadata():
    with open(os.path.join(HERE, "README.md"), encoding="utf-8") as file:
        readme = file.read()
    return "\n".join([
        "Metadata-Version: 2.1", "Name: eep", f"Version: {version()}",
        "Summary: Elastic expert parallelism: libeep from Python", "License: Apache-2.0",
        "Requires-Python: >=3.9", "Requires-Dist: cffi>=1.15", "Requires-Dist: numpy>=1.21",
        "Provides-Extra: ucx", "Requires-Dist: libucx-cu12; extra == 'ucx'",
        "Provides-Extra: torch", "Requires-Dist: torch; extra == 'torch'",
        "Description-Content-Type: text/markdown", "", readme])


def wheel_text():
    return (f"Wheel-Version: 1.0\nGenerator: eep_build\nRoot-Is-Purelib: false\n"
            f"Tag: {'-'.join(wheel_name()[:-4].split('-')[2:])}\n")


def wheel_name():
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"eep-{version()}-cp39-abi3-{platform}.whl"


def write_wheel(package, folder):
    """Zip the package, with the record of its files. Returns the wheel's name."""
    name = wheel_name()
    info = f"eep-{version()}.dist-info"
    files = {}
    for path in sorted(glob.glob(os.path.join(package, "**"), recursive=True)):
        if os.path.isfile(path) and "__pycache__" not in path:
            with open(path, "rb") as file:
                files[os.path.join("eep", os.path.relpath(path, package))] = file.read()
    files[f"{info}/METADATA"] = metadata().encode()
    files[f"{info}/WHEEL"] = wheel_text().encode()
    record = [f"{path},sha256={digest(data)},{len(data)}" for path, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join(record + [f"{info}/RECORD,,", ""]).encode()
    with zipfile.ZipFile(os.path.join(folder, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if path.endswith(".so") or ".so." in path else 0o644) << 16
            wheel.writestr(entry, data)
    return name


def digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


# ---------------------------------------------------------------- PEP 517

def get_requires_for_build_wheel(config_settings=None):
    """Without UCX of the system its headers come from the wheel."""
    with contextlib.suppress(OSError):
        if subprocess.run(["pkg-config", "--exists", "ucx"], check=False).returncode == 0 or \
                os.path.exists("/usr/include/ucp/api/ucp.h"):
            return []
    return ["libucx-cu12"]


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    info = f"eep-{version()}.dist-info"
    os.makedirs(os.path.join(metadata_directory, info))
    for name, text in (("METADATA", metadata()), ("WHEEL", wheel_text())):
        with open(os.path.join(metadata_directory, info, name), "w", encoding="utf-8") as file:
            file.write(text)
    return info


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with tempfile.TemporaryDirectory(prefix="eep-wheel-") as folder:
        package = build_package(folder, build_libeep(folder))
        return write_wheel(package, wheel_directory)


def build_sdist(sdist_directory, config_settings=None):
    raise NotImplementedError("the package is built from the source tree of libeep: clone it, then "
                              "pip install bindings/python")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--wheel", metavar="DIR", help="build libeep and write the wheel there")
    parser.add_argument("--tree", metavar="DIR", help="write the package there, not zipped")
    parser.add_argument("--libeep", metavar="FILE", help="with --tree: a libeep.so that is built")
    arguments = parser.parse_args()
    if arguments.wheel:
        os.makedirs(arguments.wheel, exist_ok=True)
        print(os.path.join(arguments.wheel, build_wheel(arguments.wheel)))
    elif arguments.tree and arguments.libeep:
        build_tree(arguments.tree, arguments.libeep)
    else:
        parser.error("either --wheel DIR, or --tree DIR --libeep FILE")


if __name__ == "__main__":
    main()
