"""A second device in every run of the tests: its tensors say that they are on it, hold an ordinary
tensor and compute with that on the CPU.

What would fail on a GPU fails here: an operation on tensors of both devices (but for tensors of no
dimension and for indices, as with CUDA), a CPU generator for what is drawn on the device, what
becomes NumPy, and pinned memory. Results are those of the CPU to the last bit. `waiting` counts
where a GPU would keep the CPU waiting, `room` makes the device small. Importing this registers the
device, which torch allows from Python.
"""

import sys
from collections import Counter
from contextlib import contextmanager
from threading import current_thread, main_thread
from weakref import WeakValueDictionary

import torch
from torch.utils._pytree import tree_map_only
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

PRETEND = "pretend"


class _Backend(_DummyBackendModule):
    """What is drawn on it is drawn by the CPU's generator."""

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        torch.set_rng_state(state)


_setup_privateuseone_for_python_backend(PRETEND, backend_module=_Backend())

aten = torch.ops.aten


def pretends(device) -> bool:
    return isinstance(device, str | torch.device) and torch.device(device).type == PRETEND


class Pretend(torch.Tensor):
    """held: the tensor that it stands for."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        with torch.inference_mode(False):  # else views of others could not be made
            return torch.Tensor._make_wrapper_subclass(
                cls,
                held.shape,
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=torch.device(PRETEND, 0),
            )

    def __init__(self, held):
        self.held, self.bytes = held, _Bytes.of(held)

    def __repr__(self, **_):
        return f"{self.held!r} on {PRETEND}"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), keywords=None):
        return _run(function, *args, **(keywords or {}))

    # What torch does beside its operations

    @property
    def data(self):
        with torch.no_grad():
            return self.detach()

    @data.setter
    def data(self, value):
        if not isinstance(value, Pretend):
            raise RuntimeError("incompatible tensor type: its data are on another device")
        torch.Tensor.data.__set__(self, value)
        self.held, self.bytes = value.held, value.bytes

    def tolist(self):
        _waits("tolist")
        return self.held.tolist()

    def numpy(self, *_, **__):
        raise TypeError("can't convert a tensor of the device to numpy; use Tensor.cpu() first")

    __array__ = numpy

    def new_tensor(self, data, **more):
        return torch.tensor(data, **{"dtype": self.dtype, "device": self.device} | more)

    def __getitem__(self, index):
        return torch.Tensor.__getitem__(self, _placed(index))

    def __setitem__(self, index, value):
        torch.Tensor.__setitem__(self, _placed(index), value)

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            if not self.is_leaf:
                raise RuntimeError("only leaves of the graph can be copied")
            made = Pretend(self.held.clone()).requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                made = torch.nn.Parameter(made, requires_grad=self.requires_grad)
            memo[id(self)] = made
        return memo[id(self)]

    def __reduce_ex__(self, protocol):
        held = self.held
        if isinstance(self, torch.nn.Parameter):
            held = torch.nn.Parameter(held, requires_grad=self.requires_grad)
        return held.__reduce_ex__(protocol)


def _placed(index):
    """Lists of an index as torch takes them: tensors that are made for it and copied over."""
    if isinstance(index, tuple):
        return tuple(map(_placed, index))
    return torch.tensor(index, device=PRETEND) if isinstance(index, list) and index else index


_COPIES = {aten._to_copy.default, aten.copy_.default}
_INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
_INDEXING |= {aten._index_put_impl_.default, aten._unsafe_index.Tensor}
_ALIKE = {aten.cat.default, aten.stack.default}
"""These take not even a tensor of no dimension from elsewhere."""
_WAITING = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default}
_WAITING |= {aten.equal.default, aten.allclose.default, aten._unique2.default}
_WAITING |= {aten.unique_dim.default, aten.unique_consecutive.default, aten.bincount.default}
_WAITING |= {aten.repeat_interleave.Tensor, aten.is_nonzero.default, aten.item.default}


class _Done:
    operations = 0


def operations() -> int:
    """How many were done on the device in this process."""
    return _Done.operations


def _run(function, *args, **keywords):
    """An operation, where any of its tensors or its result is on the device."""
    _Done.operations += 1
    here: list[Pretend] = []
    away: list[torch.Tensor] = []
    given = [_held(arg, here, away) for arg in args]
    named = {name: _held(value, here, away) for name, value in keywords.items()}
    inside = bool(here)
    if (device := named.get("device")) is not None:
        inside, named["device"] = pretends(device), torch.device("cpu")
    if function is aten.copy_.default:
        inside = isinstance(args[0], Pretend)
    elif here and away and function is not aten._to_copy.default:
        _check_devices(function, args, away)
    generator = named.get("generator")
    if inside and generator is not None and generator.device.type == "cpu":
        raise RuntimeError(f"{function}: expected a generator of the device, but it is the CPU's")
    if _COUNTS:
        _count(function, args, keywords, here, inside)
    if named.pop("pin_memory", False):
        raise RuntimeError(f"{function}: only tensors of the CPU can be pinned")
    made = function(*given, **named)
    if not inside:
        return made

    return _back(made, here)


def _held(value, here, away):
    """What an argument holds; its tensors are added to those of the device, or of the CPU."""
    if isinstance(value, Pretend):
        here.append(value)
        return value.held
    if isinstance(value, torch.Tensor):
        away.append(value)
    elif isinstance(value, list | tuple):
        return [_held(part, here, away) for part in value]
    return value


def _back(value, here):
    """A result as tensors of the device; those that were changed in place are the same."""
    if isinstance(value, torch.Tensor):
        for own in here:
            if own.held is value:
                if own.shape != value.shape:  # it was made empty, to be filled
                    own.data = Pretend(value)
                return own
        return Pretend(value)
    if isinstance(value, list | tuple):
        return type(value)(_back(part, here) for part in value)
    return value


def _check_devices(function, args, away):
    indices = args[1] if function in _INDEXING and isinstance(args[0], Pretend) else ()
    indices = {id(index) for index in indices}
    changed = args[0] if function._schema.is_mutable else None
    for tensor in away:
        taken = id(tensor) in indices or (tensor.dim() == 0 and function not in _ALIKE)
        if not taken or tensor is changed:
            raise RuntimeError(
                f"{function}: expected all tensors to be on the same device, but one of shape "
                f"{[*tensor.shape]} is on the CPU"
            )


_LIBRARY = torch.library.Library("_", "IMPL", "PrivateUse1")
_LIBRARY.fallback(_run, "PrivateUse1")  # what takes no tensor of the device, and makes one

# Where torch steps past its operations

_load, _tensor, _as_tensor, _apply = (
    *(torch.load, torch.tensor, torch.as_tensor),
    torch.nn.Module._apply,
)


def load(file, map_location=None, **more):
    if not pretends(map_location):
        return _load(file, map_location, **more)
    found = _load(file, "cpu", **more)
    return tree_map_only(torch.Tensor, lambda tensor: tensor.to(map_location), found)


def tensor(data, *, device=None, requires_grad=False, **more):
    if not pretends(device):
        return _tensor(data, device=device, requires_grad=requires_grad, **more)
    return _tensor(data, **more).to(device).requires_grad_(requires_grad)


def as_tensor(data, dtype=None, device=None):
    if isinstance(data, torch.Tensor) or not pretends(device):
        return _as_tensor(data, dtype=dtype, device=device)
    return _as_tensor(data, dtype=dtype).to(device)


def apply(module, function, recurse=True):
    """Parameters stay the objects that they are where a module is moved, as to a GPU."""
    future = torch.__future__
    before = future.get_swap_module_params_on_conversion()
    first = [*module.parameters()][:1]
    moved = any(isinstance(function(p), Pretend) != isinstance(p, Pretend) for p in first)
    future.set_swap_module_params_on_conversion(before or moved)
    try:
        return _apply(module, function, recurse)
    finally:
        future.set_swap_module_params_on_conversion(before)


torch.load, torch.tensor, torch.as_tensor, torch.nn.Module._apply = load, tensor, as_tensor, apply

# Where a GPU would keep the CPU waiting

_COUNTS: list[Counter] = []


@contextmanager
def waiting():
    """Counts them in the block: (operation, module of faultline, line) -> how often."""
    counts = Counter()
    _COUNTS.append(counts)
    try:
        yield counts
    finally:
        _COUNTS.remove(counts)


def _count(function, args, keywords, here, inside):
    waits = function in _WAITING
    if function in _COPIES:
        source = args[0] if function is aten._to_copy.default else args[1]
        asynchronous = keywords.get("non_blocking") or (len(args) > 2 and args[2])
        crosses = isinstance(source, Pretend) != inside
        waits = crosses and (isinstance(source, Pretend) or not asynchronous)
    elif function in _INDEXING and here:
        indices = [index for index in args[1] if index is not None]
        waits = any(not isinstance(index, Pretend) for index in indices)
        masks = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
        # one value put where a mask says is filled in
        waits |= masks and (function is aten.index.Tensor or args[2].numel() > 1)
    if waits:
        _waits(str(function))


def _waits(what):
    if not _COUNTS:
        return
    frame = sys._getframe(1)
    while frame and "/workflow/faultline/" not in frame.f_code.co_filename:
        frame = frame.f_back
    place = frame.f_code.co_filename.rpartition("/faultline/")[2] if frame else "elsewhere"
    for counts in _COUNTS:
        counts[what, place, frame.f_lineno if frame else 0] += 1


# How much fits on it


class _Bytes:
    """Those of one storage, as long as any tensor of the device uses it."""

    room: float | None = None
    used = most = 0

    def __init__(self, size):
        self.size = size
        _Bytes.used += size
        _Bytes.most = max(_Bytes.most, _Bytes.used)
        # backward passes have a thread of their own, in which torch takes no such error
        if _Bytes.used > _Bytes.room and current_thread() is main_thread():
            raise torch.OutOfMemoryError(f"{_Bytes.used} of {_Bytes.room:.0f} bytes")

    def __del__(self):
        _Bytes.used -= self.size

    @classmethod
    def of(cls, held):
        if cls.room is None:
            return None
        storage = held.untyped_storage()
        place = storage.data_ptr()
        if (found := _KNOWN.get(place)) is None:
            found = _KNOWN[place] = cls(storage.nbytes())
        return found


_KNOWN: WeakValueDictionary[int, _Bytes] = WeakValueDictionary()
"""Where a storage lies -> it."""


@contextmanager
def room(size):
    """In the block the device has room for so many bytes beside what lies there before."""
    _Bytes.room, _Bytes.used, _Bytes.most = size, 0, 0
    try:
        yield
    finally:
        _Bytes.room = None
        _KNOWN.clear()


def most_used() -> int:
    """Bytes on the device at once, in the block `room` so far."""
    return _Bytes.most
