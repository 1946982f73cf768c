"""COCO metrics against pycocotools called directly, and the validation loss."""

import contextlib
import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from common.coco_metrics import coco_metrics, format_metrics
from common.coco_truth import encode_mask
from common.confusion import confusion_matrix
from common.labels.records import AnnotationSet, ImageRecord, ObjectRecord
from dataset import DetectionDataset
from evaluation import evaluate, validation_loss


class Oracle(nn.Module):
    """Answers with boxes and masks near the truth, some of them wrong, as a detector would."""

    def __init__(self, targets, num_classes, with_masks=True):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        generator = torch.Generator().manual_seed(0)
        self.answers = []
        for target in targets:
            boxes, n = target["boxes"], len(target["boxes"])
            moved = boxes + torch.randn(n, 4, generator=generator) * 2
            found = {
                "boxes": torch.cat([moved, moved[:1] + 9]),
                "labels": torch.cat([target["labels"], target["labels"][:1] % num_classes + 1]),
            }
            count = len(found["labels"])
            found["scores"] = torch.rand(count, generator=generator)
            if with_masks:
                masks = torch.cat([target["masks"], target["masks"][:1].roll(5, -1)]).float()
                found["masks"] = masks[:, None] * 0.9
            self.answers.append(found)
        self.next = 0

    def forward(self, images):
        self.next += len(images)
        return self.answers[self.next - len(images) : self.next]


def make_data(num_images=6, num_classes=3):
    generator = torch.Generator().manual_seed(4)
    data = []
    for image_id in range(num_images):
        n = image_id % 4
        corners = torch.randint(0, 40, (n, 2), generator=generator).float()
        boxes = torch.cat([corners, corners + torch.randint(8, 40, (n, 2), generator=generator)], 1)
        masks = torch.zeros(n, 90, 100, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
            mask[y1, x1] = 0
        target = {
            "boxes": boxes,
            "labels": torch.randint(1, num_classes, (n,), generator=generator),
            "masks": masks,
            "image_id": 10 + image_id,
            "area": masks.sum((1, 2)).float(),
            "iscrowd": torch.tensor([0, 0, 1][:n]),
        }
        data.append((torch.rand(3, 90, 100), target))
    return data


def direct(kind, data, answers):
    """Compute the metrics by pycocotools from JSON files' contents, with none of our code."""
    truth = {"images": [], "annotations": [], "categories": [{"id": k} for k in (1, 2, 3)]}
    results = []
    for (_image, target), answer in zip(data, answers, strict=True):
        truth["images"].append({"id": target["image_id"], "height": 90, "width": 100})
        for k in range(len(target["labels"])):
            x1, y1, x2, y2 = target["boxes"][k].tolist()
            rle = coco_mask.encode(np.asfortranarray(target["masks"][k].numpy()))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": target["image_id"],
                    "category_id": target["labels"][k].item(),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": target["area"][k].item(),
                    "iscrowd": target["iscrowd"][k].item(),
                    "segmentation": {**rle, "counts": rle["counts"].decode()},
                }
            )
        for k in range(len(answer["labels"])):
            one = {"image_id": target["image_id"], "category_id": answer["labels"][k].item()}
            one["score"] = answer["scores"][k].item()
            if kind == "bbox":
                x1, y1, x2, y2 = answer["boxes"][k].tolist()
                one["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            else:
                binary = (answer["masks"][k, 0] > 0.5).numpy().astype(np.uint8)
                rle = coco_mask.encode(np.asfortranarray(binary))
                one["segmentation"] = {**rle, "counts": rle["counts"].decode()}
            results.append(one)
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = json.loads(json.dumps(truth))
        ground_truth.createIndex()
        measured = COCOeval(ground_truth, ground_truth.loadRes(results), kind)
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    return measured


NAMES = ("one", "two", "three")


class Labelled:
    """What `evaluate` asks of a dataset; crowd regions are in the labels alone."""

    collate = staticmethod(DetectionDataset.collate)

    def __init__(self, data):
        self.data, self.has_masks = data, "masks" in data[0][1]
        images = [self.record(image, target) for image, target in data]
        self.labels = AnnotationSet(Path("x"), NAMES, (1, 2, 3), tuple(images), 0)
        self.annotations = self.labels

    @staticmethod
    def record(image, target):
        objects = []
        for k, label in enumerate(target["labels"].tolist()):
            mask = target["masks"][k].numpy() if "masks" in target else None
            rle = None if mask is None else coco_mask.encode(np.asfortranarray(mask))
            box, area = tuple(target["boxes"][k].tolist()), target["area"][k].item()
            objects.append(ObjectRecord(label, box, area, "x", rle, target["iscrowd"][k].item()))
        height, width = image.shape[-2:]
        return ImageRecord(Path("x"), width, height, target["image_id"], tuple(objects))

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_equals_pycocotools_called_directly(kind):
    data = make_data()
    data = [item for item in data if len(item[1]["labels"])] + [data[0]]
    oracle = Oracle([target for _, target in data], 3)
    metrics = evaluate(oracle, Labelled(data), progress=False)
    measured = direct(kind, data, oracle.answers)
    values = [-1 if value is None else value for value in metrics[kind].values()]
    assert values == measured.stats.tolist()
    assert 0.1 < metrics[kind]["AP"] < 0.99
    for index, name in enumerate(NAMES):
        precision = measured.eval["precision"][0, :, index, 0, -1]
        expected = precision.mean() if precision[0] > -1 else None
        assert metrics["per_class"][name][kind]["AP50"] == expected


def test_evaluation_takes_the_number_of_detections():
    data = make_data()
    oracle = Oracle([target for _, target in data], 3)
    recalls = [name for name in evaluate(oracle, Labelled(data), False, 7)["bbox"] if "AR" in name]
    assert recalls[:3] == ["AR1", "AR7", "AR_small"]


def test_mode_is_put_back_and_boxes_alone_have_no_segm():
    data = make_data()
    for _, target in data:
        del target["masks"]
    oracle = Oracle([target for _, target in data], 3, with_masks=False).train()
    metrics = evaluate(oracle, Labelled(data), progress=False)
    assert "segm" not in metrics
    assert oracle.training


def test_nothing_found_is_zero_and_nothing_to_find_is_none():
    truth = {
        "info": {},
        "images": [{"id": 1, "height": 9, "width": 9}],
        "annotations": [],
        "categories": [{"id": 1, "name": "one"}],
    }
    assert coco_metrics(copy.deepcopy(truth), [])["bbox"]["AP"] is None
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    truth["annotations"] = [box]
    metrics = coco_metrics(truth, [])
    assert metrics["bbox"]["AP"] == 0
    assert metrics["per_class"]["one"]["bbox"] == {"AP": 0, "AP50": 0, "AP75": 0}


def test_detections_are_not_changed():
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    truth = {
        "info": {},
        "images": [{"id": 1, "height": 9, "width": 9}],
        "annotations": [box],
        "categories": [{"id": 1, "name": "one"}],
    }
    found = [{"image_id": 1, "category_id": 1, "bbox": [1.0, 1, 5, 5], "score": 0.5}]
    kept = copy.deepcopy(found)
    assert coco_metrics(truth, found)["bbox"]["AP"] == pytest.approx(1)
    assert found == kept


def test_table_has_a_line_for_all_and_for_each_class():
    values = {"AP": 0.5, "AP50": 0.75, "AP75": None}
    metrics = {"bbox": values, "per_class": {"dog": {"bbox": values}}}
    lines = format_metrics(metrics).splitlines()
    assert lines[0].split() == ["box", "AP", "box", "AP50", "box", "AP75"]
    assert lines[1].split() == ["all", "0.500", "0.750", "-"]
    assert lines[2].split() == ["dog", "0.500", "0.750", "-"]


def test_run_lengths_round_trip():
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    rle = encode_mask(mask)
    assert json.loads(json.dumps(rle)) == rle
    assert rle["size"] == [5, 7]
    assert np.array_equal(coco_mask.decode(rle).astype(bool), mask)


def test_validation_loss_leaves_everything_as_it_was(tiny_detector, batch):
    model = tiny_detector(live_batch_norm=True).train()
    model.roi_heads.eval()
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()
    first = validation_loss(model, [batch])
    assert torch.equal(torch.get_rng_state(), random_state)
    torch.manual_seed(77)
    assert validation_loss(model, [batch]) == first
    assert validation_loss(model, [batch], seed=1) != first
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert modes == [module.training for module in model.modules()]
    assert all(p.grad is None for p in model.parameters())
    terms = [value for name, value in first.items() if name != "loss"]
    assert len(terms) == 5
    assert first["loss"] == pytest.approx(sum(terms))


def test_validation_loss_is_the_losses_of_frozen_layers(tiny_detector, batch):
    model = tiny_detector().train()  # no batch norm: training mode gives the same losses
    model.transform.eval()  # in training it draws a size, if only from one
    torch.manual_seed(0)
    with torch.no_grad():
        expected = {name: value.item() for name, value in model(*batch).items()}
    found = validation_loss(model.eval(), [batch], seed=0)
    del found["loss"]
    assert found == pytest.approx(expected)


def test_validation_loss_needs_a_batch(tiny_detector):
    with pytest.raises(ValueError, match="no batch to compute a validation loss"):
        validation_loss(tiny_detector(), [])


def test_confusion_is_counted():
    first, second, far = [0, 0, 10, 10], [20, 0, 10, 10], [60, 60, 5, 5]
    truth = {
        "images": [{"id": 7}, {"id": 8}, {"id": 9}],
        "categories": [{"id": 1}, {"id": 2}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": first, "iscrowd": 0},
            {"image_id": 7, "category_id": 2, "bbox": second, "iscrowd": 0},
            {"image_id": 8, "category_id": 1, "bbox": first, "iscrowd": 0},
            {"image_id": 8, "category_id": 1, "bbox": far, "iscrowd": 1},
        ],
    }
    found = [(7, 2, 0.6, first), (7, 2, 0.9, first), (7, 1, 0.8, far), (7, 2, 0.4, second)]
    found += [(8, 1, 0.5, [0, 0, 10, 5]), (9, 2, 0.7, far)]
    keys = ("image_id", "category_id", "score", "bbox")
    detections = [dict(zip(keys, one, strict=True)) for one in found]
    # In 7 the first object is taken for class 2, its second finding and the far one are made up,
    # and the second object is missed; in 8 half an object is just enough, the crowd is left out.
    table = confusion_matrix(truth, detections)
    assert table.tolist() == [[1, 1, 0], [0, 0, 1], [1, 2, 0]]
    stricter = confusion_matrix(truth, detections, score_threshold=0.4, iou_threshold=0.51)
    assert stricter.tolist() == [[0, 1, 1], [0, 1, 0], [2, 2, 0]]
    assert confusion_matrix(truth, [])[:, 2].tolist() == [2, 1, 0]
