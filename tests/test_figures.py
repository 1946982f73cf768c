"""The figures in assets/ are those that the lessons' code draws today, and each one is used.

Two machines do not draw the same bytes: letters and edges differ by fractions of a pixel from one
version of matplotlib or freetype to the next. So an SVG is compared by its words, which must be
equal, and by the colour and the surrounding box of every shape; a PNG by its words, which are
stored in it, and by the mean colours of small squares.
"""

import io
import re
import sys
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "assets"
sys.path.append(str(ASSETS))  # the scripts there import one another by bare name

import make_figures  # noqa: E402
import street_scene  # noqa: E402
from lesson_modules import BOXES, YOLO, Lesson  # noqa: E402

MAKERS = make_figures.MAKERS
TOLERANCE = 2.5  # points of an SVG's 518
SQUARE = 12  # pixels of the squares of a PNG that are compared
LARGEST_COLOR_DIFFERENCE = 24  # of 255, in any square: palettes differ a little, contents more
LARGEST_PNG, LARGEST_SVG = 150_000, 150_000  # bytes
SMALLEST_LETTERS = 9  # pixels, on a phone that shows a figure 360 pixels wide
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)|<img\b([^>]*)>")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def words(content: bytes) -> list[str]:
    """Return what is written in a figure; in an SVG matplotlib notes it beside the outlines."""
    if content.startswith(b"\x89PNG"):
        return Image.open(io.BytesIO(content)).text["words"].split("\n")
    return re.findall(r"<!-- (.*?) -->", content.decode(), re.DOTALL)


def shapes(content: bytes) -> list[tuple[str, np.ndarray]]:
    """Return colours and the surrounding box of every shape of an SVG that is no letter."""
    found = []

    def visit(element: ElementTree.Element) -> None:
        kind = element.tag.rpartition("}")[2]
        if kind == "defs" or element.get("id", "").startswith("text_"):
            return
        style = element.get("style", "")
        paint = ";".join(re.findall(r"(?:fill|stroke): ?[^;]+", style))
        if kind == "path" and element.get("d"):
            points = np.array(NUMBER.findall(element.get("d", "")), float).reshape(-1, 2)
            found.append((paint, np.concatenate((points.min(0), points.max(0)))))
        elif kind == "use":
            place = [float(element.get(name, "0")) for name in ("x", "y")]
            found.append((paint, np.array(place * 2)))
        for child in element:
            visit(child)

    visit(ElementTree.fromstring(content))
    return found


def svg_difference(stored: bytes, drawn: bytes) -> str:
    """Say how two SVGs differ in what they show; an empty string when they do not."""
    if words(stored) != words(drawn):
        return f"words: {set(words(stored)) ^ set(words(drawn))}"
    first, second = shapes(stored), shapes(drawn)
    if [paint for paint, _ in first] != [paint for paint, _ in second]:
        return f"{len(first)} and {len(second)} shapes, or other colours"
    moved = max(np.abs(a - b).max() for (_, a), (_, b) in zip(first, second, strict=True))
    return f"a shape moved by {moved:.1f} points" if moved > TOLERANCE else ""


def png_difference(stored: bytes, drawn: bytes) -> str:
    """Say how two PNGs differ in what they show; an empty string when they do not."""
    if words(stored) != words(drawn):
        return f"words: {set(words(stored)) ^ set(words(drawn))}"
    first, second = (Image.open(io.BytesIO(content)).convert("RGBA") for content in (stored, drawn))
    if first.size != second.size:
        return f"sizes {first.size} and {second.size}"
    small = (first.width // SQUARE, first.height // SQUARE)
    squares = [
        np.asarray(one.resize(small, Image.Resampling.BOX), float) for one in (first, second)
    ]
    largest = np.abs(squares[0] - squares[1]).max()
    return f"a square differs by {largest:.0f}" if largest > LARGEST_COLOR_DIFFERENCE else ""


def difference(stored: bytes, drawn: bytes) -> str:
    return (png_difference if drawn.startswith(b"\x89PNG") else svg_difference)(stored, drawn)


@cache
def pages() -> dict[Path, str]:
    """The pages that may show figures: all READMEs."""
    paths = [ROOT / "README.md", *ROOT.glob("[0-9l]*/README.md")]
    return {path: path.read_text(encoding="utf-8") for path in paths}


def pictures(page: Path) -> dict[str, str]:
    """Return the pictures of a page that lie in assets/: file name and alternative text."""
    found = {}
    for text, target, attributes in PICTURE.findall(pages()[page]):
        if attributes:
            target = re.search(r"src=[\"']([^\"']+)", attributes)[1]
            text = (re.search(r"alt=[\"']([^\"']*)", attributes) or ["", ""])[1]
        if (page.parent / target).resolve().parent == ASSETS:
            found[Path(target).name] = text
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_the_stored_figure_is_what_the_code_draws(name: str) -> None:
    problem = difference((ASSETS / name).read_bytes(), MAKERS[name].save())
    assert not problem, f"{name}: {problem}; run `make figures` and look at it"


def test_there_are_no_other_figures() -> None:
    stored = {path.name for path in ASSETS.iterdir() if path.suffix in {".svg", ".png", ".jpg"}}
    assert stored == set(MAKERS)


@pytest.mark.parametrize("name", MAKERS)
def test_each_figure_is_shown_and_described(name: str) -> None:
    texts = [shown[name] for page in pages() if name in (shown := pictures(page))]
    assert texts, "no page shows it"
    for text in texts:
        assert len(text) >= 25, f"the alternative text {text!r} says too little"


@pytest.mark.parametrize("name", MAKERS)
def test_each_figure_is_listed_with_maker_and_licence(name: str) -> None:
    listed = (ASSETS / "README.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| \[{re.escape(name)}\]\({re.escape(name)}\) \|(.*)\|$", listed, re.M)
    assert row, "assets/README.md does not list it"
    maker, _, licence = row[1].split(" | ")
    script, function = re.search(r"\]\((\w+\.py)\) `(\w+)`", maker).groups()
    assert f"\ndef {function}(" in (ASSETS / script).read_text(encoding="utf-8")
    assert licence.strip().startswith("MIT")


@pytest.mark.parametrize("name", MAKERS)
def test_size_of_file_and_of_letters(name: str) -> None:
    content = (ASSETS / name).read_bytes()
    assert len(content) <= (LARGEST_PNG if name.endswith(".png") else LARGEST_SVG)
    if name.endswith(".svg"):
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', content.decode())[1])
        scales = re.findall(r"scale\(([\d.]+) -[\d.]+\)", content.decode())  # of 100-point letters
        assert scales, "a figure without words"
        assert b"<image" not in content, "GitHub does not show pictures inside an SVG"
        assert min(map(float, scales)) * 100 * 360 / width >= SMALLEST_LETTERS


def test_other_contents_are_noticed() -> None:
    stored = (ASSETS / "iou_dice.svg").read_bytes()
    assert difference(stored, stored) == ""
    assert "words" in difference(stored, stored.replace(b"<!-- IoU J", b"<!-- IoU K"))
    assert "colours" in difference(stored, stored.replace(b"#0072b2", b"#0072b3"))
    line = re.search(rb'<path d="M ([\d.]+ [\d.]+)\s+L[^"]*" clip-path', stored)
    moved = stored[: line.start(1)] + b"999 999" + stored[line.end(1) :]
    assert "moved" in difference(stored, moved)
    content = (ASSETS / "lesson_00.png").read_bytes()
    picture = Image.open(io.BytesIO(content))
    pixels = np.asarray(picture.convert("RGBA")).copy()
    pixels[100:124, 100:124, :3] = (255, 0, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=_words_of(picture))
    assert "square" in difference(content, buffer.getvalue())
    assert difference(content, content) == ""


def _words_of(picture: Image.Image) -> PngImagePlugin.PngInfo:
    about = PngImagePlugin.PngInfo()
    about.add_itxt("words", picture.text["words"])
    return about


def test_lessons_are_kept_apart() -> None:
    first, second = BOXES.load("boxes"), YOLO.load("boxes")
    assert first is not second
    assert BOXES.load("boxes") is first
    assert "boxes" not in sys.modules
    assert not any(entry.endswith("02_yolo_v3_darknet") for entry in sys.path)
    with pytest.raises(ValueError, match="99_nothing is no folder of"):
        Lesson("99_nothing")
    with pytest.raises(ModuleNotFoundError, match="no_such_script"):
        BOXES.load("no_such_script")


def test_predictions_of_another_scene_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "predictions.json"
    path.write_bytes(street_scene.PREDICTIONS.read_bytes())
    assert street_scene.predictions(path)["scene"]["seed"] == street_scene.SCENE_SEED
    street_scene.predictions.cache_clear()
    monkeypatch.setattr(street_scene, "scene", lambda: _Gray)
    with pytest.raises(street_scene.PredictionsError, match="is of another scene than"):
        street_scene.predictions(path)
    path.write_text("{}")
    with pytest.raises(street_scene.PredictionsError, match="cannot be used.*make them anew"):
        street_scene.predictions(path)


class _Gray:
    image = np.full((240, 320, 3), 128, np.uint8)


def test_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert make_figures.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(MAKERS)
    assert make_figures.main(["iou.svg", "--out", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["iou.svg"]
    with pytest.raises(SystemExit) as stopped:
        make_figures.main(["nothing.svg"])
    assert stopped.value.code == 2
    assert "no figure is called 'nothing.svg'" in capsys.readouterr().err
