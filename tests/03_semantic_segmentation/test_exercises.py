"""The exercises: solutions pass, blanks do not, and usual wrong ways get their reason."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common.street.scenes import SEMANTIC_CLASSES
from exercises.checks import check
from exercises.training import MOST_PARAMETERS, scene_batches
from exercises.unet import paper_sizes, unpadded
from losses import dice_loss
from networks.models import unet
from notebook_suite import ExerciseSuite, NotebookSuite


class TestNotebooks(NotebookSuite):
    pass


class TestExercises(ExerciseSuite):
    """Every exercise of the lesson."""

    REASONS: ClassVar = {
        "03.1": [
            "it is not left out",
            "wrong claims do not count",
            "makes the union of road larger",
        ],
        "03.2": [
            "on ignored pixels still counts",
            "counts 0: it has no IoU",
            "the union counts the shared part twice",
            "that is Dice",
        ],
        "03.3": [
            "labels are mixed",
            "like tiles",
            "bilinear is right for colours",
            "both drift apart",
        ],
        "03.4": [
            "the softmax does not run over the classes",
            "divides by all pixels, also by ignored ones",
            "by the number of pixels that count",
            "the class weights are not used",
        ],
        "03.5": [
            "classes that do not occur take part",
            "at ignored pixels still count",
            "picture by picture",
            "where every pixel is ignored, the loss is 0",
        ],
        "03.6": ["are padded there", "on the way up", "for each side", "after the last pooling"],
        "03.7": [
            "in the other order",
            "the first row or column is cut off",
            "the doubled map is resized",
            "your code raises RuntimeError: Sizes of tensors must match",
        ],
        "03.8": [
            "is in training mode",
            "parameters; 50,000 are",
            "one number for each",
            "the goal is",
        ],
        "03.9": [
            "the class 'person': label one, or take the class out of the table; ",
            "is a JPEG",
            "3.png",
            "4 pairs of picture and mask",
            "no mask has a pixel of the class 'dog'",
        ],
    }

    @pytest.mark.parametrize(
        ("bug", "reason"),
        [
            ("03.3", "labels are mixed"),
            ("03.4", "there is more than one bug"),
        ],
    )
    def test_unmended_bugs_get_their_reason(
        self, bug: str, reason: str, blanks: dict[str, list]
    ) -> None:
        assert reason in blanks[bug][0].reason


def test_sizes_of_the_paper() -> None:
    with torch.device("meta"):
        assert paper_sizes(572, unpadded(), unpadded()) == (28, 388, 88)  # figure 1


def test_dice_oracle_is_a_slow_loop() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        logits = torch.from_numpy(generator.normal(size=(2, 3, 2, 4))).float()
        labels = torch.from_numpy(generator.choice([0, 1, 2, 255], (2, 2, 4)))
        p, losses = logits.softmax(1), []
        for k in range(3):
            shared = claimed = true = 0.0
            for b, y, x in np.ndindex(2, 2, 4):
                if labels[b, y, x] != 255:
                    shared += p[b, k, y, x].item() * (labels[b, y, x].item() == k)
                    claimed += p[b, k, y, x].item()
                    true += labels[b, y, x].item() == k
            if true:
                losses.append(1 - (2 * shared + 1) / (claimed + true + 1))
        assert dice_loss(logits, labels).item() == pytest.approx(np.mean(losses), abs=1e-5)


class Answering(nn.Module):
    """Gives the same scores whatever the picture."""

    def __init__(self, scores: torch.Tensor | None) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        B, _, H, W = images.shape
        scores = self.scores
        return {
            "out": scores if scores is None else scores[None, :, None, None].expand(B, -1, H, W)
        }


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (torch.eye(8)[4], f"the answer is {SEMANTIC_CLASSES[4]} everywhere"),
        (torch.full((8,), torch.nan), "not all finite"),
        (torch.zeros(3), "scores have shape"),
        (None, "expected are scores"),
    ],
)
def test_useless_models(scores: torch.Tensor | None, reason: str) -> None:
    assert reason in check("03.8", Answering(scores).eval()).reason


def test_budget_of_parameters() -> None:
    assert sum(p.numel() for p in unet(8, (8, 16, 32)).parameters()) <= MOST_PARAMETERS
    assert sum(p.numel() for p in unet(8, (16, 32, 64)).parameters()) > MOST_PARAMETERS


def test_scene_batches() -> None:
    (images, target), (rest, _) = scene_batches(range(3), batch_size=2)
    assert images.shape == (2, 3, 72, 96) and images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    assert target["labels"].shape == (2, 72, 96) and target["labels"].dtype == torch.uint8
    assert len(rest) == 1 and target["image_id"] == [0, 1]


def five_pairs(folder: Path, mask: int = 1, same: bool = False) -> Path:
    """Five pairs of noise and of masks that hold 0 and `mask`."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (5, 6, 8, 3), dtype=np.uint8)
    labels = np.zeros((6, 8), np.uint8)
    labels[:, 4:] = mask
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for k in range(5):
        Image.fromarray(noise[0 if same else k]).save(folder / "images" / f"{k}.png")
        Image.fromarray(labels).save(folder / "masks" / f"{k}.png")
    return folder


def test_own_folder_passes(tmp_path: Path) -> None:
    assert check("03.9", five_pairs(tmp_path)).passed
    assert check("03.9", str(tmp_path)).passed


@pytest.mark.parametrize(
    ("options", "table", "reason"),
    [
        ({"same": True}, '["no", "yes"]', "0.png and 1.png are the same picture"),
        ({"mask": 7}, '["no", "yes"]', "the value 7 at pixel"),
        ({"mask": 0}, '["all"]', "there is one class only"),
        (
            {"mask": 0},
            '{"classes": [{"name": "a", "value": 1}, {"name": "b", "value": 2}], "ignore": [0]}',
            "the mask of 0.png has no labelled pixel",
        ),
    ],
)
def test_own_folder_that_is_refused(options: dict, table: str, reason: str, tmp_path: Path) -> None:
    folder = five_pairs(tmp_path, **options)
    (folder / "classes.json").write_text(table)
    assert reason in check("03.9", folder).reason


def test_damaged_picture_is_a_message(tmp_path: Path) -> None:
    picture = five_pairs(tmp_path) / "images" / "2.png"
    picture.write_bytes(picture.read_bytes()[:80])
    result = check("03.9", tmp_path)
    assert result.verdict == "wrong" and "2.png" in result.reason
    assert "cannot judge" not in result.reason
