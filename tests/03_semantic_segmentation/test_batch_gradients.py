"""Parts of a batch side by side: what one part after the other gives, whatever the threads do."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from common.parallel_batches import BatchGradients, divisible
from engine import train_one_epoch
from models import build_model, unet


def losses(model, part):
    images, labels = part
    logits = model(images)["out"]
    return {
        "loss": nn.functional.cross_entropy(logits, labels) + logits.square().mean(),
        "size": logits.square().mean(),
    }


def example(pictures=4):
    torch.manual_seed(0)
    model = unet(3, (4, 8)).train()
    images, labels = torch.rand(pictures, 3, 20, 12), torch.randint(0, 3, (pictures, 20, 12))
    return model, images, labels


def divide(batch, parts):
    images, labels = batch
    return list(zip(images.chunk(parts), labels.chunk(parts), strict=True))


def test_gradients_and_statistics_are_the_means_of_the_parts():
    model, images, labels = example(6)
    parts = divide((images, labels), 3)
    alone = [copy.deepcopy(model) for _ in parts]
    terms = [losses(one, part) for one, part in zip(alone, parts, strict=True)]
    for one in terms:
        one["loss"].backward()
    found = BatchGradients(model, losses, divide, 3)((images, labels))
    for name in ("loss", "size"):
        assert found[name] == pytest.approx(sum(t[name].item() for t in terms) / 3)
    for mine, *theirs in zip(model.parameters(), *(o.parameters() for o in alone), strict=True):
        torch.testing.assert_close(mine.grad, torch.stack([p.grad for p in theirs]).mean(0))
    for mine, *theirs in zip(model.buffers(), *(o.buffers() for o in alone), strict=True):
        torch.testing.assert_close(mine, torch.stack(theirs).double().mean(0).to(mine.dtype))


def test_order_of_the_threads_does_not_matter():
    results = []
    for number in range(10):
        model, images, labels = example()
        model.train(number % 2 == 0)  # as an evaluation leaves it, or not: it is trained
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        batch = (images, {"labels": labels, "image_id": [0]})
        history = []
        train_one_epoch(
            model,
            optimizer,
            [batch] * 5,
            parts=2,
            after_step=lambda step, found, into=history: into.append(found),
            progress=False,
        )
        results.append((history, model.state_dict()))
    for history, state in results[1:]:
        assert history == results[0][0]
        assert all(torch.equal(value, results[0][1][name]) for name, value in state.items())


def test_a_batch_that_does_not_divide_is_taken_whole():
    (model, images, labels), (whole, *_) = example(3), example(3)
    for one, parts in ((model, 2), (whole, 1)):
        batch = (images, {"labels": labels, "image_id": [0]})
        optimizer = torch.optim.SGD(one.parameters(), 0.1)
        train_one_epoch(one, optimizer, [batch], parts=parts, progress=False)
    for mine, theirs in zip(model.state_dict().values(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_frozen_and_unused_parameters_get_no_gradient():
    model, images, labels = example(2)
    model.unused = nn.Parameter(torch.zeros(3))
    first = next(model.parameters())
    first.requires_grad_(False)
    BatchGradients(model, losses, divide, 2)((images, labels))
    assert first.grad is None and model.unused.grad is None
    assert model.network.head.weight.grad.abs().sum() > 0


def test_which_models_can_be_divided(tmp_path):
    model = unet(3, (4, 8))
    assert divisible(model)
    assert divisible(build_model("smp_unet", 3, pretrained=False))
    assert not divisible(build_model("smp_deeplabv3plus", 3, pretrained=False))  # dropout
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        assert not divisible(DistributedDataParallel(model))
    finally:
        torch.distributed.destroy_process_group()
