"""Measured figures of the READMEs are those of their sources: notebooks and stored comparisons.

A claim is a piece of a README with gaps, and what fills the gaps. Where a source moves, the text
has to move with it. What is computed and not measured is in `test_notes.py`.
"""

import json
import re
from dataclasses import dataclass
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from statistics import mean

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
BOXES, MASK_RCNN = "00_boxes_and_metrics", "01_mask_r_cnn_fine_tuning"
YOLO, SEMANTIC, DETR = "02_yolo_v3_darknet", "03_semantic_segmentation", "04_detr"
COINS = f"{BOXES}/boxes_and_metrics.ipynb"
MASKS = f"{MASK_RCNN}/mask_r_cnn_fine_tuning.ipynb"
CLASSES = f"{MASK_RCNN}/faster_r_cnn_custom_classes.ipynb"
TRAINING = f"{YOLO}/yolo_v3_training.ipynb"
PIXELS = f"{SEMANTIC}/semantic_segmentation.ipynb"
QUERIES = f"{DETR}/detr.ipynb"

SIX = r"^all +" + r" +".join([r"(\d\.\d{3})"] * 6)
THREE = r"^all +(\d\.\d{3}) +(\d\.\d{3}) +(\d\.\d{3})$"
STEPS = r"^\d+ steps in (\d+) s$(?s:.*?)"  # of training, before what follows
PUBLISHED = {"0.799", "0.761"}  # torchvision's tutorial in its first edition


@cache
def printed(notebook: str) -> str:
    """Return all text that a stored notebook has put out."""
    cells = nbformat.read(ROOT / notebook, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    texts = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs]
    return "\n".join(texts)


@cache
def text_of(source: str) -> str:
    """Return what a source says: the outputs of a notebook, the words of a README."""
    if source.endswith(".ipynb"):
        return printed(source)
    return (ROOT / source).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Claim:
    """A piece of text; each {} is filled with a group of the pattern in the source."""

    page: str
    text: str
    source: str
    pattern: str

    def expected(self) -> str:
        """Return the piece of text with the source's numbers."""
        found = re.search(self.pattern, text_of(self.source), re.MULTILINE)
        assert found, f"{self.source} does not say {self.pattern!r} any more"
        return self.text.format(*found.groups())


def minutes(lesson: str, pattern: str) -> str:
    """Return the whole minutes of a notebook, from the seconds in its lesson's README."""
    seconds = re.search(pattern, text_of(f"{lesson}/README.md"))
    assert seconds, f"{lesson}/README.md does not say {pattern!r} any more"
    return f"{round(int(seconds[1]) / 60)}"


# thousands, then the rest: found, true, right
NUCLEI = r"(\d)(\d{3}) found of (\d)(\d{3}), (\d)(\d{3}) right, F1 (\S+)"
SCRATCH = r"`unet`, from scratch \| (0\.\d{3})"  # by the command; the notebook trains one network
ROOT_CLAIMS = [
    ("equal pycocotools' to {}.", f"{BOXES}/README.md", r"evaluation .*\| (2\.2e-16) of all"),
    (
        "{} to {} seconds; it trains nothing",
        f"{BOXES}/README.md",
        r"seconds, all cells \| (\d+) to (\d+) ",
    ),
    ("boxes AP {0}, masks AP {3}; seven", MASKS, SIX),
    ("own classes: boxes AP {0}, AP50 {1}.", CLASSES, THREE),
    ("trained: AP {0}, AP50 {1}.", TRAINING, THREE),
    ("<br>{} seconds and", f"{YOLO}/README.md", r"notebook on detection.*\| (\d+) s \|"),
    ("mean IoU {} pretrained,", PIXELS, r"^mean IoU (\d\.\d{3}), pixel"),
    (", {} from scratch.<br>", f"{SEMANTIC}/README.md", SCRATCH),
    ("boxes of five classes: AP {0}, AP50 {1}.", QUERIES, THREE),
    ("AP {1}, AP50 {0} on blood cells", f"{YOLO}/README.md", r"AP50 (\S+), AP (\S+) in 488 s"),
    ("measured: AP {0}, AP50 {1} on drawn scenes, 7", CLASSES, THREE),
    (
        "measured: AP {0}, AP50 {1} on drawn scenes, 5",
        f"{DETR}/README.md",
        r"--epochs 7`.* \| AP (\S+), AP50 (\S+) in \d+ s",
    ),
    ("boxes AP {0}, masks AP {3} on drawn scenes;", MASKS, SIX),
    (
        "; {0} and {1} on 50 photos of Penn-Fudan, mean of three seeds",
        f"{MASK_RCNN}/README.md",
        r"`photos`, Penn-Fudan: .*50 to test \| (\S+) \(.*?\) \| .*? \| (\S+) \(",
    ),
    ("measured: mean IoU {} on drawn scenes", PIXELS, r"^mean IoU (\d\.\d{3}), pixel"),
    ("measured: mean IoU {} |", f"{SEMANTIC}/README.md", SCRATCH),
    ("best IoU of that class, {};", PIXELS, r"^weighted cross-entropy +(\S+)"),
    ("; cross-entropy + Dice has {},", PIXELS, r"^cross-entropy \+ Dice +(\S+)"),
    ("Dice alone {},", PIXELS, r"^Dice +(\S+)"),
    ("focal {},", PIXELS, r"^focal +(\S+)"),
    ("best pixel accuracy, {}.", PIXELS, r"^cross-entropy +0\.000 +(\S+)"),
    ("never finds a person, {} % of the", PIXELS, r"^blind to people only +0\.(\d\d)"),
    ("has a mean IoU of {},", PIXELS, r"^blind to people only +\S+ +(\S+)"),
    ("more than the {} of the U-Net", f"{SEMANTIC}/README.md", SCRATCH),
]
LESSON_CLAIMS = [
    Claim(
        f"{BOXES}/README.md",
        "AP of one disc / of nine discs on the coins | {} / {} |",
        COINS,
        r"^one size +AP50.* AP (\S+)$(?s:.*?)^nine sizes AP50.* AP (\S+)$",
    ),
    Claim(f"{DETR}/README.md", "100 unseen scenes | AP {0}, AP50 {1} in ", QUERIES, THREE),
    Claim(f"{DETR}/README.md", " in {} s of training |", QUERIES, r"600 steps in (\d+) s"),
    Claim(f"{DETR}/README.md", "last decoder layer | {} |", QUERIES, r"^layer 3 +\S+ +\S+ +(\S+)"),
    Claim(
        f"{DETR}/README.md",
        "before any query has seen another | {} |",
        QUERIES,
        r"^selected places +\S+ +\S+ +(\S+)",
    ),
    Claim(
        f"{MASK_RCNN}/README.md",
        "100 unseen scenes with {} pedestrians",
        MASKS,
        r"^(\d+) pedestrians in 100 test pictures",
    ),
    Claim(
        f"{MASK_RCNN}/README.md",
        "| Mask R-CNN, pedestrians | {1} | {2} | {3} | {4} | {5} | {6} | {0} s |",
        MASKS,
        STEPS + SIX,
    ),
    Claim(
        f"{MASK_RCNN}/README.md",
        "| Faster R-CNN, seven own classes | {1} | {2} | {3} | | | | {0} s |",
        CLASSES,
        STEPS + THREE,
    ),
    Claim(f"{YOLO}/README.md", "| AP {0}, AP50 {1} in ", TRAINING, THREE),
    Claim(
        f"{YOLO}/README.md", " in {} s of training and measuring", TRAINING, r"steps, (\d+) s of"
    ),
    Claim(
        f"{YOLO}/README.md",
        "at each IoU from {0} to {2} | {1} at each of the six,",
        TRAINING,
        r"^IoU (0\.\d\d): AP (\S+)\n(?:IoU \S+: AP \2\n){4}IoU (\S+): AP \2$",
    ),
    Claim(
        f"{SEMANTIC}/README.md",
        "| `smp_unet`, pretrained, unchanged | {2} | {1} | {0} s |",
        PIXELS,
        STEPS + r"^person +(0\.\d{3})$(?s:.*?)^mean IoU (\d\.\d{3}), pixel",
    ),
    Claim(
        f"{SEMANTIC}/README.md",
        "never finds a person would have {} on these scenes, and an IoU of 0 for",
        PIXELS,
        r"^blind to people only +\S+ +(\S+) +0\.000",
    ),
    Claim(
        f"{SEMANTIC}/README.md",
        "all 150, patches | {2},{3} | {0},{1} | {4},{5} | {6} |",
        PIXELS,
        r"^patches +" + NUCLEI,
    ),
    Claim(
        f"{SEMANTIC}/README.md",
        "cut apart by the watershed | {2},{3} | {0},{1} | {4},{5} | {6} |",
        PIXELS,
        r"^watershed +" + NUCLEI,
    ),
    Claim(
        f"{SEMANTIC}/README.md",
        "shows {0},{1} patches in place of {2},{3} nuclei",
        PIXELS,
        r"^patches +" + NUCLEI,
    ),
]
CLAIMS = [Claim("README.md", *claim) for claim in ROOT_CLAIMS] + LESSON_CLAIMS

# Stored comparison: its metrics in the order of the table's columns, the first cell of each arm.
TABLES = {
    f"{MASK_RCNN}/results/backbones.json": (
        ("bbox.AP", "segm.AP"),
        {
            "efficientnet_lite0": "EfficientNet-Lite0, the preset `street`",
            "live batch norm": "the same with live batch norm",
            "mobilenet_v2": "torchvision's MobileNetV2",
        },
    ),
    f"{MASK_RCNN}/results/pictures.json": (
        ("bbox.AP", "bbox.AP50"),
        {"10": "10 scenes", "30": "30", "100": "100", "300": "300"},
    ),
    f"{SEMANTIC}/results/skips.json": (
        ("mean_iou", "near", "far"),
        {"with skips": "with skips", "without": "without skips"},
    ),
    f"{SEMANTIC}/results/deeplab.json": (
        ("mean_iou", "near", "far"),
        {"U-Net": "U-Net, pretrained", "DeepLabV3+": "DeepLabV3+, pretrained"},
    ),
    f"{SEMANTIC}/results/pretraining.json": (
        ("mean_iou", "near", "far"),
        {"pretrained": "200 steps from ImageNet's weights", "from scratch": "125 from random ones"},
    ),
    f"{SEMANTIC}/results/augmentation.json": (
        ("mean_iou", "near", "far"),
        {
            "nothing": "64 scenes as they are",
            "flip": "mirrored",
            "flip, colours": "mirrored, other colours",
            "flip, colours, scale": "mirrored, other colours and sizes",
        },
    ),
    f"{SEMANTIC}/results/nuclei.json": (
        ("per_class.nucleus", "instances.connected.f1", "instances.separated.f1"),
        {"preset": "the preset `nuclei`"},
    ),
    f"{SEMANTIC}/results/rare.json": (
        ("per_class.dog", "pixel_accuracy"),
        {
            name: name
            for name in (
                "cross-entropy",
                "weighted cross-entropy",
                "Dice",
                "focal",
                "cross-entropy + Dice",
            )
        },
    ),
    f"{DETR}/results/ideas.json": (
        ("bbox.AP", "bbox.AP50", "stages.layer 3.suppressed"),
        {
            name: name
            for name in (
                "DETR of 2020",
                "+ three maps",
                "+ query selection",
                "+ refinement",
                "+ denoising",
            )
        },
    ),
    f"{DETR}/results/longer.json": (
        ("bbox.AP", "bbox.AP50", "stages.selected places.AP", "stages.layer 3.suppressed"),
        {name: name for name in ("600 steps", "1,500 steps", "1,500 steps, denoising")},
    ),
    f"{YOLO}/results/ideas.json": (
        ("bbox.AP", "bbox.AP50", "bbox.AP75"),
        {
            name: name
            for name in ("published", "several anchors", "complete IoU", "moving average", "mosaic")
        },
    ),
}


def row_of(results: dict, arm: str, metrics: tuple[str, ...], label: str) -> str:
    """Return the row of a table: each metric's mean over the seeds, the lowest and the highest."""
    cells = [label]
    for metric in metrics:
        values = [
            reduce(getitem, metric.split("."), run) for run in results["runs"] if run["arm"] == arm
        ]
        spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
        cells.append(f"{mean(values):.3f}{spread}")
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.page[:9]} {claim.text[:40]}")
def test_the_text_says_what_its_source_says(claim: Claim) -> None:
    expected = claim.expected()
    assert expected in text_of(claim.page), f"{claim.page} should say: {expected}"


@pytest.mark.parametrize("path", TABLES)
def test_a_table_is_that_of_the_stored_comparison(path: str) -> None:
    results = json.loads((ROOT / path).read_text(encoding="utf-8"))
    metrics, labels = TABLES[path]
    assert {run["arm"] for run in results["runs"]} == set(labels)
    page = f"{path.split('/')[0]}/README.md"
    for arm, label in labels.items():
        assert row_of(results, arm, metrics, label) in text_of(page)


def test_three_seeds_of_the_preset_street() -> None:
    results = json.loads((ROOT / MASK_RCNN / "results/backbones.json").read_text(encoding="utf-8"))
    metrics = ("bbox.AP", "bbox.AP50", "segm.AP", "segm.AP50")
    row = row_of(results, "efficientnet_lite0", metrics, "`street`")
    assert row in text_of(f"{MASK_RCNN}/README.md")


def test_accuracies_of_the_engines() -> None:
    results = json.loads((ROOT / YOLO / "results/engines.json").read_text(encoding="utf-8"))
    page = text_of(f"{YOLO}/README.md")
    table = re.findall(r"^\| (\w+) \| (\w+) \|.* ms.*\| (\S+), (\S+) \|$", page, re.MULTILINE)
    stored = {
        run["arm"]: tuple(f"{run['bbox'][metric]:.3f}" for metric in ("AP", "AP50"))
        for run in results["runs"]
    }
    assert {f"{name}-{kind}".lower(): (ap, ap50) for name, kind, ap, ap50 in table} == stored


def test_pictures_and_seconds_of_the_nuclei() -> None:
    runs = json.loads(text_of(f"{SEMANTIC}/results/nuclei.json"))["runs"]
    (parts,) = {tuple(run["pictures"].values()) for run in runs}
    page, seconds = text_of(f"{SEMANTIC}/README.md"), [run["seconds"] for run in runs]
    assert f"{parts[0]} pictures to learn from, {parts[2]} unseen ones" in page
    assert f"Training took {min(seconds):.0f} to {max(seconds):.0f} s." in page


def test_minutes_of_the_lessons_table() -> None:
    rows = re.findall(r"^\|.*<br>.*\|$", text_of("README.md"), re.MULTILINE)
    masks = minutes(MASK_RCNN, r"Mask R-CNN, pedestrians .*\| (\d+) s \|\n")
    classes = minutes(MASK_RCNN, r"Faster R-CNN, seven own classes .*\| (\d+) s \|\n")
    assert f"<br>{masks} and {classes} minutes" in rows[1]
    training = minutes(YOLO, r"whole training notebook, there.* \| (\d+) s \|")
    assert f" and {training} minutes" in rows[2]
    pixels = minutes(SEMANTIC, r"whole notebook, .*\| (\d+) s \|")
    assert f"<br>{pixels} minutes" in rows[3]
    queries = minutes(DETR, r"the whole notebook \| (\d+) s \|")
    assert f"<br>{queries} minutes" in rows[4]


def test_every_measured_figure_of_the_root_readme_has_a_source() -> None:
    page, computed = text_of("README.md"), text_of("tests/test_notes.py")
    said = "\n".join(claim.expected() for claim in CLAIMS if claim.page == "README.md")
    figures = set(re.findall(r"(?<![\d.])0\.\d{3}(?!\d)", page)) - PUBLISHED
    unknown = sorted(figure for figure in figures if figure not in said + computed)
    assert not unknown, f"no test says where these are from: {unknown}"


def test_another_number_is_noticed() -> None:
    claim = Claim("README.md", "AP {}", "README.md", "boxes AP (0.636)")
    assert claim.expected() == "AP 0.636"
    with pytest.raises(AssertionError, match="does not say"):
        Claim("README.md", "AP {}", "README.md", "no such words").expected()
    results = {"runs": [{"arm": "a", "bbox": {"AP": value}} for value in (0.1, 0.2, 0.6)]}
    assert row_of(results, "a", ("bbox.AP",), "A") == "| A | 0.300 (0.100 to 0.600) |"
