"""Images and targets: every kind of picture and mask file, and what the transforms make of them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.models.detection import maskrcnn_resnet50_fpn

from augmentation import evaluation_transforms, training_transforms
from common.labels.pedestrians import read_pedestrians
from common.labels.records import ReadOptions
from common.labels.values import AnnotationError
from common.mask_boxes import masks_to_boxes_xyxy
from common.mask_files import read_instance_ids
from common.photos import PhotoError, photo_size, read_photo
from dataset import DetectionDataset

FIELDS = ("boxes", "labels", "masks", "area", "iscrowd")
EXIF_ORIENTATION = 0x0112


def write_pair(folder, name, ids, colour=(200, 100, 50), suffix=".png"):
    ids = np.asarray(ids)
    for part in ("PNGImages", "PedMasks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", ids.shape[::-1], colour).save(folder / "PNGImages" / f"{name}{suffix}")
    Image.fromarray(ids.astype(np.uint8)).save(folder / "PedMasks" / f"{name}_mask.png")


def people(height=120, width=160):
    """Three people, one of them a single pixel, numbered with gaps; returns (H, W)."""
    ids = np.zeros((height, width), np.uint8)
    ids[30:90, 20:50] = 2
    ids[40:100, 80:110] = 7
    ids[60, 140] = 200
    return ids


def pedestrians(folder, transforms=None):
    return DetectionDataset(read_pedestrians(folder), transforms, masks=True)


def test_pedestrian_target_is_what_the_masks_say(tmp_path):
    write_pair(tmp_path, "b", people())
    write_pair(tmp_path, "a", np.zeros((20, 30)), suffix=".jpg")
    dataset = pedestrians(tmp_path)
    image, target = dataset[1]
    assert isinstance(image, tv_tensors.Image)
    assert (image.shape, image.dtype) == ((3, 120, 160), torch.uint8)
    assert image[:, 0, 0].tolist() == [200, 100, 50]
    assert target["boxes"].tolist() == [[20, 30, 50, 90], [80, 40, 110, 100], [140, 60, 141, 61]]
    assert target["boxes"].canvas_size == (120, 160)
    assert target["area"].tolist() == [1800, 1800, 1]
    assert target["labels"].tolist() == [1, 1, 1]
    assert target["iscrowd"].tolist() == [0, 0, 0]
    assert target["masks"].sum(dim=(1, 2)).tolist() == [1800, 1800, 1]
    assert target["image_id"] == 1
    types = [target[key].dtype for key in FIELDS]
    assert types == [torch.float32, torch.int64, torch.uint8, torch.float32, torch.int64]
    assert (dataset.num_classes, dataset.image_path(1).name) == (2, "b.png")


def test_empty_picture_has_shaped_fields(tmp_path):
    write_pair(tmp_path, "a", np.zeros((20, 30)))
    _, target = pedestrians(tmp_path)[0]
    shapes = [tuple(target[key].shape) for key in FIELDS]
    assert shapes == [(0, 4), (0,), (0, 20, 30), (0,), (0,)]


def test_torchvision_trains_on_empty_and_one_pixel_masks(tmp_path):
    write_pair(tmp_path, "a", np.zeros((96, 96)))
    write_pair(tmp_path, "b", people(110, 150))
    dataset = pedestrians(tmp_path, evaluation_transforms())
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=2, min_size=96, max_size=128
    )
    losses = model(*dataset.collate([dataset[0], dataset[1]]))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_boxes_of_masks_agree_with_a_slow_search():
    rng = np.random.default_rng(0)
    masks = (rng.random((50, 9, 11)) < 0.04).astype(np.uint8)
    masks[0] = 0
    for mask, box in zip(masks, masks_to_boxes_xyxy(masks), strict=True):
        rows, columns = np.nonzero(mask)
        edges = (
            [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0] * 4
        )
        assert box.tolist() == edges


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_every_kind_of_picture_becomes_rgb(mode, tmp_path):
    gray = np.tile(np.arange(0, 256, 8, np.uint8), (16, 1))  # (16, 32)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    if mode == "I;16":
        Image.fromarray(gray.astype(np.uint16) * 257 + 77).save(path)
    else:
        Image.fromarray(gray).convert(mode).save(path)
    rgb = read_photo(path)
    assert (rgb.shape, rgb.dtype) == ((16, 32, 3), np.uint8)
    expected = np.asarray(Image.fromarray(gray).convert("1" if mode == "1" else "L"))
    expected = expected.astype(np.uint8) * (255 if mode == "1" else 1)
    assert np.abs(rgb.astype(int) - expected[:, :, None]).max() <= (1 if mode == "CMYK" else 0)


def test_palette_colours_and_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([0, 0, 0, 10, 20, 30, 250, 240, 230])
    image.save(tmp_path / "x.png", transparency=b"\x00\x80\xff")
    assert read_photo(tmp_path / "x.png").tolist()[1] == [[250, 240, 230], [10, 20, 30]]


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "RGB", "RGBA", "LA"])
def test_every_kind_of_mask_gives_the_same_instances(mode, tmp_path):
    ids = people()
    if mode == "I;16":
        Image.fromarray(ids.astype(np.uint16) * 250).save(tmp_path / "m.png")
    elif mode == "P":
        image = Image.fromarray(ids, "P")
        image.putpalette(list(range(256)) * 3)
        image.save(tmp_path / "m.png")
    else:
        Image.fromarray(ids).convert(mode).save(tmp_path / "m.png")
    found = read_instance_ids(tmp_path / "m.png")
    numbers = np.unique(found)
    assert len(numbers) == 4
    assert np.array_equal(np.searchsorted(numbers, found), np.searchsorted(np.unique(ids), ids))


def test_exif_orientation_is_obeyed_unless_the_size_says_otherwise(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255  # the left half is white
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6  # turn a quarter clockwise to show
    Image.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif, quality=95)
    assert photo_size(tmp_path / "x.jpg") == (16, 32)
    upright = read_photo(tmp_path / "x.jpg")
    assert upright.shape == (32, 16, 3)
    assert upright[:14].min() > 200
    assert upright[18:].max() < 60
    stored = read_photo(tmp_path / "x.jpg", (32, 16))
    assert stored[:, :14].min() > 200
    with pytest.raises(PhotoError, match="x.jpg: is 16 x 32 pixels, but .* says 20 x 20"):
        photo_size(tmp_path / "x.jpg", (20, 20))
    with pytest.raises(PhotoError, match="x.jpg: is 16 x 32 pixels, but .* says 20 x 20"):
        read_photo(tmp_path / "x.jpg", (20, 20))


def test_unreadable_pictures_are_named(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        tmp_path / "x.jpg"
    )
    raw = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(PhotoError, match=r"x.jpg: cannot be read \("):
        read_photo(tmp_path / "x.jpg")
    with pytest.raises(PhotoError, match="a mask must be stored without loss"):
        read_instance_ids(tmp_path / "x.jpg")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(PhotoError, match="f.tif: holds float values"):
        read_photo(tmp_path / "f.tif")
    with pytest.raises(PhotoError, match="none.png: there is no such file"):
        read_photo(tmp_path / "none.png")
    with pytest.raises(PhotoError, match="none.png: there is no such file"):
        read_instance_ids(tmp_path / "none.png")


def test_missing_and_mismatched_files_are_named(tmp_path):
    with pytest.raises(AnnotationError, match="the folder .*PNGImages does not exist"):
        read_pedestrians(tmp_path)
    write_pair(tmp_path, "a", people())
    mask = tmp_path / "PedMasks" / "a_mask.png"
    Image.new("L", (30, 20)).save(mask)
    with pytest.raises(AnnotationError, match=r"a.png: is \(160, 120\) .*a_mask.png is \(30, 20\)"):
        read_pedestrians(tmp_path)
    mask.rename(tmp_path / "PedMasks" / "z_mask.png")
    with pytest.raises(AnnotationError, match="a.png: has no mask .*a_mask.png"):
        read_pedestrians(tmp_path)
    write_pair(tmp_path, "b", people())
    kept = read_pedestrians(tmp_path, ReadOptions(on_invalid="drop"))
    assert [(one.path.name, one.image_id) for one in kept.images] == [("b.png", 1)]
    assert [str(one) for one in kept.problems] == [
        f"{tmp_path / 'PNGImages/a.png'}: has no mask {tmp_path / 'PedMasks/a_mask.png'}",
        f"{tmp_path / 'PedMasks/z_mask.png'}: has no picture in {tmp_path / 'PNGImages'}",
    ]
    for picture in (tmp_path / "PNGImages").iterdir():
        picture.unlink()
    with pytest.raises(AnnotationError, match="PNGImages has no picture"):
        read_pedestrians(tmp_path)


def write_coco(folder, with_masks=True):
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    one = {"image_id": 5, "category_id": 9, "bbox": [4, 5, 10, 20], "area": 150.5}
    crowd = {**one, "id": 2, "iscrowd": 1, "bbox": [0, 0, 40, 30]}
    if with_masks:
        one["segmentation"] = [[4, 5, 14, 5, 14, 25, 4, 25]]
        crowd["segmentation"] = {"size": [30, 40], "counts": [0, 1200]}
    data = {
        "images": [{"id": 5, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 4, "name": "car"}, {"id": 9, "name": "person"}],
        "annotations": [{**one, "id": 1}, crowd],
    }
    (folder / "annotations.json").write_text(json.dumps(data))
    return folder / "annotations.json"


def test_crowds_are_in_no_target_but_in_the_labels(tmp_path):
    dataset = DetectionDataset.from_path(write_coco(tmp_path))
    _, target = dataset[0]
    assert target["iscrowd"].tolist() == [0]
    assert target["labels"].tolist() == [2]
    assert target["masks"].sum(dim=(1, 2)).tolist() == [200]
    assert target["area"].tolist() == [150.5]
    assert target["image_id"] == 5
    assert [one.iscrowd for one in dataset.labels.images[0].objects] == [0, 1]
    _, target = DetectionDataset.from_path(tmp_path, masks=False)[0]
    assert target["boxes"].tolist() == [[4, 5, 14, 25]]
    assert "masks" not in target


def test_your_own_folder_in_one_line(tmp_path):
    write_coco(tmp_path, with_masks=False)
    dataset = DetectionDataset.from_path(tmp_path, class_names=["person"])
    assert (dataset.has_masks, dataset.num_classes, len(dataset)) == (False, 2, 1)
    assert dataset[0][1]["labels"].tolist() == [1]
    with pytest.raises(AnnotationError, match=r"annotations\[0\] \(id 1\): no segmentation"):
        DetectionDataset(dataset.annotations, masks=True)


OPTIONS = {
    "default": {},
    "flip": {"flip": 1.0, "photometric": 0.0},
    "scale": {"scale": (0.7, 1.4)},
    "zoom_out": {"zoom_out": 1.0},
    "crop": {"crop": True},
    "size": {"size": (90, 200)},
    "all": {"scale": (0.8, 1.2), "zoom_out": 0.5, "crop": True, "size": (120, 160)},
}


def check_consistent(image, target, slack):
    count = len(target["boxes"])
    assert all(len(target[key]) == count for key in FIELDS)
    assert target["masks"].shape[1:] == image.shape[1:] == target["boxes"].canvas_size
    masks = target["masks"].numpy()
    tight = masks_to_boxes_xyxy(masks)
    assert np.abs(target["boxes"].numpy() - tight).max(initial=0) <= slack
    area = target["area"].numpy()
    assert np.abs(area - masks.sum(axis=(1, 2))).max(initial=0) <= 0.05 * area.max(initial=1)
    # The red channel of each person is its label, so pixels, mask and label must stay together.
    for mask, label in zip(masks, target["labels"], strict=True):
        seen = image[0].numpy()[mask > 0]
        assert np.abs(np.median(seen) - 50 * label.item() / 255) < 0.02


@pytest.mark.parametrize("name", OPTIONS)
def test_every_transform_moves_every_field(name, tmp_path):
    ids = people()
    ids[60, 140] = 0
    ids[5:60, 120:158] = 9
    write_pair(tmp_path, "a", ids)
    image = np.zeros((*ids.shape, 3), np.uint8)
    for label, number in enumerate((2, 7, 9), start=1):
        image[ids == number, 0] = 50 * label
    Image.fromarray(image).save(tmp_path / "PNGImages" / "a.png")
    options = {"photometric": 0.0, **OPTIONS[name]}
    transforms = training_transforms(**options)
    plain, target = pedestrians(tmp_path)[0]
    target["labels"] = torch.arange(1, 4)
    torch.manual_seed(0)
    boxes = set()
    for _ in range(25):
        moved, moved_target = transforms(plain, target)
        assert moved.dtype == torch.float32
        assert 0 <= moved.min() <= moved.max() <= 1
        check_consistent(moved, moved_target, slack=0)
        boxes.add(tuple(moved_target["boxes"].flatten().tolist()))
    assert len(boxes) > (0 if name in ("flip", "size") else 1)
    assert target["boxes"].tolist()[0] == [20, 30, 50, 90]


def test_photometric_changes_colours_only(tmp_path):
    write_pair(tmp_path, "a", people())
    image, target = pedestrians(tmp_path)[0]
    torch.manual_seed(0)
    moved, moved_target = training_transforms(flip=0, photometric=1.0)(image, target)
    assert (moved - image / 255).abs().max() > 0.05
    assert all(torch.equal(moved_target[key], target[key]) for key in FIELDS)


def test_flip_mirrors_the_boxes(tmp_path):
    write_pair(tmp_path, "a", people())
    item = pedestrians(tmp_path, training_transforms(flip=1.0, photometric=0))[0]
    assert item[1]["boxes"].tolist() == [[110, 30, 140, 90], [50, 40, 80, 100], [19, 60, 20, 61]]


@pytest.mark.parametrize("name", OPTIONS)
def test_transforms_take_negatives_and_boxes_only(name, tmp_path):
    write_pair(tmp_path, "a", np.zeros((60, 80)))
    torch.manual_seed(0)
    image, target = pedestrians(tmp_path, training_transforms(**OPTIONS[name]))[0]
    assert tuple(target["boxes"].shape) == (0, 4)
    assert target["masks"].shape == (0, *image.shape[1:])
    write_coco(tmp_path, with_masks=False)
    for _ in range(10):
        transforms = training_transforms(**OPTIONS[name])
        dataset = DetectionDataset.from_path(tmp_path / "annotations.json", transforms)
        _, target = dataset[0]
        counts = {len(target[key]) for key in ("boxes", "labels", "area", "iscrowd")}
        assert len(counts) == 1
        if name not in ("default", "flip"):
            x1, y1, x2, y2 = target["boxes"].unbind(dim=1)
            assert torch.allclose(target["area"], (x2 - x1) * (y2 - y1))
