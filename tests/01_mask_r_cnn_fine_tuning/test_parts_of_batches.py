"""Parts of a batch side by side: what one after the other gives, and the same every time."""

import copy

import pytest
import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from engine import divide, train_one_epoch
from model import mask_rcnn
from proposal_sampling import OwnSampler, drawing_from, use_own_samplers


def small_model():
    torch.manual_seed(0)
    return mask_rcnn("efficientnet_lite0", 2, pretrained=False, min_size=64).train()


def make_batch():
    generator = torch.Generator().manual_seed(1)
    images, targets = [], []
    for k in range(2):
        masks = torch.zeros(1, 64, 96, dtype=torch.uint8)
        masks[0, 10 : 50 + k, 20 : 50 + 4 * k] = 1
        box = torch.tensor([[20.0, 10.0, 50.0 + 4 * k, 50.0 + k]])
        images.append(torch.rand(3, 64, 96, generator=generator))
        one = {"boxes": box, "labels": torch.tensor([1]), "masks": masks, "image_id": k}
        targets.append(one)
    return images, targets


def one_step(model, parts=2):
    """Train on one batch with a learning rate of 1; the gradients are what has changed."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    losses = train_one_epoch(model, optimizer, [make_batch()], parts=parts, seed=5, progress=False)
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    for name, gradient in found.items():
        assert torch.equal(before[name] - gradient, model.get_parameter(name))
    return losses, found


def test_the_mean_of_the_parts_own_gradients(monkeypatch):
    model = small_model()
    alone = [copy.deepcopy(model) for _ in range(2)]
    chosen = []
    monkeypatch.setattr(
        "engine.divide", lambda batch, parts: chosen.append(divide(batch, parts)) or chosen[-1]
    )
    losses, together = one_step(model)
    terms = []
    for network, (images, targets, seed) in zip(alone, chosen[0], strict=True):
        use_own_samplers(network)
        with drawing_from(seed):
            terms.append(network(images, targets))
        sum(terms[-1].values()).backward()
    for name, value in together.items():
        expected = sum(network.get_parameter(name).grad for network in alone) / 2
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-5)
    for name in terms[0]:
        assert losses[name] == pytest.approx((terms[0][name] + terms[1][name]).item() / 2, 1e-3)


def test_repeated_to_the_last_bit():
    first, *others = [one_step(small_model()) for _ in range(3)]
    for losses, gradients in others:
        assert losses == first[0]
        assert all(torch.equal(value, gradients[name]) for name, value in first[1].items())


def test_batches_that_do_not_divide_are_taken_whole():
    images, targets = make_batch()
    assert divide((images, targets), 4) == []
    assert [len(part[0]) for part in divide((images * 2, targets * 2), 2)] == [2, 2]


@pytest.mark.parametrize(("objects", "background"), [(0, 50), (3, 50), (40, 50), (40, 2), (5, 5)])
def test_sampler_chooses_as_many_as_torchvisions(objects, background):
    labels = torch.tensor([1] * objects + [0] * background + [-1] * 7)
    own = OwnSampler(16, 0.25)([labels])
    theirs = BalancedPositiveNegativeSampler(16, 0.25)([labels])
    for mine, reference, value in zip(own, theirs, (1, 0), strict=True):
        assert mine[0].sum() == reference[0].sum() and mine[0].dtype == reference[0].dtype
        assert (labels[mine[0].bool()] == value).all()


def test_sampler_draws_from_the_seed_inside_and_from_pytorch_outside():
    labels, sampler = [torch.tensor([1, 0] * 200)], OwnSampler(16, 0.25)

    def chosen():
        return torch.stack([mask for part in sampler(labels) for mask in part])

    with drawing_from(3):
        first = chosen()
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), drawing_from(3):
        assert torch.equal(chosen(), first)
        assert torch.equal(torch.get_rng_state(), before)  # PyTorch's own is not touched
        raise ZeroDivisionError
    torch.manual_seed(4)
    outside = chosen()
    torch.manual_seed(4)
    assert torch.equal(chosen(), outside)
    assert not torch.equal(torch.get_rng_state(), before)
