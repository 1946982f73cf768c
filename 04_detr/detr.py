"""A small DETR: an object detector without anchors to tune and without suppression.

Carion et al., "End-to-End Object Detection with Transformers" (2020, arXiv:2005.12872).
Queries look at the picture and at one another, and each answers with one object or with none. As
published, DETR learns slowly; from its successors come

- query selection: the best places of the picture begin as queries (Deformable DETR's two stages,
  arXiv:2010.04159; RT-DETR, arXiv:2304.08069),
- refinement: every decoder layer corrects the boxes of the layer before (Deformable DETR),
- three maps, fused from coarse to fine, with self-attention on the coarsest alone (RT-DETR),
- denoising queries, which `matcher.py` makes (DN-DETR, arXiv:2203.01305).

Each can be switched off; without them this is the model of 2020 in small, but that its classes are
yes-or-no questions, learned with the same losses. Boxes are centre x, centre y, width, height as
fractions of the picture that goes in. In the shapes, B counts pictures, Q queries, N noisy queries,
T = N + Q, M places of the memory, C classes, and D = 128 channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn

from common.efficientnet_lite import ARCHITECTURE, IMAGE_MEAN, IMAGE_STD, load_imagenet_weights
from matcher import attention_mask
from settings import Settings

D, HEADS, HIDDEN, DECODER_LAYERS = 128, 8, 512, 3
STRIDES = (8, 16, 32)
FIRST_SIZES = {8: 0.12, 16: 0.25, 32: 0.5}  # sides of a box before anything is predicted
FASTEST, SLOWEST = 10.0, 1e-3  # waves across the picture, of the sines of a position
FROZEN = ("conv_stem", "bn1", "blocks.0", "blocks.1")  # down to stride 4: edges, learned already
RARE = 0.01  # probability that the first classifier gives to each class
EPSILON = 1e-4  # of a box's number from 0 and 1, so that its logit is finite


def sine_positions(fractions: Tensor, channels: int = D // 2) -> Tensor:
    """Write coordinates as sines and cosines ("Attention Is All You Need", section 3.5).

    Args:
        fractions: (..., n), of the picture.
        channels: for each coordinate, half of them sines.

    Returns:
        (..., n * channels).
    """
    share = torch.arange(channels // 2, device=fractions.device) / (channels // 2)
    waves = FASTEST * (SLOWEST / FASTEST) ** share
    angles = fractions[..., None] * 2 * math.pi * waves  # (..., n, channels / 2)
    return torch.cat((angles.sin(), angles.cos()), dim=-1).flatten(-2)


class Attention(nn.Module):
    """Multi-head attention ("Attention Is All You Need", section 3.2), which shows its weights."""

    def __init__(self, channels: int = D, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (
            nn.Linear(channels, channels) for _ in range(4)
        )

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, blocked: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Let each query gather values, weighted by how well their keys fit it.

        Args:
            queries: (B, T, D).
            keys, values: (B, M, D).
            blocked: bool (T, M) or (B, T, M); True where a query may not look.

        Returns:
            (B, T, D), and the weights (B, heads, T, M), whose sum over M is 1.
        """
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T or M, d)
            for layer, x in ((self.query, queries), (self.key, keys), (self.value, values))
        )
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, heads, T, M)
        if blocked is not None:
            scores = scores.masked_fill(blocked.unsqueeze(-3), -math.inf)
        weights = scores.softmax(dim=-1)
        return self.out((weights @ value).transpose(1, 2).flatten(-2)), weights


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return two layers that see each query alone."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class EncoderLayer(nn.Module):
    """The places of a map look at one another. All that is added to is normalised afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(), mlp(D, HIDDEN, D)
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(2))

    def forward(self, places: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Places (B, S, D) at positions (S, D): their new content, weights (B, heads, S, S)."""
        found, weights = self.attention(places + positions, places + positions, places)
        places = self.norms[0](places + found)
        return self.norms[1](places + self.feed_forward(places)), weights


class DecoderLayer(nn.Module):
    """Queries look at one another, so that no two answer with one object; then at the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attention, self.cross_attention = Attention(), Attention()
        self.feed_forward = mlp(D, HIDDEN, D)
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(3))

    def forward(
        self, queries: Tensor, positions: Tensor, memory: Tensor, places: Tensor, blocked: Any
    ) -> tuple[Tensor, Tensor]:
        """Queries (B, T, D) and memory (B, M, D): the queries' new content, and where they looked.

        Args:
            positions: of the queries, (B, T, D).
            places: positions of the memory, (M, D).
            blocked: bool (B, T, T), which query may not see which; or None.

        Returns:
            (B, T, D), and the weights (B, heads, T, M).
        """
        placed = queries + positions
        found, _ = self.self_attention(placed, placed, queries, blocked)
        queries = self.norms[0](queries + found)
        found, weights = self.cross_attention(queries + positions, memory + places, memory)
        queries = self.norms[1](queries + found)
        return self.norms[2](queries + self.feed_forward(queries)), weights


def efficientnet_lite0(maps: int, pretrained: bool) -> nn.Module:
    """Return timm's EfficientNet-Lite0, which gives its so many coarsest maps of STRIDES.

    Its batch norm keeps the statistics of ImageNet, since a batch is too small for its own, and its
    first layers do not learn.

    Raises:
        PretrainedWeightsError: the weights cannot be had.
    """
    wanted = (2, 3, 4)[-maps:]
    body = timm.create_model(ARCHITECTURE, features_only=True, out_indices=wanted)
    if pretrained:
        load_imagenet_weights(body)
    freeze_batch_norm_2d(body)
    for layer in FROZEN:
        body.get_submodule(layer).requires_grad_(False)
    return body


class DETR(nn.Module):
    """The detector; see the module's text.

    Args:
        num_classes: of the data; there is no background.
        queries: "selected" from the memory, or "learned", the same for all pictures.
        refine: each decoder layer corrects the box of the one before; else that of the beginning.
        maps: so many of STRIDES, the coarsest first.
        num_queries: the most objects that can be found in a picture.
        denoising: whether noisy queries can be given.
        pretrained: start from ImageNet's weights.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        queries: str = "selected",
        refine: bool = True,
        maps: int = 3,
        num_queries: int = 30,
        denoising: bool = True,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        self.queries, self.refine, self.num_queries = queries, refine, num_queries
        self.strides = STRIDES[-maps:]
        self.body = efficientnet_lite0(maps, pretrained)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, D, 1), nn.GroupNorm(8, D))
            for channels in self.body.feature_info.channels()
        )
        self.encoder = EncoderLayer()
        self.fuse = nn.ModuleList(
            nn.Sequential(nn.Conv2d(D, D, 3, padding=1), nn.GroupNorm(8, D), nn.SiLU())
            for _ in self.strides[1:]
        )
        self.memory_norm = nn.LayerNorm(D)
        if queries == "learned":
            self.learned = nn.Parameter(torch.randn(num_queries, D))
        else:
            self.query_positions = mlp(2 * D, D, D)
        self.class_embedding = nn.Embedding(num_classes, D) if denoising else None
        self.layers = nn.ModuleList(DecoderLayer() for _ in range(DECODER_LAYERS))
        stages = DECODER_LAYERS + (queries == "selected")
        self.class_heads = nn.ModuleList(nn.Linear(D, num_classes) for _ in range(stages))
        self.box_heads = nn.ModuleList(mlp(D, D, 4) for _ in range(stages))
        for classify, regress in zip(self.class_heads, self.box_heads, strict=True):
            nn.init.constant_(classify.bias, math.log(RARE / (1 - RARE)))
            nn.init.zeros_(regress[-1].weight)  # the first answer is the box that it began with
            nn.init.zeros_(regress[-1].bias)
        for name, values in (("mean", IMAGE_MEAN), ("std", IMAGE_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor, noisy: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Find objects.

        Args:
            images: float32 (B, 3, H, W), RGB in 0..1, of any size: sides that are no multiples of
                32 are filled up inside, on the right and below, with the mean colour.
            noisy: of `matcher.noisy_queries`, in training.

        Returns:
            - "logits" (S, B, Q, C), "boxes_cxcywh" (S, B, Q, 4): of S stages: the places, if
              they are selected, then each decoder layer. The last counts.
            - "denoised": {"logits" (L, B, N, C), "boxes_cxcywh" (L, B, N, 4)} of the noisy
              queries in the L decoder layers; or None.
            - "attention": for each decoder layer (B, heads, Q, M), where a query looked.
            - "encoder_attention": (B, heads, S32, S32), among the places of the coarsest map.
            - "shapes": [(h, w), ...] of the maps, fine to coarse: the M places row by row.
            - "places": int64 (B, Q), which were selected; or None.
        """
        maps, anchors, encoder_attention = self.encode(images)
        memory = self.memory_norm(torch.cat([flat(one) for one in maps], dim=1))  # (B, M, D)
        content, boxes, first = self.begin(memory, anchors, images.shape[0])
        blocked, count = None, 0
        if noisy is not None:
            content = torch.cat((self.class_embedding(noisy["classes"]), content), dim=1)
            boxes = torch.cat((noisy["boxes_cxcywh"], boxes), dim=1)  # (B, T, 4)
            blocked, count = attention_mask(noisy, self.num_queries), noisy["classes"].shape[1]
        stages, attention = self.decode(content, boxes, memory, anchors, blocked)
        found = {name: torch.stack(values).float() for name, values in stages.items()}
        answers = {name: values[:, :, count:] for name, values in found.items()}
        denoised = {name: values[:, :, :count] for name, values in found.items()}
        if first is not None:
            answers = {k: torch.cat((first[k].float()[None], v)) for k, v in answers.items()}
        return {
            **answers,
            "denoised": None if noisy is None else denoised,
            "attention": [weights[:, :, count:] for weights in attention],
            "encoder_attention": encoder_attention,
            "shapes": [tuple(one.shape[-2:]) for one in maps],
            "places": None if first is None else first["places"],
        }

    def encode(self, images: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the fused maps (B, D, h, w), fine to coarse, `anchors`, the encoder's weights."""
        height, width = images.shape[-2:]
        x = F.pad((images - self.mean) / self.std, (0, -width % 32, 0, -height % 32))
        maps = [project(one) for project, one in zip(self.project, self.body(x), strict=True)]
        anchors, coarsest = self.anchors(maps, images), flat(maps[-1])  # (M, 4), (B, S, D)
        positions = sine_positions(anchors[-coarsest.shape[1] :, :2])
        places, weights = self.encoder(coarsest, positions)
        maps[-1] = places.transpose(1, 2).unflatten(2, maps[-1].shape[-2:])
        for k in reversed(range(len(self.fuse))):  # from coarse to fine
            maps[k] = self.fuse[k](maps[k] + F.interpolate(maps[k + 1], scale_factor=2))
        return maps, anchors, weights

    def anchors(self, maps: list[Tensor], images: Tensor) -> Tensor:
        """Return a box around the middle of each place, (M, 4), of a size for its map."""
        height, width = images.shape[-2:]
        boxes = []
        for stride, one in zip(self.strides, maps, strict=True):
            rows, columns = (torch.arange(n, device=one.device) + 0.5 for n in one.shape[-2:])
            y, x = torch.meshgrid(rows * stride / height, columns * stride / width, indexing="ij")
            size = torch.full_like(x, FIRST_SIZES[stride])
            boxes.append(torch.stack((x, y, size, size), dim=-1).flatten(0, 1))
        return torch.cat(boxes)

    def begin(
        self, memory: Tensor, anchors: Tensor, batch: int
    ) -> tuple[Tensor, Tensor, dict[str, Tensor] | None]:
        """Return the queries' content (B, Q, D) and boxes (B, Q, 4), and the first stage."""
        if self.queries == "learned":
            content = memory.new_zeros(batch, self.num_queries, D)
            return content, content[..., :4] + 0.5, None
        logits = self.class_heads[0](memory)  # (B, M, C)
        best = logits.amax(dim=-1).topk(self.num_queries, dim=1).indices  # (B, Q)
        chosen = memory.gather(1, best[..., None].expand(-1, -1, D))
        boxes = (anchors[best].logit(EPSILON) + self.box_heads[0](chosen)).sigmoid()
        first = {"logits": self.class_heads[0](chosen), "boxes_cxcywh": boxes, "places": best}
        return chosen.detach(), boxes.detach(), first

    def decode(
        self, content: Tensor, boxes: Tensor, memory: Tensor, anchors: Tensor, blocked: Any
    ) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
        """Return logits (B, T, C) and boxes (B, T, 4) of each layer, and the attention."""
        places = sine_positions(anchors[:, :2])  # (M, D)
        logits, found, attention = [], [], []
        heads = (self.class_heads[-DECODER_LAYERS:], self.box_heads[-DECODER_LAYERS:])
        for layer, classify, regress in zip(self.layers, *heads, strict=True):
            selected = self.queries == "selected"
            positions = self.query_positions(sine_positions(boxes)) if selected else self.learned
            content, weights = layer(content, positions, memory, places, blocked)
            answer = (boxes.logit(EPSILON) + regress(content)).sigmoid()
            if self.refine:
                boxes = answer.detach()
            logits.append(classify(content))
            found.append(answer)
            attention.append(weights)
        return {"logits": logits, "boxes_cxcywh": found}, attention


def flat(places: Tensor) -> Tensor:
    """Turn a map (B, D, h, w) into a row of places (B, h * w, D)."""
    return places.flatten(2).transpose(1, 2)


def build_model(settings: Settings, num_classes: int, pretrained: bool | None = None) -> DETR:
    """Build the detector that the settings describe, stored channels last; see `DETR`."""
    names = ("queries", "refine", "maps", "num_queries")
    options = {name: getattr(settings, name) for name in names}
    trained = settings.pretrained if pretrained is None else pretrained
    model = DETR(num_classes, denoising=settings.denoising > 0, pretrained=trained, **options)
    return model.to(memory_format=torch.channels_last)
