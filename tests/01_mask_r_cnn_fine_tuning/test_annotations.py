"""The three readers: what they read, what they refuse, and that no annotation is lost."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from common.labels.masks import decode_masks
from common.labels.read import list_splits, read_annotations
from common.labels.values import AnnotationError

SIZE = (40, 30)
BOXES = {"a": [("cat", (5, 6, 25, 20)), ("dog", (0, 0, 40, 30))], "b": [("dog", (1, 2, 4, 9))]}
XML = "<annotation>\n<size><width>40</width><height>30</height></size>\n{}</annotation>\n"
OBJECT = (
    "<object>\n<name>{}</name>\n<bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox>\n</object>\n"
)


def save_images(folder: Path, names: str = "abc") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", SIZE, (90, 120, 150)).save(folder / f"{name}.png")


def write_voc(folder: Path) -> Path:
    save_images(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for name in "abc":
        objects = "".join(OBJECT.format(n, *box) for n, box in BOXES.get(name, []))
        (folder / "Annotations" / f"{name}.xml").write_text(XML.format(objects))
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\nc\n")
    return folder


def write_yolo(folder: Path) -> Path:
    save_images(folder / "images")
    (folder / "labels").mkdir()
    (folder / "classes.txt").write_text("cat\ndog\n")
    for name, objects in BOXES.items():
        lines = []
        for label, (x1, y1, x2, y2) in objects:
            box = ((x1 + x2) / 80, (y1 + y2) / 60, (x2 - x1) / 40, (y2 - y1) / 30)
            lines.append(" ".join([str(int(label == "dog")), *(f"{v:.6f}" for v in box)]))
        (folder / "labels" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def coco_data() -> dict:
    mask = np.zeros((30, 40), np.uint8, order="F")
    mask[0:30, 0:40] = 1
    compressed = mask_utils.encode(mask)
    rle = {"size": [30, 40], "counts": compressed["counts"].decode()}
    polygon = [[5, 6, 25, 6, 25, 20, 5, 20]]
    runs = {"size": [30, 40], "counts": [32, 7, 23, 7, 23, 7, 1101]}
    images = [{"id": i, "file_name": f"{n}.png", "width": 40, "height": 30} for n, i in IDS.items()]
    common = {"iscrowd": 0, "image_id": 70}
    return {
        "images": images,
        "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 5, "name": "x"}],
        "annotations": [
            {**common, "id": 11, "category_id": 3, "bbox": [5, 6, 20, 14], "segmentation": polygon},
            {**common, "id": 12, "category_id": 90, "bbox": [0, 0, 40, 30], "segmentation": rle},
            {"id": 19, "image_id": 8, "iscrowd": 1, "category_id": 90, "bbox": [1, 2, 3, 7]}
            | {"segmentation": runs, "area": 21},
        ],
    }


IDS = {"a": 70, "b": 8, "c": 900}


def write_coco(folder: Path, data: dict | None = None) -> Path:
    save_images(folder / "images")
    (folder / "annotations.json").write_text(json.dumps(coco_data() if data is None else data))
    return folder


WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}


@pytest.mark.parametrize("kind", WRITERS)
def test_three_formats_give_the_same_boxes(kind, tmp_path):
    found = read_annotations(WRITERS[kind](tmp_path))
    boxes = {
        image.path.stem: [(found.class_names[o.label - 1], o.box_xyxy) for o in image.objects]
        for image in found.images
    }
    assert set(boxes) == set("abc")
    for name in "abc":
        assert [label for label, _ in boxes[name]] == [n for n, _ in BOXES.get(name, [])]
        for (_, box), (_, truth) in zip(boxes[name], BOXES.get(name, []), strict=True):
            assert box == pytest.approx(truth, abs=1e-4)
    assert found.total == found.kept + found.crowd == 3
    assert not found.problems
    assert all((image.width, image.height) == SIZE for image in found.images)


def test_coco_ids_may_be_sparse_and_categories_unused(tmp_path):
    found = read_annotations(write_coco(tmp_path))
    assert found.class_names == ("cat", "x", "dog")
    assert found.category_ids == (3, 5, 90)
    assert [image.image_id for image in found.images] == [70, 8, 900]
    assert (found.kept, found.crowd, found.reported) == (2, 1, 0)


def test_coco_masks_of_all_notations_are_drawn_as_pycocotools_does(tmp_path):
    first, second, _ = read_annotations(write_coco(tmp_path)).images
    masks = decode_masks(first.objects + second.objects, *SIZE)
    assert masks.shape == (3, 30, 40)
    polygon = mask_utils.decode(mask_utils.frPyObjects([[5, 6, 25, 6, 25, 20, 5, 20]], 30, 40))
    assert np.array_equal(masks[0], polygon[:, :, 0])
    assert masks[1].all()
    crowd = np.zeros((30, 40), np.uint8)
    crowd[2:9, 1:4] = 1
    assert np.array_equal(masks[2], crowd)
    assert [o.area for o in first.objects] == [masks[0].sum(), 1200]


def test_compressed_runs_agree_with_pycocotools_on_random_masks():
    from common.labels.masks import _decompress

    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 90, 2)
        mask = np.asfortranarray(rng.random((height, width)) < rng.random(), dtype=np.uint8)
        runs = _decompress(mask_utils.encode(mask)["counts"].decode())
        values = np.repeat(np.arange(len(runs)) % 2, runs)
        assert np.array_equal(values.reshape(width, height).T, mask)


def test_coco_file_names_may_have_sub_folders(tmp_path):
    data = coco_data()
    for image in data["images"]:
        image["file_name"] = f"photos/{image['file_name']}"
    (tmp_path / "images").mkdir()
    save_images(tmp_path / "images" / "photos")
    (tmp_path / "x.json").write_text(json.dumps(data))
    assert read_annotations(tmp_path / "x.json").images[0].path.is_file()


def test_splits(tmp_path):
    voc = write_voc(tmp_path)
    assert list_splits(voc) == ("train",)
    part = read_annotations(voc, split="train")
    assert [image.path.stem for image in part.images] == ["a", "c"]
    assert part.class_names == ("cat", "dog")
    with pytest.raises(AnnotationError, match="no list .*val.txt for the split 'val'"):
        read_annotations(voc, split="val")


def test_yolo_split_folders_side_by_side_and_yaml_names(tmp_path):
    flat = write_yolo(tmp_path / "flat")
    root = tmp_path / "root"
    for folder in ("images", "labels"):
        shutil.copytree(flat / folder, root / folder / "train")
    texts = (
        "names: ['cat', \"dog\"]\n",
        "nc: 2\nnames:\n  0: cat\n  1: dog\n",
        "names:\n- cat\n- dog",
    )
    for text in texts:
        (root / "data.yaml").write_text(text)
        found = read_annotations(root, split="train")
        assert (found.class_names, found.kept) == (("cat", "dog"), 3)
    assert list_splits(root) == ("train",)
    side = tmp_path / "side"
    shutil.copytree(flat / "images", side)
    shutil.copytree(flat / "labels", side, dirs_exist_ok=True)
    shutil.copy(flat / "classes.txt", side)
    assert read_annotations(side).kept == 3


def test_yolo_polygon_line(tmp_path):
    yolo = write_yolo(tmp_path)
    (yolo / "labels" / "c.txt").write_text("1 0.25 0.2 0.75 0.2 0.75 0.8 0.25 0.8\n")
    one = read_annotations(yolo).images[2].objects[0]
    assert one.box_xyxy == pytest.approx((10, 6, 30, 24))
    assert decode_masks([one], *SIZE).sum() == one.area == 20 * 18


COCO_FAULTS = {
    "the key 'bbox' is missing": lambda a: (a.pop("bbox"), a.pop("segmentation")),
    "the key 'category_id' is missing": lambda a: a.pop("category_id"),
    "category_id 4 is not among": lambda a: a.update(category_id=4),
    "category_id is 'cat', not a whole": lambda a: a.update(category_id="cat"),
    "image_id 1 is no usable image": lambda a: a.update(image_id=1),
    "bbox value is nan": lambda a: a.update(bbox=[float("nan"), 0, 5, 5]),
    "bbox value is inf": lambda a: a.update(bbox=[0, 0, float("inf"), 5]),
    "bbox value is '5', not a number|lies": lambda a: a.update(bbox=[99, "5", 5, 5]),
    "has no area": lambda a: a.update(bbox=[3, 3, 0, 5]),
    "lies outside the 40 x 30": lambda a: a.update(bbox=[50, 3, 4, 5]),
    "leaves the 40 x 30": lambda a: a.update(bbox=[30, 3, 12, 5]),
    "not \\[x, y, width, height\\]": lambda a: a.update(bbox=[1, 2, 3]),
    "area is nan": lambda a: a.update(area=float("nan")),
    "iscrowd is 2": lambda a: a.update(iscrowd=2),
    "not x, y of three or more": lambda a: a.update(segmentation=[[1, 2, 3, 4]]),
    "polygon .* leaves": lambda a: a.update(segmentation=[[0, 0, 1e9, 0, 5, 5]]),
    "covers no pixel": lambda a: a.update(segmentation=[[3, 3, 3, 3, 3, 3]]),
    "add up to 7, not": lambda a: a.update(segmentation={"size": [30, 40], "counts": [3, 4]}),
    "RLE size is": lambda a: a.update(segmentation={"size": [40, 30], "counts": [1200]}),
    "RLE has no 'counts'": lambda a: a.update(segmentation={"size": [30, 40]}),
    "not COCO's compressed": lambda a: a.update(segmentation={"size": [30, 40], "counts": "~!"}),
    "end in the middle": lambda a: a.update(segmentation={"size": [30, 40], "counts": "P"}),
    "not run lengths": lambda a: a.update(segmentation={"size": [30, 40], "counts": 7}),
    "not polygons or RLE": lambda a: a.update(segmentation=7),
}


@pytest.mark.parametrize("message", COCO_FAULTS)
def test_coco_fault_is_named_and_dropped_when_asked(message, tmp_path):
    data = coco_data()
    COCO_FAULTS[message](data["annotations"][0])
    folder = write_coco(tmp_path, data)
    pattern = rf"annotations\.json: annotations\[[01]\] \(id 1[12]\): .*({message})"
    with pytest.raises(AnnotationError, match=pattern):
        read_annotations(folder)
    found = read_annotations(folder, on_invalid="drop")
    assert (found.kept, found.crowd, found.reported, found.total) == (1, 1, 1, 3)
    assert "left out" in found.summary()


def test_coco_image_faults_take_their_annotations_along(tmp_path):
    data = coco_data()
    data["images"][0]["width"] = 41
    folder = write_coco(tmp_path, data)
    with pytest.raises(AnnotationError, match=r"images\[0\].* 40 x 30 .*says 41 x 30"):
        read_annotations(folder)
    found = read_annotations(folder, on_invalid="drop")
    assert (found.kept, found.crowd, found.reported, found.total) == (0, 1, 2, 3)
    for name, message in (("../z.png", "leaves the image folder"), ("no.png", "no such file")):
        data["images"][0].update(width=40, file_name=name)
        write_coco(tmp_path, data)
        with pytest.raises(AnnotationError, match=message):
            read_annotations(folder)
    data["images"][0] = {**data["images"][1], "file_name": "c.png"}
    write_coco(tmp_path, data)
    with pytest.raises(AnnotationError, match=r"images\[1\] \(id 8\): id 8 appears twice"):
        read_annotations(folder)


def test_whole_file_faults(tmp_path):
    folder = write_coco(tmp_path)
    path = folder / "annotations.json"
    category = {"id": 1, "name": "cat"}
    other = {"id": 1, "name": "dog"}
    faults = {
        "no valid JSON: .*line 1 column 2": "{]",
        "no valid JSON": "[" * 100_000,
        "it holds 7": "7",
        "no list 'images'": "{}",
        r"categories\[1\]: id 1 appears twice": {"categories": [category, other]},
        r"categories\[0\]: the key 'name' is missing": {"categories": [{"id": 1}]},
        "no class is named": {"categories": []},
    }
    for message, text in faults.items():
        path.write_text(text if isinstance(text, str) else json.dumps({**coco_data(), **text}))
        for on_invalid in ("refuse", "drop"):
            with pytest.raises(AnnotationError, match=f"annotations.json: .*{message}|{message}"):
                read_annotations(folder, on_invalid=on_invalid)
    path.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(AnnotationError, match="no valid JSON"):
        read_annotations(folder)


VOC_FAULTS = {
    "no valid XML": ("</annotation>", "</annotatio>"),
    "a DOCTYPE is not allowed": ("<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>'),
    "<bndbox/ymax> is missing": ("<ymax>20</ymax>", ""),
    "<bndbox/xmin> is 'nan', not a finite": ("<xmin>5<", "<xmin>nan<"),
    "<bndbox/xmin> is '1_0', not a number": ("<xmin>5<", "<xmin>1_0<"),
    "has no area": ("<xmin>5<", "<xmin>25<"),
    "leaves the 40 x 30": ("<xmax>25<", "<xmax>60<"),
    "says 90 x 30": ("<width>40<", "<width>90<"),
    "size is 'wide', not a number": ("<width>40<", "<width>wide<"),
    "the root is 'notes'": ("annotation>", "notes>"),
}


@pytest.mark.parametrize("message", VOC_FAULTS)
def test_voc_fault_is_named_with_its_line(message, tmp_path):
    folder = write_voc(tmp_path)
    path = folder / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace(*VOC_FAULTS[message]))
    with pytest.raises(AnnotationError, match=rf"a\.xml:( line )?[1-9]\d*: .*{message}"):
        read_annotations(folder)
    found = read_annotations(folder, on_invalid="drop")
    assert found.kept + found.reported == found.total
    assert found.problems


def test_voc_fault_gives_the_line_of_its_object_and_unknown_names(tmp_path):
    folder = write_voc(tmp_path)
    with pytest.raises(AnnotationError, match=r"a\.xml:3: class 'cat' is unknown; allowed are dog"):
        read_annotations(folder, class_names=["dog"])
    (folder / "JPEGImages" / "b.png").unlink()
    with pytest.raises(AnnotationError, match=r"b\.xml:1: the image b\.jpg .* does not exist"):
        read_annotations(folder)
    found = read_annotations(folder, on_invalid="drop")
    assert (found.kept, found.reported, found.total) == (2, 1, 3)


YOLO_FAULTS = {
    "4 values in": "0 0.5 0.5 0.1",
    "6 values in": "0 0.5 0.5 0.1 0.1 0.9",
    "class '2'; allowed is 0 to 1": "2 0.5 0.5 0.1 0.1",
    "class '-1'; allowed": "-1 0.5 0.5 0.1 0.1",
    "class '1.5'; allowed": "1.5 0.5 0.5 0.1 0.1",
    "value is 'nan', not a finite": "0 nan 0.5 0.1 0.1",
    "value is 'x', not a number": "0 x 0.5 0.1 0.1",
    "value is '9+\\.\\.\\.9+', not a number": f"0 {'9' * 50_000} 0.5 0.1 0.1",
    "not in fractions": "0 20 15 4 4",
    "has no area": "0 0.5 0.5 0 0.1",
    "leaves the 40 x 30": "0 0.9 0.5 0.5 0.1",
    "lies outside": "0 1.5 0.5 0.1 0.1",
}


@pytest.mark.parametrize("message", YOLO_FAULTS)
def test_yolo_fault_is_named_with_its_line(message, tmp_path):
    folder = write_yolo(tmp_path)
    with (folder / "labels" / "a.txt").open("a") as sink:
        sink.write("\n" + YOLO_FAULTS[message] + "\n")
    with pytest.raises(AnnotationError, match=rf"a\.txt:4: .*{message}"):
        read_annotations(folder)
    found = read_annotations(folder, on_invalid="drop")
    assert (found.kept, found.reported, found.total) == (3, 1, 4)


def test_yolo_folder_faults(tmp_path):
    folder = write_yolo(tmp_path)
    (folder / "labels" / "z.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(AnnotationError, match=r"z\.txt: there is no image of this name"):
        read_annotations(folder)
    assert read_annotations(folder, on_invalid="drop").reported == 1
    (folder / "labels" / "z.txt").unlink()
    (folder / "images" / "b.png").write_bytes(b"no picture")
    with pytest.raises(AnnotationError, match=r"b\.png: .*b\.png: this is not a photo"):
        read_annotations(folder)
    (folder / "classes.txt").unlink()
    with pytest.raises(AnnotationError, match="no class list; add classes.txt"):
        read_annotations(folder)


def test_many_problems_are_counted_and_the_first_ten_listed(tmp_path):
    folder = write_yolo(tmp_path)
    (folder / "labels" / "c.txt").write_text("7 0 0 0 0\n" * 25)
    with pytest.raises(AnnotationError, match="25 problems in 28 annotations") as error:
        read_annotations(folder)
    assert str(error.value).count("c.txt:") == 10
    assert "... and 15 more" in str(error.value)


def test_unknown_folders_and_options(tmp_path):
    with pytest.raises(AnnotationError, match="is no dataset in a known format"):
        read_annotations(tmp_path)
    with pytest.raises(AnnotationError, match="does not exist"):
        read_annotations(tmp_path / "none")
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(AnnotationError, match="no folder and no .json file"):
        read_annotations(tmp_path / "x.csv")
    with pytest.raises(ValueError, match="on_invalid is 'keep'; allowed are"):
        read_annotations(write_voc(tmp_path / "voc"), on_invalid="keep")
    with pytest.raises(AnnotationError, match="no category is named \\['cow'\\]"):
        read_annotations(write_coco(tmp_path / "coco"), class_names=["cow"])


def test_boxes_up_to_one_pixel_over_the_border_are_cut(tmp_path):
    folder = write_yolo(tmp_path)
    (folder / "labels" / "c.txt").write_text("0 0.5 0.5 1.04 1.0\n")
    assert read_annotations(folder).images[2].objects[0].box_xyxy == (0, 0, 40, 30)
