"""The export to ONNX: onnxruntime must give the labels that PyTorch gives, whatever the size."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from common.checkpoint import save_checkpoint
from common.settings import plain_values
from common.street.scenes import draw_scene
from networks import export
from networks.export import ExportError, LabelsAndScores, compare, export_onnx, load_pictures, main
from networks.models import build_model, load_model
from settings import MODELS, make_settings

NAMES = ("ground", "thing", "sky")
SIZES = ((1, 3, 64, 64), (2, 3, 33, 47), (1, 3, 1, 1), (1, 3, 5, 200), (3, 3, 96, 128))


def load(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def alive(model: nn.Module) -> nn.Module:
    """Give batch norms statistics, so that random weights tell pixels apart."""
    generator = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()


@pytest.mark.parametrize("half_size", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_at_every_size(name, half_size, tmp_path):
    torch.manual_seed(0)
    model = alive(build_model(name, 3, pretrained=False, half_size=half_size))
    export_onnx(model, tmp_path / "a.onnx", load_pictures(None)[:2], NAMES)
    session, network = load(tmp_path / "a.onnx"), LabelsAndScores(model)
    for size in SIZES:
        images = torch.rand(size, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            labels, scores = network(images)
        found, found_scores = session.run(None, {"images": images.numpy()})
        assert found.dtype == np.uint8 and found.shape == (size[0], *size[2:])
        assert (found == labels.numpy()).mean() >= 0.999
        torch.testing.assert_close(torch.from_numpy(found_scores), scores, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    settings = make_settings("street", model="unet")
    stored = {**plain_values(settings), "class_names": NAMES}
    path = tmp_path_factory.mktemp("run") / "best.pt"
    return save_checkpoint(path, alive(build_model("unet", 3, half_size=True)), settings=stored)


def test_the_command(checkpoint, tmp_path, capsys):
    file = tmp_path / "new" / "street.onnx"
    assert main(["--checkpoint", str(checkpoint), "--out", str(file)]) == 0
    assert "street.onnx: agrees with PyTorch on 100.0" in capsys.readouterr().out
    content = onnx.load(str(file))
    props = {prop.key: prop.value for prop in content.metadata_props}
    assert json.loads(props["names"]) == list(NAMES)
    image = draw_scene(3, 90, 70).image
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = load_model(checkpoint)[0](tensor)["out"].argmax(1)
    labels = load(file).run(["labels"], {"images": tensor.numpy()})[0]
    assert (labels == expected.numpy()).mean() >= 0.999
    assert len(np.unique(labels)) > 1


def test_the_command_runs_as_the_readme_says():
    lesson = Path(export.__file__).parents[1]
    command = [sys.executable, "-m", "networks.export", "--help"]
    done = subprocess.run(command, cwd=lesson, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: python -m networks.export ")
    assert "python -m networks.export --checkpoint" in (lesson / "README.md").read_text()


def test_own_photos_are_compared_on(checkpoint, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for k, size in enumerate(((20, 30, 3), (700, 10, 3))):
        noise = np.random.default_rng(k).integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{k}.png")
    options = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "a.onnx")]
    assert main([*options, "--photos", str(tmp_path / "photos")]) == 0
    assert "of 7,000 pixels in 2 pictures" in capsys.readouterr().out  # 600 and 640 x 10


class Other(nn.Module):
    """Prefers another class than it was traced with in a part of each picture."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, images):
        scores = torch.cat([images[:, :1] * 0, images[:, :1] * 0 + 1], dim=1)
        if not torch.jit.is_tracing():
            scores[..., : self.columns] *= -1
        return {"out": scores}


@pytest.mark.parametrize(("columns", "equal"), [(1, 0.9995), (3, 0.9985)])
def test_one_that_differs_is_not_written(tmp_path, columns, equal):
    path = tmp_path / "a.onnx"
    path.write_text("old")
    pictures = [torch.zeros(3, 4, 2000, dtype=torch.uint8)]
    if equal >= 0.999:
        assert export_onnx(Other(columns), path, pictures, NAMES[:2]).startswith(f"{equal:.4%} of")
        assert path.read_bytes() != b"old"
        return
    with pytest.raises(ExportError, match=rf"a\.onnx: was not written: .* to {equal:.4%} of 8,000"):
        export_onnx(Other(columns), path, pictures, NAMES[:2])
    assert path.read_text() == "old" and [one.name for one in tmp_path.iterdir()] == ["a.onnx"]


def test_pixels_are_counted(tmp_path):
    export_onnx(Other(0), tmp_path / "a.onnx", load_pictures(None)[:1], NAMES[:2])
    network = LabelsAndScores(Other(5)).eval()
    picture = torch.zeros(3, 7, 11, dtype=torch.uint8)
    assert compare(load(tmp_path / "a.onnx"), network, picture) == (7 * 6, 7 * 11)


def test_errors_of_the_command(checkpoint, tmp_path, capsys):
    out = ["--out", str(tmp_path / "a.onnx")]
    assert main(["--checkpoint", str(tmp_path / "none.pt"), *out]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    assert main(["--checkpoint", str(checkpoint), *out, "--photos", str(tmp_path / "no.png")]) == 2
    assert "no.png" in capsys.readouterr().err
    assert not (tmp_path / "a.onnx").exists()


def test_pictures_of_several_sizes():
    shapes = {tuple(one.shape) for one in load_pictures(None)}
    assert len(shapes) == len(export.DRAWN_SIZES)
    assert any(side % 2 for shape in shapes for side in shape[1:])
