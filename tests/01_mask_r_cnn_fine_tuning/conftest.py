"""What several test files of this lesson share: a tiny data set and a tiny detector."""

from lesson_tests import enter_lesson

enter_lesson(__file__)


from collections import Counter
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "01_mask_r_cnn_fine_tuning"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # two lessons' tests run side by side; threads that wait cost more


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight drawn scenes of 96 x 72 pixels."""
    from common.street.scenes import write_dataset

    return write_dataset(tmp_path_factory.mktemp("scenes"), range(8), 96, 72, progress=False)


@pytest.fixture
def whole_reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often each XML or JSON file is read whole, by its name."""
    counts: Counter[str] = Counter()
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        if path.suffix in (".xml", ".json"):
            counts[path.name] += 1
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    return counts


@pytest.fixture
def tiny_detector():
    """Build a detector for pictures of 96 x 72 with random weights, the same each time."""
    from model import faster_rcnn, mask_rcnn

    def build(task: str = "masks", num_classes: int = 2, **options):
        torch.manual_seed(0)
        builder = mask_rcnn if task == "masks" else faster_rcnn
        size = {"min_size": 72, "max_size": 96}
        return builder("efficientnet_lite0", num_classes, False, **(size | options))

    return build


@pytest.fixture
def batch():
    """Two pictures with two objects and one; masks fill their boxes."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(3, 72, 96, generator=generator) for _ in range(2)]
    boxes = [[[10.0, 10, 40, 60], [50, 20, 80, 70]], [[5.0, 5, 30, 65]]]
    targets = []
    for image_id, corners in enumerate(boxes):
        masks = torch.zeros(len(corners), 72, 96, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, corners, strict=True):
            mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
        targets.append(
            {
                "boxes": torch.tensor(corners),
                "labels": torch.ones(len(corners), dtype=torch.int64),
                "masks": masks,
                "image_id": image_id,
                "area": masks.sum((1, 2)).float(),
                "iscrowd": torch.zeros(len(corners), dtype=torch.int64),
            }
        )
    return images, targets
