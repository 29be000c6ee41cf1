"""Bytes on disk: exact reads, and a spill file that no one has to clean up.

The spill has no name: it is unlinked the moment it is opened, so it is gone when the process is,
however that ends, and two processes can share a directory.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from analyzer.errors import CapacityError, DataError, ProfilerError

if TYPE_CHECKING:
    import torch

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Extent:
    """A run of bytes in an open file."""

    fd: int
    offset: int
    size_B: int
    name: str


def read_exact(extent: Extent, target: torch.Tensor, skip_B: int = 0) -> int:
    """Fill a uint8 tensor from the extent, `skip_B` bytes in; a short file is an error."""
    view = memoryview(target.numpy().data)
    done = 0
    while done < len(view):
        got = os.preadv(extent.fd, [view[done:]], extent.offset + skip_B + done)
        if got == 0:
            raise DataError(
                f"{extent.name} is cut short: {len(view)} bytes wanted at offset "
                f"{extent.offset + skip_B}, only {done} there"
            )
        done += got
    return done


def write_exact(extent: Extent, source: torch.Tensor, skip_B: int = 0) -> int:
    """Write a uint8 tensor into the extent, `skip_B` bytes in."""
    view = memoryview(source.numpy().data)
    done = 0
    try:
        while done < len(view):
            done += os.pwrite(extent.fd, view[done:], extent.offset + skip_B + done)
    except OSError as error:
        raise _disk_error(error, extent.name, len(view)) from error
    return done


def _disk_error(error: OSError, name: str, size_B: int) -> Exception:
    if error.errno in NO_SPACE:
        return CapacityError(
            f"no room for {size_B / 1e9:.3f} GB in {name}: {error.strerror}; "
            "free some space, choose another --offload-dir, or put less on disk"
        )
    return ProfilerError(f"cannot write to {name}: {error.strerror}")


def _anonymous(folder: Path) -> IO[bytes]:
    """An unlinked file in `folder`, which another process may be removing at this moment."""
    for attempt in range(5):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=folder)
        except OSError as error:
            if error.errno != errno.ENOENT or attempt == 4:
                raise ProfilerError(
                    f"cannot use the offload directory {folder}: {error.strerror}"
                ) from error
    raise ProfilerError(f"cannot use the offload directory {folder}")


class Spill:
    """An anonymous file in the offload directory; space is claimed before it is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made = not folder.exists()
        self._file = _anonymous(folder)
        self._size = 0
        self._lock = threading.Lock()

    def claim(self, size_B: int) -> Extent:
        """Reserve `size_B` bytes; raises CapacityError when the disk cannot hold them."""
        with self._lock:
            offset, self._size = self._size, self._size + size_B
        extent = Extent(self._file.fileno(), offset, size_B, f"the offload directory {self.folder}")
        if size_B:
            try:
                os.posix_fallocate(extent.fd, offset, size_B)
            except OSError as error:
                raise _disk_error(error, extent.name, size_B) from error
        return extent

    def close(self) -> None:
        """Give the space back, and the directory if the spill had made it."""
        self._file.close()
        if self._made and self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
