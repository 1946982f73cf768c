"""Write a whole file or nothing."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends without an error.

    Until then it lies beside it as `NAME.<8 hex digits>.part`, so that two writers at once do not
    meet; after an error it is deleted.

    Args:
        path: the file to make or replace; its folder exists.
        durable: wait until the bytes are on the disk before the name points at them, so that a
            power cut costs no file either.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
