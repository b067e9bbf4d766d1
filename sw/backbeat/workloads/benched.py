"""The workloads that ``backbeat bench`` measures."""

from .layers import Attention, Convolution, Linear, Workload
from .products import Geometry

__all__ = ["WORKLOADS", "mlp", "resnet18", "transformer"]


def mlp(batch: int = 128, widths: tuple[int, ...] = (784, 512, 512, 10)) -> Workload:
    """Linear layers of these widths."""
    layers = (Linear(f"{inputs}-{outputs}", batch, inputs, outputs, input_gradient=number > 0)
              for number, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)))
    return Workload(f"MLP {'-'.join(map(str, widths))}, batch {batch}", tuple(layers), batch)


def resnet18(batch: int = 4) -> Workload:
    """The distinct convolutions of its four stages; each stage but the first halves the image."""
    def convolution(taps, channels, filters, size, stride):
        name = f"{taps}x{taps} {channels}-{filters} {size}x{size}" + (" stride 2" if stride == 2 else "")
        return Convolution(name, Geometry(batch, size, size, channels, filters, taps, taps, stride,
                                          padding=taps // 2))

    layers = [convolution(3, 64, 64, 56, 1)]
    for filters, size in ((128, 56), (256, 28), (512, 14)):
        layers += [convolution(3, filters // 2, filters, size, 2),
                   convolution(1, filters // 2, filters, size, 2),
                   convolution(3, filters, filters, size // 2, 1)]
    return Workload(f"ResNet-18, distinct convolutions from 56x56 down, batch {batch}", tuple(layers),
                    batch)


def transformer(batch: int = 1, tokens: int = 256, width: int = 256, heads: int = 4,
                hidden: int = 1024) -> Workload:
    """A block. Its heads are layers of their own, so that each one's products are measured."""
    rows = batch * tokens
    return Workload(
        f"Transformer block, width {width}, {heads} heads, {tokens} tokens, hidden {hidden}",
        (*(Linear(f"projection {name}", rows, width, width) for name in "QKV"),
         *(Attention(f"attention head {head}", 1, tokens, width // heads, batch=batch)
           for head in range(heads)),
         Linear("projection O", rows, width, width),
         Linear("FFN up", rows, width, hidden), Linear("FFN down", rows, hidden, width)), batch)


#: What ``backbeat bench`` measures, by the name that ``--only`` takes.
WORKLOADS = {"mlp": mlp(), "resnet18": resnet18(), "transformer": transformer()}
