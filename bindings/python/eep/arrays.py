# SPDX-License-Identifier: Apache-2.0
"""Arrays in memory that kernels of a device reach: libeep's own, or another library's, registered.

An Array shows its memory to numpy (`numpy()`, `np.asarray`), to DLPack (`torch.from_dlpack`) and,
on a GPU, by `__cuda_array_interface__`. It keeps its memory alive, and so does every view of it."""
import ctypes
import math
import threading
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from .errors import Invalid, Unsupported, check, error_of
from .loading import ffi, lib

if TYPE_CHECKING:
    from .device import Device


class DType(NamedTuple):
    name: str
    itemsize: int
    numpy: str  # of the view that numpy gets; of its bits where numpy lacks the type
    code: int   # DLPack's
    bits: int


DTYPES: Dict[str, DType] = {kind.name: kind for kind in (
    DType("float32", 4, "<f4", 2, 32), DType("bfloat16", 2, "<u2", 4, 16),
    DType("float16", 2, "<f2", 2, 16), DType("float64", 8, "<f8", 2, 64),
    DType("float8_e4m3fn", 1, "|u1", 10, 8), DType("int8", 1, "|i1", 0, 8),
    DType("uint8", 1, "|u1", 1, 8), DType("int32", 4, "<i4", 0, 32),
    DType("uint32", 4, "<u4", 1, 32), DType("int64", 8, "<i8", 0, 64),
    DType("uint64", 8, "<u8", 1, 64), DType("bool", 1, "|b1", 6, 8))}
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp8": "float8_e4m3fn", "fp16": "float16"}
_BY_CODE = {(kind.code, kind.bits): kind for kind in DTYPES.values()}
KDL_CPU, KDL_CUDA, KDL_CUDA_HOST, KDL_CUDA_MANAGED = 1, 2, 3, 13

_capsule_new = ctypes.pythonapi.PyCapsule_New
_capsule_new.restype = ctypes.py_object
_capsule_new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_capsule_valid = ctypes.pythonapi.PyCapsule_IsValid
_capsule_valid.restype = ctypes.c_int
_capsule_valid.argtypes = [ctypes.py_object, ctypes.c_char_p]
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_NAMES = (b"dltensor", b"dltensor_versioned")
_capsule_end = int(ffi.cast("uintptr_t", ffi.addressof(lib, "eepy_capsule_end")))


def dtype_of(dtype: Any) -> DType:
    """A DType from its name ("float32", "bf16"), a numpy or a torch dtype, or a DType."""
    if isinstance(dtype, DType):
        return dtype
    name = dtype if isinstance(dtype, str) else \
        str(dtype).split(".")[-1] if str(dtype).startswith("torch.") else np.dtype(dtype).name
    name = _SHORT.get(name, name)
    if name not in DTYPES:
        raise Invalid(f"dtype is '{name}': {', '.join(DTYPES)} are possible")
    return DTYPES[name]


class _Registration:
    """eep_memory_register, until nobody refers to it; it keeps the owner of the memory alive."""

    def __init__(self, device: "Device", address: int, nbytes: int, keep: Any) -> None:
        self._handle: Any = None
        self._address = ffi.cast("void *", address)
        self.keep = keep
        check(lib.py_memory_register(device._handle, self._address, nbytes), "eep_memory_register")
        self._handle = device._handle

    def __del__(self) -> None:
        if self._handle is not None:
            lib.py_memory_unregister(self._handle, self._address)


class Array:
    """A row-major array in memory that stays where it is. Made by `Device.zeros` and
    `Device.register`."""

    def __init__(self, device: "Device", address: int, shape: Tuple[int, ...], dtype: DType,
                 kind: str, holder: Any, foreign: "Optional[_Foreign]" = None) -> None:
        self.device = device
        self.address = address
        self.shape = shape
        self.dtype = dtype.name
        self.memory = kind  # "device", "pinned", or "foreign": of another library
        self._dtype = dtype
        self._holder = holder
        self._foreign = foreign

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self._dtype.itemsize

    @property
    def on_host(self) -> bool:
        """Whether the CPU may access it."""
        if self._foreign is not None:
            return self._foreign.on_host
        return self.memory == "pinned" or self.device.backend == "host"

    @property
    def __array_interface__(self) -> Dict[str, Any]:
        if not self.on_host:
            raise AttributeError(f"{self!r}: the CPU may not access it; use read() and write()")
        return {"version": 3, "shape": self.shape, "typestr": self._dtype.numpy,
                "data": (self.address, False)}

    @property
    def __cuda_array_interface__(self) -> Dict[str, Any]:
        if self.device.backend != "cuda":
            raise AttributeError("it lies on no GPU")
        return {"version": 3, "shape": self.shape, "typestr": self._dtype.numpy,
                "data": (self.address, False), "strides": None}

    def numpy(self) -> "np.ndarray[Any, Any]":
        """A view of the memory, [shape]. bfloat16 and float8 show as their bits (uint16, uint8)."""
        if not self.on_host:
            raise Unsupported(f"{self!r}: the CPU may not access it; use read() and write()")
        return np.asarray(self)

    def read(self) -> "np.ndarray[Any, Any]":
        """A copy on the host, of device memory too. Waits for the copy."""
        if self.on_host:
            return self.numpy().copy()
        staged = self.device.zeros(self.shape, self._dtype, memory="pinned")
        self.device._copy_now(staged, self)
        return staged.numpy().copy()

    def write(self, source: Any) -> None:
        """Store `source` (what numpy can broadcast to the shape), in device memory too. Waits for
        the copy."""
        if self.on_host:
            self.numpy()[...] = source
            return
        staged = self.device.zeros(self.shape, self._dtype, memory="pinned")
        staged.numpy()[...] = source
        self.device._copy_now(self, staged)

    def __getitem__(self, key: Any) -> Any:
        return self.numpy()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.numpy()[key] = value

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array of no dimension has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return (f"eep.Array({list(self.shape)}, {self.dtype}, {self.memory} memory of "
                f"'{self.device.backend}')")

    def __dlpack_device__(self) -> Tuple[int, int]:
        if self._foreign is not None:
            return self._foreign.dl_device
        if self.device.backend != "cuda":
            return (KDL_CPU, 0)
        return (KDL_CUDA if self.memory == "device" else KDL_CUDA_HOST, self.device.ordinal)

    def __dlpack__(self, *, stream: Any = None, max_version: Optional[Tuple[int, int]] = None,
                   dl_device: Optional[Tuple[int, int]] = None,
                   copy: Optional[bool] = None) -> Any:
        """The memory itself, never a copy. What is in it by then is what the caller ordered: wait
        for the stream before."""
        if copy or (dl_device is not None and tuple(dl_device) != self.__dlpack_device__()):
            raise BufferError("eep hands on memory as it lies, without a copy")
        if self._foreign is not None:
            return self._foreign.source.__dlpack__()
        if self.memory == "device" and self.device.backend == "guarded":
            raise BufferError(f"{self!r}: the CPU may not access it")
        versioned = int(max_version is not None and max_version[0] >= 1)
        kind, ordinal = self.__dlpack_device__()
        offset = self.address - int(ffi.cast("uintptr_t", lib.eepy_memory_data(self._holder)))
        made = lib.eepy_dlpack_new(self._holder, kind, ordinal, self._dtype.code, self._dtype.bits,
                                   len(self.shape), list(self.shape), offset, versioned)
        if made == ffi.NULL:
            raise MemoryError("a DLPack tensor")
        return _capsule_new(int(ffi.cast("uintptr_t", made)), _NAMES[versioned], _capsule_end)


def zeros(device: "Device", shape: Union[int, Sequence[int]], dtype: Any, memory: str) -> Array:
    kinds = {"device": lib.EEP_MEMORY_DEVICE, "pinned": lib.EEP_MEMORY_PINNED}
    if memory not in kinds:
        raise Invalid(f"memory is '{memory}': it must be 'device' or 'pinned'")
    sides = (shape,) if isinstance(shape, int) else tuple(int(side) for side in shape)
    kind = dtype_of(dtype)
    if any(side < 0 for side in sides):
        raise Invalid(f"shape is {list(sides)}")
    status = ffi.new("int32_t *")
    opened = lib.eepy_memory_open(device._handle, kinds[memory],
                                  max(1, math.prod(sides) * kind.itemsize), status)
    if opened == ffi.NULL:
        raise error_of(status[0], "eep_device_alloc")
    holder = ffi.gc(opened, lib.eepy_memory_drop)
    address = int(ffi.cast("uintptr_t", lib.eepy_memory_data(holder)))
    return Array(device, address, sides, kind, memory, holder)


class _Foreign(NamedTuple):
    address: int
    shape: Tuple[int, ...]
    dtype: DType
    on_host: bool
    dl_device: Tuple[int, int]
    source: Any
    keep: Any  # what holds the memory, where that is not the source itself


def _of_interface(source: Any, interface: Dict[str, Any], on_host: bool) -> _Foreign:
    dtype = dtype_of(np.dtype(interface["typestr"]))
    shape = tuple(interface["shape"])
    _need_compact(shape, dtype, interface.get("strides"), dtype.itemsize)
    device = (KDL_CPU, 0) if on_host else source.__dlpack_device__() \
        if hasattr(source, "__dlpack_device__") else (KDL_CUDA, 0)
    return _Foreign(interface["data"][0], shape, dtype, on_host, device, source, None)


def _of_dlpack(source: Any) -> _Foreign:
    capsule = source.__dlpack__()
    versioned = int(_capsule_valid(capsule, _NAMES[1]))
    made = _capsule_pointer(capsule, _NAMES[versioned])
    tensor = lib.eepy_dlpack_look(ffi.cast("void *", made), versioned)
    kind = _BY_CODE.get((tensor.code, tensor.bits))
    if kind is None or tensor.lanes != 1:
        raise Invalid(f"DLPack type {tensor.code} of {tensor.bits} bits is not known")
    shape = tuple(tensor.shape[at] for at in range(tensor.ndim))
    strides = None if tensor.strides == ffi.NULL else \
        tuple(tensor.strides[at] for at in range(tensor.ndim))
    _need_compact(shape, kind, strides, 1)
    address = int(ffi.cast("uintptr_t", tensor.data)) + tensor.byte_offset
    device = (tensor.device_type, tensor.device_id)
    # The capsule is kept and not consumed: its end gives the tensor back to its library.
    return _Foreign(address, shape, kind, device[0] in (KDL_CPU, KDL_CUDA_HOST), device, source,
                    capsule)


def _need_compact(shape: Tuple[int, ...], dtype: DType, strides: Optional[Sequence[int]],
                  unit: int) -> None:
    if strides is None or math.prod(shape) == 0:
        return
    expected = unit
    for side, stride in zip(reversed(shape), reversed(strides)):
        if side != 1 and stride != expected:
            raise Invalid(f"an array of shape {list(shape)} is not contiguous (row-major): memory "
                          "of a graph is")
        expected *= side


def _look(source: Any) -> _Foreign:
    if hasattr(source, "__array_interface__"):
        if source.__array_interface__["data"][1]:
            raise Invalid("the array is read-only")
        return _of_interface(source, source.__array_interface__, True)
    if hasattr(source, "__dlpack__"):
        return _of_dlpack(source)
    if hasattr(source, "__cuda_array_interface__"):
        return _of_interface(source, source.__cuda_array_interface__, False)
    raise Invalid(f"a {type(source).__name__} is no array: it has neither __dlpack__ nor "
                  "__array_interface__")


_cache_lock = threading.Lock()


def register(device: "Device", source: Any) -> Array:
    """An Array over another library's memory. The same memory is registered once."""
    if isinstance(source, Array):
        return source
    found = _look(source)
    nbytes = math.prod(found.shape) * found.dtype.itemsize
    if nbytes == 0:
        raise Invalid("an array of no bytes")
    if device.backend != "cuda" and not found.on_host:
        raise Invalid(f"the array lies on a GPU, and the device is '{device.backend}'")
    key = (found.address, nbytes)
    with _cache_lock:
        holder = device._registrations.get(key)
        if holder is None:
            holder = _Registration(device, found.address, nbytes, found)
            device._registrations[key] = holder
    return Array(device, found.address, found.shape, found.dtype, "foreign", holder, found)


class _Bare:
    def __init__(self, array: Array) -> None:
        self.array = array
        self.__array_interface__ = {"version": 3, "shape": array.shape, "data": (array.address, False),
                                    "typestr": array._dtype.numpy}


def unguarded(array: Array) -> "np.ndarray[Any, Any]":
    """A view that the CPU may use inside a kernel alone."""
    return np.asarray(_Bare(array))
