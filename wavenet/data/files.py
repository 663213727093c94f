"""Write files so that an interruption leaves the old or the new file, never a part of one."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Write to a temporary name in the same folder, flush to the disk, and rename. Raises `OSError`."""
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.partial")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # exists only if something went wrong
            temporary.unlink(missing_ok=True)
