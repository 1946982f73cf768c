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
    entry,
    photo,
    voc,
    voc_folder,
    write,
    write_json,
    yolo_folder,
)
from PIL import Image

import check_data

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
    notes = [one for one in notes_of(look, tmp_path) if "two parts" in one]
    pair = f"{tmp_path}/images/train/train.png of train and {tmp_path}/images/val/val.png of val"
    assert notes == [f"1 pictures stand in two parts, such as {pair}: the test is no test then"]
    assert notes_of(look, shutil.copytree(tmp_path / "images", tmp_path / "alone")) == []


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
