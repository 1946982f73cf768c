"""Losses and metrics against torchmetrics, PyTorch and slow references written here."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_jaccard_index,
)

from common.masks import IGNORE_INDEX
from losses import (
    DICE_SMOOTHING,
    balanced_class_weights,
    check_labels,
    check_loss_weights,
    cross_entropy,
    dice_loss,
    focal_loss,
    segmentation_losses,
)
from metrics import ConfusionMatrix, format_metrics, summarize

NUM_MAPS = 10_000


def random_maps(count: int, seed: int = 0):
    """Yield (K, predicted, labels): small label maps, absent classes and ignored pixels."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, size=(1,)):
        return torch.randint(low, high, size, generator=generator)

    for _ in range(count):
        num_classes = draw(2, 7).item()
        present = draw(1, num_classes + 1).item()  # the classes from here on are absent
        shape = (draw(1, 6).item(), draw(1, 6).item())
        predicted, labels = draw(0, num_classes, shape), draw(0, present, shape)
        share = torch.rand((), generator=generator) * 1.2  # above 1: all are ignored
        labels[torch.rand(shape, generator=generator) < share - 0.2] = IGNORE_INDEX
        yield num_classes, predicted, labels


def slow_counts(num_classes, predicted, labels):
    counts = [[0] * num_classes for _ in range(num_classes)]
    for p, t in zip(predicted.flatten().tolist(), labels.flatten().tolist(), strict=True):
        if t != IGNORE_INDEX:
            counts[t][p] += 1
    return counts


def slow_ratio(counts, k, factor):
    """TP * factor / (TP * (factor - 1) + TP + FP + FN): IoU for 1, Dice for 2."""
    right = counts[k][k]
    wrong = sum(counts[k]) + sum(row[k] for row in counts) - 2 * right
    return factor * right / (factor * right + wrong) if right + wrong else math.nan


def test_metrics_equal_a_slow_reference_on_ten_thousand_maps(cases):
    for num_classes, predicted, labels in random_maps(cases(NUM_MAPS)):
        matrix = ConfusionMatrix(num_classes)
        matrix.update(predicted, labels)
        counts = slow_counts(num_classes, predicted, labels)
        assert matrix.counts.tolist() == counts
        for found, factor in ((matrix.iou(), 1), (matrix.dice(), 2)):
            expected = [slow_ratio(counts, k, factor) for k in range(num_classes)]
            assert found.tolist() == pytest.approx(expected, nan_ok=True)
            appear = [value for value in expected if not math.isnan(value)]
            mean = sum(appear) / len(appear) if appear else math.nan
            assert found.nanmean().item() == pytest.approx(mean, nan_ok=True)
            if factor == 1:
                assert matrix.mean_iou() == pytest.approx(mean, nan_ok=True)
        total = sum(map(sum, counts))
        right = sum(counts[k][k] for k in range(num_classes))
        accuracy = right / total if total else math.nan
        assert matrix.pixel_accuracy() == pytest.approx(accuracy, nan_ok=True)


def test_metrics_equal_torchmetrics():
    for num_classes, predicted, labels in random_maps(400, seed=1):
        if (labels == IGNORE_INDEX).all():
            continue  # torchmetrics gives 0 there, we give NaN
        matrix = ConfusionMatrix(num_classes)
        matrix.update(predicted, labels)
        options = {"num_classes": num_classes, "ignore_index": IGNORE_INDEX}
        assert torch.equal(matrix.counts, multiclass_confusion_matrix(predicted, labels, **options))
        pairs = [
            (matrix.iou(), multiclass_jaccard_index(predicted, labels, average="none", **options)),
            (matrix.dice(), multiclass_f1_score(predicted, labels, average="none", **options)),
        ]
        for ours, theirs in pairs:  # where a class does not appear theirs is 0 or NaN
            appears = ~ours.isnan()
            torch.testing.assert_close(ours[appears].float(), theirs[appears])
            assert not theirs[~appears].nan_to_num().any()
        mean = multiclass_jaccard_index(predicted, labels, average="macro", **options).item()
        assert matrix.mean_iou() == pytest.approx(mean, abs=1e-6)
        accuracy = multiclass_accuracy(predicted, labels, average="micro", **options).item()
        assert matrix.pixel_accuracy() == pytest.approx(accuracy, abs=1e-6)


def test_metrics_by_hand():
    matrix = ConfusionMatrix(3)
    matrix.update(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 255]]))
    assert matrix.iou().tolist()[:2] == [0.5, 0.5]  # class 0: 1 right, 1 false positive
    assert matrix.dice()[0].item() == pytest.approx(2 / 3)
    metrics = summarize(matrix, ("a", "b", "c"))
    assert metrics["per_class"] == {"a": 0.5, "b": 0.5, "c": None}
    assert metrics["mean_iou"] == 0.5
    assert metrics["pixel_accuracy"] == pytest.approx(2 / 3)
    assert format_metrics(metrics) == (
        "a  0.500\nb  0.500\nc  -\nmean IoU 0.500, pixel accuracy 0.667"
    )


def test_nothing_counted():
    metrics = summarize(ConfusionMatrix(2), ("a", "b"))
    assert metrics["mean_iou"] is None
    assert metrics["pixel_accuracy"] is None


def test_updates_add_up():
    maps = [one for one in random_maps(50, seed=2) if one[0] == 4]
    matrix, total = ConfusionMatrix(4), torch.zeros(4, 4, dtype=torch.int64)
    for _, predicted, labels in maps:
        matrix.update(predicted, labels)
        total += torch.tensor(slow_counts(4, predicted, labels))
    assert len(maps) > 3
    assert torch.equal(matrix.counts, total)


@pytest.mark.parametrize(
    ("predicted", "labels", "message"),
    [
        ([[0, 1]], [[0]], r"predicted is \(1, 2\), but labels is \(1, 1\)"),
        ([[0, 2]], [[0, 1]], "classes 0 to 2 in a label map; allowed are 0 to 1"),
        ([[0, 1]], [[0, -1]], "classes -1 to 1 in a label map"),
    ],
)
def test_bad_label_maps(predicted, labels, message):
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(2).update(torch.tensor(predicted), torch.tensor(labels))


def slow_losses(logits, labels, class_weights, gamma):
    """Cross-entropy, Dice and focal loss, pixel by pixel, from the definitions."""
    K = logits.shape[1]
    sums = {"ce": 0.0, "weight": 0.0, "focal": 0.0, "pixels": 0}
    intersection, predicted, true = [0.0] * K, [0.0] * K, [0] * K
    scores = logits.permute(0, 2, 3, 1).reshape(-1, K).tolist()
    for row, label in zip(scores, labels.flatten().tolist(), strict=True):
        if label == IGNORE_INDEX:
            continue
        exponentials = [math.exp(value) for value in row]
        p = [value / sum(exponentials) for value in exponentials]
        sums["ce"] -= class_weights[label] * math.log(p[label])
        sums["weight"] += class_weights[label]
        sums["focal"] -= (1 - p[label]) ** gamma * math.log(p[label])
        sums["pixels"] += 1
        intersection[label] += p[label]
        true[label] += 1
        predicted = [a + b for a, b in zip(predicted, p, strict=True)]
    dice = [
        1 - (2 * intersection[k] + DICE_SMOOTHING) / (predicted[k] + true[k] + DICE_SMOOTHING)
        for k in range(K)
        if true[k]
    ]
    return (
        sums["ce"] / sums["weight"] if sums["pixels"] else 0.0,
        sum(dice) / len(dice) if dice else 0.0,
        sums["focal"] / sums["pixels"] if sums["pixels"] else 0.0,
    )


def test_losses_equal_a_slow_reference_on_ten_thousand_maps(cases):
    generator = torch.Generator().manual_seed(3)
    for num_classes, _, labels in random_maps(cases(NUM_MAPS), seed=4):
        logits = 3 * torch.randn(1, num_classes, *labels.shape, generator=generator)
        weights = torch.rand(num_classes, generator=generator) + 0.1
        found = [
            cross_entropy(logits, labels[None], weights).item(),
            dice_loss(logits, labels[None]).item(),
            focal_loss(logits, labels[None]).item(),
        ]
        expected = slow_losses(logits, labels[None], weights.tolist(), 2.0)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_losses_equal_pytorch():
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 5, 6, 7, generator=generator)
    labels = torch.randint(0, 5, (2, 6, 7), generator=generator)
    labels[:, :2] = IGNORE_INDEX
    weights = torch.rand(5, generator=generator)
    for given in (None, weights):
        expected = F.cross_entropy(logits, labels, given, ignore_index=IGNORE_INDEX)
        torch.testing.assert_close(cross_entropy(logits, labels, given), expected)
    plain = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(focal_loss(logits, labels, gamma=0.0), plain)


def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(6)
    labels = torch.tensor([[[0, 2, 255], [1, 1, 0]]])
    logits = torch.randn(1, 4, 2, 3, generator=generator)
    for loss in (cross_entropy, dice_loss, focal_loss):
        start = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(start, labels), start)
        for place in [(0, 0, 0, 0), (0, 3, 1, 1), (0, 2, 0, 1), (0, 1, 0, 2)]:
            step = torch.zeros_like(logits)
            step[place] = 1e-2
            slope = (loss(logits + step, labels) - loss(logits - step, labels)) / 2e-2
            assert gradient[place].item() == pytest.approx(slope.item(), abs=2e-4)
        assert not gradient[0, :, 0, 2].any()  # the ignored pixel


@pytest.mark.parametrize("loss", [cross_entropy, dice_loss, focal_loss])
def test_all_ignored_gives_zero_and_no_gradient(loss):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((2, 4, 4), IGNORE_INDEX))
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("loss", [cross_entropy, dice_loss, focal_loss])
def test_extreme_logits_stay_finite(loss):
    logits = torch.tensor([[[[1e4]], [[-1e4]]]], requires_grad=True)
    for label in (0, 1):
        value = loss(logits, torch.full((1, 1, 1), label))
        value.backward()
        assert value.isfinite()
        assert logits.grad.isfinite().all()


def test_certain_and_right_costs_nothing():
    labels = torch.tensor([[[0, 1], [1, 0]]])
    logits = 50.0 * F.one_hot(labels, 2).permute(0, 3, 1, 2)
    for loss in (cross_entropy, dice_loss, focal_loss):
        assert loss(logits, labels).item() == pytest.approx(0, abs=1e-6)


def test_sum_of_losses_and_its_errors():
    logits, labels = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 255]]])
    terms = segmentation_losses(logits, labels, {"cross_entropy": 1.0, "dice": 0.0, "focal": 2.0})
    assert list(terms) == ["loss_cross_entropy", "loss_focal"]
    with pytest.raises(ValueError, match="'hinge' is unknown; allowed are cross_entropy, dice"):
        check_loss_weights({"hinge": 1.0})
    for bad in ({}, {"dice": 0.0}, {"dice": -1.0, "focal": 1.0}):
        with pytest.raises(ValueError, match="one at least must be above 0"):
            check_loss_weights(bad)
    with pytest.raises(ValueError, match="label is 7; allowed are 0 to 2 and 255"):
        check_labels(torch.tensor([0, 255, 7]), 3)


def test_class_weights_by_hand():
    weights = balanced_class_weights(torch.tensor([400, 100, 0]))
    assert weights.tolist() == pytest.approx([2 / 3, 4 / 3, 0])  # 1 : 2, mean 1, absent 0
