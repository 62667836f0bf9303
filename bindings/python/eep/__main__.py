# SPDX-License-Identifier: Apache-2.0
"""python -m eep [--version]: versions and files in use."""
import argparse

from .loading import info


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eep", description=__doc__)
    parser.add_argument("--version", action="store_true", help="versions and files (the default)")
    parser.parse_args()
    found = info()
    print(f"eep {found['eep']}, libeep {found['libeep']}")
    print(f"UCX {found['ucx']} of the {found['ucx_from']}, {found['ucx_file']}")
    print(f"CUDA: {found['cuda'] or 'no plugin'}")


if __name__ == "__main__":
    main()
