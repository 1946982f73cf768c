"""What several test files of this lesson share: small folders of pictures and masks."""

from lesson_tests import enter_lesson

enter_lesson(__file__)


import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # the pictures are tiny, and threads that wait cost more


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight drawn scenes of 96 x 72 pixels with their semantic masks."""
    from common.street.scenes import SEMANTIC_CLASSES, write_dataset

    folder = write_dataset(tmp_path_factory.mktemp("scenes"), range(8), 96, 72, progress=False)
    (folder / "classes.json").write_text(json.dumps(list(SEMANTIC_CLASSES)))
    return folder


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write pictures and masks of one kind, the same content whatever the kind.

    Class 0 fills the left half, class 1 the right one, and the top left pixel is ignored. The
    pictures show it: dark left, bright right.
    """

    def make(kind: str = "index", count: int = 4, size: tuple[int, int] = (12, 8)) -> Path:
        folder = tmp_path / kind
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True)
        width, height = size
        generator = np.random.default_rng(0)
        labels = np.zeros((height, width), np.uint8)
        labels[:, width // 2 :] = 1
        labels[0, 0] = 255
        for k in range(count):
            noise = generator.integers(0, 60, (height, width, 3))
            photo = ((labels == 1)[..., None] * 180 + noise).astype(np.uint8)
            Image.fromarray(photo).save(folder / "images" / f"p{k}.png")
            mask_image(kind, labels).save(folder / "masks" / f"p{k}.png")
        (folder / "classes.json").write_text(json.dumps(TABLES[kind]))
        return folder

    return make


COLORS = [[128, 64, 128], [0, 0, 142]]
VOID = [255, 255, 255]
TABLES = {
    "index": ["ground", "thing"],
    "sixteen": {
        "classes": [{"name": "ground", "value": 700}, {"name": "thing", "value": 9}],
        "ignore": [65535],
    },
    "palette": {
        "classes": [
            {"name": "ground", "value": 0, "color": COLORS[0]},
            {"name": "thing", "value": 1, "color": COLORS[1]},
        ],
        "ignore": [255],
    },
    "palette_colors": {
        "classes": [{"name": "ground", "color": COLORS[0]}, {"name": "thing", "color": COLORS[1]}],
        "ignore": [VOID],
    },
    "color": {
        "classes": [{"name": "ground", "color": COLORS[0]}, {"name": "thing", "color": COLORS[1]}],
        "ignore": [VOID],
    },
}
MASK_KINDS = tuple(TABLES)


def mask_image(kind: str, labels: np.ndarray) -> Image.Image:
    """Store labels 0, 1 and 255 the way `kind` says."""
    if kind == "sixteen":
        table = np.zeros(256, np.uint16)
        table[[0, 1, 255]] = 700, 9, 65535
        return Image.fromarray(table[labels])
    if kind == "color":
        table = np.zeros((256, 3), np.uint8)
        table[[0, 1, 255]] = [*COLORS, VOID]
        return Image.fromarray(table[labels])
    image = Image.fromarray(labels)
    if kind.startswith("palette"):
        image.putpalette([*COLORS[0], *COLORS[1], *[7] * (253 * 3), *VOID])
    return image
