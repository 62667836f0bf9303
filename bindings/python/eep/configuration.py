# SPDX-License-Identifier: Apache-2.0
"""eep_config from keyword arguments."""
from typing import Any, Dict, List

from .arrays import dtype_of
from .errors import Invalid, check
from .loading import ffi, lib
from .reports import sized

PROFILES = {"default": "EEP_PROFILE_DEFAULT", "bring_up": "EEP_PROFILE_BRING_UP",
            "quick": "EEP_PROFILE_QUICK"}
LEVELS = {"none": "EEP_LOG_NONE", "error": "EEP_LOG_ERROR", "warn": "EEP_LOG_WARN",
          "info": "EEP_LOG_INFO", "debug": "EEP_LOG_DEBUG"}
BULKS = {"auto": "EEP_BULK_AUTO", "shm": "EEP_BULK_SHM", "ucx": "EEP_BULK_UCX"}
FIELD_DTYPES = {"float32": "EEP_FP32", "bfloat16": "EEP_BF16"}


def choose(name: str, value: str, choices: Dict[str, str]) -> int:
    if value not in choices:
        raise Invalid(f"{name} is '{value}': it must be {', '.join(choices)}")
    return int(getattr(lib, choices[value]))


def dtype_number(name: str, dtype: Any) -> int:
    return choose(name, dtype_of(dtype).name, FIELD_DTYPES)


class Config:
    """The struct, and the texts that it points to."""

    def __init__(self, profile: str, values: Dict[str, Any]) -> None:
        self.keep: List[Any] = []
        self.struct = ffi.new("eep_config *")
        lib.eep_config_init_sized(self.struct, ffi.sizeof("eep_config"))
        if profile != "default":
            check(lib.eep_config_profile(self.struct, choose("profile", profile, PROFILES)),
                  "eep_config_profile")
        for name, value in values.items():
            if value is not None:
                self._set(name, value)
        if self.struct.num_slots == 0:
            self.struct.num_slots = self._enough_slots()

    def _set(self, name: str, value: Any) -> None:
        if name == "dtype":
            value = dtype_number(name, value)
        elif name == "log_level":
            value = choose(name, value, LEVELS)
        elif name == "bulk":
            value = choose(name, value, BULKS)
        elif name == "rank" and value == "any":
            value = lib.EEP_RANK_ANY
        elif name == "shapes":
            value = ffi.new("eep_shape[]", [tuple(shape) for shape in value])
            self.keep.append(value)
            self.struct.num_shapes = len(value)
        elif isinstance(value, str):
            value = ffi.new("char[]", value.encode())
            self.keep.append(value)
        try:
            setattr(self.struct, name, int(value) if isinstance(value, bool) else value)
        except (TypeError, OverflowError) as wrong:
            raise Invalid(f"{name}: {wrong}") from None

    def _enough_slots(self) -> int:
        """Two replicas of each expert over all seats, as far as they have room."""
        seats = max(1, self.struct.max_ranks or self.struct.num_ranks)
        experts = max(1, self.struct.num_experts)
        return int(min(experts, 2 * -(-experts // seats)))


def window_sizes(*, num_ranks: int, num_experts: int, num_slots: int, top_k: int, hidden: int,
                 num_max_tokens_per_rank: int, **others: Any) -> Dict[str, int]:
    """Bytes of one rank's window for a shape, without a context: "dispatch_bytes",
    "combine_bytes", "control_bytes". Further fields of eep_config may be given."""
    config = Config("default", dict(
        others, num_ranks=num_ranks, num_experts=num_experts, num_slots=num_slots, top_k=top_k,
        hidden=hidden, num_max_tokens_per_rank=num_max_tokens_per_rank,
        num_layers=others.get("num_layers", 1)))
    sizes = sized("eep_window_sizes")
    check(lib.eep_window_sizes_get(config.struct, sizes), "eep_window_sizes_get")
    return {name: getattr(sizes, name)
            for name in ("dispatch_bytes", "combine_bytes", "control_bytes")}


