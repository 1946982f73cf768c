"""The optimiser Muon, against PyTorch's own, singular values, and what it must leave alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from common.optimizers import Muon, balance, make_optimizer, split_matrices


@pytest.mark.parametrize("shape", [(16, 16), (24, 504), (96, 3888), (64, 16)])
def test_balanced_matrix_has_the_same_directions_and_singular_values_near_1(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    found = balance(matrix)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.67 and values.max() < 1.21
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ found @ right.T  # diagonal, where the directions are the same
    assert torch.allclose(inside, torch.diag(inside.diagonal()), atol=1e-3)
    assert (inside.diagonal() > 0).all()


def test_zero_gradient_changes_nothing_but_by_weight_decay():
    assert torch.equal(balance(torch.zeros(16, 20)), torch.zeros(16, 20))
    weight = nn.Parameter(torch.ones(16, 20))
    weight.grad = torch.zeros_like(weight)
    Muon([{"params": [weight], "muon": True}], 0.1, weight_decay=0.5).step()
    assert torch.allclose(weight, torch.full_like(weight, 0.95))


def slow_steps(weight: np.ndarray, gradients: list[np.ndarray], **settings: float) -> np.ndarray:
    """Take the steps of the source, as it writes them, in float64."""
    rate, decay, keep = settings["rate"], settings["decay"], settings["momentum"]
    weight, mean = weight.astype(np.float64), np.zeros(weight.shape)
    for gradient in gradients:
        mean = keep * mean + (1 - keep) * gradient
        x = keep * mean + (1 - keep) * gradient  # Nesterov's momentum
        x = x / np.sqrt((x * x).sum())
        for _ in range(5):
            x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
        weight = weight * (1 - rate * decay) - rate * max(weight.shape) ** 0.5 * x
    return weight


@pytest.mark.parametrize("shape", [(32, 64), (64, 32), (16, 16)])
def test_steps_are_those_of_the_source_in_float64(shape):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.ones(shape))
    gradients = [torch.randn(shape) for _ in range(6)]
    expected = slow_steps(
        np.ones(shape), [g.double().numpy() for g in gradients], rate=0.02, decay=0.5, momentum=0.8
    )
    own = Muon([{"params": [weight], "muon": True}], 0.02, weight_decay=0.5, momentum=0.8)
    for gradient in gradients:
        weight.grad = gradient
        own.step()
    assert_close(weight.detach().double(), torch.from_numpy(expected), rtol=0, atol=1e-4)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no torch.optim.Muon")
def test_steps_are_those_of_pytorchs_own_muon():
    torch.manual_seed(0)
    theirs, ours = (nn.Parameter(torch.ones(32, 64)) for _ in range(2))
    # PyTorch's rate is scaled by 0.2 and it computes in bfloat16, so it is right to some percent
    pytorch = torch.optim.Muon([theirs], 0.1, 0.1, momentum=0.8, adjust_lr_fn="match_rms_adamw")
    own = Muon([{"params": [ours], "muon": True}], 0.02, weight_decay=0.5, momentum=0.8)
    for _ in range(6):
        theirs.grad = torch.randn(32, 64)
        ours.grad = theirs.grad.clone()
        before = ours.detach().clone()
        pytorch.step()
        own.step()
    assert (ours - theirs).norm() < 0.05 * (ours - before).norm()


def test_kernel_is_the_matrix_of_its_output_channels():
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(20, 4, 3, 3))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    kernel.grad = torch.randn_like(kernel)
    matrix.grad = kernel.grad.flatten(1).clone()
    for one in (kernel, matrix):
        Muon([{"params": [one], "muon": True}], 0.1).step()
    assert torch.equal(kernel.flatten(1), matrix)


def test_other_groups_take_adamws_steps_to_the_last_bit():
    torch.manual_seed(0)
    matrix = nn.Parameter(torch.randn(16, 16))
    ours, theirs = (nn.Parameter(torch.ones(5)) for _ in range(2))
    mixed = Muon([{"params": [matrix], "muon": True}, {"params": [ours]}], 0.1)
    plain = torch.optim.AdamW([theirs], 0.1, fused=True)
    for _ in range(4):
        matrix.grad, ours.grad = torch.randn(16, 16), torch.randn(5)
        theirs.grad = ours.grad.clone()
        kept = matrix.grad.clone()
        mixed.step()
        plain.step()
        assert torch.equal(matrix.grad, kept)
    assert torch.equal(ours, theirs)


def test_root_mean_square_of_a_step_is_the_learning_rate():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(24, 504))
    weight.grad = torch.randn(24, 504)
    Muon([{"params": [weight], "muon": True}], 0.01).step()
    assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.01, rel=0.3)


def test_saved_and_loaded_it_goes_on_as_before(tmp_path):
    def made() -> tuple[nn.Module, Muon]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 2))
        return model, make_optimizer("muon", model, [], 0.01, 0.01)

    def step(model: nn.Module, optimizer: Muon, seed: int) -> None:
        torch.manual_seed(seed)
        optimizer.zero_grad()
        model(torch.randn(8, 20)).square().mean().backward()
        optimizer.step()

    whole = made()
    for seed in range(6):
        step(*whole, seed)
    stopped = made()
    for seed in range(3):
        step(*stopped, seed)
    torch.save([one.state_dict() for one in stopped], tmp_path / "saved.pt")
    resumed = made()
    saved = torch.load(tmp_path / "saved.pt", weights_only=True)
    for one, state in zip(resumed, saved, strict=True):
        one.load_state_dict(state)
    for seed in range(3, 6):
        step(*resumed, seed)
    for a, b in zip(whole[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(a, b)


def test_closure_is_called_before_the_step():
    weight = nn.Parameter(torch.full((16, 16), 2.0))

    def closure() -> torch.Tensor:
        loss = weight.square().sum()
        loss.backward()
        return loss

    loss = Muon([{"params": [weight], "muon": True}], 0.1).step(closure)
    assert loss == 4 * 256
    assert weight.square().sum() < loss


def test_matrices_are_told_from_vectors_narrow_layers_and_depthwise_kernels():
    layers = nn.ModuleDict(
        {
            "hidden": nn.Conv2d(8, 32, 3),
            "linear": nn.Linear(64, 32),
            "norm": nn.BatchNorm2d(32),
            "depthwise": nn.Conv2d(32, 32, 5, groups=32),
            "last": nn.Conv2d(32, 8, 1),
            "narrow": nn.Conv2d(3, 32, 1),
        }
    )
    matrices, others = split_matrices(layers.parameters())
    assert matrices == [layers["hidden"].weight, layers["linear"].weight]
    assert len(matrices) + len(others) == len(list(layers.parameters()))


@pytest.mark.parametrize(("name", "groups"), [("muon", 3), ("adamw", 2), ("sgd", 2)])
def test_pretrained_parameters_have_a_rate_of_their_own(name, groups):
    model = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20), nn.Linear(20, 20))
    model[0].requires_grad_(False)
    optimizer = make_optimizer(name, model, [(model[1].parameters(), 0.25)], 0.5, 0.0)
    assert len(optimizer.param_groups) == groups
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == {
        **{id(p): 0.25 for p in model[1].parameters()},
        **{id(p): 0.5 for p in model[2].parameters()},
    }
