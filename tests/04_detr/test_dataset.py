"""Pictures and labels: scaled, mirrored and coloured with their boxes; crowds and batches."""

import json

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_convert

from common.labels.read import read_annotations
from common.labels.sources import load_labels
from dataset import DetectionDataset, RandomChanges, load_data
from evaluation import fit_picture, fit_scale, to_photo
from settings import make_settings


@pytest.fixture
def labelled(tmp_path):
    """Two pictures with white boxes on black, one of them high; a crowd in the first."""
    sizes, boxes = {"a": (60, 120), "b": (100, 50)}, {"a": [[20, 10, 30, 40]], "b": []}
    images, annotations = [], []
    for number, (name, (height, width)) in enumerate(sizes.items(), 1):
        pixels = np.zeros((height, width, 3), np.uint8)
        for x, y, w, h in boxes[name]:
            pixels[y : y + h, x : x + w] = 255
            one = {"image_id": number, "category_id": 7, "bbox": [x, y, w, h], "area": w * h}
            annotations.append({**one, "id": len(annotations) + 1, "iscrowd": 0})
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
        images.append({"id": number, "file_name": f"{name}.png", "width": width, "height": height})
    crowd = {"image_id": 1, "category_id": 7, "bbox": [0, 0, 120, 60], "area": 7200, "iscrowd": 1}
    crowd["segmentation"] = {"size": [60, 120], "counts": [0, 7200]}
    annotations.append({**crowd, "id": 9})
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 7, "name": "block"}]
    (tmp_path / "labels.json").write_text(json.dumps(content))
    return read_annotations(tmp_path / "labels.json")


def test_boxes_lie_where_the_pixels_are(labelled):
    dataset = DetectionDataset(labelled, (64, 96))
    image, target = dataset[0]
    assert image.shape == (3, 64, 96) and image.dtype == torch.uint8
    assert target["classes"].tolist() == [0]  # the crowd is no object
    white = (image[0] > 200).nonzero().float()
    edges = [white[:, 1].min(), white[:, 0].min(), white[:, 1].max() + 1, white[:, 0].max() + 1]
    (box,) = box_convert(target["boxes_cxcywh"] * torch.tensor([96, 64, 96, 64]), "cxcywh", "xyxy")
    assert box.tolist() == pytest.approx([float(edge) for edge in edges], abs=0.51)
    assert box.tolist() == pytest.approx([16, 8, 40, 40], abs=1e-4)  # 0.8 of the picture


def test_a_picture_without_objects(labelled):
    _, target = DetectionDataset(labelled, (64, 96))[1]
    assert target["boxes_cxcywh"].shape == (0, 4) and target["classes"].shape == (0,)


@pytest.mark.parametrize("shape", [(60, 120), (100, 50), (64, 96), (640, 960), (1, 700), (700, 1)])
def test_fit_and_back(shape):
    canvas, scale = fit_picture(np.full((*shape, 3), 255, np.uint8), (64, 96))
    assert canvas.shape == (64, 96, 3) and scale == fit_scale(*shape, (64, 96))
    height, width = (max(1, round(side * scale)) for side in shape)
    assert (canvas[:height, :width] == 255).all()
    assert (canvas[height:] == 127).all() and (canvas[:, width:] == 127).all()
    assert height == 64 or width == 96
    whole = torch.tensor([[width / 2 / 96, height / 2 / 64, width / 96, height / 64]])
    if min(shape) > 1:
        expected = torch.tensor([[0.0, 0, shape[1], shape[0]]])
        torch.testing.assert_close(
            to_photo(whole, (64, 96), *shape), expected, rtol=0, atol=0.5 / scale
        )


def test_boxes_are_cut_at_the_photo():
    box = torch.tensor([[0.5, 0.5, 2.0, 2.0]])
    assert to_photo(box, (64, 96), 32, 40).tolist() == [[0, 0, 40, 32]]


def test_mirrored_boxes_lie_where_the_pixels_are(labelled):
    image, target = DetectionDataset(labelled, (64, 96), flip=1.0)[0]
    columns = (image[0] > 200).any(dim=0).nonzero()
    x, width = (target["boxes_cxcywh"][0, [0, 2]] * 96).tolist()
    assert columns.min().item() == pytest.approx(x - width / 2, abs=0.51)
    assert columns.max().item() + 1 == pytest.approx(x + width / 2, abs=0.51)


def test_changes_do_not_write_into_what_they_get():
    image, target = torch.zeros(3, 4, 4, dtype=torch.uint8), {"boxes_cxcywh": torch.rand(2, 4)}
    before = target["boxes_cxcywh"].clone()
    RandomChanges(1.0, 1.0)(image, target)
    assert torch.equal(target["boxes_cxcywh"], before) and not image.any()


def test_colours_change_and_boxes_do_not(labelled):
    plain = DetectionDataset(labelled, (64, 96))
    changed = DetectionDataset(labelled, (64, 96), photometric=1.0)
    torch.manual_seed(0)
    assert not torch.equal(plain[0][0], changed[0][0])
    assert torch.equal(plain[0][1]["boxes_cxcywh"], changed[0][1]["boxes_cxcywh"])


def test_batches(labelled):
    dataset = DetectionDataset(labelled, (64, 96))
    images, targets = dataset.collate([dataset[0], dataset[1]])
    assert images.shape == (2, 3, 64, 96)
    assert [len(one["classes"]) for one in targets] == [1, 0]


def test_three_parts_and_their_classes(scenes):
    settings = make_settings("street", data=str(scenes), image_size=(72, 96))
    data = load_data(settings, progress=False)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [5, 1, 2]
    labels = load_labels(str(scenes), progress=False)
    assert data.class_names == ("person", "car", "bicycle", "dog", "traffic light")
    assert data.train.transforms is not None and data.test.transforms is None
    _, target = data.test[0]
    record = labels.test.images[0]
    assert target["image_id"] == record.image_id
    boxes = to_photo(target["boxes_cxcywh"], (72, 96), 72, 96)
    expected = torch.tensor([one.box_xyxy for one in record.objects], dtype=torch.float32)
    torch.testing.assert_close(boxes, expected, rtol=0, atol=1e-3)


def test_more_objects_than_queries_are_said(scenes):
    settings = make_settings("street", data=str(scenes), image_size=(72, 96), num_queries=2)
    report = load_data(settings, progress=False).report
    labels = load_labels(str(scenes), progress=False)
    counts = [
        len(r.objects) for p in (labels.train, labels.validation, labels.test) for r in p.images
    ]
    many = [count for count in counts if count > 2]
    assert f"note: {len(many)} picture(s) hold more than 2 objects (up to {max(many)})" in report
    assert f"--num-queries {max(many)}" in report
    assert (
        "note"
        not in load_data(
            make_settings("street", data=str(scenes), image_size=(72, 96)), progress=False
        ).report
    )
