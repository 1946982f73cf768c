"""The command that looks at data: exit codes, JSON, the sheet, and what it warns of."""

import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from label_files import (
    BOX,
    YOLO_BOX,
    coco,
    coco_folder,
    cvat,
    cvat_box,
    entry,
    labelme,
    photo,
    shape,
    voc,
    voc_folder,
    write,
    write_json,
    yolo_folder,
)
from PIL import Image

import check_data
from common.labels.read import read_annotations
from common.labels.sources import layout_for, load_labels

LINE = f"0 {YOLO_BOX}\n"
KEYS = ["format", "parts", "classes", "counts", "mended", "refused", "usable", "notes"]


@pytest.fixture
def look(capsys):
    """Run the command with --json; return its exit code and the one object that it prints."""

    def run(path, *options):
        code = check_data.main([str(path), "--json", *options])
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        return code, json.loads(out, parse_constant=pytest.fail)

    return run


def test_good_data(look, tmp_path):
    code, found = look(voc_folder(tmp_path, voc(("dog", BOX), ("cat", (1, 1, 39, 29)))))
    assert (code, list(found)) == (0, KEYS)
    assert found == {
        "format": "Pascal VOC", "parts": {"all": {"images": 1, "objects": 2, "empty": 0}},
        "classes": ["cat", "dog"], "counts": {"cat": 1, "dog": 1}, "mended": {}, "refused": [],
        "usable": True, "notes": ["hardly any object to learn from: cat (1), dog (1)"],
    }  # fmt: skip


def test_data_that_is_usable_with_drops(look, tmp_path):
    folder = yolo_folder(tmp_path, LINE + "0 0.5 0.5 0 0.1\n" + LINE.replace("0 ", "0.0 ", 1))
    code, found = look(folder)
    assert (code, list(found), found["usable"]) == (1, KEYS, True)
    label = str(folder / "labels" / "a.txt")
    reason = f"{label}:2: box (20, 13.5, 20, 16.5) has no area (x1, y1, x2, y2 in pixels)"
    assert found["refused"] == [{"file": label, "line": 2, "reason": reason}]
    assert found["mended"] == {"class number written with a point": 1}
    assert found["counts"] == {"cat": 2, "dog": 0}


def test_data_that_is_not_usable(look, tmp_path):
    photo(tmp_path / "x.png")
    for path, reason in ((tmp_path, "no labels in a known format"), (tmp_path / "q", "not exist")):
        code, found = look(path)
        assert (code, list(found), found["usable"], found["format"]) == (2, KEYS, False, "")
        assert [(one["file"], one["line"]) for one in found["refused"]] == [(str(path), None)]
        assert reason in found["refused"][0]["reason"]
        assert (found["parts"], found["classes"], found["counts"]) == ({}, [], {})
    code, found = look(yolo_folder(tmp_path / "none", ""))
    assert (code, found["format"]) == (2, "YOLO")
    assert "there is no object to learn" in found["refused"][0]["reason"]


def test_wrong_usage(capsys, tmp_path):
    for arguments in ([], [str(tmp_path), "--draw", "-1"], [str(tmp_path), "--nonsense"]):
        with pytest.raises(SystemExit) as error:
            check_data.main(arguments)
        assert error.value.code == 2
    assert "--draw is -1; allowed are 0 and more" in capsys.readouterr().err


def test_the_report_in_words(capsys, tmp_path):
    folder = yolo_folder(tmp_path, LINE + "7 0.5 0.5 0.1 0.1\n")
    assert check_data.main([str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"{folder}: YOLO", "  all  1 images, 1 objects, 0 empty"]
    assert "objects of each class, in the order of training:" in lines
    assert "sizes, width x height: 40 x 30 (1 x)" in lines
    assert f"  {folder}/labels/a.txt:2: class '7'; allowed is 0 to 1" in lines
    assert lines[-1] == "usable with --on-invalid drop, which leaves the problems out"


def test_the_sheet_is_a_picture(tmp_path):
    folder = yolo_folder(tmp_path / "set", LINE)
    for k in range(5):
        photo(folder / "images" / f"{k}.png", number=k)
    for name in ("sheet.png", "sheet.jpg"):
        assert check_data.main([str(folder), "--draw", "4", "--sheet", str(tmp_path / name)]) == 0
        with Image.open(tmp_path / name) as sheet:
            assert sheet.width > 2 * sheet.height
            assert len(np.unique(np.asarray(sheet.convert("L")))) > 10
    assert {path.name for path in tmp_path.iterdir()} == {"set", "sheet.png", "sheet.jpg"}


def damage(path: Path) -> None:
    """Change one byte of a PNG's pixels; the end marker stays."""
    raw = bytearray(path.read_bytes())
    start = raw.index(b"IDAT") + 4
    middle = start + int.from_bytes(raw[start - 8 : start - 4]) // 2
    raw[middle] ^= 0xFF
    path.write_bytes(raw)


def test_damage_in_the_middle_is_found_by_decoding(look, tmp_path):
    folder = yolo_folder(tmp_path, LINE)
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "images" / "b.png")
    write(folder / "labels" / "b.txt", LINE)
    assert look(folder, "--decode")[0] == 0
    damage(folder / "images" / "b.png")
    code, found = look(folder, "--decode")
    assert (code, found["counts"]) == (1, {"cat": 1, "dog": 0})
    assert found["refused"][0]["file"] == str(folder / "images" / "b.png")
    assert "b.png: the file is damaged" in found["refused"][0]["reason"]
    with pytest.raises(zlib.error):
        data = (folder / "images" / "b.png").read_bytes()
        start = data.index(b"IDAT") + 4
        zlib.decompress(data[start : start + int.from_bytes(data[start - 8 : start - 4])])


def test_the_command_is_the_same_in_three_lessons(repository):
    lessons = ("01_mask_r_cnn_fine_tuning", "02_yolo_v3_darknet", "03_semantic_segmentation")
    fronts = [(repository / one / "check_data.py").read_text().splitlines() for one in lessons]
    shared = set(fronts[0]).intersection(*fronts)
    own = [[line for line in front if line not in shared] for front in fronts]
    assert own[0] == own[1]  # the reader of boxes, and in lesson 03 that of masks
    assert [len(lines) for lines in own] == [3, 3, 3]
    inner = {(repository / one / "common" / "check_data.py").read_bytes() for one in lessons}
    assert len(inner) == 1


def test_the_command_runs_alone_and_loads_no_pytorch(lesson_folder, tmp_path):
    folder = yolo_folder(tmp_path, LINE)
    code = "import sys, check_data; c = check_data.main(sys.argv[1:]); assert 'torch' not in "
    command = [sys.executable, "-c", code + "sys.modules; sys.exit(c)", str(folder), "--json"]
    done = subprocess.run(command, cwd=lesson_folder, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["usable"]) == (0, True), done.stderr


def notes_of(look, path: Path) -> list[str]:
    return look(path)[1]["notes"]


def test_likely_mistakes(look, tmp_path):
    names = "Dog\ndog\nhot dog\nhot_dog\ncow\n"
    lines = "".join(f"{k % 4} 0.1 0.1 0.{k + 10} 0.1\n" for k in range(10)) + "0 0.1 0.1 0.10 0.1\n"
    notes = notes_of(look, yolo_folder(tmp_path, lines, names))
    for expected in (
        "cow never occurs",
        "one class or two: Dog, dog?",
        "one class or two: hot dog, hot_dog?",
        "11 of 11 boxes lie in the first third of their picture: boxes of another scale?",
        "11 of 11 boxes are thinner than 4 pixels",
        "1 objects stand twice: same picture, class and box",
    ):
        assert expected in notes, notes
    assert "hardly any object to learn from: Dog (4), dog (3), hot dog (2), hot_dog (2)" in notes


def test_pictures_of_two_parts(look, tmp_path):
    for part, number in (("train", 1), ("val", 1), ("test", 2)):
        photo(tmp_path / "images" / part / f"{part}.png", number=number)
        write(tmp_path / "labels" / part / f"{part}.txt", LINE)
    write(tmp_path / "classes.txt", "cat\n")
    notes = [one for one in notes_of(look, tmp_path) if "stand in" in one]
    assert notes == ["1 pictures of train stand in val too, such as train.png"]
    assert notes_of(look, shutil.copytree(tmp_path / "images", tmp_path / "alone")) == []


def add_voc(folder):
    write(folder / "Annotations" / "a.xml", voc(("cat", BOX)))


def add_cvat(folder):
    write(folder / "annotations.xml", cvat(cvat_box()))


def add_pedestrians(folder):
    photo(folder / "PedMasks" / "a_mask.png")


def add_labelme(folder):
    write_json(folder / "labelme" / "a.json", labelme(shape("cat", [[5, 6], [25, 6], [25, 20]])))


def add_yolo(folder):
    yolo_folder(folder, LINE)


OTHERS = {
    "CVAT for images": add_cvat,
    "Pascal VOC": add_voc,
    "Penn-Fudan": add_pedestrians,
    "labelme": add_labelme,
    "YOLO": add_yolo,
}


@pytest.mark.parametrize("other", OTHERS)
def test_labels_of_another_format_are_said_once(look, tmp_path, other):
    for part in ("train", "val"):
        for k in range(3):
            photo(tmp_path / part / f"{k}.png", number=9 * len(part) + k)
        content = coco(*(entry(k, image_id=k) for k in range(3)))
        content["images"] = [{"id": k, "file_name": f"{k}.png"} for k in range(3)]
        write_json(tmp_path / part / "_annotations.coco.json", content)
    OTHERS[other](tmp_path)
    note = (
        f"{tmp_path} also holds labels of {other}; read as COCO (name the file or folder to choose)"
    )
    assert notes_of(look, tmp_path).count(note) == 1
    report = load_labels(str(tmp_path), progress=False).report
    assert report.splitlines().count(f"  note: {note}") == 1
    assert not any("also holds" in one for one in notes_of(look, tmp_path / "train"))


def test_several_other_formats_are_one_line_and_masks_come_first(tmp_path):
    folder = coco_folder(tmp_path, coco(entry()))
    for add in OTHERS.values():
        add(folder)
    (note,) = read_annotations(folder).notes
    assert f"labels of {', '.join(OTHERS)}; read as COCO" in note
    (note,) = layout_for(folder, masks=True).notes
    assert "of COCO, CVAT for images, Pascal VOC, labelme, YOLO; read as Penn-Fudan" in note


def test_files_of_other_uses_are_no_labels_of_another_format(tmp_path, scenes):
    folder = coco_folder(tmp_path, coco(entry()))
    write(folder / "train.txt", "images/a.png\n")
    write(folder / "data.yaml", "train: images\nnames: [cat]\n")
    write(folder / "images" / "a.txt", "a cat on a wall\n")  # a caption
    write(folder / "more" / "info.json", '{"notes": "no shapes"}')
    write(folder / "more" / "config.xml", "<settings></settings>")
    assert read_annotations(folder).notes == ()
    assert (read_annotations(scenes).notes, layout_for(scenes, masks=True).notes) == ((), ())


def test_a_class_of_the_validation_alone_and_half_of_the_objects(look, tmp_path):
    for part, names in (("train", ("cat",)), ("val", ("cat", "dog"))):
        photo(tmp_path / part / "a.png", number=len(part))
        content = coco(entry(category_id=len(names)), names=names)
        write_json(tmp_path / part / "_annotations.coco.json", content)
    code, found = look(tmp_path)
    assert (code, found["usable"]) == (2, False)
    assert "write one list for all" in found["refused"][0]["reason"]
    wrong = [entry(k, bbox=[1, 1, 0, 5]) for k in range(2, 4)]
    code, found = look(coco_folder(tmp_path / "half", coco(entry(), *wrong)))
    assert (code, len(found["refused"])) == (1, 2)
    assert "more than half of the objects are left out: 2" in found["notes"]
