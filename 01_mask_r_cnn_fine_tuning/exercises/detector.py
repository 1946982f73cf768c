"""Checks of the exercises 01.4 to 01.6, about the detector: anchors, heads, batch norm.

The anchors are counted by the lesson's own model. Heads and frozen layers are judged by what they
do: what comes out, and what a step of training changes.
"""

from functools import cache

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList

from common.checking.check import compare_value, exercise
from common.checking.compare import kind, same
from common.checking.sandbox import Attempt, WrongAnswerError
from model import BOX_UNITS, MASK_CHANNELS, mask_rcnn

WIDTH, HEIGHT = 320, 240


@cache
def small_detector() -> MaskRCNN:
    """The street preset's Mask R-CNN with random weights and two classes; nobody may change it."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        return mask_rcnn("efficientnet_lite0", num_classes=2, pretrained=False).eval()
    finally:
        torch.set_rng_state(state)


@cache
def count_anchors() -> tuple[int, int, int, int]:
    """Rows and columns of the coarsest level, all anchors, and positions of the finest level."""
    model = small_detector()
    with torch.inference_mode():
        images = torch.zeros(1, 3, HEIGHT, WIDTH)
        levels = list(model.backbone(images).values())
        batch = ImageList(images, [(HEIGHT, WIDTH)])
        anchors = model.rpn.anchor_generator(batch, levels[1:])[0]  # as CoarseProposals does
    rows, columns = levels[-1].shape[-2:]
    return rows, columns, len(anchors), levels[0].shape[-2:].numel()


@exercise("01.4", "Predict the anchors")
def predict_the_anchors(attempt: Attempt) -> None:
    """Three numbers, counted in the maps and anchors of the lesson's model."""
    rows, columns, count, finest = count_anchors()
    ratios = small_detector().rpn.anchor_generator.num_anchors_per_location()[0]
    cut = HEIGHT // 32, WIDTH // 32
    fewer = count - ratios * (rows * columns - cut[0] * cut[1])
    rounded_down = "240 / 32 is 7.5, and half a row is a row: a level rounds up"
    compare_value(
        attempt,
        (rows, columns, count),
        {
            rounded_down: (*cut, fewer),
            f"{rounded_down}; the anchors are those of 8 rows already": (*cut, count),
            "rows come first, then columns": (columns, rows, count),
            "the level is right; stride 4 has no anchors here": (
                *(rows, columns),
                count + ratios * finest,
            ),
            "the level is right; each position has one anchor per ratio": (
                *(rows, columns),
                count // ratios,
            ),
            "the level is right; a level has one size of anchors, not three": (
                *(rows, columns),
                count * 3,
            ),
            "the level is right; the anchors of all three levels are asked": (
                *(rows, columns),
                ratios * rows * columns,
            ),
        },
    )


@exercise("01.5", "Heads for your own classes", seconds=30)
def heads_for_your_own_classes(attempt: Attempt) -> None:
    """A model with other classes; its heads are fed and the shapes of what they say compared."""
    for names in (("cat",), ("cat", "dog"), ("cup", "fork", "knife", "plate")):
        model = attempt.call({"model": small_detector(), "class_names": list(names)})
        if not isinstance(model, MaskRCNN):
            raise WrongAnswerError(f"the function returns {kind(model)}; expected is the model")
        check_heads(attempt, model, len(names))
        check_kept(model)


def check_heads(attempt: Attempt, model: MaskRCNN, count: int) -> None:
    """Raise unless the heads speak of `count` classes and the background."""
    head = attempt.run(lambda: model.roi_heads.box_predictor(torch.zeros(2, BOX_UNITS)), {})
    if not isinstance(head, tuple) or len(head) != 2:
        raise WrongAnswerError(f"the box head returns {kind(head)}, not scores and corrections")
    told = f"for {count} class{'es' if count > 1 else ''} of yours"
    logits, corrections = (part.shape[1] for part in head)
    if logits == count:
        raise WrongAnswerError(f"{logits} scores {told}: the background is a class too")
    if logits != count + 1:
        raise WrongAnswerError(f"the box head gives {logits} scores {told}")
    if corrections != 4 * logits:
        text = "each class has four, the background included"
        raise WrongAnswerError(f"the box head gives {corrections} corrections {told}: {text}")
    features = torch.zeros(1, MASK_CHANNELS[-1], 14, 14)
    masks = attempt.run(lambda: model.roi_heads.mask_predictor(features), {})
    if masks.shape[1] != count + 1:
        text = "it needs as many as the box head has scores"
        raise WrongAnswerError(f"the mask head draws {masks.shape[1]} masks {told}: {text}")
    if masks.shape[-2:] != (28, 28):
        raise WrongAnswerError(f"the masks have {tuple(masks.shape[-2:])} pixels, not (28, 28)")


def check_kept(model: MaskRCNN) -> None:
    """Raise unless all weights but those of the two predictors are the old ones."""
    after = model.state_dict()
    for name, value in small_detector().state_dict().items():
        if "_predictor." in name:
            continue
        if name not in after or not torch.equal(after[name], value):
            part = name.split(".")[0]
            text = "all but the two last layers shall keep what they have learned"
            raise WrongAnswerError(f"weights in {part} are not the old ones: {text}")


def small_body() -> nn.Sequential:
    """Three convolutions, each with batch norm, one of them further inside; as if trained."""
    generator = torch.Generator().manual_seed(6)
    inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    first = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()
    last = nn.Conv2d(4, 2, 1, bias=False), nn.BatchNorm2d(2)
    body = nn.Sequential(*first, inner, *last)
    for value in [*body.parameters(), *body.buffers()]:
        if value.is_floating_point():
            value.data = torch.rand(value.shape, generator=generator) + 0.1
    return body


@exercise("01.6", "Freeze batch norm", seconds=20)
def freeze_batch_norm(attempt: Attempt) -> None:
    """A body that trains while its batch norm layers stand still; judged by a step of training."""
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(6))
    body = small_body()
    with torch.no_grad():
        expected = body.eval()(images)
    frozen = attempt.call({"body": body.train()})
    if not isinstance(frozen, nn.Module):
        raise WrongAnswerError(f"the function returns {kind(frozen)}; expected is the body")
    frozen.train()  # as the training loop does before each epoch
    in_training = attempt.run(frozen, {"images": images})
    after = attempt.run(frozen.eval(), {"images": images})
    trained = [value for value in frozen.parameters() if value.requires_grad]
    if not same(in_training, expected, 1e-4):
        raise WrongAnswerError(still_moving(trained, same(after, expected, 1e-4)))
    if not same(after, expected, 1e-4):
        raise WrongAnswerError("in training mode all is well, but after eval() the output differs")
    if any(value.dim() == 1 for value in trained):
        raise WrongAnswerError("the statistics stand still, but scale and shift are still trained")
    if sum(value.dim() == 4 for value in trained) < 3:
        raise WrongAnswerError("the convolutions are frozen too: they shall go on learning")


def still_moving(trained: list[Tensor], as_before: bool) -> str:
    """Say why the output in training mode is not that of the stored statistics."""
    batch = "in training mode the layers still use the statistics of the batch"
    if as_before:
        return f"the stored statistics stand still, but {batch}"
    if not any(value.dim() == 1 for value in trained):
        return f"scale and shift are frozen, but {batch}, and store them"
    return f"{batch}: the training loop calls train(), and that undoes eval()"
