"""The drawn street scenes: labels that fit the pixels, files that others read, hard enough."""

import functools
import json
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from common.street import backdrop as street_backdrop
from common.street import scenes as street_scenes
from common.street.layout import plan_scene
from common.street.scenes import (
    FEWEST_PIXELS,
    FIRST_INSTANCE,
    INSTANCE_CLASSES,
    LEAST_SEEN,
    SEMANTIC_CLASSES,
    draw_scene,
    full_masks,
    write_dataset,
)

SEEDS = range(300)
PERSON = INSTANCE_CLASSES.index("person") + 1
EXPECTED_MEANING = {
    "person": "person",
    "car": "vehicle",
    "bicycle": "vehicle",
    "dog": "object",
    "traffic light": "object",
}


def box_of(mask):
    """Return x0, y0, x1, y1 of a mask's pixels, ends included."""
    y, x = np.nonzero(mask)
    return x.min(), y.min(), x.max(), y.max()


@pytest.fixture(scope="module")
def survey():
    """Measure every instance of 300 scenes; `kinds` names the things of each scene."""
    instances, kinds, classes = [], [], []
    for seed in SEEDS:
        scene, full = draw_scene(seed), full_masks(seed)
        assert len(full) == len(scene.labels)
        kinds.append({thing.kind for thing in plan_scene(seed, 320, 240).things})
        classes.append(set(scene.labels.tolist()))
        for k, label in enumerate(scene.labels.tolist()):
            seen = scene.instances == k + 1
            occluded = 1 - seen.sum() / full[k].sum()
            outside = int((seen & ~full[k]).sum())
            instances.append(SimpleNamespace(
                label=label, pixels=int(seen.sum()), box=box_of(seen), occluded=occluded,
                outside=outside,
            ))  # fmt: skip
    return SimpleNamespace(instances=instances, kinds=kinds, classes=classes)


def people(survey):
    return [instance for instance in survey.instances if instance.label == PERSON]


@pytest.mark.parametrize("size", [(320, 240), (64, 64), (64, 201), (331, 65), (1201, 80)])
def test_scene_has_the_promised_arrays(size):
    width, height = size
    for seed in range(8):
        scene = draw_scene(seed, width, height)
        assert scene.image.shape == (height, width, 3) and scene.image.dtype == np.uint8
        assert scene.instances.shape == (height, width) and scene.instances.dtype == np.uint16
        assert scene.semantic.shape == (height, width) and scene.semantic.dtype == np.uint8
        assert scene.labels.dtype == np.int64 and scene.labels.ndim == 1
        assert np.array_equal(np.unique(scene.instances[scene.instances > 0]),
                              np.arange(1, len(scene.labels) + 1))  # fmt: skip
        assert set(scene.labels.tolist()) <= set(range(1, len(INSTANCE_CLASSES) + 1))
        assert scene.semantic.max() < len(SEMANTIC_CLASSES)


def test_every_pixel_is_painted(monkeypatch):
    """Memory left as it was found would differ between two runs."""
    scenes, sizes = [], [(seed, *size) for seed in range(12) for size in ((1201, 80), (64, 200))]
    for value in (1, 2):
        filled = functools.partial(np.full, fill_value=value)
        monkeypatch.setattr(
            np, "empty", lambda shape, dtype=float, make=filled: make(shape, dtype=dtype)
        )
        scenes.append([draw_scene(*arguments) for arguments in sizes])
    for one, other in zip(*scenes, strict=True):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.semantic, other.semantic)


def test_same_seed_gives_the_same_pixels():
    first = [draw_scene(seed) for seed in (3, 4)]
    draw_scene(5, 100, 80)
    again = [draw_scene(seed) for seed in (3, 4)]
    for one, other in zip(first, again, strict=True):
        for name in ("image", "instances", "labels", "semantic"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
    assert (first[0].image != first[1].image).mean() > 0.5


def test_region_numbers_are_the_indices_of_the_semantic_classes():
    for index, name in enumerate(SEMANTIC_CLASSES):
        if name not in ("person", "vehicle"):
            assert getattr(street_backdrop, name.upper()) == index
    assert len(SEMANTIC_CLASSES) < FIRST_INSTANCE


def test_semantic_map_agrees_with_the_instances():
    for seed in range(40):
        scene = draw_scene(seed)
        for k, label in enumerate(scene.labels.tolist()):
            expected = EXPECTED_MEANING[INSTANCE_CLASSES[label - 1]]
            indices = np.unique(scene.semantic[scene.instances == k + 1])
            assert [SEMANTIC_CLASSES[index] for index in indices] == [expected]


def test_every_semantic_class_is_common():
    present = np.zeros(len(SEMANTIC_CLASSES))
    for seed in range(60):
        present[np.unique(draw_scene(seed).semantic)] += 1
    assert (present / 60 >= 0.6).all(), dict(zip(SEMANTIC_CLASSES, present, strict=True))


def test_full_masks_cover_what_is_seen(survey):
    assert max(instance.outside for instance in survey.instances) == 0
    assert min(instance.occluded for instance in survey.instances) == 0


def test_a_quarter_of_the_people_is_overlapped(survey):
    occluded = np.array([person.occluded for person in people(survey)])
    assert (occluded > 0.2).mean() >= 0.25
    assert (occluded > 0.5).mean() >= 0.02
    assert (occluded > 0.8).mean() <= 0.05  # hard, not hopeless


def test_heights_run_from_a_tenth_to_four_fifths(survey):
    heights = np.array([person.box[3] - person.box[1] + 1 for person in people(survey)]) / 240
    assert np.mean(heights < 0.15) >= 0.02
    assert np.mean(heights > 0.75) >= 0.02
    low, high = np.quantile(heights, [0.02, 0.98])
    assert 0.08 <= low <= 0.15 and 0.75 <= high <= 0.85


def test_scenes_without_people_and_people_at_the_border(survey):
    assert 0.06 <= np.mean([PERSON not in classes for classes in survey.classes]) <= 0.16
    cut = [x0 == 0 or y0 == 0 or x1 == 319 or y1 == 239
           for x0, y0, x1, y1 in (person.box for person in people(survey))]  # fmt: skip
    assert 0.1 <= np.mean(cut) <= 0.35


@pytest.mark.parametrize("label", range(1, len(INSTANCE_CLASSES) + 1))
def test_every_class_is_in_a_quarter_of_the_scenes(survey, label):
    assert np.mean([label in classes for classes in survey.classes]) >= 0.25


@pytest.mark.parametrize("kind", ["statue", "poster"])
def test_false_people_are_common_and_are_no_people(survey, kind):
    assert np.mean([kind in kinds for kinds in survey.kinds]) >= 0.1
    alone = [seed for seed, kinds in enumerate(survey.kinds)
             if kind in kinds and not kinds & {"person", "rider"}]  # fmt: skip
    assert alone
    for seed in alone:
        scene = draw_scene(seed)
        assert PERSON not in scene.labels
        assert not (scene.semantic == SEMANTIC_CLASSES.index("person")).any()


def test_boxes_are_sane(survey):
    for instance in survey.instances:
        x0, y0, x1, y1 = instance.box
        area = (x1 - x0 + 1) * (y1 - y0 + 1)
        assert x1 > x0 and y1 > y0
        assert instance.pixels >= FEWEST_PIXELS
        assert instance.pixels >= 0.03 * area  # no lone pixels far apart


def test_what_is_hardly_seen_is_not_labelled():
    regions = np.zeros((64, 64), np.uint8)
    for k, pixels in enumerate((FEWEST_PIXELS - 1, FEWEST_PIXELS, 99, 100)):
        regions[k, :] = 0
        regions.ravel()[k * 640 : k * 640 + pixels] = FIRST_INSTANCE + k
    areas = [20.0, 20.0, 100 / LEAST_SEEN, 100 / LEAST_SEEN]
    assert street_scenes._kept(regions, areas) == [1, 3]


def test_riders_have_their_bicycle():
    riders = 0
    for seed in SEEDS:
        things = plan_scene(seed, 320, 240).things
        places = {(thing.x, thing.z) for thing in things if thing.kind == "ridden bicycle"}
        for thing in things:
            if thing.kind == "rider":
                riders += 1
                assert min(abs(x - thing.x) + abs(z - thing.z) for x, z in places) < 0.1
    assert riders > 20


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="seed is -1"):
        draw_scene(-1)
    with pytest.raises(ValueError, match="320 x 63 pixels: each side has to be 64 to 7000"):
        draw_scene(0, 320, 63)
    with pytest.raises(ValueError, match="7001 x 240 pixels"):
        draw_scene(0, 7001, 240)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("street"), [7, 0, 123456], progress=False)


def test_folder_has_penn_fudans_layout(folder):
    names = sorted(str(path.relative_to(folder)).replace("\\", "/") for path in folder.rglob("*.*"))
    stems = ("scene_00000", "scene_00007", "scene_123456")
    assert names == sorted(
        ["annotations.json"]
        + [f"PNGImages/{stem}.png" for stem in stems]
        + [f"PedMasks/{stem}_mask.png" for stem in stems]
        + [f"SemanticMasks/{stem}_semantic.png" for stem in stems]
    )


def test_pictures_hold_the_scene(folder):
    for seed in (0, 7, 123456):
        scene, stem = draw_scene(seed), f"scene_{seed:05d}"
        image = cv2.imread(str(folder / "PNGImages" / f"{stem}.png"))
        assert np.array_equal(image[..., ::-1], scene.image)
        semantic = cv2.imread(str(folder / f"SemanticMasks/{stem}_semantic.png"), -1)
        assert semantic.dtype == np.uint8 and np.array_equal(semantic, scene.semantic)
        ped = cv2.imread(str(folder / f"PedMasks/{stem}_mask.png"), -1)
        assert ped.dtype == np.uint8 and ped.ndim == 2
        numbers = np.flatnonzero(scene.labels == PERSON) + 1
        assert ped.max() == len(numbers)
        for k, number in enumerate(numbers):
            assert np.array_equal(ped == k + 1, scene.instances == number)


def test_pycocotools_reads_the_annotations(folder, capsys):
    coco = COCO(str(folder / "annotations.json"))
    assert sorted(coco.imgs) == [0, 7, 123456]
    assert [c["name"] for c in coco.loadCats([1, 2, 3, 4, 5])] == list(INSTANCE_CLASSES)
    assert min(coco.anns) == 1  # pycocotools takes an annotation 0 for none
    for seed in coco.imgs:
        scene = draw_scene(seed)
        assert (folder / "PNGImages" / coco.imgs[seed]["file_name"]).is_file()
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[seed]))
        assert [a["category_id"] for a in annotations] == scene.labels.tolist()
        for k, annotation in enumerate(annotations):
            mask = coco.annToMask(annotation)
            assert np.array_equal(mask, scene.instances == k + 1)
            assert annotation["area"] == mask.sum() and annotation["iscrowd"] == 0
            assert annotation["bbox"] == coco_mask.toBbox(coco.annToRLE(annotation)).tolist()


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((3, 4), bool),
        np.eye(4, dtype=bool),
        np.array([[0, 0, 1], [0, 0, 1]], bool),
        np.array([[0, 1, 0], [1, 1, 0]], bool),
    ],
)
def test_run_lengths_decode_to_the_mask(mask):
    runs = street_scenes._run_lengths(np.flatnonzero(mask.T.ravel()), mask.size)
    rle = coco_mask.frPyObjects({"size": list(mask.shape), "counts": runs}, *mask.shape)
    assert np.array_equal(coco_mask.decode(rle).astype(bool), mask)
    assert sum(runs) == mask.size and min(runs[1:], default=1) > 0


def test_writing_again_or_further_changes_nothing(tmp_path):
    write_dataset(tmp_path, [1, 2], 96, 64, progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    (tmp_path / "annotations.json").unlink()  # as if it had been stopped
    write_dataset(str(tmp_path), [1, 2], 96, 64, progress=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
    write_dataset(tmp_path, [1, 2, 3], 96, 64, progress=False)
    content = json.loads((tmp_path / "annotations.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 2, 3]


def test_no_seeds_make_an_empty_data_set(tmp_path):
    write_dataset(tmp_path / "new" / "folder", [], progress=False)
    content = json.loads((tmp_path / "new" / "folder" / "annotations.json").read_text())
    assert content["images"] == [] and content["annotations"] == []


def test_data_sets_are_not_mixed(tmp_path):
    write_dataset(tmp_path, [1, 2], 96, 64, progress=False)
    with pytest.raises(ValueError, match="scene_00002.png.*another data set"):
        write_dataset(tmp_path, [1], 96, 64, progress=False)
    with pytest.raises(ValueError, match="seed 4 is given twice"):
        write_dataset(tmp_path, [4, 5, 4], 96, 64, progress=False)


def test_writing_is_fast_enough(tmp_path):
    """A quiet core writes about 80 scenes a second; the bound allows for a busy machine."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        rates = []
        for batch in range(3):
            start = time.process_time()
            write_dataset(tmp_path / str(batch), range(40), progress=False)
            rates.append(40 / (time.process_time() - start))
    finally:
        cv2.setNumThreads(threads)
    assert max(rates) >= 40
