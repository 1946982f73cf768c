"""Reading data for training, and batches of it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dataset as detection_data
from batches.augmentation import NO_AUGMENTATION, Augmentation
from batches.loading import STEPS_PER_SIZE, TrainingBatches
from boxes import Letterbox
from common.labels.records import AnnotationError, ImageRecord, ObjectRecord
from common.photos import PhotoError
from common.street import parts as drawn_scenes
from dataset import PhotoSet, choose_splits, load_detection_data, load_test_photos, read_penn_fudan
from losses import check_targets


def save_photo(path: Path, seed: int = 0, width: int = 64, height: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def voc_text(stem: str) -> str:
    return f"""<annotation>
 <filename>{stem}.png</filename>
 <size><width>64</width><height>48</height><depth>3</depth></size>
 <object>
  <name>cat</name>
  <bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>
 </object>
 <object>
  <name>dog</name>
  <bndbox><xmin>20</xmin><ymin>8</ymin><xmax>60</xmax><ymax>44</ymax></bndbox>
 </object>
</annotation>
"""


def write_voc(folder: Path, lists: dict[str, list[str]] | None = None, count: int = 4) -> Path:
    (folder / "Annotations").mkdir(parents=True)
    for k in range(count):
        save_photo(folder / "JPEGImages" / f"p{k}.png", k)
        (folder / "Annotations" / f"p{k}.xml").write_text(voc_text(f"p{k}"))
    for name, stems in (lists or {}).items():
        (folder / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets/Main" / f"{name}.txt").write_text("\n".join(stems) + "\n")
    return folder


def write_yolo(folder: Path, count: int = 4) -> Path:
    (folder / "labels").mkdir(parents=True)
    (folder / "classes.txt").write_text("cat\ndog\n")
    for k in range(count):
        save_photo(folder / "images" / f"p{k}.png", k)
        (folder / "labels" / f"p{k}.txt").write_text("0 0.5 0.5 0.25 0.5\n1 0.3 0.4 0.2 0.3\n")
    return folder


def write_coco(folder: Path, count: int = 4) -> Path:
    images, annotations = [], []
    for k in range(count):
        save_photo(folder / f"p{k}.png", k)
        images.append({"id": 10 + k, "file_name": f"p{k}.png", "width": 64, "height": 48})
        for category, box in ((3, [5, 6, 25, 34]), (7, [20, 8, 40, 36])):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 + k,
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content, indent=1))
    return folder


WRITERS = {"voc": write_voc, "yolo": write_yolo, "coco": write_coco}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_is_read_and_divided(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / "data", count=10)
    data = load_detection_data(str(path), seed=1)
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (7, 3)
    stems = {part.path(i).stem for part in (data.train, data.test) for i in range(len(part))}
    assert len(stems) == 10, "each photo is in one part"
    assert data.train.classes(0).tolist() == [0, 1]
    assert "10 images, 20 annotations = 20 kept" in data.report
    again = load_detection_data(str(path), seed=1)
    assert [r.path for r in again.test.records] == [r.path for r in data.test.records]
    other = load_detection_data(str(path), seed=2)
    assert [r.path for r in other.test.records] != [r.path for r in data.test.records]


def test_own_lists_are_respected(tmp_path: Path) -> None:
    lists = {"train": ["p0"], "val": ["p1"], "trainval": ["p0", "p1"], "test": ["p2", "p3"]}
    path = write_voc(tmp_path / "data", lists)
    data = load_detection_data(str(path))
    assert [data.train.path(i).stem for i in range(2)] == ["p0", "p1"]
    assert [data.test.path(i).stem for i in range(2)] == ["p2", "p3"]
    data = load_detection_data(str(path), train_split="train", test_split="val")
    assert (len(data.train), data.test.path(0).stem) == (1, "p1")
    assert len(load_test_photos(str(path))) == 2
    assert load_test_photos(str(path), split="val").path(0).stem == "p1"


def test_lists_without_a_test_list_use_the_validation_list(tmp_path: Path) -> None:
    lists = {"train": ["p0", "p1"], "val": ["p2"], "trainval": ["p0", "p1", "p2"]}
    assert choose_splits(write_voc(tmp_path / "data", lists)) == ("train", "val")


def test_errors_of_splits(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "data", {"train": ["p0"], "odd": ["p1"]})
    with pytest.raises(AnnotationError, match="has no split 'val'; it has: odd, train"):
        load_detection_data(str(path), test_split="val")
    with pytest.raises(AnnotationError, match="which split to test on.*odd, train.*--test-split"):
        load_detection_data(str(path))
    assert choose_splits(path, test_split="odd") == ("train", "odd")


def test_classes_of_the_lists_must_agree(tmp_path: Path) -> None:
    for part, names in (("train", "cat\ndog\n"), ("val", "cat\ncow\n")):
        write_yolo(tmp_path / part)
        (tmp_path / part / "classes.txt").unlink()
        (tmp_path / part / "labels" / "classes.txt").write_text(names)
    with pytest.raises(AnnotationError, match=r"train \(cat, dog\) are not those of val \(cat, c"):
        load_detection_data(str(tmp_path))


def test_other_errors(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="'nowhere': allowed are street, penn_fudan or a"):
        load_detection_data("nowhere")
    with pytest.raises(AnnotationError, match="'nowhere': allowed are street, penn_fudan or a"):
        load_test_photos("nowhere")
    with pytest.raises(AnnotationError, match="1 image cannot be divided"):
        load_detection_data(str(write_yolo(tmp_path / "one", count=1)))
    with pytest.raises(ValueError, match="num_scenes is 0"):
        load_detection_data("street", num_scenes=0)
    empty = write_yolo(tmp_path / "empty", count=3)
    for path in (empty / "labels").glob("*.txt"):
        path.write_text("")
    with pytest.raises(AnnotationError, match="photos to train on have no object at all"):
        load_detection_data(str(empty))


def test_invalid_labels_are_refused_or_dropped(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "data", count=4)
    (path / "labels/p1.txt").write_text("0 0.5 0.5 0.25 0.5\n5 0.5 0.5 0.1 0.1\n")
    with pytest.raises(AnnotationError, match=r"p1\.txt:2: class '5'; allowed is 0 to 1"):
        load_detection_data(str(path))
    data = load_detection_data(str(path), on_invalid="drop")
    assert "8 annotations = 7 kept + 0 crowd + 1 left out" in data.report
    assert "p1.txt:2" in data.report


def test_street_scenes_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_data, "NUM_TEST_SCENES", 2)
    data = load_detection_data("street", num_scenes=3, street_folder=tmp_path, progress=False)
    assert (len(data.train), len(data.test)) == (3, 2)
    assert data.class_names == ("person", "car", "bicycle", "dog", "traffic light")
    ids = {one.image_id for part in (data.train, data.test) for one in part.records}
    assert ids == {100_000, 100_001, 100_002, 0, 1}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("drawn twice")

    monkeypatch.setattr(drawn_scenes, "write_dataset", refuse)
    assert len(load_test_photos("street", street_folder=tmp_path)) == 2


def test_penn_fudan_layout(tmp_path: Path) -> None:
    for k in range(3):
        save_photo(tmp_path / f"PNGImages/a{k}.png", k)
        mask = np.zeros((48, 64), np.uint8)
        mask[10:20, 5:9] = 1
        mask[30:31, 40:41] = 4  # numbers may have gaps; one pixel is one pixel wide
        (tmp_path / "PedMasks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"PedMasks/a{k}_mask.png")
    whole = read_penn_fudan(tmp_path)
    assert [one.box_xyxy for one in whole.images[0].objects] == [(5, 10, 9, 20), (40, 30, 41, 31)]
    assert [one.area for one in whole.images[0].objects] == [40, 1]
    data = load_detection_data(str(tmp_path))
    assert (len(data.train), len(data.test), data.class_names) == (2, 1, ("pedestrian",))
    assert len(load_test_photos(str(tmp_path))) == 3
    assert len(load_test_photos(str(tmp_path), held_out=True)) == 1
    save_photo(tmp_path / "PNGImages/a0.png", width=60)
    with pytest.raises(PhotoError, match=r"a0\.png: is 60 x 48 pixels.*64 x 48"):
        read_penn_fudan(tmp_path)
    with pytest.raises(AnnotationError, match="no .*_mask.png in its folder PedMasks"):
        read_penn_fudan(tmp_path / "PNGImages")


def test_penn_fudan_is_the_same_part_as_in_the_mask_lesson(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "data", count=20)
    data = load_detection_data(str(path), seed=3)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3)).tolist()
    assert [one.image_id - 10 for one in data.test.records] == sorted(order[:6])


def make_set(tmp_path: Path, count: int = 6, memory: int = 2**30) -> PhotoSet:
    records = []
    for k in range(count):
        path = tmp_path / f"p{k}.png"
        save_photo(path, k)
        crowd = ObjectRecord(1, (0, 0, 60, 40), 2400, "c", iscrowd=1)
        one = ObjectRecord(2, (8.0, 6.0, 40.0, 30.0), 768, "o")
        records.append(ImageRecord(path, 64, 48, k, (one, crowd) if k else (crowd,)))
    return PhotoSet(records, ("cat", "dog"), memory=memory)


def test_photos_are_kept_as_far_as_they_fit(tmp_path: Path) -> None:
    one = 64 * 48 * 3
    photos = make_set(tmp_path, memory=2 * one)
    first = photos.photo(0)
    assert photos.photo(0) is first and not first.flags.writeable
    assert photos.photo(1) is photos.photo(1)
    assert photos.photo(2) is not photos.photo(2)
    assert np.array_equal(photos.photo(2), np.array(Image.open(photos.path(2))))


def test_crowds_are_not_learned(tmp_path: Path) -> None:
    photos = make_set(tmp_path)
    assert photos.boxes_xyxy(0).shape == (0, 4) and photos.classes(0).shape == (0,)
    assert photos.boxes_xyxy(1).tolist() == [[8, 6, 40, 30]] and photos.classes(1).tolist() == [1]


def test_sizes_are_those_in_the_network(tmp_path: Path) -> None:
    sizes = make_set(tmp_path).sizes_wh(128)
    assert sizes.shape == (5, 2) and np.allclose(sizes, (64, 48))  # 64 x 48 is doubled


def test_a_changed_photo_is_named(tmp_path: Path) -> None:
    photos = make_set(tmp_path)
    save_photo(photos.path(3), width=32)
    with pytest.raises(PhotoError, match=r"p3\.png: is 32 x 48 pixels.*64 x 48"):
        photos.photo(3)


def batches_of(photos: PhotoSet, **options) -> TrainingBatches:
    settings = {"batch_size": 2, "size": 64, "augmentation": Augmentation(mosaic=0.5), "seed": 5}
    return TrainingBatches(photos, **{**settings, **options})


def same(one, other) -> bool:
    return (
        torch.equal(one.images, other.images)
        and torch.equal(one.targets, other.targets)
        and one.names == other.names
    )


def test_batches_depend_on_their_place_alone(tmp_path: Path) -> None:
    photos = make_set(tmp_path)
    whole = list(batches_of(photos, threads=3).epoch(4))
    assert len(whole) == 3
    for threads in (0, 1):
        rest = list(batches_of(photos, threads=threads).epoch(4, first_step=1))
        assert len(rest) == 2
        assert all(same(a, b) for a, b in zip(rest, whole[1:], strict=True))
    assert not same(next(batches_of(photos).epoch(5)), whole[0])
    assert not same(next(batches_of(photos, seed=6).epoch(4)), whole[0])


def test_ranks_share_each_batch(tmp_path: Path) -> None:
    photos = make_set(tmp_path)
    whole = list(batches_of(photos, batch_size=4).epoch(0))
    for rank in (0, 1):
        part = list(batches_of(photos, batch_size=4, rank=rank, world_size=2).epoch(0))
        for ours, all_of_it in zip(part, whole, strict=True):
            assert torch.equal(ours.images, all_of_it.images[2 * rank : 2 * rank + 2])
            assert ours.names == all_of_it.names[2 * rank : 2 * rank + 2]


def test_a_batch_is_what_the_network_wants(tmp_path: Path) -> None:
    photos = make_set(tmp_path)
    batch = next(batches_of(photos, batch_size=6, augmentation=NO_AUGMENTATION).epoch(0))
    assert batch.images.shape == (6, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.targets.shape == (5, 6) and batch.targets.dtype == torch.float32
    check_targets(batch.targets, 6, 2)
    letterbox = Letterbox(64, 48, 64, 64)
    box = letterbox.to_network(torch.tensor([[8.0, 6, 40, 30]]))[0] / 64
    wanted = [1, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]
    assert torch.allclose(batch.targets[:, 1:], torch.tensor(wanted).expand(5, 5))
    numbers = [k for k, name in enumerate(batch.names) if not name.endswith("p0.png")]
    assert batch.targets[:, 0].tolist() == numbers, "the photo without objects has no row"


def test_photos_are_all_seen_and_shuffled(tmp_path: Path) -> None:
    batches = batches_of(make_set(tmp_path), augmentation=Augmentation())
    orders = [[n for b in batches.epoch(e) for n in b.names] for e in range(3)]
    assert all(len(set(order)) == 6 for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_mosaics_name_all_their_photos_and_can_be_left_out(tmp_path: Path) -> None:
    batches = batches_of(make_set(tmp_path), augmentation=Augmentation(mosaic=1.0))
    assert all(name.count(" + ") == 3 for b in batches.epoch(0) for name in b.names)
    assert not any(" + " in name for b in batches.epoch(0, mosaic=False) for name in b.names)


def test_several_sizes_change_every_ten_steps(tmp_path: Path) -> None:
    batches = batches_of(make_set(tmp_path), sizes=(32, 64, 96))
    sizes = [batches.size_of(epoch, step) for epoch in range(40) for step in range(3)]
    assert set(sizes) == {32, 64, 96}
    changes = [k for k in range(1, 120) if sizes[k] != sizes[k - 1]]
    assert all(k % STEPS_PER_SIZE == 0 for k in changes)
    assert next(batches.epoch(0)).images.shape[2] == sizes[0]


def test_batch_errors(tmp_path: Path) -> None:
    photos = make_set(tmp_path)
    with pytest.raises(ValueError, match="batch_size is 7; allowed are 1 to 6"):
        batches_of(photos, batch_size=7)
    with pytest.raises(ValueError, match="batch_size is 3, which 2 processes cannot share"):
        batches_of(photos, batch_size=3, world_size=2)


WORDS = [b"nan", b"-1", b"1e400", b"0", b"99", b"", b"<", b"}", b'"', b"\xff", b"\n", b"cat", b"-"]
PLACE = re.compile(r":\d+|line \d+|\[\d+\]|char \d+|byte \d+|no list '\w+'")


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Replace, insert, drop or double a piece of a file."""
    at, length = int(random.integers(len(content))), int(random.integers(1, 12))
    kind = random.integers(5)
    word = WORDS[random.integers(len(WORDS))]
    if kind == 0:
        return content[:at] + word + content[at + length :]
    if kind == 1:
        return content[:at] + word + content[at:]
    if kind == 2:
        return content[:at]
    if kind == 3:
        return content[: at + length] + content[at:]
    numbers = list(re.finditer(rb"\d+(\.\d+)?", content))
    one = numbers[random.integers(len(numbers))]
    return content[: one.start()] + word + content[one.end() :]


@pytest.mark.parametrize("kind", WRITERS)
def test_mutated_labels_are_read_or_named(kind: str, tmp_path: Path) -> None:
    """170 of each format, 510 together: trainable targets, or one error with file and place."""
    path = WRITERS[kind](tmp_path / "data", count=3)
    target = path / {"voc": "Annotations/p1.xml", "yolo": "labels/p1.txt"}.get(
        kind, "annotations.json"
    )
    original = target.read_bytes()
    random = np.random.default_rng(11)
    refused = 0
    for _ in range(170):
        target.write_bytes(mutated(original, random))
        try:
            data = load_detection_data(str(path))
        except AnnotationError as error:
            refused += 1
            assert target.name in str(error), error
            assert PLACE.search(str(error)) or target.stat().st_size < 3, error
            continue
        for part in (data.train, data.test):
            batch = next(
                TrainingBatches(part, len(part), 64, Augmentation(), 0, threads=0).epoch(0)
            )
            check_targets(batch.targets, len(part), len(data.class_names))
    assert 20 < refused < 170
