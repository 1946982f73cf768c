"""Noisy queries: what is spoiled and by how much, and that nobody sees an answer."""

import pytest
import torch

from matcher import attention_mask, group_mask, noisy_queries


def test_objects_are_repeated_in_each_group(some_targets):
    targets = some_targets(2, 0, 3)
    noisy = noisy_queries(targets, 3, groups=2, box_noise=0, label_noise=0)
    assert noisy["classes"].shape == noisy["valid"].shape == noisy["objects"].shape == (3, 6)
    assert noisy["valid"].int().tolist() == [[1, 1, 0] * 2, [0] * 6, [1] * 6]
    assert noisy["objects"][0, [0, 1, 3, 4]].tolist() == [0, 1, 0, 1]
    assert noisy["objects"][2].tolist() == [2, 3, 4] * 2
    for picture, target in enumerate(targets):
        n = len(target["classes"])
        for start in (0, 3):
            own = slice(start, start + n)
            assert torch.equal(noisy["classes"][picture, own], target["classes"])
            torch.testing.assert_close(noisy["boxes_cxcywh"][picture, own], target["boxes_cxcywh"])


def test_how_much_is_spoiled(some_targets):
    targets = some_targets(40, 30)
    torch.manual_seed(0)
    noisy = noisy_queries(targets, 3, groups=30, box_noise=0.4, label_noise=0.3)
    objects = torch.cat([one["boxes_cxcywh"] for one in targets])
    classes = torch.cat([one["classes"] for one in targets])
    valid = noisy["valid"]
    true, found = objects[noisy["objects"][valid]], noisy["boxes_cxcywh"][valid]
    shift = (found[:, :2] - true[:, :2]).abs() / (true[:, 2:] / 2)
    growth = (found[:, 2:] / true[:, 2:] - 1).abs()[found[:, 2:] < 1]
    for share in (shift, growth):
        assert 0.38 < share.max() < 0.4 + 1e-4
        assert share.mean() == pytest.approx(0.2, abs=0.02)
    swapped = noisy["classes"][valid] != classes[noisy["objects"][valid]]
    assert swapped.float().mean() == pytest.approx(0.3 * 2 / 3, abs=0.03)  # one third is the same


def test_boxes_stay_in_the_picture():
    target = {"boxes_cxcywh": torch.tensor([[0.01, 0.99, 0.9, 1e-5]]), "classes": torch.tensor([0])}
    boxes = noisy_queries([target], 1, groups=200, box_noise=1.0)["boxes_cxcywh"]
    assert boxes.min() > 0 and boxes.max() <= 1


def test_without_groups_and_without_objects(some_targets):
    assert noisy_queries(some_targets(2), 3, groups=0) is None
    empty = noisy_queries(some_targets(0, 0), 3, groups=2)
    assert empty["classes"].shape == (2, 0)
    assert attention_mask(empty, 4).shape == (2, 4, 4) and not attention_mask(empty, 4).any()


def slow_mask(groups, size, queries):
    """By the words of the paper, pair by pair."""
    kinds = [("noisy", g) for g in range(groups) for _ in range(size)] + [("query", 0)] * queries
    return [
        [seen[0] == "noisy" and seen != one for seen in kinds] for one in kinds
    ]  # an ordinary query is no hidden one; a noisy one is shown to its own group alone


@pytest.mark.parametrize(
    ("groups", "size", "queries"), [(1, 1, 1), (2, 3, 4), (4, 2, 1), (3, 0, 2)]
)
def test_mask_pair_by_pair(groups, size, queries):
    assert group_mask(groups, size, queries).tolist() == slow_mask(groups, size, queries)


def test_padding_is_seen_by_itself_alone(some_targets):
    noisy = noisy_queries(some_targets(1, 3), 3, groups=2)
    mask = attention_mask(noisy, 4)
    plain = group_mask(2, 3, 4)
    assert torch.equal(mask[1], plain)  # nothing is padded there
    for seer in range(10):
        for seen in range(10):
            padded = seen in (1, 2, 4, 5)
            assert mask[0, seer, seen] == ((plain[seer, seen] or padded) and seer != seen)


def gradients(model, images, noisy):
    """Say which query's content each answer depends on: bool (T, T), rows answer."""
    contents = {}

    def keep(_module, inputs):
        contents["all"] = inputs[0].detach().requires_grad_()
        return (contents["all"], *inputs[1:])

    handle = model.layers[0].register_forward_pre_hook(keep)
    found = model(images, noisy)
    handle.remove()
    answers = torch.cat((found["denoised"]["logits"][-1], found["logits"][-1]), dim=1)  # (B, T, C)
    answers = answers + torch.cat(
        (found["denoised"]["boxes_cxcywh"][-1], found["boxes_cxcywh"][-1]), dim=1
    ).sum(-1, keepdim=True)
    rows = [
        torch.autograd.grad(answers[0, t].sum(), contents["all"], retain_graph=True)[0][0]
        for t in range(answers.shape[1])
    ]
    return torch.stack([row.abs().sum(-1) > 0 for row in rows])


def test_gradients_prove_that_nothing_leaks(tiny_detr, some_targets):
    torch.manual_seed(0)
    noisy = noisy_queries(some_targets(2, 3), 3, groups=3)  # three a group, of which one is padding
    depends = gradients(tiny_detr(), torch.rand(2, 3, 64, 96), noisy)
    group = [0, 0, 0, 1, 1, 1, 2, 2, 2] + ["query"] * 6
    padding = {2, 5, 8}
    for one in range(15):
        for other in range(15):
            allowed = group[other] in (group[one], "query") and other not in padding
            expected = one == other or allowed
            if one in padding:
                continue  # what padding answers is in no loss
            assert depends[one, other] == expected, (one, other)


def test_ordinary_answers_are_the_same_with_and_without_noisy_queries(tiny_detr, some_targets):
    model, images = tiny_detr(), torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        plain = model(images)
        with_noise = model(images, noisy_queries(some_targets(2, 3), 3, groups=3))
    for name in ("logits", "boxes_cxcywh"):
        torch.testing.assert_close(plain[name], with_noise[name], rtol=1e-4, atol=1e-5)


def test_an_answer_does_not_depend_on_the_objects_of_companions(tiny_detr, some_targets):
    """More objects in another picture make more padding here, and that is all."""
    model, images = tiny_detr(), torch.rand(2, 3, 64, 96)
    few, many = (
        noisy_queries(some_targets(2, n), 3, groups=2, box_noise=0, label_noise=0) for n in (1, 5)
    )
    with torch.no_grad():
        small, large = (model(images, one)["denoised"]["logits"][-1][0] for one in (few, many))
    torch.testing.assert_close(small[[0, 1, 2, 3]], large[[0, 1, 5, 6]], rtol=1e-4, atol=1e-5)
