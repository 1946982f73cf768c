"""Reading data for training, and batches of it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dataset
from augmentation import NO_AUGMENTATION, Augmentation
from boxes import Letterbox
from common.labels.records import AnnotationSet, ImageRecord, ObjectRecord
from common.labels.values import AnnotationError
from common.loading import training_loader
from common.parts import divide
from common.photos import PhotoError
from common.processes import Processes
from common.street import parts as drawn_scenes
from dataset import DetectionData, PhotoSet, TrainingPhotos, load_data, load_test_photos
from losses import check_targets
from settings import make_settings


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


def read(data: Path | str, **changes: object) -> DetectionData:
    return load_data(make_settings("photos", data=str(data), **changes))


def stems(photos: PhotoSet) -> list[str]:
    return [photos.path(k).stem for k in range(len(photos))]


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_is_read_and_divided(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / "data", count=17)
    data = read(path, seed=1)
    assert data.class_names == ("cat", "dog")
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [10, 2, 5]
    assert len({stem for part in parts for stem in stems(part)}) == 17, "each photo is in one part"
    assert data.train.classes(0).tolist() == [0, 1]
    assert "17 images, 34 annotations = 34 kept" in data.report
    assert "10 train, 2 validation, 5 test" in data.report
    assert stems(read(path, seed=1).test) == stems(data.test)
    assert stems(read(path, seed=2).test) != stems(data.test)
    held_out = load_test_photos(str(path), held_out=True, seed=1)
    assert stems(held_out) == stems(data.test)
    assert len(load_test_photos(str(path))) == 17


def test_own_lists_are_respected(tmp_path: Path) -> None:
    lists = {"train": ["p0"], "val": ["p1"], "test": ["p2", "p3"]}
    path = write_voc(tmp_path / "data", lists)
    data = read(path)
    assert [stems(part) for part in (data.train, data.validation, data.test)] == [
        ["p0"],
        ["p1"],
        ["p2", "p3"],
    ]
    data = read(path, validation_split="test", test_split="val")
    assert stems(data.validation) == ["p2", "p3"] and stems(data.test) == ["p1"]
    assert stems(load_test_photos(str(path))) == ["p2", "p3"]
    assert stems(load_test_photos(str(path), split="val")) == ["p1"]


def test_lists_without_a_test_list_use_the_validation_list(tmp_path: Path) -> None:
    """Two of twelve training photos are then for the curves."""
    lists = {"train": [f"p{k}" for k in range(12)], "val": ["p12"]}
    path = write_voc(tmp_path / "data", lists, count=13)
    data = read(path)
    assert (len(data.train), len(data.validation), stems(data.test)) == (10, 2, ["p12"])
    assert stems(load_test_photos(str(path))) == ["p12"]


def test_errors_of_splits(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "data", {"first": ["p0", "p1", "p2"], "val": ["p3"]})
    with pytest.raises(AnnotationError, match="there is no list 'test'; the data's lists are: f"):
        read(path, test_split="test")
    with pytest.raises(AnnotationError, match="which list to train on.*first, val.*--train-split"):
        read(path)
    data = read(path, train_split="first")
    assert (len(data.train), len(data.validation), stems(data.test)) == (2, 1, ["p3"])
    assert stems(load_test_photos(str(path))) == ["p3"]


def test_classes_of_the_lists_must_agree(tmp_path: Path) -> None:
    for part, names in (("train", "cat\ndog\n"), ("val", "cat\ncow\n")):
        write_yolo(tmp_path / part)
        (tmp_path / part / "classes.txt").unlink()
        (tmp_path / part / "labels" / "classes.txt").write_text(names)
    with pytest.raises(AnnotationError, match=r"has the classes cat, dog, but the test .* cat, c"):
        read(tmp_path)


def test_other_errors(tmp_path: Path) -> None:
    for call in (read, load_test_photos):
        with pytest.raises(AnnotationError, match="'nowhere': allowed are street, penn_fudan or a"):
            call("nowhere")
    with pytest.raises(AnnotationError, match="2 picture.s. cannot be divided into train, valida"):
        read(write_yolo(tmp_path / "two", count=2))
    empty = write_yolo(tmp_path / "empty", count=3)
    for path in (empty / "labels").glob("*.txt"):
        path.write_text("")
    with pytest.raises(AnnotationError, match="pictures to train on have no object at all"):
        read(empty)


def test_invalid_labels_are_refused_or_dropped(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "data", count=4)
    (path / "labels/p1.txt").write_text("0 0.5 0.5 0.25 0.5\n5 0.5 0.5 0.1 0.1\n")
    with pytest.raises(AnnotationError, match=r"p1\.txt:2: class '5'; allowed is 0 to 1"):
        read(path)
    data = read(path, on_invalid="drop")
    assert "8 annotations = 7 kept + 0 crowd + 1 left out" in data.report
    assert "p1.txt:2" in data.report


def test_street_scenes_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.labels.sources.NUM_TEST_SCENES", 2)
    monkeypatch.setattr("common.labels.sources.NUM_VALIDATION_SCENES", 1)
    monkeypatch.setattr(dataset, "NUM_TEST_SCENES", 2)
    settings = make_settings("street", num_scenes=3)
    data = load_data(settings, street_folder=tmp_path, progress=False)
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [3, 1, 2]
    assert data.class_names == ("person", "car", "bicycle", "dog", "traffic light")
    ids = {one.image_id for part in parts for one in part.labels.images}
    assert ids == {100_000, 100_001, 100_002, 10_000, 0, 1}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("drawn twice")

    monkeypatch.setattr(drawn_scenes, "write_dataset", refuse)
    photos = load_test_photos("street", street_folder=tmp_path)
    assert photos.labels == data.test.labels


def test_penn_fudan_layout(tmp_path: Path) -> None:
    for k in range(4):
        save_photo(tmp_path / f"PNGImages/a{k}.png", k)
        mask = np.zeros((48, 64), np.uint8)
        mask[10:20, 5:9] = 1
        mask[30:31, 40:41] = 4  # numbers may have gaps; one pixel is one pixel wide
        (tmp_path / "PedMasks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"PedMasks/a{k}_mask.png")
    data = read(tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (2, 1, 1)
    assert data.class_names == ("pedestrian",)
    assert data.train.boxes_xyxy(0).tolist() == [[5, 10, 9, 20], [40, 30, 41, 31]]
    assert len(load_test_photos(str(tmp_path))) == 4
    assert stems(load_test_photos(str(tmp_path), held_out=True)) == stems(data.test)


def test_the_parts_are_those_of_the_other_lessons(tmp_path: Path) -> None:
    data = read(write_coco(tmp_path / "data", count=20), seed=3)
    parts = divide(20, {"train": 10, "validation": 2, "test": 5}, 3)
    for name, numbers in parts.items():
        found = [one.image_id - 10 for one in getattr(data, name).labels.images]
        assert found == numbers


def make_set(tmp_path: Path, count: int = 6, memory: int = 2**30) -> PhotoSet:
    records = []
    for k in range(count):
        path = tmp_path / f"p{k}.png"
        save_photo(path, k)
        crowd = ObjectRecord(1, (0, 0, 60, 40), 2400, "c", iscrowd=1)
        one = ObjectRecord(2, (8.0, 6.0, 40.0, 30.0), 768, "o")
        records.append(ImageRecord(path, 64, 48, k, (one, crowd) if k else (crowd,)))
    labels = AnnotationSet(tmp_path, ("cat", "dog"), (1, 2), tuple(records), 2 * count - 1)
    return PhotoSet(labels, memory)


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


MIXED = Augmentation(mosaic=0.5)


def batches_of(
    photos: PhotoSet,
    epoch: int = 0,
    first_step: int = 0,
    batch_size: int = 2,
    seed: int = 5,
    augmentation: Augmentation = MIXED,
    **options: object,
) -> list[tuple[torch.Tensor, torch.Tensor, list[str]]]:
    loader = training_loader(
        TrainingPhotos(photos, 64, augmentation), batch_size, seed, **{"num_workers": 0, **options}
    )
    loader.batch_sampler.set_position(epoch, first_step)
    return list(loader)


def same(one: tuple, other: tuple) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:2], other[:2], strict=True)) and (
        one[2] == other[2]
    )


def test_batches_depend_on_their_place_alone(tmp_path: Path) -> None:
    photos = make_set(tmp_path)
    whole = batches_of(photos, epoch=4)
    assert len(whole) == 3
    for workers in (0, 2):
        torch.manual_seed(workers)  # must not matter
        rest = batches_of(photos, epoch=4, first_step=1, num_workers=workers)
        assert len(rest) == 2
        assert all(same(a, b) for a, b in zip(rest, whole[1:], strict=True))
    assert not same(batches_of(photos, epoch=5)[0], whole[0])
    assert not same(batches_of(photos, epoch=4, seed=6)[0], whole[0])


def test_ranks_share_each_batch(tmp_path: Path) -> None:
    photos, cpu = make_set(tmp_path), torch.device("cpu")
    whole = batches_of(photos, batch_size=4)
    for rank in (0, 1):
        part = batches_of(photos, batch_size=4, processes=Processes(cpu, rank, 2))
        for ours, all_of_it in zip(part, whole, strict=True):
            assert torch.equal(ours[0], all_of_it[0][2 * rank : 2 * rank + 2])
            assert ours[2] == all_of_it[2][2 * rank : 2 * rank + 2]


def test_a_batch_is_what_the_network_wants(tmp_path: Path) -> None:
    (batch,) = batches_of(make_set(tmp_path), batch_size=6, augmentation=NO_AUGMENTATION)
    images, targets, paths = batch
    assert images.shape == (6, 3, 64, 64) and images.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert targets.shape == (5, 6) and targets.dtype == torch.float32
    check_targets(targets, 6, 2)
    letterbox = Letterbox(64, 48, 64, 64)
    box = letterbox.to_network(torch.tensor([[8.0, 6, 40, 30]]))[0] / 64
    wanted = [1, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]
    assert torch.allclose(targets[:, 1:], torch.tensor(wanted).expand(5, 5))
    numbers = [k for k, path in enumerate(paths) if not path.endswith("p0.png")]
    assert targets[:, 0].tolist() == numbers, "the photo without objects has no row"


def test_photos_are_all_seen_and_shuffled(tmp_path: Path) -> None:
    photos = make_set(tmp_path)
    orders = []
    for epoch in range(3):
        batches = batches_of(photos, epoch, augmentation=Augmentation())
        orders.append([path for *_, paths in batches for path in paths])
    assert all(len(set(order)) == 6 for order in orders)
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize(("count", "different"), [(6, 4), (3, 2), (1, 1)])
def test_mosaics_have_three_other_photos_and_name_all(
    count: int, different: int, tmp_path: Path
) -> None:
    photos = make_set(tmp_path, count)
    batches = batches_of(photos, batch_size=1, augmentation=Augmentation(mosaic=1.0))
    for _, _, (path,) in batches:
        first, *others = path.split(" + ")
        assert len(others) == 3 and len({first, *others}) >= different
        assert count == 1 or first not in others


def test_batch_errors(tmp_path: Path) -> None:
    photos = make_set(tmp_path)
    with pytest.raises(ValueError, match="batch_size is 7; allowed are 1 to 6"):
        batches_of(photos, batch_size=7)
    with pytest.raises(ValueError, match="batch_size is 3, which 2 processes cannot share"):
        batches_of(photos, batch_size=3, processes=Processes(torch.device("cpu"), 0, 2))


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
    path = WRITERS[kind](tmp_path / "data", count=4)
    target = path / {"voc": "Annotations/p1.xml", "yolo": "labels/p1.txt"}.get(
        kind, "annotations.json"
    )
    original = target.read_bytes()
    random = np.random.default_rng(11)
    refused = 0
    for _ in range(170):
        target.write_bytes(mutated(original, random))
        try:
            data = read(path)
        except AnnotationError as error:
            refused += 1
            assert target.name in str(error), error
            assert PLACE.search(str(error)) or target.stat().st_size < 3, error
            continue
        for part in (data.train, data.validation, data.test):
            (batch,) = batches_of(part, batch_size=len(part), augmentation=Augmentation())
            check_targets(batch[1], len(part), len(data.class_names))
    assert 20 < refused < 170
