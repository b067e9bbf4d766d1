"""PyTorch's operations that are matrix products, in terms of ours.

Each takes the arguments of the function it stands for, and a site. It returns NotImplemented for what
it leaves to PyTorch, after it has said why to ``Site.leave``.
"""

import math

import torch
from torch.nn import functional as F

from backbeat_rtl.isa import MAX_DIMENSION, MAX_K

from .functions import Convolution, MatMul, Window
from .site import Site

__all__ = ["HOST", "OPERATIONS"]


def _weights(site: Site, weight: torch.Tensor) -> torch.Tensor:
    return weight if site.recipe.weights is None else site.recipe.weights(weight)


def linear(site: Site, input, weight, bias=None):
    if weight.dim() != 2 or input.shape[-1] != weight.shape[1]:
        return NotImplemented       # PyTorch says what is wrong
    rows = input.reshape(-1, input.shape[-1])
    y = MatMul.apply(rows, _weights(site, weight), site, site.use(), True)
    y = y.view(*input.shape[:-1], y.shape[-1])
    return y if bias is None else y + bias


def _oriented(b: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """B as it lies, and whether that is across: a transposed view needs no copy."""
    across = b.stride(-1) != 1 and b.stride(-2) == 1
    return (b.mT if across else b), across


def matmul(site: Site, input, other):
    if not (input.dim() and other.dim()):
        return NotImplemented
    a = input.unsqueeze(0) if input.dim() == 1 else input
    b = other.unsqueeze(1) if other.dim() == 1 else other
    if a.shape[-1] != b.shape[-2]:
        return NotImplemented
    if b.dim() == 2:
        b, across = _oriented(b)
        y = MatMul.apply(a.reshape(-1, a.shape[-1]), b, site, site.use(), across)
        y = y.view(*a.shape[:-1], y.shape[-1])
    else:
        batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        b, across = _oriented(b)
        a, b = (x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:]) for x in (a, b))
        y = MatMul.apply(a, b, site, site.use(), across)
        y = y.view(*batch, *y.shape[1:])
    if other.dim() == 1:
        y = y.squeeze(-1)
    return y.squeeze(-2 if other.dim() > 1 else -1) if input.dim() == 1 else y


def addmm(site: Site, input, mat1, mat2, *, beta=1, alpha=1):
    y = matmul(site, mat1, mat2)
    if y is NotImplemented:
        return y
    y = y if alpha == 1 else y * alpha
    return y if beta == 0 else y + (input if beta == 1 else input * beta)


def _part(site: Site, name: str, a, b):
    """A product within an operation, which may have a recipe of its own."""
    part = site.part(name)
    if part.recipe.offloaded:
        return matmul(part, a, b)
    part.leave(f"recipe {part.recipe.name}")
    return torch.matmul(a, b)


def attention(site: Site, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False,
              scale=None, enable_gqa=False):
    """Scores and values are products; mask, softmax and dropout between them are PyTorch's."""
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(repeats, -3) for x in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    # Scaled before the product, where there are fewer values than after it.
    scores = _part(site, "scores", query * scale, key.mT)
    if is_causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~seen, -math.inf)
    if attn_mask is None:
        shares = scores.softmax(-1)
    else:
        scores = (scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool
                  else scores + attn_mask)
        # A row that sees nothing is nothing, not NaN.
        shares = scores.softmax(-1).masked_fill((scores == -math.inf).all(-1, keepdim=True), 0)
    if dropout_p:
        shares = F.dropout(shares, dropout_p)
    return _part(site, "values", shares, value)


def _tuple(value, count: int) -> tuple[int, ...]:
    value = (value,) if isinstance(value, int) else tuple(value)
    return value * count if len(value) == 1 else value


def _same(x, kernel, stride, dilation, padding):
    """Images and the padding that is left for the product; an uneven one is made here."""
    if padding == "valid":
        return x, (0,) * len(kernel)
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    uneven = [t % 2 for t in total]
    if any(uneven):
        x = F.pad(x, [side for odd in reversed(uneven) for side in (0, odd)])
    return x, tuple(t // 2 for t in total)


def _obstacle(window: Window, channels: int, filters: int, images: int) -> str | None:
    """Why the accelerator cannot make this convolution."""
    if channels == filters == window.groups > 1 or channels // window.groups == 1 < window.groups:
        return "a depthwise convolution: one channel per group leaves the array empty"
    taps, out = math.prod(window.kernel), math.prod(window.out)
    for what, sum_over in (("filter", taps * max(channels, filters) // window.groups),
                           ("image", out)):
        if sum_over > MAX_K:
            return f"a sum over {sum_over} values per {what}, {MAX_K} fit INT32"
    if images * max(out, math.prod(window.size)) > MAX_DIMENSION:
        return f"more than {MAX_DIMENSION} pixels"
    return None


def convolution(site: Site, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Of one or two dimensions, with or without a batch."""
    dims = weight.dim() - 2
    x = input if input.dim() == dims + 2 else input.unsqueeze(0)
    stride, dilation = _tuple(stride, dims), _tuple(dilation, dims)
    kernel = tuple(weight.shape[2:])
    if isinstance(padding, str):
        x, padding = _same(x, kernel, stride, dilation, padding)
    padding, w = _tuple(padding, dims), weight
    if dims == 1:
        x, w = x.unsqueeze(2), weight.unsqueeze(2)
        kernel, stride, padding, dilation = (1, *kernel), (1, *stride), (0, *padding), (1, *dilation)
    window = Window(tuple(x.shape[2:]), kernel, stride, padding, dilation, groups)
    if x.shape[1] != w.shape[1] * groups or w.shape[0] % groups or min(window.out) < 1:
        return NotImplemented       # PyTorch says what is wrong
    reason = _obstacle(window, x.shape[1], w.shape[0], len(x))
    if reason is not None:
        return site.leave(reason)
    return _convolved(site, x, w, bias, window, False, dims, input)


def transposed_convolution(site: Site, input, weight, bias=None, stride=1, padding=0, output_padding=0,
                           groups=1, dilation=1):
    """Of one or two dimensions, with or without a batch."""
    dims = weight.dim() - 2
    x = input if input.dim() == dims + 2 else input.unsqueeze(0)
    stride, padding, output_padding, dilation = (
        _tuple(v, dims) for v in (stride, padding, output_padding, dilation))
    kernel, w = tuple(weight.shape[2:]), weight
    if dims == 1:
        x, w = x.unsqueeze(2), weight.unsqueeze(2)
        kernel, stride, padding, output_padding, dilation = (
            (1, *kernel), (1, *stride), (0, *padding), (0, *output_padding), (1, *dilation))
    size = tuple((n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, s, p, d, k, o in zip(
        x.shape[2:], stride, padding, dilation, kernel, output_padding, strict=True))
    window = Window(size, kernel, stride, padding, dilation, groups)
    if x.shape[1] != w.shape[0] or w.shape[0] % groups or min(size) < 1:
        return NotImplemented
    if window.out != tuple(x.shape[2:]):
        return site.leave(f"an output padding of {output_padding}")
    reason = _obstacle(window, w.shape[1] * groups, w.shape[0], len(x))
    if reason is not None:
        return site.leave(reason)
    return _convolved(site, x, w, bias, window, True, dims, input)


def _convolved(site: Site, x, w, bias, window: Window, transposed: bool, dims: int, input):
    """With its bias, and in as many dimensions as the input."""
    y = Convolution.apply(x.permute(0, 2, 3, 1), _weights(site, w), site, site.use(), window,
                          transposed).permute(0, 3, 1, 2)
    if bias is not None:
        y = y + bias.view(1, -1, 1, 1)
    if dims == 1:
        y = y.squeeze(2)
    return y if input.dim() == dims + 2 else y.squeeze(0)


#: What is made on the accelerator: the operation, and its name in reports.
OPERATIONS = {
    F.linear: (linear, "linear"),
    torch.matmul: (matmul, "matmul"), torch.Tensor.matmul: (matmul, "matmul"),
    torch.Tensor.__matmul__: (matmul, "matmul"),
    torch.Tensor.__rmatmul__: (lambda site, other, input: matmul(site, input, other), "matmul"),
    torch.mm: (matmul, "matmul"), torch.Tensor.mm: (matmul, "matmul"),
    torch.bmm: (matmul, "matmul"), torch.Tensor.bmm: (matmul, "matmul"),
    torch.addmm: (addmm, "matmul"), torch.Tensor.addmm: (addmm, "matmul"),
    torch.baddbmm: (addmm, "matmul"), torch.Tensor.baddbmm: (addmm, "matmul"),
    F.scaled_dot_product_attention: (attention, "attention"),
    F.conv1d: (convolution, "conv1d"), F.conv2d: (convolution, "conv2d"),
    F.conv_transpose1d: (transposed_convolution, "conv_transpose1d"),
    F.conv_transpose2d: (transposed_convolution, "conv_transpose2d"),
}

#: Products that stay on the host, and are reported.
HOST = {F.conv3d: "conv3d", F.conv_transpose3d: "conv_transpose3d", F.bilinear: "bilinear",
        torch.einsum: "einsum", torch.tensordot: "tensordot", torch.chain_matmul: "chain_matmul",
        torch.linalg.multi_dot: "multi_dot", torch.mv: "mv", torch.addbmm: "addbmm",
        torch.lstm: "lstm", torch.gru: "gru", torch.rnn_tanh: "rnn", torch.rnn_relu: "rnn"}
