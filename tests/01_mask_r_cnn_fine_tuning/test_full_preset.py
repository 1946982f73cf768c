"""The full preset from end to end, with random weights where the COCO weights would lie."""

import json
from pathlib import Path

import pytest
import torch
from torchvision.models import detection as tv

import train
from common.labels import sources
from common.street.scenes import write_dataset


@pytest.mark.slow
def test_full_preset_trains_from_the_weight_cache(tmp_path, monkeypatch):
    """Two steps of ResNet50 on small pictures in Penn-Fudan's layout."""
    pictures = write_dataset(tmp_path / "PennFudanPed", range(8), 96, 72, progress=False)
    monkeypatch.setattr(sources, "fetch_penn_fudan", lambda: pictures)
    weights = tv.MaskRCNN_ResNet50_FPN_Weights.DEFAULT
    cache = tmp_path / "torch" / "hub" / "checkpoints" / Path(weights.url).name
    cache.parent.mkdir(parents=True)
    torch.manual_seed(0)
    stored = tv.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    stored = {k: v for k, v in stored.items() if not k.endswith("num_batches_tracked")}
    torch.save(stored, cache)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    out = tmp_path / "out"
    code = train.main(
        ["--preset", "full", "--epochs", "1", "--image-size", "72", "96", "--workers", "0",
         "--learning-rate", "1e-5", "--out", str(out)]
    )  # fmt: skip
    assert code == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics) == {"bbox", "segm", "per_class", "seconds"}
    assert set(metrics["per_class"]) == {"pedestrian"}
    progress = torch.load(out / "last.pt", weights_only=True)["progress"]
    assert [one["step"] for one in progress["history"]] == [0, 1]
    final = torch.load(out / "best.pt", weights_only=True)["model"]
    name = "backbone.body.conv1.weight"
    assert torch.equal(final[name], stored[name])  # the first layers are frozen
    assert final["roi_heads.box_predictor.cls_score.weight"].shape == (2, 1024)
