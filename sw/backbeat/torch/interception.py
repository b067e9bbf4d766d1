"""Catches PyTorch's matrix products while an offloaded model runs, and says which layer wants them."""

import inspect
import threading
import types

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .operations import HOST, OPERATIONS
from .site import Places

__all__ = ["LAYERS", "Scope", "is_offloaded"]

#: Layers that are one product. Every other module's products are named after what they are.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)

#: By the names that operations know. PyTorch's have others too, such as ``out``.
_PARAMETERS = {operation: set(inspect.signature(operation).parameters)
               for operation, _ in OPERATIONS.values()}

_HALVES = (torch.bfloat16, torch.float16)

#: PyTorch's own function, but for its question whether somebody wants to replace it as a whole: its
#: products are what we want.
_multi_head_attention = types.FunctionType(
    F.multi_head_attention_forward.__code__,
    vars(F) | {"has_torch_function": lambda *_: False},
    argdefs=F.multi_head_attention_forward.__defaults__)


class _Threads(threading.local):
    """The modules that are running in this thread, outermost first, and the mode that watches."""

    def __init__(self):
        self.modules, self.modes = [], []


_running = _Threads()


def _unsuitable(x: torch.Tensor) -> str | None:
    """Why the accelerator cannot take this operand."""
    if x.dtype != torch.float32:
        return f"operands of {x.dtype}"
    if x.device.type != "cpu":
        return f"operands on {x.device}"
    if x.layout != torch.strided or x.is_nested:
        return "operands that are sparse or nested"
    return None


class _Interception(TorchFunctionMode):
    """Sends the operations of ``OPERATIONS`` to the accelerator."""

    def __torch_function__(self, function, kinds, args=(), kwargs=None):
        kwargs = kwargs or {}
        operation, what = OPERATIONS.get(function, (None, None))
        if operation is None:
            if function is F.multi_head_attention_forward:
                with self:
                    return _multi_head_attention(*args, **kwargs)
            if function in HOST and _running.modules:
                name, _, places = _running.modules[-1]
                places.leave(_place(name, HOST[function]), f"{HOST[function]} is not offloaded")
            return function(*args, **kwargs)
        if not _running.modules or torch.compiler.is_compiling():
            return function(*args, **kwargs)
        name, module, places = _running.modules[-1]
        site = places.site(name if isinstance(module, LAYERS) else _place(name, what))
        result = NotImplemented
        if site.recipe.offloaded:
            result = self._product(site, operation, args, kwargs)
        else:
            places.leave(site.name, f"recipe {site.recipe.name}")
        return function(*args, **kwargs) if result is NotImplemented else result

    def _product(self, site, operation, args, kwargs):
        operands = [x for x in (*args[:3], *kwargs.values())
                    if isinstance(x, torch.Tensor) and x.dtype != torch.bool]
        if not all(x.numel() for x in operands):
            return NotImplemented           # nothing to multiply
        if torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return self._float32(site, operation, args, kwargs)
        reason = next(filter(None, map(_unsuitable, operands)), None)
        unknown = kwargs.keys() - _PARAMETERS[operation]
        if unknown:
            reason = f"called with {', '.join(sorted(unknown))}="
        if reason is not None:
            return site.leave(reason)
        result = operation(site, *args, **kwargs)
        if result is not NotImplemented:
            site.places.made(site.name)
        return result

    def _float32(self, site, operation, args, kwargs):
        """Autocast would make halves of what we need in float32."""
        def whole(x):
            return x.float() if isinstance(x, torch.Tensor) and x.dtype in _HALVES else x

        return self._product(site, operation, tuple(map(whole, args)),
                             {name: whole(value) for name, value in kwargs.items()})


def _place(name: str, what: str) -> str:
    return f"{name}.{what}" if name else what


class Scope:
    """A module's hooks: while it runs, products are its own.

    Parameters
    ----------
    name : str
        Of the module in the model; "" for the model itself.
    places : Places
    """

    def __init__(self, name: str, places: Places):
        self.name, self.places = name, places

    def __deepcopy__(self, memo):
        """A copy of the model shares the accelerator."""
        return self

    def attach(self, module: nn.Module):
        module.register_forward_pre_hook(self.enter)
        # Also when the module raises.
        module.register_forward_hook(self.leave, always_call=True)

    def enter(self, module, _inputs):
        if not _running.modules:
            mode = _Interception()
            mode.__enter__()
            _running.modes.append(mode)
        _running.modules.append((self.name, module, self.places))

    def leave(self, module, _inputs, _output):
        # If a hook before ours has raised, the module has not been entered.
        if not _running.modules or _running.modules[-1][1] is not module:
            return
        _running.modules.pop()
        if not _running.modules:
            _running.modes.pop().__exit__(None, None, None)


def is_offloaded(module: nn.Module) -> bool:
    """Whether a scope has been attached to it."""
    return any(isinstance(getattr(hook, "__self__", None), Scope)
               for hook in module._forward_pre_hooks.values())
