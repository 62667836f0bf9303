# SPDX-License-Identifier: Apache-2.0
"""A test of tests/tidy.py: each of its rules is broken once, in a small tree, and must be named.

    python3 tests/python/test_tidy.py
"""
import contextlib
import io
import os
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests"))
import tidy  # noqa: E402

SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
FUNCTION = "int {name}(void)\n{{\n{body}}}\n"


class Rules(unittest.TestCase):
    def faults(self, files):
        """What tidy says of a tree of these files."""
        with tempfile.TemporaryDirectory() as root:
            for name, text in files.items():
                os.makedirs(os.path.join(root, os.path.dirname(name)), exist_ok=True)
                with open(os.path.join(root, name), "w", encoding="utf-8") as file:
                    file.write(text)
            arguments, sys.argv = sys.argv, ["tidy.py", "--root", root]
            said = io.StringIO()
            try:
                with contextlib.redirect_stdout(said):
                    status = tidy.main()
            finally:
                sys.argv = arguments
        self.assertEqual(status, 1 if said.getvalue() else 0)
        return said.getvalue()

    def broken(self, files, expected):
        """The tree has this fault, and no other."""
        said = self.faults(files)
        self.assertRegex(said, expected)
        self.assertEqual(said.count("\n"), 1, said)

    def test_a_tidy_tree_is_silent(self):
        self.assertEqual(self.faults({
            "graphs/base/clock.h": SPDX, "repair/executor.h": SPDX + '#include "graphs/base/clock.h"\n',
            "README.md": "# Words\n\nShort lines; see graphs/base/clock.h:1.\n",
            "repair/planner.c": SPDX + FUNCTION.format(name="plan", body="    return 0;\n")}), "")

    def test_an_include_that_runs_up(self):
        self.broken({"graphs/base/clock.h": SPDX + '\n#include "repair/planner.h"\n',
                     "repair/planner.h": SPDX},
                    r"^graphs/base/clock\.h:3: graphs/base may not include repair \(repair/planner\.h\)")

    def test_a_raw_store_beside_the_primitives(self):
        for store in ("*(uint64_t *)(eepk_peers(s, bank)[seat].address + at) = tag;",
                      "*(uint64_t *)(eepk_windows(s, bank)[seat * 3] + at) = tag;",
                      "*(uint64_t *)(r->windows[seat] + at) = tag;", "to = peer->address + at;"):
            self.broken({"graphs/kernels/combine.h": SPDX + store + "\n"},
                        r"^graphs/kernels/combine\.h:2: a peer's address, which only")
        self.assertEqual(self.faults({"graphs/kernels/peer_puts.h": SPDX + store + "\n"}), "")

    def test_folders_of_one_floor_do_not_meet(self):
        self.broken({"graphs/host/host_guard.h": SPDX,
                     "graphs/cuda/cuda_driver.h": SPDX + '#include "graphs/host/host_guard.h"\n'},
                    r"graphs/cuda may not include graphs/host")

    def test_a_folder_without_a_floor(self):
        self.broken({"attic/old.c": SPDX}, r"^attic/old\.c: its folder has no floor")

    def test_what_stays_independent(self):
        self.broken({"transport/window/window.h": SPDX,
                     "membership/core/core.c": SPDX + '#include "transport/window/window.h"\n'},
                    r"core\.c:2: membership/core stays independent of transport/window")

    def test_what_may_include_a_few_only(self):
        self.broken({"include/eep/eep.h": SPDX,
                     "experiments/oracle/oracle.c": SPDX + "#include <eep/eep.h>\n"},
                    r"oracle\.c:2: experiments/oracle stays independent of include/eep/eep\.h")

    def test_what_is_pure(self):
        self.broken({"membership/core/core.c": SPDX + "#include <time.h>\n"},
                    r"core\.c:2: it is pure, and includes time\.h")

    def test_a_long_file(self):
        self.broken({"repair/planner.c": SPDX + "\n" * 600}, r"planner\.c: 601 lines, more than 600")

    def test_a_long_function(self):
        self.broken({"repair/planner.c": SPDX + FUNCTION.format(name="plan", body="\n" * 69)},
                    r"planner\.c:3: a function of 71 lines, more than 70")

    def test_a_crowded_folder(self):
        self.broken({f"repair/part_{number}.c": SPDX for number in range(16)},
                    r"^repair: 16 \.c files, more than 15")

    def test_one_name_of_two_files(self):
        self.broken({"repair/planner.h": SPDX, "transport/planner.h": SPDX},
                    r"^planner\.h: the name of 2 files")

    def test_a_long_line_of_a_document(self):
        self.broken({"docs/ABI.md": "# One\n\n" + "word " * 21 + "\n"}, r"ABI\.md:3: 105 columns")

    def test_columns_of_tables_and_code_are_free(self):
        self.assertEqual(self.faults({"docs/ABI.md": "| " + "word " * 30 + "|\n\n```\n" + "w " * 80
                                                     + "\n```\n"}), "")

    def test_a_reference_to_a_file_that_is_gone(self):
        self.broken({"docs/ABI.md": "See graphs/base/clock.h:12.\n"},
                    r"ABI\.md:1: there is no file graphs/base/clock\.h")

    def test_a_reference_to_a_line_that_is_gone(self):
        self.broken({"docs/ABI.md": "See clock.h:12.\n", "graphs/base/clock.h": SPDX},
                    r"ABI\.md:1: clock\.h has no line 12")

    def test_a_private_word(self):
        self.broken({"repair/planner.c": SPDX + "/* the next deed */\n"},
                    r"planner\.c:2: 'deed': say action")

    def test_a_sentence_without_its_subject(self):
        self.broken({"docs/ABI.md": "Who calls it waits.\n"}, r"ABI\.md:1: 'Who': say the subject")
        self.assertEqual(self.faults({"docs/ABI.md": "Who calls it?\n"}), "")

    def test_no_licence(self):
        self.broken({"repair/planner.c": "int a;\n"}, r"planner\.c: no SPDX line")

    def test_a_bag(self):
        members = "".join(f"    int member_{number};\n" for number in range(41))
        self.broken({"membership/context/context.h": f"{SPDX}struct eep_context {{\n{members}}};\n"},
                    r"struct eep_context has 41 members, more than 40")

    def test_members_are_counted_at_the_first_level(self):
        self.assertEqual(tidy.members_of("struct x { int a, b[3]; struct { int c, d; } e; "
                                         "int (*call)(int, int); };", "struct x"), 4)

    def test_a_circle(self):
        self.broken({"repair/planner.c": SPDX + FUNCTION.format(name="plan", body="    place();\n"),
                     "repair/placement.c": SPDX + FUNCTION.format(name="place", body="    plan();\n")},
                    r"^a circle of files: repair/placement\.c, repair/planner\.c")

    def test_every_rule_is_broken_here(self):
        """A rule that comes later needs a test here."""
        self.assertEqual(len(tidy.CHECKS), 11)


if __name__ == "__main__":
    unittest.main()
