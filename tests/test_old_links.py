"""What people have linked to stays reachable: headings and notebooks of the first edition.

A heading that is gone has its anchor in an `<a id="...">` beside what took its place.
"""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from test_links import anchors  # noqa: E402

HEADINGS = {
    "README.md": """
        beyond-image-classification-object-detection-and-segmentation-with-pytorch start
        list-of-examples--description-points introduction overview-and-file-structure
        how-to-use-this dependencies object-detection-general-notes boxes-and-iou anchors
        non-maximum-suppression the-r-cnn-family faster-r-cnn mask-r-cnn yolo-you-only-look-once
        metrics choosing-a-model semantic-segmentation-general-notes fcn u-net deeplab losses
        metrics-of-segmentation improvements-and-possible-extensions interesting-links authorship
        """,
    "assets/README.md": "assets predictions the-figures",
    "literature/README.md": """
        literature order-of-reading object-detection the-r-cnn-family detectors-of-one-step
        semantic-segmentation backbones data-sets-and-their-metrics outlook smaller-pieces
        from-the-papers-to-the-code
        """,
}
NOTEBOOKS = {
    "00_boxes_and_metrics": "boxes_and_metrics",
    "01_mask_r_cnn_fine_tuning": "faster_r_cnn_custom_classes mask_r_cnn_fine_tuning",
    "02_yolo_v3_darknet": "yolo_v3_darknet yolo_v3_training",
    "03_semantic_segmentation": "semantic_segmentation",
}


@pytest.mark.parametrize("page", HEADINGS)
def test_old_headings_are_reachable(page: str) -> None:
    lost = set(HEADINGS[page].split()) - anchors(ROOT / page)
    assert not lost, f'{page} has no heading and no <a id="..."> for {sorted(lost)}'


@pytest.mark.parametrize("lesson", NOTEBOOKS)
def test_old_notebooks_are_where_they_were(lesson: str) -> None:
    names = [*NOTEBOOKS[lesson].split(), "exercises", "solutions"]
    lost = [name for name in names if not (ROOT / lesson / f"{name}.ipynb").is_file()]
    assert not lost
