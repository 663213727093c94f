"""Writing files so that an interruption leaves the old one or the new one, never half of it."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Write under a temporary name in the same folder, flush to the disk, rename. Raises `OSError`."""
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.partial")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # left over only when something went wrong
            temporary.unlink(missing_ok=True)
