"""Float matrices as INT8 with one scale per row or per column."""

import numpy as np
import torch

__all__ = ["fractions", "quantise"]


def fractions(shape: tuple[int, int], key: tuple[int, int], counter: tuple[int, int, int]):
    """Uniform numbers in [0, 1), steps of 2**-24: all that a float32 sum can tell apart.

    Philox is counter-based: the number of an element is a function of key, counter and the
    element's index alone, whatever has been drawn before.

    Parameters
    ----------
    shape : (int, int)
    key : two integers below 2**64
    counter : three integers below 2**64
        The fourth, lowest one counts the elements.

    Returns
    -------
    float32 tensor of that shape
    """
    count = shape[0] * shape[1]
    generator = np.random.Philox(key=np.array(key, dtype=np.uint64),
                                 counter=np.array((0, *counter), dtype=np.uint64))
    bits = generator.random_raw((count + 1) // 2).view(np.uint32)[:count]
    bits >>= 8
    return torch.from_numpy(bits.view(np.int32)).to(torch.float32).mul_(2.0**-24).view(shape)


def quantise(x: torch.Tensor, dim: int, fraction: torch.Tensor | None = None):
    """INT8 values and the scales they are multiples of: ``x = values * scales``, nearly.

    The scale is ``amax / 127`` along ``dim``. Without ``fraction`` to nearest (half to even), with
    it ``floor(x / scale + fraction)``: stochastic rounding, if the fractions are uniform.

    Parameters
    ----------
    x : float32 tensor [R, C], row-major
    dim : int
        The axis that is summed over in the product.
    fraction : float32 tensor [R, C]

    Returns
    -------
    values : int8 tensor [R, C]
        -127...127.
    scales : float32 tensor, [R, 1] for ``dim`` 1 or [1, C] for 0
        Not finite where ``x`` is not; 0 where ``x`` is all zero.
    """
    scales = x.abs().amax(dim, keepdim=True) / 127
    # Dividing by 1 instead of 0 makes zeros of zeros (and of what is below the smallest scale).
    values = x / torch.where(scales == 0, 1.0, scales)
    if fraction is None:
        values.round_()
    else:
        values.add_(fraction).floor_()
    return values.clamp_(-127, 127).to(torch.int8), scales
