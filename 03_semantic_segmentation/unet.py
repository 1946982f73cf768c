"""U-Net, one class for each part of the paper's figure 1.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation"
(2015), section 2. Deviations, all of them common today:

- Convolutions are padded with zeros. The paper's lose one pixel at every side each, so that its
  output is smaller than its input (388 from 572) and skipped maps have to be cropped; here the
  output has the size of the input.
- Any input size works, from 1 x 1: pooling rounds up, and the decoder cuts the row or column that
  its doubling makes too many. The paper needs sizes that halve without a rest.
- Batch normalisation (Ioffe and Szegedy, 2015) after each convolution; the paper has none.
- The widths are free. The paper's are 64, 128, 256, 512, 1024; a laptop trains with less.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAPER_WIDTHS = (64, 128, 256, 512, 1024)


class DoubleConvolution(nn.Sequential):
    """Two 3 x 3 convolutions with ReLU: the blue arrows of the figure."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [
                nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),  # it has the bias
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class Encoder(nn.Module):
    """The contracting path: double convolutions with a 2 x 2 max pooling between them."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        inputs = [in_channels, *widths[:-1]]
        self.blocks = nn.ModuleList(map(DoubleConvolution, inputs, widths))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of images (B, C, H, W), from fine to coarse.

        Map k is (B, widths[k], H / 2**k, W / 2**k), rounded up.
        """
        x, features = images, []
        for k, block in enumerate(self.blocks):
            if k:
                x = F.max_pool2d(x, 2, ceil_mode=True)  # (B, C, H / 2, W / 2)
            x = block(x)  # (B, widths[k], H, W)
            features.append(x)
        return features


class UpBlock(nn.Module):
    """Double the size with a 2 x 2 up-convolution, join the skipped map, convolve twice."""

    def __init__(self, in_channels: int, out_channels: int, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.convolutions = DoubleConvolution((1 + skip) * out_channels, out_channels)

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        """Bring x (B, 2 C, h, w) to the size of `skipped` (B, C, H, W), h = H / 2 rounded up."""
        height, width = skipped.shape[-2:]
        x = self.up(x)[..., :height, :width]  # (B, C, H, W)
        if self.skip:
            x = torch.cat([skipped, x], dim=1)  # (B, 2 C, H, W)
        return self.convolutions(x)  # (B, C, H, W)


class Decoder(nn.Module):
    """The expanding path: up from the coarsest map, one skipped map after the other."""

    def __init__(self, widths: Sequence[int], skip: bool) -> None:
        super().__init__()
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.blocks = nn.ModuleList(UpBlock(coarse, fine, skip) for coarse, fine in pairs)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return (B, widths[0], H, W) from the encoder's maps."""
        x = features[-1]
        for block, skipped in zip(self.blocks, features[-2::-1], strict=True):
            x = block(x, skipped)
        return x


class UNet(nn.Module):
    """U-Net.

    Args:
        num_classes: K, the background included.
        widths: channels of the levels, from fine to coarse; at least one.
        in_channels: of the pictures.
        skip: False leaves out the skip connections, to see what they bring.

    Raises:
        ValueError: less than one class or one level.
    """

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = PAPER_WIDTHS,
        in_channels: int = 3,
        skip: bool = True,
    ) -> None:
        super().__init__()
        if num_classes < 1 or not widths or min(widths) < 1:
            raise ValueError(
                f"num_classes is {num_classes} and widths {tuple(widths)}; at least one class and "
                "one level of at least one channel are needed"
            )
        self.encoder = Encoder(in_channels, widths)
        self.decoder = Decoder(widths, skip)
        self.head = nn.Conv2d(widths[0], num_classes, 1)  # the figure's last, 1 x 1 convolution
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, in_channels, H, W), of any size."""
        return self.head(self.decoder(self.encoder(images)))


def _initialise(layer: nn.Module) -> None:
    """Draw kernels with standard deviation sqrt(2 / N), section 3, after He et al. (2015).

    N is how many numbers are added up for one output. In an up-convolution of stride 2 each output
    sees one point of the 2 x 2 kernel, and so N is the number of channels.
    """
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    elif isinstance(layer, nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, std=(2 / layer.in_channels) ** 0.5)
