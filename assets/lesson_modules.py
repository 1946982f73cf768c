"""Use the scripts of several lessons in one program, although some have the same names.

A lesson's scripts import one another by their bare names, as if no other lesson existed. So each
lesson gets its own set of modules: inside `with lesson:` the lesson's folder comes first on
`sys.path` and its modules alone are in `sys.modules`; outside, nothing of them is to be seen.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, TracebackType

ROOT = Path(__file__).resolve().parents[1]


class Lesson:
    """The scripts of one folder.

    Use `lesson.load("boxes").box_iou(...)`. Code that imports further scripts of the lesson only
    when it is called has to be called inside `with lesson:`.

    Args:
        folder: name of the folder in the repository, such as "00_boxes_and_metrics".

    Raises:
        ValueError: there is no such folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = ROOT / folder
        if not self.folder.is_dir():
            raise ValueError(f"{folder} is no folder of {ROOT}")
        self._own: dict[str, ModuleType] = {}
        self._aside: dict[str, ModuleType] = {}
        self._depth = 0

    def __enter__(self) -> Lesson:
        self._depth += 1
        if self._depth == 1:
            tops = {path.stem for path in self.folder.glob("*") if self._is_importable(path)}
            names = [name for name in sys.modules if name.split(".")[0] in tops]
            self._aside = {name: sys.modules.pop(name) for name in names}
            sys.modules.update(self._own)
            sys.path.insert(0, str(self.folder))
            importlib.invalidate_caches()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            sys.path.remove(str(self.folder))
            names = [name for name, module in sys.modules.items() if self._holds(module)]
            self._own = {name: sys.modules.pop(name) for name in names}
            sys.modules.update(self._aside)

    def load(self, name: str) -> ModuleType:
        """Import one script of the lesson, or return it where that was done before.

        Raises:
            ModuleNotFoundError: the lesson has no such script.
        """
        with self:
            return importlib.import_module(name)

    @staticmethod
    def _is_importable(path: Path) -> bool:
        return path.suffix == ".py" or (path / "__init__.py").is_file()

    def _holds(self, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        return file is not None and Path(file).is_relative_to(self.folder)


BOXES = Lesson("00_boxes_and_metrics")
MASK_RCNN = Lesson("01_mask_r_cnn_fine_tuning")
YOLO = Lesson("02_yolo_v3_darknet")
SEMANTIC = Lesson("03_semantic_segmentation")
DETR = Lesson("04_detr")
TOOLS = Lesson("tools")
