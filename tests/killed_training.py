"""`wavenet train`, in which the second process is killed before a step, unless it was restarted: run by torchrun."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from wavenet import cli
from wavenet.training.batches import Batches

KILLED_AT = 8  # step


def main() -> int:
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        batch = Batches.batch

        def dying(batches: Batches, step: int) -> Any:
            if step == KILLED_AT:
                os.kill(os.getpid(), signal.SIGKILL)
            return batch(batches, step)

        Batches.batch = dying  # type: ignore[method-assign, assignment]
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
