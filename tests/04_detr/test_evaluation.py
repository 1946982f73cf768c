"""From the model's answers to COCO's metrics; and that suppression is only where asked for."""

import pytest
import torch
from torch import nn
from torchvision.ops import box_convert, nms

from common.coco_metrics import coco_metrics
from dataset import load_data
from evaluation import collect, detections, evaluate, suppress
from settings import make_settings


def test_the_best_pairs_of_query_and_class():
    logits = torch.tensor([[[0.0, 3.0], [-2.0, 1.0], [2.0, -1.0]]])
    boxes = torch.arange(12.0).view(1, 1, 3, 4) / 12
    outputs = {
        "logits": torch.stack((logits - 9, logits)),
        "boxes_cxcywh": boxes.expand(2, 1, 3, 4),
    }
    (found,) = detections(outputs, 4)
    assert found["queries"].tolist() == [0, 2, 1, 0]
    assert found["classes"].tolist() == [1, 0, 1, 0]
    torch.testing.assert_close(found["scores"], torch.tensor([3.0, 2, 1, 0]).sigmoid())
    assert torch.equal(found["boxes_cxcywh"], boxes[0, 0][[0, 2, 1, 0]])
    assert len(detections(outputs)[0]["scores"]) == 6  # there are no more


class Knowing(nn.Module):
    """In the model's place: answers each picture's own objects, and some twice."""

    def __init__(self, dataset, twice=False):
        super().__init__()
        self.weight, self.targets = nn.Parameter(torch.zeros(1)), [t for _, t in dataset]
        self.copies, self.given = 1 + twice, 0

    def forward(self, images):
        most, classes = 12 * self.copies, 5
        logits = torch.full((len(images), most, classes), -9.0)
        boxes = torch.full((len(images), most, 4), 0.5)
        for k in range(len(images)):
            target = self.targets[self.given + k]
            for copy in range(self.copies):
                for n, label in enumerate(target["classes"]):
                    logits[k, copy * 12 + n, label] = 3 - copy
                    boxes[k, copy * 12 + n] = target["boxes_cxcywh"][n]
        self.given += len(images)
        return {"logits": logits[None], "boxes_cxcywh": boxes[None]}


@pytest.fixture
def pictures(scenes):
    settings = make_settings("street", data=str(scenes), image_size=(96, 160))  # another shape
    return load_data(settings, progress=False).test


def test_who_knows_all_is_perfect(pictures):
    model = Knowing(pictures).train()
    metrics = evaluate(model, pictures, progress=False)
    assert metrics["bbox"]["AP"] == pytest.approx(1)
    assert model.training
    assert set(metrics) == {"bbox", "per_class"}


def test_duplicates_cost_and_suppression_removes_them(pictures):
    truth, (found,) = collect(Knowing(pictures, twice=True), pictures, progress=False)
    kept = suppress(found)
    sure = [one for one in found if one["score"] > 0.5]
    assert 2 * sum(one["score"] > 0.5 for one in kept) == len(sure)
    assert coco_metrics(truth, kept)["bbox"]["AP"] == pytest.approx(1)


class Learning(Knowing):
    """Knows all in its second stage, and places the boxes a little off in its first."""

    def forward(self, images):
        outputs = super().forward(images)
        first = outputs | {"boxes_cxcywh": outputs["boxes_cxcywh"] + 0.02}
        return {name: torch.cat((first[name], outputs[name])) for name in outputs}


def test_one_pass_gives_the_answers_of_every_stage(pictures):
    truth, (first, last) = collect(Learning(pictures), pictures, progress=False, stages=range(2))
    for stage, entries in enumerate((first, last)):
        assert collect(Learning(pictures), pictures, False, stages=[stage])[1] == [entries]
    assert coco_metrics(truth, first)["bbox"]["AP"] < 0.95
    assert coco_metrics(truth, last)["bbox"]["AP"] == pytest.approx(1)


def test_suppression_against_torchvisions_class_by_class():
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 2, generator=random) * 20
    boxes = torch.cat((corners, 10 + 10 * torch.rand(200, 2, generator=random)), dim=1)
    entries = [
        {"image_id": k % 3, "category_id": k % 2, "bbox": box, "score": score}
        for k, (box, score) in enumerate(
            zip(boxes.tolist(), torch.rand(200, generator=random).tolist(), strict=True)
        )
    ]
    expected = []
    for image in range(3):
        for category in range(2):
            own = [e for e in entries if (e["image_id"], e["category_id"]) == (image, category)]
            xyxy = box_convert(torch.tensor([e["bbox"] for e in own]), "xywh", "xyxy")
            expected += [own[k] for k in nms(xyxy, torch.tensor([e["score"] for e in own]), 0.6)]
    found = suppress(entries, 0.6)
    assert len(expected) < 200 and found == [one for one in entries if one in expected]
    assert suppress([]) == []
