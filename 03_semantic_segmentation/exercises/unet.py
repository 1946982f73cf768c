"""Checks of the exercises 03.6 and 03.7, about the shapes and the blocks of U-Net.

The oracles are the layers of `unet.py` themselves.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.checking.check import compare_function, compare_value, exercise
from common.checking.sandbox import Attempt
from unet import PAPER_WIDTHS, DoubleConvolution, Encoder, UpBlock

SIDE = 444  # of the picture in the notebook; the paper's is 572


def unpadded(layers: int = 6) -> nn.Sequential:
    """The first layers of a double convolution of one channel, without padding, as in the paper."""
    block = nn.Sequential(*list(DoubleConvolution(1, 1))[:layers]).eval()
    for layer in block:
        if isinstance(layer, nn.Conv2d):
            layer.padding = (0, 0)
    return block


def paper_sizes(side: int, down: nn.Module, up: nn.Module) -> tuple[int, int, int]:
    """Side of the coarsest map and of the output, and what is cropped from the first skipped map.

    Args:
        side: of the picture.
        down, up: the convolutions of each level on the way down and on the way up.
    """
    maps: list[Tensor] = []
    x = torch.empty(1, 1, side, side)
    for level in range(len(PAPER_WIDTHS)):
        x = down(F.max_pool2d(x, 2) if level else x)
        maps.append(x)
    bottom, crop, double = x.shape[-1], 0, nn.ConvTranspose2d(1, 1, 2, stride=2)
    for skipped in maps[-2::-1]:
        x = double(x)
        crop = (skipped.shape[-1] - x.shape[-1]) // 2
        x = up(x)
    return bottom, x.shape[-1], crop


@exercise("03.6", "Predict the sizes in the paper's U-Net")
def predict_sizes(attempt: Attempt) -> None:
    """Three sizes, read from layers that run without memory."""
    with torch.device("meta"):
        bottom, output, crop = paper_sizes(SIDE, unpadded(), unpadded())
        one_each = paper_sizes(SIDE, unpadded(3), unpadded(3))
        only_down = paper_sizes(SIDE, unpadded(), nn.Identity())
        padded = Encoder(1, (1,) * len(PAPER_WIDTHS)).eval()(torch.empty(1, 1, SIDE, SIDE))
    twice = "there are two convolutions per level, and each loses a pixel at every side"
    reasons = {
        "the convolutions are padded there: the paper's are not": (padded[-1].shape[-1], SIDE, 0),
        twice: one_each,
        "the convolutions on the way up lose their border too": only_down,
        "the coarsest map loses a border as well, after the last pooling": (
            *(bottom + 4, output),
            crop,
        ),
        "both sizes are right; the crop is asked for each side": (bottom, output, 2 * crop),
        "both sizes are right; the skipped map meets the doubled one before the two convolutions "
        "of its level": (bottom, output, crop + 2),
    }
    compare_value(attempt, (bottom, output, crop), reasons)


def block_cases() -> Iterator[dict]:
    """Coarse and skipped maps, of sides that halve with and without a rest."""
    generator = torch.Generator().manual_seed(7)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-4, 5, shape, generator=generator).float()

    sizes = [(2, 2), (2, 2), (1, 2), (2, 1), (3, 2), (4, 3), (5, 5), (6, 7), (1, 1)]
    for B, C, (H, W) in [(1, 1, size) for size in sizes] + [(2, 2, size) for size in sizes]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(H * W + C)
            block = UpBlock(2 * C, C, skip=True)
            mixing = nn.Conv2d(2 * C, C, 3, padding=1)
        yield {
            "x": whole(B, 2 * C, -(-H // 2), -(-W // 2)),
            "skipped": whole(B, C, H, W),
            "up": block.up,
            "convolutions": mixing,
        }


@exercise("03.7", "A block of the decoder")
def block_of_the_decoder(attempt: Attempt) -> None:
    """Double, cut, put the skipped map first, convolve; the oracle is the lesson's block."""

    def oracle(x: Tensor, skipped: Tensor, up: nn.Module, convolutions: nn.Module) -> Tensor:
        block = UpBlock(x.shape[1], skipped.shape[1], skip=True)
        block.up, block.convolutions = up, convolutions
        return block(x, skipped).detach()

    def swapped(x: Tensor, skipped: Tensor, up: nn.Module, convolutions: nn.Module) -> Tensor:
        x = up(x)[..., : skipped.shape[2], : skipped.shape[3]]
        return convolutions(torch.cat([x, skipped], dim=1))

    def cut_first(x: Tensor, skipped: Tensor, up: nn.Module, convolutions: nn.Module) -> Tensor:
        x = up(x)[..., -skipped.shape[2] :, -skipped.shape[3] :]
        return convolutions(torch.cat([skipped, x], dim=1))

    def resized(x: Tensor, skipped: Tensor, up: nn.Module, convolutions: nn.Module) -> Tensor:
        x = F.interpolate(up(x), skipped.shape[-2:], mode="bilinear")
        return convolutions(torch.cat([skipped, x], dim=1))

    def without_skip(x: Tensor, skipped: Tensor, up: nn.Module, convolutions: nn.Module) -> Tensor:
        x = up(x)[..., : skipped.shape[2], : skipped.shape[3]]
        return convolutions(torch.cat([x, x], dim=1))

    compare_function(
        attempt,
        block_cases(),
        oracle,
        {
            "the two maps are put together in the other order: the skipped one comes first": (
                swapped
            ),
            "the first row or column is cut off: the surplus one is the last": cut_first,
            "the doubled map is resized: the surplus row or column is cut off": resized,
            "the skipped map is not used": without_skip,
        },
    )
