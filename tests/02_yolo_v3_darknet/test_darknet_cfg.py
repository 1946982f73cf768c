"""Reading cfg files: values, defaults, equality with Darknet's own files, and every error."""

import dataclasses
import hashlib
import re
from pathlib import Path

import pytest

from darknet.cfg import (
    Convolutional,
    DarknetFileError,
    Maxpool,
    Net,
    Route,
    Shortcut,
    Upsample,
    Yolo,
    parse_cfg,
)
from darknet.layers import format_plan, plan_layers

DEBIAN_CFG = Path("/usr/share/darknet/cfg")
MODELS = ["yolov3-tiny", "yolov3", "yolov3-spp"]
NET = "[net]\nwidth=64\nheight=32\n"
YOLO = "[yolo]\nmask=0,1\nanchors=1,2,3,4,5,6\nnum=3\nclasses=2\n"


def test_values_defaults_and_comments(write_cfg):
    path = write_cfg(
        "# a comment\n;another\n[network]\n width = 6 4\nheight=32\nchannels=1\nbatch=7\n\n"
        "[conv]\nfilters=8\nsize=3\nstride=2\npad=1\npadding=9\nbatch_normalize=1\n"
        "activation=leaky\n[convolutional]\n[maxpool]\nstride=2\n[max]\nsize=2\n"
        "[upsample]\n[route]\nlayers=-1, 2,\n[shortcut]\nfrom=-3\n"
    )
    net, first, second, third, fourth, up, route, shortcut = parse_cfg(path)
    assert net == Net(line=3, width=64, height=32, channels=1, extra=(("batch", "7"),))
    assert first == Convolutional(
        line=9,
        filters=8,
        size=3,
        stride=2,
        pad=1,
        padding=9,
        batch_normalize=1,
        activation="leaky",
    )
    assert first.padding_pixels == 1  # pad=1 wins over padding
    assert second == Convolutional(line=17, filters=1, size=1, stride=1, activation="logistic")
    assert (third.window, third.padding_pixels, third.stride) == (2, 1, 2)
    assert (fourth.window, fourth.padding_pixels, fourth.stride) == (2, 1, 1)
    assert up == Upsample(line=22, stride=2)
    assert route == Route(line=23, layers=(-1, 2))
    assert shortcut == Shortcut(line=25, source=-3, activation="linear")
    assert isinstance(third, Maxpool)


def test_yolo_block(write_cfg):
    text = NET + "[convolutional]\nfilters=14\n" + YOLO + "scale_x_y=1.05\nignore_thresh=.7\n"
    output = parse_cfg(write_cfg(text))[-1]
    assert isinstance(output, Yolo)
    assert output.anchors_wh == ((1, 2), (3, 4))
    assert (output.classes, output.num, output.scale_x_y) == (2, 3, 1.05)
    assert output.extra == (("ignore_thresh", ".7"),)


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    path = tmp_path / "windows.cfg"
    path.write_bytes(b"\xef\xbb\xbf[net]\r\nwidth=64\r\n[maxpool]\r\nsize=2\r\n")
    assert parse_cfg(path)[0].width == 64


def slow_read(path):
    """Darknet's way of reading, as short as can be: blocks of text values."""
    blocks = []
    for raw in Path(path).read_text().splitlines():
        line = raw.replace(" ", "").replace("\t", "")
        if line.startswith("["):
            blocks.append((line, {}))
        elif line and line[0] not in "#;":
            key, value = line.split("=")
            blocks[-1][1][key] = value
    return blocks


@pytest.mark.parametrize("name", MODELS)
def test_our_cfg_equals_debians(lesson_folder, name):
    original = DEBIAN_CFG / f"{name}.cfg"
    if not original.is_file():
        pytest.skip(f"{original} is not installed")
    ours = parse_cfg(lesson_folder / f"darknet/networks/{name}.cfg")
    theirs = parse_cfg(original)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        plain, reference = (dataclasses.asdict(block) for block in (one, other))
        del plain["line"], reference["line"]
        plain_extra, reference_extra = dict(plain.pop("extra")), dict(reference.pop("extra"))
        assert (type(one), plain) == (type(other), reference)
        if not isinstance(one, Net):  # [net] says how Darknet trains; ours does not train there
            assert plain_extra == reference_extra


@pytest.mark.parametrize("name", MODELS)
def test_every_value_of_our_cfg_is_kept(lesson_folder, name):
    path = lesson_folder / f"darknet/networks/{name}.cfg"
    blocks = slow_read(path)
    for block, (title, entries) in zip(parse_cfg(path), blocks, strict=True):
        assert title == f"[{type(block).__name__.lower()}]"
        for key, text in entries.items():
            value = getattr(block, {"from": "source"}.get(key, key), dict(block.extra).get(key))
            if isinstance(value, tuple):
                assert [float(item) for item in text.split(",")] == list(value)
            else:
                assert str(value) == text or float(value) == float(text)


@pytest.mark.parametrize(
    ("name", "layers", "numbers", "grids"),
    [
        # the files of yolov3-tiny and yolov3 have 35,434,956 and 248,007,048 bytes, 20 are header
        ("yolov3-tiny", 24, (35_434_956 - 20) // 4, [13, 26]),
        ("yolov3", 107, (248_007_048 - 20) // 4, [13, 26, 52]),
        ("yolov3-spp", 114, (252_209_544 - 20) // 4, [13, 26, 52]),
    ],
)
def test_plans_of_the_three_networks(lesson_folder, name, layers, numbers, grids):
    plan = plan_layers(parse_cfg(lesson_folder / f"darknet/networks/{name}.cfg"), size=(416, 416))
    assert len(plan) == layers
    assert sum(layer.parameters for layer in plan) == numbers
    outputs = [layer.out_shape for layer in plan if layer.kind == "yolo"]
    assert outputs == [(255, side, side) for side in grids]


def test_coco_names(lesson_folder):
    content = (lesson_folder / "darknet/networks/coco.names").read_bytes()
    expected = "634a1132eb33f8091d60f2c346ababe8b905ae08387037aed883953b7329af84"
    assert hashlib.sha256(content).hexdigest() == expected


def test_table_of_layers(write_cfg):
    path = write_cfg(
        NET + "[convolutional]\nfilters=4\nsize=3\nstride=2\npad=1\nbatch_normalize=1\n"
        "activation=leaky\n[maxpool]\nsize=2\nstride=2\n[upsample]\n[route]\nlayers=-1,0\n"
        "[shortcut]\nfrom=-1\n[convolutional]\nfilters=14\nactivation=linear\n" + YOLO
    )
    table = format_plan(plan_layers(parse_cfg(path), path))
    lines = table.splitlines()
    assert len(lines) == 1 + 7 + 1
    assert re.search(
        r"0 +convolutional +3 x 3 / 2 bn leaky +3 x 32 x 64 -> +4 x 16 x 32 +124$", lines[1]
    )
    assert re.search(r"1 +maxpool +2 x 2 / 2 +4 x 16 x 32 -> +4 x 8 x 16$", lines[2])
    assert re.search(r"3 +route +of layers 2, 0 +8 x 16 x 32 -> +8 x 16 x 32$", lines[4])
    assert re.search(r"6 +yolo +anchors 0, 1 +14 x 16 x 32 -> +14 x 16 x 32$", lines[7])
    assert lines[8] == f"7 layers, {4 * 27 + 16 + 8 * 14 + 14:,} numbers in the weights file"


CONV = "[convolutional]\nfilters=14\n"
PARSE_ERRORS = [
    ("", "holds 0 blocks, [net] and a layer are the least"),
    (NET, "holds 1 blocks"),
    (NET + "[maxpol]\n", "line 4: unknown block [maxpol]; known: conv, convolutional"),
    (CONV, "line 1: the first block, and no other, must be [net]"),
    (NET + CONV + NET, "line 6: the first block, and no other, must be [net]"),
    (NET + "[maxpool\n", "line 4: '[maxpool' lacks the closing ]"),
    ("width=3\n" + NET, "line 1: 'width' stands before any [block]"),
    (NET + CONV + "pad\n", "line 6: 'pad' is neither [block], key=value nor a # comment"),
    (NET + CONV + "filtres=3\n", "line 6: filtres='3': unknown key in [convolutional]; known: act"),
    (NET + "widht=608\n" + CONV, "line 4: widht='608': unknown key in [net]; known: B1, B2, adam"),
    (NET + "inputs=9\n" + CONV, "line 4: inputs='9': unknown key in [net]"),
    (NET + CONV + "dilation=2\n", "line 6: dilation='2': this [convolutional] cannot be run: kern"),
    (
        NET + CONV + "xnor=1\n",
        "xnor='1': this [convolutional] cannot be run: kernels of one",
    ),
    (
        NET + "[shortcut]\nfrom=-2\nweights_type=per_feature\n",
        "line 6: weights_type='per_feature': "
        "this [shortcut] cannot be run: YOLOv4's sum with learned weights",
    ),
    (NET + "[sam]\nfrom=-2\n", "line 4: [sam] cannot be run: it is YOLOv4's attention"),
    (
        NET + "[scale_channels]\n",
        "[scale_channels] cannot be run: it is YOLOv4's attention",
    ),
    (NET + "[region]\n", "line 4: [region] cannot be run: it is the output of YOLOv2"),
    (
        NET + "[Gaussian_yolo]\n",
        "[Gaussian_yolo] cannot be run: it is an output of Gaussian",
    ),
    (NET + "[softmax]\n", "[softmax] cannot be run: it is a layer of classifiers"),
    (NET + CONV + "show_receptive_field=1\n", "unknown key in [convolutional]"),
    (
        NET + "[conv]\nfilters=1000000000\n",
        "line 5: filters='1000000000': must be a whole number from 1 to 65536",
    ),
    (NET + "[conv]\nfilters=0\n", "line 5: filters='0': must be a whole number from 1 to 65536"),
    (NET + "[conv]\nfilters=1.5\n", "line 5: filters='1.5': must be a whole number"),
    (NET + "[conv]\nfilters=\n", "line 5: filters='': must be a whole number"),
    (NET + "[conv]\nfilters=" + "9" * 5000 + "\n", "must be a whole number"),
    (
        NET + "[conv]\nactivation=elu\n",
        "line 5: activation='elu': must be one of: linear, leaky, relu, mish, logistic",
    ),
    (NET + "[route]\nlayers=-1,x\n", "line 5: layers='-1,x': must be whole numbers separated by"),
    (NET + "[route]\nlayers=" + "-1," * 40 + "\n", "has 40 items, at most 32 are allowed"),
    (NET + "[yolo]\nanchors=1,nan\n", "line 5: anchors='1,nan': must be a finite number"),
    (NET + "[yolo]\nanchors=1,1e999\n", "line 5: anchors='1,1e999': must be a finite number"),
    (
        NET + "[yolo]\nnew_coords=1\n",
        "line 5: new_coords='1': this [yolo] cannot be run: boxes",
    ),
    (NET + "[maxpool]\n" * 3000, "holds 3001 blocks, 2000 are the most"),
    ("#" * 1_000_001, "1,000,001 bytes are too many for a cfg file"),
]


@pytest.mark.parametrize(("text", "message"), PARSE_ERRORS, ids=range(len(PARSE_ERRORS)))
def test_parse_errors(write_cfg, text, message):
    path = write_cfg(text)
    with pytest.raises(DarknetFileError, match=re.escape(message)) as caught:
        parse_cfg(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 1500


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DarknetFileError, match=r"none.cfg: cannot be read \(No such file"):
        parse_cfg(tmp_path / "none.cfg")
    with pytest.raises(DarknetFileError, match="cannot be read"):
        parse_cfg(tmp_path)
    binary = tmp_path / "net.weights"
    binary.write_bytes(b"[net]\n\xff\xfe\x00")
    with pytest.raises(DarknetFileError, match="net.weights, byte 6: this is not a text file"):
        parse_cfg(binary)
    assert issubclass(DarknetFileError, ValueError)


HEAD = NET + "[convolutional]\nfilters=14\nactivation=linear\n"  # layer 0 on lines 4 to 6
PLAN_ERRORS = [
    (NET + "[route]\nlayers=-1\n", "layer 0: is the first layer, there is none before it"),
    (HEAD + "[route]\n", "line 7: layer 1: [route] needs layers="),
    (HEAD + "[route]\nlayers=1\n", "layer 1: reads layer 1, allowed are 0 to 0 or -1 to -1"),
    (HEAD + "[route]\nlayers=-2\n", "layer 1: reads layer -2, allowed are 0 to 0 or -1 to -1"),
    (HEAD + "[shortcut]\n", "layer 1: [shortcut] needs from= with a layer before it"),
    (HEAD + YOLO + "[route]\nlayers=1\n", "layer 2: reads layer 1, which is a [yolo] output"),
    (HEAD + YOLO + CONV, "layer 2: reads layer 1, which is a [yolo] output"),
    (HEAD + YOLO + "[shortcut]\nfrom=0\n", "layer 2: reads layer 1, which is a [yolo] output"),
    (
        HEAD + "[maxpool]\nsize=2\nstride=2\n[route]\nlayers=0,1\n",
        "layer 2: joins maps of different height x width: 32 x 64, 16 x 32",
    ),
    (
        HEAD + "[maxpool]\nsize=2\nstride=2\n[shortcut]\nfrom=0\n",
        "layer 2: joins maps of different height x width: 16 x 32, 32 x 64",
    ),
    (HEAD + "[maxpool]\nsize=2\npadding=3\n", "layer 1: padding=3 leaves nothing in a window of 2"),
    (HEAD + CONV + "groups=4\n", "groups=4 does not divide the 14 channels of its input"),
    (HEAD + "[conv]\nfilters=3\ngroups=2\n", "groups=2 does not divide the 3 filters"),
    (HEAD + "[route]\nlayers=0\ngroups=2\ngroup_id=2\n", "cannot take group 2 of 2 from 14"),
    (HEAD + "[route]\nlayers=0\ngroups=3\n", "cannot take group 0 of 3 from 14 channels"),
    (HEAD + "[conv]\nsize=63\n", "layer 1: nothing is left of its 32 x 64 input"),
    (HEAD + YOLO.replace("num=3", "num=4"), "num=4 needs 8 anchor values, got 6"),
    (HEAD + YOLO.replace("anchors=1", "anchors=0"), "anchors must be above 0, got 0.0"),
    (HEAD + YOLO.replace("mask=0", "mask=3"), "mask=(3, 1) must name anchors from 0 to 2"),
    (HEAD + YOLO.replace("mask=0", "mask=-1"), "mask=(-1, 1) must name anchors from 0 to 2"),
    (HEAD + YOLO.replace("mask=0,1\n", ""), "mask=() must name anchors from 0 to 2"),
    (HEAD + YOLO + "scale_x_y=0.5\n", "scale_x_y must be 1 or more, got 0.5"),
    (
        HEAD + YOLO.replace("classes=2", "classes=80"),
        "2 anchors x (5 + 80 classes) need 170 channels, the layer before has 14",
    ),
    (HEAD + "[conv]\nfilters=65536\n" * 2, "the network has 4,29"),
    (HEAD + "[upsample]\nstride=32\n" * 2, "a map of 14 x 32768 x 65536 is larger than the"),
]


@pytest.mark.parametrize(("text", "message"), PLAN_ERRORS, ids=range(len(PLAN_ERRORS)))
def test_plan_errors(write_cfg, text, message):
    path = write_cfg(text)
    blocks = parse_cfg(path)
    with pytest.raises(DarknetFileError, match=re.escape(message)) as caught:
        plan_layers(blocks, path)
    assert re.match(rf"{re.escape(str(path))}, line \d+: layer \d+: ", str(caught.value))


def test_size_given_to_the_plan_wins(write_cfg):
    plan = plan_layers(parse_cfg(write_cfg(HEAD + YOLO)), size=(96, 160))
    assert plan[0].in_shape == (3, 96, 160)
