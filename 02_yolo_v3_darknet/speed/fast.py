"""Make a loaded network faster without changing what it computes.

What it does, each with its reason:

- Batch normalisation is folded into the kernels before it. Both are linear, so y = scale * (W x) +
  shift is one convolution with the kernels scale * W: one pass over the map less.
- `channels_last`: the values of one pixel lie side by side in memory, as the convolution kernels of
  CPUs and tensor cores read them.
- bfloat16 or float16 halve the bytes; processors with instructions for them also compute faster.
- `torch.compile`, on demand, writes code for this very network: it joins small operations.
"""

import copy

import torch
from torch import Tensor, nn

from common.precision import choose_precision
from darknet.network import ConvolutionStage, Darknet, run_layers

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def fold_batch_norm(stage: ConvolutionStage) -> tuple[Tensor, Tensor]:
    """Kernels (C_out, C_in / groups, K, K) and biases (C_out,) of a stage, batch norm folded in."""
    if stage.norm is None:
        return stage.conv.weight, stage.conv.bias
    scale, shift = stage.norm.scale_and_shift()
    return stage.conv.weight * scale[:, None, None, None], shift


@torch.no_grad()
def folded(model: Darknet) -> Darknet:
    """A copy in evaluation mode whose batch norm is folded into the kernels; not for training."""
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for stage in model.stages:
        if isinstance(stage, ConvolutionStage) and stage.norm is not None:
            kernels, biases = fold_batch_norm(stage)
            stage.conv.weight = nn.Parameter(kernels.contiguous(), requires_grad=False)
            stage.conv.bias = nn.Parameter(biases.contiguous(), requires_grad=False)
            stage.norm = None
    return model


class FastDarknet(nn.Module):
    """A network for inference only; takes and gives what `Darknet.forward` does.

    Args:
        model: the network, with its weights; it is not changed, and shares no memory that is
            written to.
        precision: of weights and maps, see `common.precision`.
        device: where to run.
        compiled: run through `torch.compile`; the first call then takes long (a minute, on a
            laptop).

    Raises:
        ValueError: an unknown precision, or fp16 on the CPU.
    """

    def __init__(
        self,
        model: Darknet,
        precision: str = "fp32",
        device: str | torch.device = "cpu",
        compiled: bool = False,
    ):
        super().__init__()
        device = torch.device(device)
        self.dtype = DTYPES[choose_precision(precision, device)]
        self.network = folded(model).to(device, self.dtype, memory_format=torch.channels_last)
        self.run = torch.compile(self._run) if compiled else self._run

    def _run(self, images: Tensor) -> list[Tensor]:
        return run_layers(self.network.layers, self.network.stages, images)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> list[Tensor]:
        """See `Darknet.forward`; images of any float dtype, outputs in the chosen precision."""
        self.network.check_images(images)
        return self.run(images.to(self.dtype, memory_format=torch.channels_last))
