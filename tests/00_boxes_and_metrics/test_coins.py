"""The example photo, its detector, and the figures."""

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest

import coins
import sliders
from coins import NUM_COINS, correlate_discs, detect_coins, load_coins
from common.mask_boxes import masks_to_boxes_xyxy
from drawing import (
    draw_boxes,
    draw_deltas,
    draw_kept,
    draw_map,
    draw_masks,
    draw_pair,
    draw_photo,
    draw_precision_recall,
    panels,
)
from metrics import overlaps, precision_recall


def test_the_coins_are_outlined():
    image, masks = load_coins()
    assert masks.shape == (NUM_COINS, *image.shape) and masks.dtype == bool
    assert masks.sum(axis=0).max() == 1  # no two overlap
    assert image[masks.any(axis=0)].mean() > 2 * image[~masks.any(axis=0)].mean()


def test_another_number_of_coins_is_refused(monkeypatch):
    monkeypatch.setattr(coins, "SMALLEST_AREA", 1500)
    with pytest.raises(ValueError, match=r"\d+ coins were outlined; the photo has 24"):
        load_coins()


def test_a_drawn_disc_is_found_where_it_is():
    y, x = np.mgrid[:120, :150]
    image = np.where(np.hypot(y - 60, x - 70) <= 20, 200, 20).astype(np.uint8)
    boxes, scores = detect_coins(image)
    assert boxes[0].tolist() == [50, 40, 91, 81]  # pixels 50 to 90, 40 to 80
    assert scores[0] == pytest.approx(1)


def test_all_coins_are_found():
    image, masks = load_coins()
    boxes, scores = detect_coins(image, score_threshold=0.7)
    iou = overlaps(boxes, masks_to_boxes_xyxy(masks))
    assert len(boxes) == NUM_COINS and (iou.max(axis=0) > 0.75).all()
    assert (np.diff(scores) <= 0).all()
    candidates, _ = correlate_discs(image, 0.7)
    assert len(candidates) > 10 * NUM_COINS
    assert len(correlate_discs(image, 0.999)[0]) == 0


def test_figures_are_drawn_on_the_given_axes():
    fig, ax = plt.subplots()
    assert draw_photo(ax, np.zeros((4, 5), np.uint8)) is ax
    assert len(draw_boxes(ax, [[0, 0, 2, 2], [1, 1, 3, 3]]).patches) == 2
    assert "IoU 0.14" in draw_pair(ax, (0, 0, 2, 2), (1, 1, 3, 3)).get_title()
    assert len(draw_map(ax, np.arange(6).reshape(2, 3), (0, 0, 1, 1)).texts) == 6
    curve = precision_recall(np.array([0.9, 0.8]), np.array([True, False]), 2)
    assert draw_precision_recall(ax, *curve, np.arange(11) / 10).get_xlabel() == "recall"
    plt.close(fig)


def test_panels_are_wide_enough_and_the_figure_is_not_too_wide():
    for rows, columns, shape in ((1, 1, (1,)), (1, 3, (3,)), (2, 2, (2, 2))):
        axes = panels(rows, columns, height=2)
        assert axes.shape == shape
        figure = axes.flat[0].figure
        width = figure.get_figwidth()
        assert width <= 10 and width * figure.dpi / columns >= 300
        plt.close(figure)


def test_removed_boxes_are_dotted_and_named():
    fig, ax = plt.subplots()
    draw_kept(ax, [[0, 0, 9, 9], [1, 1, 9, 9]], ["rider", "horse"], [1], "NMS")
    assert [box.get_linestyle() for box in ax.patches] == [":", "solid"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["rider", "horse"]
    assert ax.get_title() == "NMS"
    plt.close(fig)


def test_deltas_and_masks_are_drawn():
    fig, ax = plt.subplots()
    draw_deltas(ax, (0, 0, 10, 20), (5, 0, 25, 20), (1, 0, np.log(2), 0))
    assert ax.get_title() == "tx 1, ty 0, tw 0.693, th 0" and len(ax.patches) == 2
    masks = np.zeros((3, 4, 5), dtype=bool)
    masks[0, 0], masks[1, 1], masks[2, 2] = True, True, True
    overlay = draw_masks(ax, masks).images[-1].get_array()
    assert len({tuple(overlay[k, 0]) for k in range(3)}) == 3  # a colour for each
    assert overlay[3, 0, 3] == 0  # and none outside
    plt.close(fig)


def test_pictures_stand_still_where_asked(monkeypatch):
    monkeypatch.setenv(sliders.STILL_PICTURES, "1")
    seen = []
    assert sliders.explore(lambda ax, shift: seen.append(shift), shift=(3, 0, 10)) is None
    assert seen == [3]
    assert not plt.get_fignums()


def test_sliders_draw_again_when_moved(monkeypatch):
    monkeypatch.delenv(sliders.STILL_PICTURES, raising=False)
    seen = []
    widget = sliders.explore(lambda ax, iou_threshold: seen.append(iou_threshold),
                             iou_threshold=(0.5, 0, 1))  # fmt: skip
    slider = widget.children[0]
    assert isinstance(slider, ipywidgets.FloatSlider)
    assert (slider.value, slider.min, slider.max) == (0.5, 0, 1)
    assert slider.description == "iou threshold"
    slider.value = 0.7
    widget.update()
    assert seen[-1] == 0.7


def test_a_slider_begins_inside_its_range():
    with pytest.raises(ValueError, match="shift begins at 11; allowed is 0 to 10"):
        sliders.explore(print, shift=(11, 0, 10))
