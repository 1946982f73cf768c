"""labelme's and CVAT's files, and formats that are not read, which are named."""

import base64
import io
import json

import numpy as np
import pytest
from label_files import (
    BOX,
    check,
    cvat,
    cvat_box,
    cvat_folder,
    labelme,
    labelme_folder,
    named,
    photo,
    shape,
    write,
    write_json,
)
from PIL import Image

from common.labels.masks import decode_masks
from common.labels.read import list_splits, read_annotations
from common.labels.sources import load_labels
from common.labels.values import AnnotationError

CAT, DOG = ("cat", BOX), ("dog", BOX)
CORNERS = [[5, 6], [25, 6], [25, 20], [5, 20]]
RECTANGLE = shape("cat", [[5, 6], [25, 20]], "rectangle")


def png(plane: np.ndarray) -> str:
    sink = io.BytesIO()
    Image.fromarray(plane).save(sink, "PNG")
    return base64.b64encode(sink.getvalue()).decode()


SHAPES = {
    "rectangle": RECTANGLE,
    "rectangle drawn upwards": shape("cat", [[25, 20], [5, 6]], "rectangle"),
    "rectangle of four corners": shape("cat", CORNERS, "rectangle"),
    "polygon": shape("cat", CORNERS),
    "polygon of an old version": {"label": "cat", "points": CORNERS, "line_color": None},
    "mask": shape("cat", [[5, 6], [24, 19]], "mask", mask=png(np.ones((14, 20), bool))),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_labelme(name, tmp_path):
    folder = labelme_folder(tmp_path, SHAPES[name])
    found = check(folder, [CAT], masks=True)
    one = found.images[0].objects[0]
    assert one.area == 280
    if "rectangle" not in name or "four" in name:
        assert (one.segmentation is None) == ("rectangle" in name)
    if name == "mask":
        plane = decode_masks([one], 40, 30)[0]
        assert plane[6:20, 5:25].all()
        assert plane.sum() == 280


def test_circles_groups_and_numbers_of_labelme(tmp_path):
    folder = labelme_folder(tmp_path, shape(3, [[15, 15], [20, 15]], "circle"))
    found = check(folder, [("3", (10, 10, 20, 20))], masks=True)
    assert found.images[0].objects[0].area == pytest.approx(3.14 * 25, rel=0.1)
    parts = [shape("cat", [[1, 1], [9, 1], [9, 9]]), shape("cat", [[20, 10], [30, 10], [30, 20]])]
    grouped = [{**one, "group_id": 4} for one in (*parts, RECTANGLE | {"label": "dog"})]
    labelme_folder(tmp_path, *grouped)
    kind = {"shapes of one group_id taken as one object": 1}
    check(tmp_path, [("cat", (1, 1, 30, 20)), DOG], kind, masks=True)


LABELME_REFUSED = {
    "'point' of 1 points has no area: draw a pol": shape("cat", [[5, 6]], "point"),
    "'linestrip' of 3 points has no area": shape("cat", CORNERS[:3], "linestrip"),
    r"a rotated box \(rotation\): draw it upright": shape("cat", CORNERS, "rotation"),
    r"a rotated box \(oriented_rectangle\)": shape("cat", CORNERS, "oriented_rectangle"),
    "class '' is unknown; allowed are cat": shape("", CORNERS),
    "its mask is no picture in base64": shape("cat", [[5, 6], [9, 9]], "mask", mask="%"),
    "the mask leaves the 40 x 30": shape(
        "cat", [[30, 6], [49, 19]], "mask", mask=png(np.ones((14, 20), bool))
    ),
    "leaves the 40 x 30 image": shape("cat", [[5, 6], [50, 20]], "rectangle"),
}


@pytest.mark.parametrize("message", LABELME_REFUSED)
def test_shapes_that_are_refused(message, tmp_path):
    folder = labelme_folder(tmp_path, RECTANGLE, LABELME_REFUSED[message])
    with pytest.raises(AnnotationError, match=rf"a\.json: shapes\[1\]: .*{message}"):
        read_annotations(folder)
    found = read_annotations(folder, on_invalid="drop")
    assert (named(found), found.reported) == ([CAT], 1)


def test_places_of_labelmes_pictures(tmp_path):
    photo(tmp_path / "pictures" / "b.png")
    write_json(tmp_path / "json" / "a.json", labelme(RECTANGLE, imagePath="..\\pictures\\b.png"))
    check(tmp_path, [CAT], {"picture found by its name in another folder": 1})
    folder = labelme_folder(tmp_path / "two", RECTANGLE, imageHeight=None)
    photo(folder / "a.jpg")
    assert check(folder, [CAT], {"size taken from the picture": 1}).images[0].path.suffix == ".png"
    photo(folder / "b.png")
    assert check(folder, [CAT], {"size taken from the picture": 1}, notes=1)
    for part, count in (("train", 12), ("val", 2)):
        for k in range(count):
            photo(tmp_path / "parts" / part / f"{k}.png", number=k)
            write_json(tmp_path / "parts" / part / f"{k}.json", labelme(RECTANGLE))
    parts = load_labels(str(tmp_path / "parts"), progress=False)
    assert [len(one) for one in (parts.train, parts.validation, parts.test)] == [10, 2, 2]
    with pytest.raises(AnnotationError, match="hold no shape with a label"):
        read_annotations(labelme_folder(tmp_path / "none"))


POLYGON = '<polygon label="cat" points="5,6;25,6;25,20;5,20"></polygon>'
MASK = '<mask label="dog" rle="21, 18, 241" left="5" top="6" width="20" height="14"></mask>'
ELLIPSE = '<ellipse label="cat" cx="15" cy="13" rx="10" ry="7"></ellipse>'


def test_cvats_shapes(tmp_path):
    shapes = [cvat_box(more='rotation="0.0"'), POLYGON, MASK, ELLIPSE]
    found = check(cvat_folder(tmp_path, cvat(*shapes)), [CAT, CAT, ("dog", (6, 7, 24, 8)), CAT])
    assert found.class_names == ("cat", "dog")
    plane = decode_masks(found.images[0].objects[2:3], 40, 30)[0]
    assert plane[7, 6:24].all()
    assert plane.sum() == 18
    swapped = '<box label="cat" xtl="25" ytl="20" xbr="5" ybr="6"/>'
    check(cvat_folder(tmp_path, cvat(swapped)), [CAT], {"corners of a box put in order": 1})


CVAT_REFUSED = {
    "a rotated box: draw it upright": cvat_box(more='rotation="31.5"'),
    "the shape <points> has no area: draw": '<points label="cat" points="5,6"></points>',
    "the shape <polyline> has no area": '<polyline label="cat" points="5,6;7,8"></polyline>',
    "the shape <skeleton> has no area": '<skeleton label="cat"></skeleton>',
    "class 'cow' is unknown; allowed are cat, dog": cvat_box("cow"),
    "runs of the mask add up to 3, not 280": MASK.replace("21, 18, 241", "1,2"),
    "the box has no xtl": '<box label="cat" ytl="6" xbr="25" ybr="20"></box>',
    "leaves the 40 x 30 image": POLYGON.replace("25,20", "45,20"),
}


@pytest.mark.parametrize("message", CVAT_REFUSED)
def test_cvats_shapes_that_are_refused(message, tmp_path):
    folder = cvat_folder(tmp_path, cvat(cvat_box(), CVAT_REFUSED[message]))
    with pytest.raises(AnnotationError, match=rf"annotations\.xml:6: .*{message}"):
        read_annotations(folder)
    found = read_annotations(folder, on_invalid="drop")
    assert (named(found), found.reported) == ([CAT], 1)


def test_cvats_subsets_and_labels_of_a_project(tmp_path):
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("dog", "cat"))
    labels += "<label><name>nose</name><parent>dog</parent></label>"
    lines = [f"<annotations><meta><project><labels>{labels}</labels></project></meta>"]
    for number, subset in enumerate(["Train"] * 3 + ["Validation"] * 2 + ["Test"]):
        photo(tmp_path / "images" / subset / f"{number}.png", number=number)
        head = f'<image id="{number}" name="{number}.png" subset="{subset}" width="40" height="30">'
        lines.append(f"{head}{cvat_box()}</image>")
    write(tmp_path / "annotations.xml", "\n".join([*lines, "</annotations>"]))
    assert list_splits(tmp_path) == ("Test", "Train", "Validation")
    parts = load_labels(str(tmp_path), progress=False)
    assert parts.class_names == ("dog", "cat")
    assert [len(one) for one in (parts.train, parts.validation, parts.test)] == [3, 2, 1]


def test_cvats_files_that_are_not_one(tmp_path):
    write(cvat_folder(tmp_path, cvat(cvat_box())) / "more.xml", cvat(cvat_box("dog")))
    assert read_annotations(tmp_path / "annotations.xml").kept == 1
    with pytest.raises(
        AnnotationError, match=r"several files of CVAT, .*annotations\.xml or .*more"
    ):
        read_annotations(tmp_path)
    video = '<annotations><track id="0" label="cat"><box frame="0"/></track></annotations>'
    for text, message in (
        (video, "CVAT for video: export it as CVAT for images"),
        ("<annotations><version>1.1</version></annotations>", "it has no <image>"),
        (cvat(cvat_box())[:-20], r"annotations\.xml:\d: no valid XML"),
    ):
        (tmp_path / "more.xml").unlink(missing_ok=True)
        with pytest.raises(AnnotationError, match=message):
            read_annotations(cvat_folder(tmp_path, text))


CSV = "filename,width,height,class,xmin,ymin,xmax,ymax\nx.png,40,30,cat,1,2,3,4\n"
KITTI = "Car 0.00 0 -1.57 599.4 156.4 629.7 189.2 2.85 2.63 12.34 0.47 1.49 69.44 -1.56\n"
DOTA = "1.0 2.0 3.0 4.0 5.0 6.0 7.0 8.0 plane 0\n"
OTHERS = {
    "VIA.*Export as COCO": ("via.json", {"x.png9": {"filename": "x.png", "regions": []}}),
    "VIA\\)": ("via.json", {"_via_img_metadata": {}}),
    "CSV of VGG": ("v.csv", "#filename,file_size,region_shape_attributes,region_attributes\n"),
    "CSV\\) of boxes": ("labels.csv", CSV),
    "CSV\\) of boxes:": ("labels.csv", CSV.replace(",", ";")),
    "of boxes without a head": ("labels.csv", "x.png,1,2,13,14,cat\n"),
    "table \\(CSV\\)": ("train.csv", 'image_id,bbox\nb,"[8, 2, 5, 3]"\n'),
    "KITTI": ("x.txt", KITTI),
    "DOTA": ("x.txt", DOTA),
    "DOTA, with rotated": ("labelTxt/x.txt", f"imagesource:GoogleEarth\ngsd:0.1\n{DOTA}"),
    "TFRecord": ("x.tfrecord", "x"),
    "Label Studio's own": ("p.json", [{"id": 1, "annotations": [], "data": {"image": "x"}}]),
    "Label Studio's short": ("p.json", [{"image": "/x.png", "id": 1, "label": []}]),
    "Create ML": ("_annotations.createml.json", [{"image": "x.png", "annotations": []}]),
    "list of COCO's detections": ("r.json", [{"image_id": 1, "category_id": 1, "bbox": [1] * 4}]),
    "lesson 03": ("masks/y.png", None),
    "VisDrone's or MOT": ("gt/gt.txt", "1,1,10,20,30,40,1,1,1\n"),
    "x1,y1,x2,y2,class": ("train.txt", "a/x.png 5,6,25,20,0 1,2,9,9,3\n"),
    "WIDER FACE": ("wider_gt.txt", "0--A/x.jpg\n1\n449 330 122 149 0 0 0 0 0 0\n"),
    "VoTT": ("x-asset.json", {"asset": {}, "regions": []}),
    "Datumaro": ("d.json", {"items": [], "categories": {}}),
    "Cityscapes": ("x.json", {"imgHeight": 9, "objects": []}),
    "to be unpacked": ("set.zip", "PK"),
    "1 pictures and no labels": ("note.md", "x"),
}


@pytest.mark.parametrize("message", OTHERS)
def test_other_formats_are_named(message, tmp_path):
    name, content = OTHERS[message]
    photo(tmp_path / "x.png")
    if content is None:
        photo(tmp_path / name)
    else:
        write(tmp_path / name, content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(AnnotationError, match=message):
        read_annotations(tmp_path)
    if name.endswith(".json"):
        with pytest.raises(AnnotationError, match=message):
            read_annotations(tmp_path / name)


def test_one_file_of_labelme_is_named(tmp_path):
    labelme_folder(tmp_path, RECTANGLE)
    with pytest.raises(AnnotationError, match="a file of labelme: give the folder of all its file"):
        read_annotations(tmp_path / "a.json")
