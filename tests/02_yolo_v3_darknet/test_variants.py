"""YOLOv3's relatives that are made of known layers: they run, and equal OpenCV's importer.

The networks are small ones of our own; each has what the cfg it is named after brings.
"""

from pathlib import Path

import cv2
import pytest
import torch

from darknet.network import Darknet, DarknetFileError
from speed.engines import ENGINES, build_network

DEBIAN = Path("/usr/share/darknet/cfg")
HEIGHT, WIDTH = 64, 96


def conv(filters, size=3, stride=1, activation="leaky", **more):
    keys = {"filters": filters, "size": size, "stride": stride, "pad": 1, **more}
    return block("convolutional", batch_normalize=1, activation=activation, **keys)


def block(name, **keys):
    return "\n".join([f"[{name}]", *(f"{key}={value}" for key, value in keys.items())]) + "\n"


def output(mask="0,1", classes=2, **more):
    head = block("convolutional", filters=7 * 2 if classes == 2 else 2 * (5 + classes), size=1)
    anchors = "10,14, 23,27, 37,58, 81,82"
    return head.replace("size=1", "size=1\nactivation=linear") + block(
        "yolo", mask=mask, anchors=anchors, num=4, classes=classes, **more
    )


BODY = conv(8, stride=2) + conv(12, stride=2)
UP = block("route", layers="-4") + conv(6, 1) + block("upsample", stride=2)
VARIANTS = {
    # stands twice, hundreds of classes
    "yolov3-openimages": BODY + output(classes=601),
    # three outputs in a tiny network
    "yolov3-tiny_3l": BODY + conv(16, stride=2) + output("2,3") + UP + output("0,1")
    + UP + output("0,1"),
    # a shortcut of unequal channels, both ways
    "yolov3-tiny-prn": BODY + conv(20, 1) + block("shortcut", **{"from": -2, "activation": "leaky"})
    + conv(9, 1) + block("shortcut", **{"from": -3, "activation": "leaky"}) + output(),
    # pooling of several widths side by side
    "yolov3-spp": BODY + "".join(
        block("maxpool", size=size, stride=1) + block("route", layers=layers)
        for size, layers in ((3, -2), (5, "-3,-1"), (7, "-5,-1"))
    ) + output(),
    # mish, a cross stage, centres that leave their cells, keys of another training
    "yolov4": conv(8, 3, 2, "mish") + conv(12, 1, 1, "mish") + block("route", layers="-2")
    + conv(12, 1, 1, "mish") + conv(12, 3, 1, "mish")
    + block("shortcut", **{"from": -2, "activation": "linear"}) + block("route", layers="-1,-5")
    + output(scale_x_y=1.2, iou_loss="ciou", nms_kind="greedynms", beta_nms=0.6, max_delta=5),
    # half of the channels go on
    "yolov4-tiny": BODY + block("route", layers="-1", groups=2, group_id=1) + conv(6)
    + block("route", layers="-1,-3") + block("maxpool", size=2, stride=2) + output(scale_x_y=1.05),
    # groups of channels
    "csresnext50-panet-spp": BODY + conv(12, groups=3) + conv(12, groups=12) + output(),
}  # fmt: skip


def opencv_maps(cfg, weights, images, network):
    raw = [f"conv_{layer.index - 1}" for layer in network.layers if layer.kind == "yolo"]
    importer = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    importer.setInput(images.numpy())
    return importer.forward(raw)


def random_network(cfg, randomize):
    with torch.device("meta"):
        network = Darknet(cfg)
    return randomize(network.to_empty(device="cpu"))


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_equal_opencvs(write_cfg, randomize, relative_difference, tmp_path, name):
    net = f"[net]\nbatch=1\nheight={HEIGHT}\nwidth={WIDTH}\nchannels=3\nbatch=64 # training\n"
    cfg, weights = write_cfg(net + VARIANTS[name]), tmp_path / "random.weights"
    network = random_network(cfg, randomize)
    network.save_weights(weights)
    images = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    expected = opencv_maps(cfg, weights, images, network)
    assert len(expected) == len(network.outputs)
    with torch.inference_mode():
        plain = network(images)
    computed = [plain, build_network(network, "torch", (HEIGHT, WIDTH))(images)]
    computed.append(build_network(network, "onnxruntime", (HEIGHT, WIDTH))(images))
    for maps in computed:
        for ours, theirs in zip(maps, expected, strict=True):
            assert relative_difference(ours, theirs) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov3-openimages", "yolov3-voc"])
def test_darknets_own_files_equal_opencvs(randomize, relative_difference, tmp_path, name):
    cfg, weights = DEBIAN / f"{name}.cfg", tmp_path / "random.weights"
    if not cfg.is_file():
        pytest.skip("Debian's package darknet is not installed")
    network = random_network(cfg, randomize)
    network.save_weights(weights)
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    expected = opencv_maps(cfg, weights, images, network)
    weights.unlink()  # 250 MB, and pytest keeps its folders
    with torch.inference_mode():
        for ours, theirs in zip(network(images), expected, strict=True):
            assert relative_difference(ours, theirs) <= 1e-4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[sam]\nfrom=-2\n", r"\[sam\] cannot be run: it is YOLOv4's attention"),
        ("[shortcut]\nfrom=-2\nweights_type=per_feature\n", "learned weights"),
        ("[yolo]\nnew_coords=1\n", "decoded as in Scaled-YOLOv4"),
        ("[maxpool]\nmaxpool_depth=1\n", "pooling over channels"),
        (conv(6, activation="swish"), "activation='swish': must be one of"),
    ],
)
def test_yolov4s_own_layers_are_refused(write_cfg, text, reason):
    with pytest.raises(DarknetFileError, match=rf"net\.cfg, line \d+: .*{reason}"):
        Darknet(write_cfg(f"[net]\nheight=32\nwidth=32\n{BODY}{text}"))


def test_the_harmless_value_of_such_a_key_is_read(write_cfg):
    text = BODY + block("shortcut", **{"from": -1, "weights_type": "none"}) + output(new_coords=0)
    assert len(Darknet(write_cfg("[net]\n" + text)).outputs) == 1


def test_engines_are_all_known():
    assert ENGINES == ("torch", "onnxruntime", "openvino")
