"""What autograd keeps for the backward pass, watched while it keeps it."""

import weakref
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

__all__ = ["OUTSIDE", "KeptMap", "Meter"]

#: Stands for a layer's name where something was kept outside of the model, as in the loss.
OUTSIDE = "outside the model"


@dataclass(frozen=True)
class KeptMap:
    """A feature map (or whatever else autograd needs) kept for the backward pass.

    Attributes
    ----------
    layer : str
        That kept it first.
    shape : tuple of int
    dtype : str
    bytes : int
        Of its whole storage, which is counted once however often it is kept.
    saved, used : int
        MACs made before it was kept (last) and when the backward pass asked for it (first); ``used``
        is None if it never did.
    recomputed : bool
        It was made a second time in the backward pass (gradient checkpointing), and lives from then on.
    """

    layer: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    saved: int
    used: int | None
    recomputed: bool

    @property
    def distance(self) -> int | None:
        """MACs between keeping and using it."""
        return None if self.used is None else self.used - self.saved


class _Map:
    """A map while it is measured. Lives as long as somebody holds it."""

    def __init__(self, layer: str, x: torch.Tensor, saved: int, recomputed: bool):
        self.layer, self.shape, self.dtype = layer, tuple(x.shape), str(x.dtype).removeprefix("torch.")
        self.bytes, self.saved, self.used = x.untyped_storage().nbytes(), saved, None
        self.recomputed, self.holders, self.alive = recomputed, 0, False

    def frozen(self) -> KeptMap:
        return KeptMap(self.layer, self.shape, self.dtype, self.bytes, self.saved, self.used,
                       self.recomputed)


class _Kept:
    """What autograd holds instead of a tensor; dies when it lets go of it."""

    __slots__ = ("__weakref__", "maps", "packed")

    def __init__(self, packed, maps: list[_Map]):
        self.packed, self.maps = packed, maps


def _tensors(packed) -> list[torch.Tensor]:
    """Those in what a pack hook returned."""
    if isinstance(packed, torch.Tensor):
        return [packed]
    if isinstance(packed, tuple | list):
        return [x for part in packed for x in _tensors(part)]
    return []


class Meter:
    """Watches what autograd keeps.

    Hooks of others, such as those of gradient checkpointing, replace ours while they are active. They
    are wrapped: what they keep as tensors is counted as kept. If they keep none, what they were given
    is made again in the backward pass, and counted from then on.
    """

    def __init__(self, model: nn.Module, macs: Callable[[], int]):
        self.macs = macs
        self.names = {module: name or type(module).__name__ for name, module in model.named_modules()}
        self.order: dict[str, None] = {}
        self.running: list[str] = []
        self.own = {StorageWeakRef(x.untyped_storage()) for x in (*model.parameters(), *model.buffers())}
        self.maps: list[_Map] = []
        #: The last map in each storage, by whether it is made again.
        self.by_storage: dict[tuple[StorageWeakRef, bool], _Map] = {}
        self.alive = self.peak = 0
        self.recomputing: list[list[int]] = []      # MACs at each tensor kept by a recomputation

    @contextmanager
    def watching(self):
        """Hooks on the modules and in autograd."""
        original = saved_tensors_hooks.__init__
        meter = self

        def init(self, pack_hook, unpack_hook):
            original(self, *meter.wrapped(pack_hook, unpack_hook))

        with ExitStack() as stack:
            for module in self.names:
                stack.callback(module.register_forward_pre_hook(self.enter).remove)
                stack.callback(module.register_forward_hook(self.leave, always_call=True).remove)
            stack.enter_context(saved_tensors_hooks(self.pack, self.unpack))
            saved_tensors_hooks.__init__ = init
            stack.callback(setattr, saved_tensors_hooks, "__init__", original)
            yield

    def enter(self, module, _inputs):
        self.running.append(self.names[module])
        self.order.setdefault(self.names[module])

    def leave(self, module, _inputs, _output):
        self.running.pop()

    # Keeping.

    def map_of(self, x: torch.Tensor, recomputed: bool = False) -> list[_Map]:
        """The map that a tensor is part of, if it is one."""
        storage = x.untyped_storage()
        key = StorageWeakRef(storage)
        if key in self.own or not storage.nbytes():
            return []
        now = self.macs()
        kept = self.by_storage.get((key, False))
        if kept is not None and kept.holders:
            recomputed = False      # what goes into a recomputation is kept, not made again
        found = self.by_storage.get((key, recomputed))
        if found is None or not found.holders:
            found = _Map(self.running[-1] if self.running else OUTSIDE, x, now, recomputed)
            self.by_storage[key, recomputed] = found
            self.maps.append(found)
        if found.used is None:
            found.saved = now
        return [found]

    def hold(self, packed, maps: list[_Map]) -> _Kept:
        kept = _Kept(packed, maps)
        for found in maps:
            found.holders += 1
        weakref.finalize(kept, self.release, maps)
        return kept

    def begin(self, found: _Map):
        if not found.alive:
            found.alive = True
            self.alive += found.bytes
            self.peak = max(self.peak, self.alive)

    def release(self, maps: list[_Map]):
        for found in maps:
            found.holders -= 1
            if not found.holders and found.alive:
                found.alive = False
                self.alive -= found.bytes

    def use(self, maps: list[_Map]):
        for found in maps:
            if found.used is None:
                found.used = self.macs()

    def pack(self, x: torch.Tensor) -> _Kept:
        # Without its grad_fn, which would hold what is being built here in a cycle.
        maps = self.map_of(x)
        for found in maps:
            self.begin(found)
        return self.hold(x.detach(), maps)

    def unpack(self, kept: _Kept) -> torch.Tensor:
        self.use(kept.maps)
        return kept.packed

    # Hooks of others.

    def wrapped(self, pack_hook, unpack_hook):
        """Their pack and unpack hooks, with ours around."""
        if self.recomputing:
            clock = self.recomputing[-1]

            def pack_again(x):
                clock.append(self.macs())
                return pack_hook(x)

            return pack_again, unpack_hook
        made_again: list[_Map] = []
        kept_at: list[int] = []

        def pack(x):
            packed = pack_hook(x)
            tensors = _tensors(packed)
            if tensors:
                maps = [found for tensor in tensors for found in self.map_of(tensor)]
                for found in maps:
                    self.begin(found)
            else:
                maps = self.map_of(x, recomputed=True)
            # One entry per call, as the recomputation calls as often.
            made_again.append(maps[0] if maps and maps[0].recomputed else None)
            return self.hold(packed, maps)

        def unpack(kept):
            clock = []
            self.recomputing.append(clock)
            depth = len(self.running)
            try:
                x = unpack_hook(kept.packed)
            finally:
                self.recomputing.pop()
                del self.running[depth:]
            if clock and not kept_at:
                kept_at.extend(clock)
                for found, macs in zip(made_again, kept_at, strict=False):
                    if found is not None and found.holders:
                        found.saved = macs
                        self.begin(found)
            self.use(kept.maps)
            return x

        return pack, unpack
