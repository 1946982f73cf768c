"""The environment in which a notebook runs: how small, with which instructions, in which folder.

Two processors round differently, so a notebook that passes on one may fail on the next. `--cpu`
and `--threads` let one machine stand in for others: they limit the instructions that PyTorch's own
kernels (`ATEN_CPU_CAPABILITY`) and oneDNN's (`ONEDNN_MAX_CPU_ISA`) may use, and the threads.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rooms import GENERATED

# Plain x86-64; what every x86-64 processor since about 2015 has; all that this one has.
CPUS = {
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "native": {},
}
LIMITS = sorted({name for limits in CPUS.values() for name in limits})


def kernel_environment(
    cpu: str | None = None, threads: int | None = None, smoke: bool = False
) -> dict[str, str]:
    """Return the environment variables of a notebook's kernel.

    Args:
        cpu: one of `CPUS`; None leaves the variables as they are.
        threads: how many a calculation may use; None leaves that to the libraries.
        smoke: ask for the smallest sizes in which all cells run; see the lessons' `smoke.py`.

    Returns:
        This process's environment with changes. Figures are drawn in the notebook's own way.
        Sliders would be empty boxes in a stored notebook: STILL_PICTURES asks for pictures.
    """
    dropped = {"MPLBACKEND", "LESSON_SMOKE", *(LIMITS if cpu else ())}
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment |= {"STILL_PICTURES": "1", **CPUS.get(cpu or "native", {})}
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return environment | ({"LESSON_SMOKE": "1"} if smoke else {})


def left_behind(folder: str, names: list[str]) -> set[str]:
    """Return which entries of a folder are not copied; the drawn scenes lie in data/street."""
    drawn = {"street"} if Path(folder).name == "data" else set()
    return (GENERATED | drawn) & set(names)


@contextmanager
def copies_of_lessons() -> Iterator[dict[Path, Path]]:
    """Give a dict that maps a lesson's folder to a copy of it; the copies go at the end.

    What a smoke run writes, such as the checkpoint of two steps, must not replace what a reader
    has trained. The copies' path has blanks, as the paths of many readers have.
    """

    class Copies(dict[Path, Path]):
        def __missing__(self, folder: Path) -> Path:
            self[folder] = Path(temporary) / folder.name
            shutil.copytree(folder, self[folder], ignore=left_behind)
            return self[folder]

    with tempfile.TemporaryDirectory(
        prefix="copy of lessons ", ignore_cleanup_errors=True
    ) as temporary:
        yield Copies()
