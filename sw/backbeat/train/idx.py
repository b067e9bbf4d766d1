"""The IDX file format of MNIST."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

__all__ = ["read_idx"]

#: Third byte of the magic number: unsigned bytes. The fourth is the number of dimensions.
UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of unsigned bytes, gzipped if its name ends in .gz.

    Parameters
    ----------
    path : Path
    dimensions : int
        How many it must have: 3 for images, 1 for labels.

    Returns
    -------
    uint8 array

    Raises
    ------
    ValueError
        It is not such a file, or not whole. Names the file.
    """
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is not a whole gzip file: {error}") from None
    magic, expected = data[:4], bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if magic != expected:
        raise ValueError(f"{path} is not an IDX file of {dimensions} dimensions: it begins with "
                         f"{magic.hex() or 'nothing'}, expected {expected.hex()}")
    start = 4 + 4 * dimensions
    header = data[4:start]
    shape = tuple(np.frombuffer(header[:len(header) // 4 * 4], dtype=">u4").tolist())
    size = math.prod(shape)
    if len(shape) < dimensions or len(data) != start + size:
        raise ValueError(f"{path} has {len(data):,} bytes, but its header "
                         + (f"says {start + size:,}" if len(shape) == dimensions
                            else f"alone has {start}"))
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)
