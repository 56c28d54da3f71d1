"""Image files of kinds that Pillow doesn't write."""

import struct
import zlib
from pathlib import Path

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(width: int, height: int, bits: int = 8, color_type: int = 2) -> bytes:
    """Signature and header of a PNG file; color type 2 is RGB, 4 gray with alpha."""
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))


def write_png(path: Path, values_HWC: np.ndarray, before: bytes = b"", after: bytes = b"") -> Path:
    """A PNG file of uint8 or uint16 values, with more chunks before and after the pixels."""
    height, width, channels = values_HWC.shape
    rows = [b"\0" + row.astype(values_HWC.dtype.newbyteorder(">")).tobytes() for row in values_HWC]
    pixels = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    start = header(width, height, 8 * values_HWC.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels])
    path.write_bytes(start + before + pixels + after + chunk(b"IEND", b""))
    return path
