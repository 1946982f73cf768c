"""Show how far a notebook's execution has come, on a terminal and in a log."""

import asyncio
import contextlib
import signal
import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 20.0


class Progress:
    """One line for one notebook: a bar over its cells on a terminal, plain lines in a log.

    A bar redraws itself with carriage returns, which a log file would keep as thousands of
    fragments. There, a line is printed at the start, at the end, and now and then between.

    Args:
        label: what the line calls the notebook.
        total: number of its cells.
    """

    def __init__(self, label: str, total: int) -> None:
        self.label = label
        self.total = total
        self.index = 0
        self.started = self.last_line = time.monotonic()
        self.bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            self.bar = tqdm(total=self.total, desc=self.label, unit="cell")
        else:
            self._line(f"0/{self.total} cells")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar:
            self.bar.close()
        else:
            self._line(f"ended after {time.monotonic() - self.started:.0f} s")

    def cell_started(self, cell: Any, cell_index: int) -> None:
        """Note that the cell `cell_index` (from 0) begins; nbclient calls this."""
        self.index = cell_index
        restore_keyboard_interrupt()
        if self.bar:
            self.bar.update(cell_index + 1 - self.bar.n)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self._line(f"{cell_index}/{self.total} cells")

    def _line(self, text: str) -> None:
        self.last_line = time.monotonic()
        print(f"{self.label}: {text}", file=sys.stderr, flush=True)


def restore_keyboard_interrupt() -> None:
    """Let Ctrl-C stop the whole command.

    nbclient takes the signal to end its kernel only; the next notebook would simply begin.
    """
    with contextlib.suppress(RuntimeError):  # no running loop, or a system without such handlers
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
