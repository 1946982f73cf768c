"""Make a loaded network fast without changing what it computes.

What it does, each with its reason:

- Batch normalisation is folded into the kernels before it. Both are linear, so y = scale * (W x) +
  shift is one convolution with the kernels scale * W: one pass over the map less.
- `channels_last`: the values of one pixel lie side by side in memory, as the convolution kernels of
  CPUs and tensor cores read them.
- On the CPU the kernels are put into the order that oneDNN (PyTorch's CPU library) wants once, not
  at every call, and the leaky activation runs inside the convolution while its result is still in
  the cache.
- Large 3 x 3 convolutions in float32 use Winograd's algorithm on the CPU: 16 multiplications where
  the direct way needs 36 (see `speed/winograd.py`).
- bfloat16 or float16 halve the bytes; processors with instructions for them also compute faster.
"""

import torch
from torch import Tensor, nn

from darknet.layers import Layer, plan_layers
from darknet.network import (
    LEAKY_SLOPE,
    ConvolutionStage,
    Darknet,
    MaxpoolStage,
    activate,
    run_layers,
)
from speed.winograd import FUSED_ACTIVATIONS, PackedKernels, WinogradConvolution, can_pack

WINOGRAD_MIN_CHANNELS = 64  # below, the tiles cost more than the multiplications they save
WINOGRAD_LARGE_MAP = 20  # from this height on, tiles of 4 x 4 are worth their memory
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def fold_batch_norm(stage: ConvolutionStage) -> tuple[Tensor, Tensor]:
    """Kernels (C_out, C_in / groups, K, K) and biases (C_out,) of a stage, batch norm folded in."""
    if stage.norm is None:
        return stage.conv.weight, stage.conv.bias
    scale, shift = stage.norm.scale_and_shift()
    return stage.conv.weight * scale[:, None, None, None], shift


def activate_(x: Tensor, name: str) -> Tensor:
    """`darknet.network.activate`, in place where that is possible."""
    return nn.functional.leaky_relu_(x, LEAKY_SLOPE) if name == "leaky" else activate(x, name)


class FoldedConvolution(nn.Module):
    """A convolution with its batch norm folded in, then its activation."""

    def __init__(self, stage: ConvolutionStage, dtype: torch.dtype):
        super().__init__()
        kernels, biases = fold_batch_norm(stage)
        self.register_buffer(
            "kernels", kernels.to(dtype).contiguous(memory_format=torch.channels_last)
        )
        self.register_buffer("biases", biases.to(dtype))
        conv = stage.conv
        self.stride, self.padding, self.groups = conv.stride, conv.padding, conv.groups
        self.activation = stage.activation

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.conv2d(
            x, self.kernels, self.biases, self.stride, self.padding, groups=self.groups
        )
        return activate_(x, self.activation)


def packed_convolution(folded: FoldedConvolution, layer: Layer) -> nn.Module:
    """The same convolution in the form that the CPU computes fastest."""
    tail = nn.Identity()
    if suits_winograd(folded):
        tile = 4 if layer.out_shape[1] >= WINOGRAD_LARGE_MAP else 2
        body = WinogradConvolution(folded.kernels, folded.biases, layer.in_shape[1:], tile)
        tail = Activation(folded.activation)
    else:
        fused = folded.activation in FUSED_ACTIVATIONS
        body = PackedKernels(
            folded.kernels,
            folded.biases,
            (1, *layer.in_shape),
            folded.stride,
            folded.padding,
            folded.groups,
            folded.activation if fused else "linear",
        )
        if not fused:
            tail = Activation(folded.activation)
    return nn.Sequential(body, tail)


class Activation(nn.Module):
    """`activate_` as a module."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return activate_(x, self.name)


def suits_winograd(folded: FoldedConvolution) -> bool:
    """Whether Winograd's algorithm can compute this convolution, and pays."""
    c_out, c_in, *size = folded.kernels.shape
    fits = (*size, *folded.stride, *folded.padding, folded.groups) == (3, 3, 1, 1, 1, 1, 1)
    many = min(c_out, c_in) >= WINOGRAD_MIN_CHANNELS
    return fits and many and folded.kernels.dtype == torch.float32


class PairwiseMaxpool(nn.Module):
    """The 2 x 2 maximum with stride 2 as two maxima of neighbours: rows first, then columns.

    PyTorch's own max pooling also notes where each maximum was, which only training needs.
    """

    def __init__(self, pool: MaxpoolStage):
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        if H % 2 or W % 2 or not x.is_contiguous(memory_format=torch.channels_last):
            return self.pool(x)
        rows = x.permute(0, 2, 3, 1).view(B, H // 2, 2, W * C)
        pairs = torch.maximum(rows[:, :, 0], rows[:, :, 1]).view(B, H // 2, W // 2, 2, C)
        return torch.maximum(pairs[..., 0, :], pairs[..., 1, :]).permute(0, 3, 1, 2)


class FastDarknet(nn.Module):
    """A network for inference only; takes and gives what `Darknet.forward` does.

    Args:
        model: the network, with its weights; it is not changed, and shares no memory that is
            written to.
        precision: `fp32`, `bf16` or `fp16`, of weights and maps.
        device: where to run.
        input_size: (height, width) the kernels are ordered for; other sizes work too.
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
        input_size: tuple[int, int] = (416, 416),
        compiled: bool = False,
    ):
        super().__init__()
        device = torch.device(device)
        if precision not in DTYPES:
            raise ValueError(f"precision must be one of {', '.join(DTYPES)}, got {precision!r}")
        if precision == "fp16" and device.type == "cpu":
            raise ValueError(
                "precision fp16 needs a GPU; on the CPU use fp32, or bf16 where it has it"
            )
        self.dtype = DTYPES[precision]
        self.layers = plan_layers(model.blocks, model.cfg_path, input_size)
        self.check_images = model.check_images
        with torch.no_grad():
            self.stages = nn.ModuleList(self._convert(stage) for stage in model.stages).to(device)
            if device.type == "cpu" and not compiled and can_pack(self.dtype):
                self._pack()
        self.eval()
        self.run = torch.compile(self._run) if compiled else self._run

    def _convert(self, stage: nn.Module) -> nn.Module:
        return (
            FoldedConvolution(stage, self.dtype) if isinstance(stage, ConvolutionStage) else stage
        )

    def _pack(self) -> None:
        """Replace the stages by what the CPU computes fastest."""
        for layer in self.layers:
            stage = self.stages[layer.index]
            if isinstance(stage, MaxpoolStage) and stage.window == stage.stride == 2:
                self.stages[layer.index] = PairwiseMaxpool(stage)
            elif isinstance(stage, FoldedConvolution):
                self.stages[layer.index] = packed_convolution(stage, layer)

    def _run(self, images: Tensor) -> list[Tensor]:
        return run_layers(self.layers, self.stages, images)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> list[Tensor]:
        """See `Darknet.forward`; images of any float dtype, outputs in the chosen precision."""
        self.check_images(images)
        images = images.to(self.dtype, memory_format=torch.channels_last)
        if images.device.type == "cpu" and len(images) > 1:
            # The maps of one photo fit into the cache, those of several do not.
            photos = [self.run(photo) for photo in images.split(1)]
            return [torch.cat(maps) for maps in zip(*photos, strict=True)]
        return self.run(images)


def has_bfloat16_instructions() -> bool:
    """Whether this CPU computes bfloat16 natively; without, it is emulated and many times
    slower."""
    flag = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    matrix = getattr(torch.cpu, "_is_amx_tile_supported", None)
    arm = getattr(torch.backends.cpu, "get_cpu_capability", str)() in {"SVE256", "SVE"}
    return bool((flag and flag()) or (matrix and matrix()) or arm)
