"""Pictures side by side: the same gradients as one after the other, and the same every time."""

import pytest
import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

import side_by_side
from model import mask_rcnn
from side_by_side import OwnSampler, SideBySide


def small_model(live_batch_norm=False):
    torch.manual_seed(0)
    return mask_rcnn(
        "efficientnet_lite0", 2, pretrained=False, min_size=64, live_batch_norm=live_batch_norm
    ).train()


def batch():
    generator = torch.Generator().manual_seed(1)
    images, targets = [], []
    for k in range(2):
        masks = torch.zeros(1, 64, 96, dtype=torch.uint8)
        masks[0, 10 : 50 + k, 20 : 50 + 4 * k] = 1
        box = torch.tensor([[20.0, 10.0, 50.0 + 4 * k, 50.0 + k]])
        images.append(torch.rand(3, 64, 96, generator=generator))
        targets.append({"boxes": box, "labels": torch.tensor([1]), "masks": masks})
    return images, targets


def total(terms):
    return sum(terms.values())


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_the_mean_of_the_pictures_own_gradients():
    images, targets = batch()
    model = small_model()
    terms = SideBySide(model, 2).gradients(images, targets, [5, 6], total)
    together = gradients(model)

    alone = SideBySide(model, 1)
    parts, losses = [], []
    for k in range(2):
        model.zero_grad()
        losses.append(alone.gradients(images[k : k + 1], targets[k : k + 1], [5 + k], total))
        parts.append(gradients(model))
    assert together.keys() == parts[0].keys()
    for name, value in together.items():
        expected = (parts[0][name] + parts[1][name]) / 2
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-5)
    for name, value in terms.items():
        torch.testing.assert_close(value, (losses[0][name] + losses[1][name]) / 2)


def test_gradients_are_those_of_a_plain_backward_pass(monkeypatch):
    images, targets = batch()
    model = small_model()
    SideBySide(model, 1).gradients(images[:1], targets[:1], [5], total)
    found = gradients(model)
    model.zero_grad()
    seeded = torch.Generator().manual_seed(5)
    monkeypatch.setattr(side_by_side._random, "generator", seeded, raising=False)
    total(model(images[:1], targets[:1])).backward()
    for name, value in gradients(model).items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)


def test_repeated_to_the_last_bit():
    images, targets = batch()
    model = small_model()
    threads, found = SideBySide(model, 2), []
    for _ in range(3):
        threads.gradients(images, targets, [5, 6], total)
        found.append(gradients(model))
    for other in found[1:]:
        assert all(torch.equal(value, other[name]) for name, value in found[0].items())


@pytest.mark.parametrize(("objects", "background"), [(0, 50), (3, 50), (40, 50), (40, 2), (5, 5)])
def test_sampler_chooses_as_many_as_torchvisions(objects, background):
    labels = torch.tensor([1] * objects + [0] * background + [-1] * 7)
    own = OwnSampler(16, 0.25)([labels])
    theirs = BalancedPositiveNegativeSampler(16, 0.25)([labels])
    for mine, reference, value in zip(own, theirs, (1, 0), strict=True):
        assert mine[0].sum() == reference[0].sum() and mine[0].dtype == reference[0].dtype
        assert (labels[mine[0].bool()] == value).all()


def test_live_batch_norm_is_refused():
    with pytest.raises(ValueError, match="is a live batch norm: freeze it"):
        SideBySide(small_model(live_batch_norm=True), 2)
