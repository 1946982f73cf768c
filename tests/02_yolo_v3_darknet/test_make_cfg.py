"""Edited cfg files: read by this lesson, by OpenCV's importer and by Darknet itself."""

import cv2
import numpy as np
import pytest
import torch
from darknet_library import DarknetLibrary

from darknet.make_cfg import main, make_cfg, write_cfg
from darknet.network import Darknet, DarknetFileError

ANCHORS = {
    6: [(8, 9.5), (15, 20), (30, 28), (55.25, 40), (70, 90), (120, 130)],
    9: [(5 * k, 6 * k) for k in range(1, 10)],
}
BASES = {"yolov3-tiny": 6, "yolov3": 9, "yolov3-spp": 9}


@pytest.fixture
def cfg(lesson_folder):
    return lambda name: lesson_folder / "darknet/networks" / f"{name}.cfg"


@pytest.mark.parametrize("base", BASES)
def test_the_five_places_are_edited(cfg, tmp_path, base):
    anchors = ANCHORS[BASES[base]]
    text = make_cfg(cfg(base), 3, anchors, (320, 352))
    write_cfg(tmp_path / "own.cfg", text)
    with torch.device("meta"):
        model = Darknet(tmp_path / "own.cfg")
        before = Darknet(cfg(base))
    net = model.blocks[0]
    assert (net.height, net.width) == (320, 352)
    for output in model.outputs:
        assert output.classes == 3
        flat = [value for pair in anchors for value in pair]
        assert output.anchors == pytest.approx(flat)
    assert [o.mask for o in model.outputs] == [o.mask for o in before.outputs]
    maps = [layer.in_shape for layer in model.layers if layer.kind == "yolo"]
    assert {shape[0] for shape in maps} == {24}
    same = zip(model.layers, before.layers, strict=True)
    changed = [a.index for a, b in same if a.parameters != b.parameters]
    assert changed == [layer.sources[0] for layer in model.layers if layer.kind == "yolo"]


def test_all_other_lines_and_comments_stay(cfg):
    before = cfg("yolov3-tiny").read_text().splitlines()
    after = make_cfg(cfg("yolov3-tiny"), 3, ANCHORS[6], 320).splitlines()
    assert len(before) == len(after)
    changed = {b: a for b, a in zip(before, after, strict=True) if a != b}
    assert changed == {
        "width=416": "width=320",
        "height=416": "height=320",
        "# 3 anchors x (4 box + 1 objectness + 80 classes) = 255 channels": (
            "# 3 anchors x (4 box + 1 objectness + 3 classes) = 24 channels"
        ),
        "filters=255": "filters=24",
        "classes=80": "classes=3",
        "anchors=10,14, 23,27, 37,58, 81,82, 135,169, 344,319": (
            "anchors=8,9.5, 15,20, 30,28, 55.25,40, 70,90, 120,130"
        ),
    }


def test_nothing_changes_for_the_same_classes(cfg):
    assert make_cfg(cfg("yolov3"), 80) == cfg("yolov3").read_text()


def test_editing_twice_equals_editing_once(cfg, tmp_path):
    once = make_cfg(cfg("yolov3-tiny"), 2, ANCHORS[6], 320)
    write_cfg(tmp_path / "first.cfg", make_cfg(cfg("yolov3-tiny"), 7, None, 608))
    assert make_cfg(tmp_path / "first.cfg", 2, ANCHORS[6], 320) == once


def test_blanks_comments_and_missing_keys(write_cfg):
    base = write_cfg(
        "[net]\n channels = 3\n\n# the end\n[convolutional]\nsize=1\nfilters = 50 \n"
        "activation=linear\n[yolo]\nmask = 0,1\nanchors = 3,4, 5,6\nnum=2\n; last\n"
    )
    assert make_cfg(base, 4, [(1, 2), (7, 8)], 64, scale_x_y=1.5) == (
        "[net]\n channels = 3\nwidth=64\nheight=64\n\n# the end\n[convolutional]\nsize=1\n"
        "filters=18\nactivation=linear\n[yolo]\nmask = 0,1\nanchors=1,2, 7,8\nnum=2\nclasses=4\n"
        "scale_x_y=1.5\n; last\n"
    )


def random_model(cfg, tmp_path, randomize, num_classes=3):
    path, weights = tmp_path / "own.cfg", tmp_path / "own.weights"
    write_cfg(path, make_cfg(cfg("yolov3-tiny"), num_classes, ANCHORS[6], 160))
    model = randomize(Darknet(path))
    model.save_weights(weights)
    return model, path, weights


def test_opencv_computes_the_same(cfg, tmp_path, randomize, relative_difference):
    model, path, weights = random_model(cfg, tmp_path, randomize)
    net = cv2.dnn.readNetFromDarknet(str(path), str(weights))
    image = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    net.setInput(image.numpy())
    names = [name for name in net.getLayerNames() if name.startswith("conv_")]
    heads = [f"conv_{layer.sources[0]}" for layer in model.layers if layer.kind == "yolo"]
    assert set(heads) <= set(names)
    with torch.inference_mode():
        ours = model(image)
    for raw, theirs in zip(ours, net.forward(heads), strict=True):
        assert relative_difference(raw, theirs) <= 1e-3


def test_darknet_reads_it(libdarknet, cfg, tmp_path, randomize):
    model, path, weights = random_model(cfg, tmp_path, randomize)
    theirs = DarknetLibrary(path, weights, 160, score_threshold=0.1, iou_threshold=0.45)
    photo = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    theirs.forward(theirs.preprocess(photo))
    found = theirs.postprocess(160, 160)
    assert found and {c for c, _, _ in found} <= {0, 1, 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be from 1 to 10000, got 0"),
        ({"size": 300}, "size must be a multiple of 32, from 32 to 4096, got 300"),
        ({"size": (320, 0)}, "size must be a multiple of 32, .* got 0"),
        ({"anchors": [(1, 2)] * 9}, r"anchors must be 6 pairs as in .*tiny\.cfg, got 9"),
        ({"anchors": [(1, 2)] * 5 + [(0, 1)]}, r"anchors, row 5: \[0.0, 1.0\] must be finite"),
        ({"scale_x_y": 3.0}, "scale_x_y must be from 1 to 2, got 3.0"),
    ],
)
def test_arguments_that_are_not_allowed(cfg, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_cfg(cfg("yolov3-tiny"), **{"num_classes": 3, **arguments})


def test_bases_that_cannot_be_used(write_cfg, tmp_path):
    with pytest.raises(DarknetFileError, match=r"none\.cfg: cannot be read"):
        make_cfg(tmp_path / "none.cfg", 3)
    with pytest.raises(DarknetFileError, match=r"has no \[yolo\] block, it is no detector"):
        make_cfg(write_cfg("[net]\n[convolutional]\nfilters=2\n"), 3)
    text = "[net]\n[convolutional]\nfilters=7\n[upsample]\n[yolo]\nmask=0\nanchors=1,2\nnum=1\n"
    with pytest.raises(DarknetFileError, match=r"line 5: a \[yolo\] block must follow a \[conv"):
        make_cfg(write_cfg(text), 3)


def test_the_command(cfg, tmp_path, capsys):
    out = tmp_path / "own.cfg"
    pairs = "8,9.5 15,20 30,28 55.25,40 70,90 120,130".split()
    base = str(cfg("yolov3-tiny"))
    rest = ["--classes", "3", "--size", "320", "--out", str(out)]
    assert main([base, *rest, "--anchors", *pairs]) == 0
    assert out.read_text() == make_cfg(base, 3, ANCHORS[6], 320)
    assert "3 classes" in capsys.readouterr().out
    assert main([base, "--classes", "0", "--out", str(tmp_path / "none.cfg")]) == 2
    assert "num_classes must be from 1" in capsys.readouterr().err
    assert not (tmp_path / "none.cfg").exists()
    with pytest.raises(SystemExit, match="2"):
        main([base, *rest, "--anchors", "8x9"])
    assert "'8x9' must be WIDTH,HEIGHT in pixels" in capsys.readouterr().err
