"""Cfg and names files as people really have them: what is odd in them is read, and said."""

import ctypes

import pytest

from darknet.cfg import DarknetFileError, parse_cfg
from darknet.sections import Notes
from detector import read_names

NET = "[net]\nwidth=64\nheight=32\n"
CONV = "[convolutional]\nfilters=14\n"
YOLO = "[yolo]\nmask=0,1\nanchors=1,2,3,4,5,6\nnum=3\nclasses=2\n"


def test_comments_behind_values(write_cfg, capsys):
    net, conv, output = parse_cfg(
        write_cfg(
            "[net] # the input\nwidth=64 # or 96\nheight = 32;or 48\n[convolutional] ; 0\n"
            "filters=14 #(2+5)*2\nactivation=linear # none\n"
            + YOLO.replace("3,4,5", "3,4, 5")
            + "jitter=.3#less\n"
        )
    )
    assert (net.width, net.height, net.extra) == (64, 32, ())
    assert (conv.filters, conv.activation) == (14, "linear")
    assert output.extra == (("jitter", ".3"),)
    assert capsys.readouterr().err == ""


@pytest.fixture
def unsaid(monkeypatch):
    """Nothing was said about a cfg file yet."""
    monkeypatch.setattr(Notes, "said", set())


def test_of_a_key_that_stands_twice_the_first_counts(write_cfg, capsys, unsaid):
    text = "[net]\nbatch=1\nbatch=64\nwidth=64\nwidth=96\nheight=32\n" + CONV + "filters=9\n"
    path = write_cfg(text)
    net, conv = parse_cfg(path)
    assert (net.width, conv.filters, net.extra) == (64, 14, (("batch", "1"),))
    parse_cfg(path)
    assert capsys.readouterr().err == (
        f"note: {path}: stands twice in its block, the first counts as in Darknet: "
        "batch (line 3), width (line 5), filters (line 9)\n"
    )


def test_darknet_takes_the_first_too(write_cfg, libdarknet):
    path = write_cfg("[net]\nchannels=3\nwidth=64\nwidth=96\nheight=32 # or 48\n" + CONV)
    network = libdarknet.load_network(str(path).encode(), None, 0)
    for function in (libdarknet.network_width, libdarknet.network_height):
        function.argtypes = [ctypes.c_void_p]
    assert libdarknet.network_width(network) == 64 and libdarknet.network_height(network) == 32


def test_keys_that_only_some_trainings_read_are_named(write_cfg, capsys, unsaid):
    path = write_cfg(
        NET + "max_epochs=300\nshow_receptive_field=1\nmomentum=.9\n" + CONV + "stopbackward=1\n"
        "activation=linear\n" + YOLO + "iou_thresh_kind=iou\nignore_thresh=.7\n"
    )
    net, conv, output = parse_cfg(path)
    assert dict(net.extra)["max_epochs"] == "300" and dict(conv.extra) == {"stopbackward": "1"}
    assert dict(output.extra) == {"iou_thresh_kind": "iou", "ignore_thresh": ".7"}
    assert capsys.readouterr().err == (
        f"note: {path}: passed over, as it steers training alone: max_epochs (line 4), "
        "show_receptive_field (line 5), stopbackward (line 9), iou_thresh_kind (line 16)\n"
    )


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfbolt\nnut\n", b"bolt\r\nnut\r\n\r\n\r\n", b"bolt \n\nnut"]
)
def test_names_as_editors_write_them(tmp_path, content):
    path = tmp_path / "two.names"
    path.write_bytes(content)
    assert read_names(path, 2) == ["bolt", "nut"]
    with pytest.raises(DarknetFileError, match="holds 2 names, the cfg has 3 classes"):
        read_names(path, 3)
