"""The .weights format: bytes by hand, round trips, and every way a file can be wrong."""

import hashlib
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from darknet.network import Darknet, DarknetFileError
from darknet.weights import Header, LoadReport

CFG = """[net]
width=8
height=8
channels=1
[convolutional]
filters=2
size=1
batch_normalize=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
filters=6
size=1
activation=linear
[yolo]
mask=0
anchors=1,2
num=1
classes=1
"""
FIRST = [0.5, -1, 2, 3, 4, 5, 6, 7, 8, -9]  # biases, scales, means, variances, kernels: 2 each
SECOND = [float(n) / 8 for n in range(6 + 12)]  # 6 biases, 6 x 2 kernels
HEADER = struct.pack("<3iq", 0, 2, 0, 32_013_312)  # 20 bytes
FLOATS = struct.pack("<28f", *FIRST, *SECOND)
FILE = HEADER + FLOATS  # 132 bytes
FIRST_END = 20 + 40


@pytest.fixture
def network(write_cfg):
    torch.manual_seed(0)
    return Darknet(write_cfg(CFG)).eval()


@pytest.fixture
def write_weights(tmp_path):
    def write(content: bytes, name: str = "some.weights") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_unchanged(network, before):
    after = network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert network.header == Header()


def test_numbers_arrive_where_they_belong(network, write_weights):
    report = network.load_weights(write_weights(FILE))
    assert report == LoadReport(Header(0, 2, 0, 32_013_312), 28, None)
    assert network.header.seen == 32_013_312
    first, second = network.stages[0], network.stages[2]
    assert first.norm.bias.tolist() == [0.5, -1]
    assert first.norm.weight.tolist() == [2, 3]
    assert first.norm.running_mean.tolist() == [4, 5]
    assert first.norm.running_var.tolist() == [6, 7]
    assert first.conv.weight.flatten().tolist() == [8, -9]
    assert second.conv.bias.tolist() == [n / 8 for n in range(6)]
    assert (second.conv.weight[:, :, 0, 0] * 8).int().tolist() == [
        [6, 7], [8, 9], [10, 11], [12, 13], [14, 15], [16, 17]
    ]  # fmt: skip


@pytest.mark.parametrize("content", [FILE, struct.pack("<3ii", 0, 1, 0, 7) + FLOATS,
                                     struct.pack("<3iq", 0, 2, 5, 2**40) + FLOATS,
                                     struct.pack("<3iq", 1, 0, 0, 7) + FLOATS])  # fmt: skip
def test_saving_what_was_loaded_gives_the_same_file(network, write_weights, tmp_path, content):
    report = network.load_weights(write_weights(content))
    assert report.numbers == 28
    network.save_weights(tmp_path / "copy.weights")
    assert (tmp_path / "copy.weights").read_bytes() == content


def test_old_header_has_a_short_counter(network, write_weights):
    network.load_weights(write_weights(struct.pack("<3ii", 0, 1, 0, 7) + FLOATS))
    assert network.header == Header(0, 1, 0, 7)
    assert network.stages[0].norm.bias.tolist() == [0.5, -1]


def test_real_file_survives_a_round_trip(lesson_folder, tiny_weights, tmp_path):
    with torch.device("meta"):
        network = Darknet(lesson_folder / "darknet/networks/yolov3-tiny.cfg")
    report = network.load_weights(tiny_weights)
    assert report.numbers == (35_434_956 - 20) // 4 and report.stopped_before is None
    copy = tmp_path / "copy.weights"
    network.save_weights(copy)
    digest = hashlib.sha256(copy.read_bytes()).hexdigest()
    assert digest == "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c"


def test_real_partial_file(lesson_folder, tiny_weights, tmp_path):
    """Darknet's yolov3-tiny.conv.15 is what `darknet partial ... 15` cuts off: layers 0 to 14."""
    cfg = lesson_folder / "darknet/networks/yolov3-tiny.cfg"
    whole, part = Darknet(cfg), Darknet(cfg)
    whole.load_weights(tiny_weights)
    cut = tmp_path / "yolov3-tiny.conv.15"
    whole.save_weights(cut, layers=15)
    assert tiny_weights.read_bytes().startswith(cut.read_bytes())
    before = state(part)
    with pytest.raises(
        DarknetFileError, match=r"conv\.15: the file ends at byte .* layer 15 \(con"
    ):
        part.load_weights(cut)
    assert_unchanged(part, before)
    assert part.load_weights(cut, partial=True).stopped_before == 15
    for index, layer in enumerate(whole.layers):
        if layer.parameters:
            kernels = part.stages[index].conv.weight
            assert torch.equal(kernels, whole.stages[index].conv.weight) == (index < 15)


WRONG = [  # content, message; the file is some.weights and the cfg net.cfg
    (FILE[:-1], "the file ends at byte 131, but layer 2 (convolutional) would end at byte 132"),
    (FILE[:-4], "the file ends at byte 128, but layer 2 (convolutional) would end at byte 132"),
    (FILE[:-4], "cut off, or belongs to another cfg than net.cfg; partial=True reads a file that"),
    (FILE[:FIRST_END], "the file ends at byte 60, but layer 2 (convolutional) would end at byte"),
    (FILE[:59], "the file ends at byte 59, but layer 0 (convolutional) would end at byte 60"),
    (HEADER, "the file ends at byte 20, but layer 0 (convolutional) would end at byte 60"),
    (FILE + b"\0", "1 bytes are left over after the last layer (byte 132); the file belongs to"),
    (FILE + bytes(4), "4 bytes are left over after the last layer (byte 132)"),
    (FILE + bytes(4000), "4,000 bytes are left over after the last layer (byte 132)"),
    (b"", "0 bytes are too few for the header (16 or 20)"),
    (HEADER[:15], "15 bytes are too few for the header (16 or 20)"),
    (HEADER[:16], "16 bytes are too few for the header (20)"),
    (b"<!DOCTYPE html><html><body>moved</body></html>", "this is a web page (it begins with "
     "b'<!DOCTYPE html>'), not a weights file"),
    (b"\r\n  <html>" + bytes(200), "this is a web page"),
    (b"PK\x03\x04" + bytes(200), "byte 0: version 67324752.0.0 is none that Darknet wrote"),
    (struct.pack("<3iq", 0, -1, 0, 0) + FLOATS, "version 0.-1.0 is none that Darknet wrote"),
    (struct.pack("<3iq", 1000, 0, 0, 0) + FLOATS, "version 1000.0.0 is none that Darknet wrote"),
]  # fmt: skip


@pytest.mark.parametrize("meta", [False, True])
@pytest.mark.parametrize(("content", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_files_are_refused_and_change_nothing(
    network, write_weights, write_cfg, content, message, meta
):
    path = write_weights(content)
    if meta:
        with torch.device("meta"):
            network = Darknet(write_cfg(CFG))
    before = state(network)
    with pytest.raises(DarknetFileError, match=re.escape(message)) as caught:
        network.load_weights(path)
    assert str(caught.value).startswith(str(path))
    if meta:
        assert all(tensor.is_meta for tensor in network.parameters())
    else:
        assert_unchanged(network, before)


def test_a_layer_more_or_less_in_the_cfg(write_cfg, write_weights):
    path = write_weights(FILE)
    more = CFG.replace("[yolo]", "[convolutional]\nfilters=6\n[yolo]")
    with pytest.raises(DarknetFileError, match=r"ends at byte 132, but layer 3 .* end at byte 300"):
        Darknet(write_cfg(more)).load_weights(path)
    less = CFG.replace("filters=2", "filters=1")
    with pytest.raises(DarknetFileError, match=r"44 bytes are left over .* \(byte 88\)"):
        Darknet(write_cfg(less)).load_weights(path)


def test_weights_of_another_network(lesson_folder, tiny_weights):
    with torch.device("meta"):
        full = Darknet(lesson_folder / "darknet/networks/yolov3.cfg")
    with pytest.raises(DarknetFileError, match=r"ends at byte 35,434,956, but layer \d+ \(conv"):
        full.load_weights(tiny_weights)
    assert all(tensor.is_meta for tensor in full.parameters())


def test_missing_file_and_folder(network, tmp_path):
    with pytest.raises(DarknetFileError, match=r"none.weights: cannot be read \(No such file"):
        network.load_weights(tmp_path / "none.weights")
    with pytest.raises(DarknetFileError, match="cannot be read"):
        network.load_weights(tmp_path)


@pytest.mark.parametrize("meta", [False, True])
def test_partial_file_loads_when_asked_for(write_cfg, write_weights, meta):
    torch.manual_seed(3)
    with torch.device("meta" if meta else "cpu"):
        network = Darknet(write_cfg(CFG))
    before = state(network)
    report = network.load_weights(write_weights(FILE[:FIRST_END]), partial=True)
    assert (report.numbers, report.stopped_before) == (10, 2)
    assert network.stages[0].norm.running_var.tolist() == [6, 7]
    last = network.stages[2].conv.weight
    assert last.device.type == "cpu" and last.isfinite().all() and last.std() > 0
    assert network.stages[0].norm.num_batches_tracked == 0
    if not meta:
        assert torch.equal(last, before["stages.2.conv.weight"])
    with torch.inference_mode():
        assert network.eval()(torch.rand(1, 1, 8, 8))[0].isfinite().all()


@pytest.mark.parametrize("end", [59, FIRST_END - 4, FIRST_END + 1, 131, 133])
def test_partial_file_must_end_between_layers(network, write_weights, end):
    before = state(network)
    content = (FILE + bytes(9))[:end]
    with pytest.raises(DarknetFileError, match="the file ends at byte|left over") as caught:
        network.load_weights(write_weights(content), partial=True)
    assert "partial=True" not in str(caught.value)
    assert_unchanged(network, before)


def test_complete_file_with_partial(network, write_weights):
    report = network.load_weights(write_weights(FILE), partial=True)
    assert report == LoadReport(Header(0, 2, 0, 32_013_312), 28, None)


def test_network_on_the_meta_device_is_filled(write_cfg, write_weights):
    with torch.device("meta"):
        empty = Darknet(write_cfg(CFG))
    plain = Darknet(write_cfg(CFG))
    path = write_weights(FILE)
    empty.load_weights(path)
    plain.load_weights(path)
    filled, reference = empty.state_dict(), plain.state_dict()
    assert filled.keys() == reference.keys()
    assert all(torch.equal(filled[name], reference[name]) for name in filled)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_dtypes_are_converted(network, write_weights, tmp_path, dtype):
    network = network.to(dtype)
    network.load_weights(write_weights(FILE))
    assert network.stages[2].conv.weight.dtype == dtype
    network.save_weights(tmp_path / "copy.weights")
    assert (tmp_path / "copy.weights").read_bytes() == FILE  # all numbers are exact in 16 bits


def test_kernels_stored_channels_last_keep_their_order(network, write_weights, tmp_path):
    network = network.to(memory_format=torch.channels_last)
    network.load_weights(write_weights(FILE))
    network.save_weights(tmp_path / "copy.weights")
    assert (tmp_path / "copy.weights").read_bytes() == FILE


def test_special_numbers_survive(network, write_weights, tmp_path):
    values = np.frombuffer(FLOATS, "<f4").copy()
    values[10:14] = [np.nan, np.inf, -0.0, 1e-42]
    content = HEADER + values.tobytes()
    network.load_weights(write_weights(content))
    network.save_weights(tmp_path / "copy.weights")
    assert (tmp_path / "copy.weights").read_bytes() == content


@pytest.mark.parametrize("layers", [0, -1, 5])
def test_layers_out_of_range(network, tmp_path, layers):
    with pytest.raises(ValueError, match=f"layers must be from 1 to 4, got {layers}"):
        network.save_weights(tmp_path / "x.weights", layers=layers)
    assert not list(tmp_path.glob("*.weights"))


def test_saving_into_a_missing_folder(network, tmp_path):
    with pytest.raises(OSError, match="missing"):
        network.save_weights(tmp_path / "missing" / "x.weights")


def test_interrupted_saving_leaves_the_old_file(network, write_weights, monkeypatch):
    path = write_weights(b"old")

    def fail(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        network.save_weights(path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.glob("*some.weights*")] == ["some.weights"]


def test_a_file_that_shrinks_while_it_is_read(network, write_weights, monkeypatch):
    from darknet import weights

    monkeypatch.setattr(weights, "_layers_in_file", lambda model, *_: len(model.layers))
    with pytest.raises(DarknetFileError, match="the file became shorter while it was read"):
        network.load_weights(write_weights(FILE[:-4]))
