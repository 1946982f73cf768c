"""Real annotations: COCO photos and blood cells. Skipped where the archives are absent."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from common.labels.masks import decode_masks
from common.labels.read import read_annotations
from common.labels.values import AnnotationError
from dataset import DetectionDataset

DATA = next(
    (
        p / "shared" / "data"
        for p in Path(__file__).resolve().parents
        if (p / "shared/data").is_dir()
    ),
    Path("none"),
)


def unpack(name, tmp_path_factory):
    archive = DATA / f"{name}.tar.gz"
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not here")
    folder = tmp_path_factory.mktemp(name)
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def tinycoco(tmp_path_factory):
    return unpack("tinycoco", tmp_path_factory) / "tinycoco"


@pytest.fixture(scope="module")
def bccd(tmp_path_factory):
    return unpack("bccd", tmp_path_factory) / "BCCD"


@pytest.mark.parametrize(("split", "counts"), [("train2017", (284, 4)), ("val2017", (135, 1))])
def test_tinycoco_agrees_with_pycocotools(tinycoco, split, counts):
    json_path = tinycoco / "annotations" / f"instances_{split}.json"
    dataset = DetectionDataset.from_path(json_path)
    oracle = COCO(str(json_path))
    found = dataset.annotations
    assert (found.kept, found.crowd, found.reported) == (*counts, 0)
    assert found.total == len(oracle.anns)
    for image in found.images:
        masks = decode_masks(image.objects, image.width, image.height)
        truths = oracle.loadAnns(oracle.getAnnIds(imgIds=image.image_id))
        for one, mask, truth in zip(image.objects, masks, truths, strict=True):
            assert np.array_equal(mask, oracle.annToMask(truth))
            assert mask.sum() == mask_utils.area(oracle.annToRLE(truth))
            x, y, width, height = truth["bbox"]
            assert one.box_xyxy == pytest.approx((x, y, x + width, y + height), abs=1e-6)
            assert found.category_ids[one.label - 1] == truth["category_id"]
            assert (one.area, one.iscrowd) == (truth["area"], truth["iscrowd"])


def test_every_coco_photo_gives_an_item(tinycoco):
    dataset = DetectionDataset.from_path(tinycoco, split="val2017")
    for index in range(len(dataset)):
        image, target = dataset[index]
        assert target["masks"].shape == (len(target["labels"]), *image.shape[1:])
    assert dataset.num_classes == 81


@pytest.mark.parametrize(
    ("split", "images", "kept", "reported"),
    [(None, 364, 4886, 2), ("trainval", 292, 3941, 2), ("test", 72, 945, 0)],
)
def test_blood_cells_are_all_accounted_for(bccd, split, images, kept, reported):
    found = read_annotations(bccd, split=split, on_invalid="drop")
    assert (len(found.images), found.kept, found.reported) == (images, kept, reported)
    assert found.total == kept + reported
    assert found.class_names == ("Platelets", "RBC", "WBC")


def test_blood_cells_with_degenerate_boxes_are_refused(bccd):
    pattern = r"2 problems in 4888 annotations[\s\S]*BloodImage_00338\.xml:158: box .* has no area"
    with pytest.raises(AnnotationError, match=pattern):
        read_annotations(bccd)
