# SPDX-License-Identifier: Apache-2.0
# The extension module, made from include/eep/*.h by eep_build.py.
from typing import Any

lib: Any
ffi: Any
