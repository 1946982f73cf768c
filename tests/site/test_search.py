"""The search finds the right page for the words that a learner would type."""

from typing import Any
from urllib.parse import quote

import pytest

YOLO, UNET = "02_yolo_v3_darknet/", "03_semantic_segmentation/"

EXPECTED = {
    "IoU": "chapters/boxes-and-iou",
    "GIoU": "chapters/boxes-and-iou",
    "anchor": "chapters/anchors",
    "letterbox": YOLO,
    "RoIAlign": "chapters/the-r-cnn-family",
    "NMS": "chapters/non-maximum-suppression",
    "Soft-NMS": "chapters/non-maximum-suppression",
    "mAP": "chapters/metrics",
    "average precision": "chapters/metrics",
    "region proposal network": "chapters/faster-r-cnn",
    "Mask R-CNN": "chapters/mask-r-cnn",
    "YOLO": "chapters/yolo-you-only-look-once",
    "feature pyramid": "chapters/the-r-cnn-family",
    "U-Net": "chapters/u-net",
    "atrous": "chapters/deeplab",
    "dice": "chapters/metrics-of-segmentation",
    "dice loss": "chapters/losses",
    "focal loss": "chapters/losses",
    "confusion matrix": "chapters/metrics-of-segmentation",
    "mean IoU": "chapters/metrics-of-segmentation",
    "skip connections": "chapters/fcn",
    "semantic segmentation": "chapters/semantic-segmentation-general-notes",
    "box_iou": "functions/00_boxes_and_metrics",
}


@pytest.fixture(scope="module")
def tab(browser: Any) -> Any:
    """One tab for all searches."""
    page = browser.new_page()
    yield page
    page.close()


@pytest.mark.parametrize("term", EXPECTED)
def test_right_page_is_among_the_first_three(term: str, tab: Any, address: str) -> None:
    tab.goto(f"{address}search.html?q={quote(term)}")
    tab.wait_for_selector("#search-results li a")
    tab.wait_for_function("!document.querySelector('#search-progress')?.textContent.endsWith('.')")
    links = tab.eval_on_selector_all("#search-results li > a", "list => list.map(a => a.href)")
    first = [link.removeprefix(address) for link in links[:3]]
    assert any(link.startswith(EXPECTED[term]) for link in first), first
