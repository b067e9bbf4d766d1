"""The products of a PyTorch module, found by running it on tensors without values."""

import importlib
import logging
import math
import re
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..layers import Attention, Convolution, Layer, Linear, MatMul, Other, Workload, WorkloadError
from ..products import Geometry

__all__ = ["from_function", "from_module"]

_ATEN = torch.ops.aten
#: Layers that are one product. Every other module's products are named after what they are.
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
_RECURRENT = {torch.lstm: "an LSTM", torch.gru: "a GRU", torch.rnn_tanh: "a recurrent layer",
              torch.rnn_relu: "a recurrent layer", torch.lstm_cell: "an LSTM", torch.gru_cell: "a GRU",
              torch.rnn_tanh_cell: "a recurrent layer", torch.rnn_relu_cell: "a recurrent layer"}
#: Operations below PyTorch's functions, with the places of A, B and a bias among their arguments.
_PRODUCTS = {_ATEN.mm: (0, 1, None), _ATEN.bmm: (0, 1, None), _ATEN.mv: (0, 1, None),
             _ATEN.dot: (0, 1, None), _ATEN.addmm: (1, 2, 0), _ATEN.baddbmm: (1, 2, 0),
             _ATEN.addmv: (1, 2, 0), _ATEN.addbmm: (1, 2, 0)}
_CONVOLUTIONS = (_ATEN.convolution, _ATEN._convolution, _ATEN.convolution_overrideable)
#: What `scaled_dot_product_attention` becomes where it is not caught as such, e.g. in an encoder layer.
_ATTENTION = (_ATEN._scaled_dot_product_flash_attention_for_cpu,
              _ATEN._scaled_dot_product_flash_attention, _ATEN._scaled_dot_product_efficient_attention)
#: By their names: other operations with products inside, of which nothing should get lost in silence.
_OPAQUE = re.compile(r"mm$|(^|_)(trilinear|cdist|conv[a-z]*|attention|lstm|gru|rnn|encoder)($|_)")


class _Functions(TorchFunctionMode):
    """Sees what is one thing to its caller, and several operations below."""

    def __init__(self, trace: "_Trace"):
        super().__init__()
        self.trace = trace

    def __torch_function__(self, function, kinds, args=(), kwargs=None):
        kwargs, trace = kwargs or {}, self.trace
        if trace.inside:
            return function(*args, **kwargs)
        if function in _RECURRENT:
            trace.refuse(f"{_RECURRENT[function]}: its products wait for one another, step by step")
        elif function is F.scaled_dot_product_attention:
            trace.attention(*_arguments(args, kwargs, "query", "key", "value"))
        elif function is F.linear:
            x, weight, bias = _arguments(args, kwargs, "input", "weight", "bias")
            trace.product("linear", x.reshape(-1, x.shape[-1]), weight.mT, bias)
        else:
            return function(*args, **kwargs)
        trace.inside = True
        try:
            return function(*args, **kwargs)
        finally:
            trace.inside = False


class _Operations(TorchDispatchMode):
    """Sees every product, by whatever function of PyTorch it was asked for."""

    def __init__(self, trace: "_Trace"):
        super().__init__()
        self.trace = trace

    def __torch_dispatch__(self, operation, kinds, args=(), kwargs=None):
        packet, result = operation.overloadpacket, operation(*args, **(kwargs or {}))
        if not self.trace.inside:
            if packet in _PRODUCTS:
                a, b, bias = (None if i is None else args[i] for i in _PRODUCTS[packet])
                self.trace.product(packet.__name__, a, b, bias)
            elif packet in _CONVOLUTIONS:
                self.trace.convolution(args)
            elif packet in _ATTENTION:
                self.trace.attention(*args[:3])
            elif _OPAQUE.search(packet.__name__):
                self.trace.refuse(f"the products of {packet.__name__} are not looked into")
        return result


def _arguments(args: tuple, kwargs: dict, *names: str) -> list:
    """By position or by name; None where missing."""
    return [args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names)]


def _storage(x: torch.Tensor) -> int:
    """The same for a tensor and its views."""
    return x.untyped_storage()._cdata


class _Trace:
    """What has been seen so far.

    Parameters
    ----------
    state, parameters : dict
        Parameters and buffers by name, and the parameters alone. Which tensors are views of them is
        known by their storage. Buffers may be weights, but do not count as such.
    """

    def __init__(self, state: dict[str, torch.Tensor], parameters: dict[str, torch.Tensor]):
        self.layers: list[Layer] = []
        self.refused: list[str] = []
        self.running: list[tuple[str, nn.Module]] = []
        self.inside = False
        self.parameters = parameters
        self.free = dict.fromkeys(map(_storage, state.values()), 0)
        self.free |= {_storage(x): x.numel() for x in parameters.values()}
        self.names = Counter()

    def _name(self, what: str) -> str:
        """Of the innermost module that is running; numbered from the second time on."""
        path, module = self.running[-1]
        name = path if path and isinstance(module, _LAYERS) else f"{path}.{what}" if path else what
        self.names[name] += 1
        return name if self.names[name] == 1 else f"{name} #{self.names[name]}"

    def refuse(self, reason: str):
        path, module = self.running[-1]
        text = f"{path or type(module).__name__}: {reason}"
        if text not in self.refused:
            self.refused.append(text)

    def _take(self, weight: torch.Tensor | None) -> bool:
        """Counts a parameter, or a part of one, unless it has been counted; whether it was."""
        left = self.free.get(_storage(weight), 0) if weight is not None else 0
        if not left or left < weight.numel():
            return False
        self.free[_storage(weight)] = left - weight.numel()
        return True

    def _is_weight(self, x: torch.Tensor) -> bool:
        return _storage(x) in self.free

    def product(self, what: str, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None):
        a = a.unsqueeze(0) if a.dim() == 1 else a
        b = b.unsqueeze(1) if b.dim() == 1 else b
        count = max(math.prod(a.shape[:-2]), math.prod(b.shape[:-2]))
        m, k, n = *a.shape[-2:], b.shape[-1]
        if not count * m * n * k:
            return
        if self._is_weight(a) and not self._is_weight(b):
            # W X is the transpose of X^T W^T.
            a, b, m, n = b, a, n, m
        # Of a batch of matrices a weight is only one that has been repeated for it.
        if not self._is_weight(b) or b.dim() > 2 and b.shape[0] > 1 and b.stride(0):
            if self._is_weight(b):
                self.refuse(f"{what}: a weight of its own for each of {b.shape[0]} matrices")
            else:
                self.layers.append(MatMul(self._name(what), m, n, k, count))
            return
        matrix = b if b.dim() == 2 else b[0]
        self.layers.append(Linear(
            self._name("linear" if what in ("mm", "addmm") else what), count * m, k, n, a.requires_grad,
            bias is not None and bias.dim() == 1 and self._take(bias), not self._take(matrix)))

    def attention(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor):
        # Without a batch or heads there is one of them.
        *batch, heads, tokens, width = (1, 1, *q.shape)[-max(4, q.dim()):]
        self.layers.append(Attention(self._name("attention"), heads, tokens, width, k.shape[-2],
                                     v.shape[-1], math.prod(batch)))

    def convolution(self, args):
        x, w, bias, stride, padding, dilation, transposed, _, groups = args[:9]
        dims = w.dim() - 2
        if transposed:
            return self.refuse(f"a transposed {dims}-d convolution")
        if dims > 2:
            return self.refuse(f"a {dims}-d convolution: the core gathers images of two dimensions")
        if not self._is_weight(w):
            return self.refuse("a convolution with filters that are computed")
        # One dimension is an image of one row.
        pad, one = (0,) * (2 - dims), (1,) * (2 - dims)
        height, width = one + tuple(x.shape[2:])
        taps_y, taps_x = one + tuple(w.shape[2:])
        geometry = Geometry(
            x.shape[0], height, width, x.shape[1] // groups, w.shape[0] // groups, taps_y, taps_x,
            *(first + tuple(value) for first, value in ((one, stride), (pad, padding), (one, dilation))))
        self.layers.append(Convolution(self._name(f"conv{dims}d"), geometry, x.requires_grad, groups,
                                       bias is not None and self._take(bias), not self._take(w)))

    def others(self, path: str, module: nn.Module, given, returned):
        """Parameters of a module that no product has used: of a normalisation, an embedding."""
        own = [self.parameters[f"{path}.{name}" if path else name]
               for name, _ in module.named_parameters(recurse=False)]
        weights = sum(x.numel() for x in own if self.free[_storage(x)] and self._take(x))
        if weights:
            # What a module of several layers is given and returns are their feature maps, not its own.
            alone = not any(True for _ in module.children())
            sizes = (alone * sum(x.numel() for x in values if isinstance(x, torch.Tensor))
                     for values in (given, returned if isinstance(returned, tuple) else (returned,)))
            name = type(module).__name__
            self.layers.append(Other(path or name, name, *sizes, weights))


def from_module(module: nn.Module, *inputs: torch.Tensor, title: str = "") -> Workload:
    """The layers of a module, in the order in which they run, by one forward pass without values.

    Whatever function the module calls: products are seen below PyTorch's functions, layers and einsum
    alike. Nothing is computed and no memory taken; made under ``torch.device("meta")``, a module has
    none either. Layers without parameters, such as pooling, do not appear. All parameters count, in the
    layers that use them or, of those that none does, in a last one.

    Parameters
    ----------
    module : nn.Module
    inputs : torch.Tensor
        What it is called with; the first axis of the first one is the batch. Their values do not matter.

    Raises
    ------
    WorkloadError
        Names each place that cannot be lowered, with the reason: 3-d and transposed convolutions,
        recurrent layers. Or the forward pass fails, or depends on values.
    """
    title = title or type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise WorkloadError(f"{title} cannot be lowered: a scripted module does not tell of its calls")
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))

        def without_values(x):
            made = torch.empty(x.shape, dtype=x.dtype, device="cpu")
            return made.requires_grad_(isinstance(x, nn.Parameter) and x.is_floating_point())

        # A parameter under two names is one.
        made = {}
        state = {name: made.setdefault(id(x), without_values(x)) for name, x in (
            *module.named_parameters(remove_duplicate=False),
            *module.named_buffers(remove_duplicate=False))}
        parameters = {name: state[name] for name, _ in module.named_parameters(remove_duplicate=False)}
        trace = _Trace(state, parameters)
        for path, part in module.named_modules():
            stack.callback(part.register_forward_pre_hook(
                lambda part, given, path=path: trace.running.append((path, part))).remove)
            stack.callback(part.register_forward_hook(
                lambda part, given, returned, path=path: (
                    trace.others(path, part, given, returned), trace.running.pop())[0]
            ).remove)
        # It tells of errors itself, with its own trace.
        log = logging.getLogger("torch._subclasses.fake_tensor")
        stack.callback(log.setLevel, log.level)
        log.setLevel(logging.CRITICAL)
        stack.enter_context(_Functions(trace))
        stack.enter_context(_Operations(trace))
        try:
            torch.func.functional_call(module, state, tuple(map(without_values, inputs)))
        except Exception as error:  # whatever a module raises
            path = trace.running[-1][0] if trace.running else ""
            trace.refused.append(f"{path or type(module).__name__}: does not run without values: "
                                 f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    if trace.refused:
        raise WorkloadError(f"{title} cannot be lowered:\n  " + "\n  ".join(trace.refused))
    left = sum(trace.free.values())
    if left:
        trace.layers.append(Other("further parameters", "used by no layer above", 0, 0, left))
    return Workload(title, tuple(trace.layers), len(inputs[0]) if inputs and inputs[0].dim() else 1)


def from_function(text: str, batch: int | None = None, tokens: int | None = None) -> Workload:
    """Of ``package.module:function``, which returns a module and its input, or a tuple of inputs.

    The function is called with ``batch`` and ``tokens``, as keywords, as far as they are asked for.
    Packages of the working directory are found.

    Raises
    ------
    WorkloadError
        There is no such function, it takes no such keyword or returns something else; or as
        :func:`from_module`.
    """
    path, _, name = text.partition(":")
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        function: Callable = getattr(importlib.import_module(path), name)
    except (ImportError, AttributeError) as error:
        raise WorkloadError(f"{text}: {error}") from error
    finally:
        sys.path.remove(folder)
    asked = {key: value for key, value in (("batch", batch), ("tokens", tokens)) if value is not None}
    try:
        returned = function(**asked)
    except TypeError as error:
        raise WorkloadError(f"{text} cannot be called with {asked}: {error}") from error
    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[0], nn.Module)):
        raise WorkloadError(f"{text} must return a module and its input, got {type(returned).__name__}")
    module, inputs = returned
    return from_module(module, *(inputs if isinstance(inputs, tuple) else (inputs,)), title=text)
