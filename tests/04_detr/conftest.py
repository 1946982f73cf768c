"""What several test files of this lesson share: a tiny data set, and batches of targets."""

from lesson_tests import enter_lesson

enter_lesson(__file__)


from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "04_detr"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # two lessons' tests run side by side; threads that wait cost more


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight drawn scenes of 96 x 72 pixels."""
    from common.street.scenes import write_dataset

    return write_dataset(tmp_path_factory.mktemp("scenes"), range(8), 96, 72, progress=False)


@pytest.fixture
def some_targets():
    """Make targets with the given numbers of objects, at random."""

    def make(*sizes: int, num_classes: int = 3, seed: int = 0):
        random = torch.Generator().manual_seed(seed)
        return [
            {
                "boxes_cxcywh": 0.3 + 0.4 * torch.rand(size, 4, generator=random),
                "classes": torch.randint(num_classes, (size,), generator=random),
            }
            for size in sizes
        ]

    return make


@pytest.fixture
def tiny_detr():
    """Build a detector with random weights, the same each time; its heads answer something."""
    from detr import DETR

    def build(num_classes: int = 3, seed: int = 0, **options):
        torch.manual_seed(seed)
        model = DETR(num_classes, pretrained=False, **({"num_queries": 6} | options))
        for head in model.box_heads:
            torch.nn.init.normal_(head[-1].weight, std=0.1)
        return model.eval()

    return build
