"""Read Darknet's .cfg files into typed blocks.

A .cfg file is the text form of a network: one `[block]` a layer, in the order in which they run,
with `key=value` lines below it. Lines that start with `#` or `;` are comments. The format and its
defaults are those of Darknet (Redmon, 2013-2016, https://pjreddie.com/darknet); a test compares
what is read here with what OpenCV's importer and Darknet itself make of the same file. Of a key
that stands twice in a block, the first counts, as there; it is said on stderr.

Deviations: Darknet prints "unused field" for a key it does not know and goes on. Here an unknown
block, key or activation is an error that names the file and the line, since a typing error would
otherwise give another network than the one that was meant; keys that only steer training are
passed over, and those that not all of Darknet's kin know are named on stderr. A comment may stand
behind a value: Darknet takes numbers in front of it as they are, but misreads words.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from darknet.sections import (
    REFUSED_BLOCKS,
    REFUSED_KEYS,
    DarknetFileError,
    Notes,
    read_sections,
)

NETWORKS = Path(__file__).parent / "networks"  # cfg files and COCO's names
MAX_LAYERS = 2_000
ACTIVATIONS = ("linear", "leaky", "relu", "mish", "logistic")


def integer(default: int | None, low: int = 0, high: int = 2**31 - 1) -> Any:
    """Declare a key that holds one whole number from `low` to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return dataclasses.field(default=default, metadata={"parse": parse})


def number(default: float) -> Any:
    """Declare a key that holds one finite number."""
    return dataclasses.field(default=default, metadata={"parse": _parse_number})


def choice(default: str, allowed: tuple[str, ...]) -> Any:
    """Declare a key that holds one word of `allowed`."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of: {', '.join(allowed)}")
        return text

    return dataclasses.field(default=default, metadata={"parse": parse})


def sequence(parse_item: Callable[[str], Any], most: int = 1_000) -> Any:
    """Declare a key that holds a comma-separated list of at most `most` items."""

    def parse(text: str) -> tuple:
        items = text.rstrip(",").split(",")
        if len(items) > most:
            raise ValueError(f"has {len(items)} items, at most {most} are allowed")
        return tuple(parse_item(item) for item in items)

    return dataclasses.field(default=(), metadata={"parse": parse})


def _parse_number(text: str) -> float:
    try:
        value = float(text) if len(text) <= 40 and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _parse_index(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,6}", text):
        raise ValueError("must be whole numbers separated by commas")
    return int(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """What all blocks share. `extra` holds the keys that only Darknet's own training reads.

    RARE_KEYS are those that not all of Darknet's kin know.
    """

    TRAINING_KEYS: ClassVar[frozenset[str]] = frozenset()
    RARE_KEYS: ClassVar[frozenset[str]] = frozenset(
        """clip onlyforward dont_update burnin_update stopbackward train_only_bn learning_rate
        grad_centr""".split()
    )
    line: int
    extra: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Net(Block):
    """`[net]`: the size of the input in pixels; everything else steers Darknet's training."""

    TRAINING_KEYS: ClassVar[frozenset[str]] = frozenset(
        """batch subdivisions momentum decay angle saturation exposure hue learning_rate burn_in
        max_batches policy steps scales step scale gamma power time_steps notruth random adam B1 B2
        eps max_crop min_crop max_ratio min_ratio aspect center clip flip mosaic mosaic_bound cutmix
        mixup letter_box blur gaussian_noise label_smooth_eps ema_alpha dynamic_minibatch
        optimized_memory workspace_size_limit_MB max_chart_loss resize_step sgdr_cycle
        sgdr_mult""".split()
    )
    width: int = integer(416, 1, 8192)
    height: int = integer(416, 1, 8192)
    channels: int = integer(3, 1, 1024)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolutional(Block):
    """`[convolutional]`: convolution, batch normalisation if asked for, activation."""

    filters: int = integer(1, 1, 65_536)
    size: int = integer(1, 1, 63)
    stride: int = integer(1, 1, 64)
    pad: int = integer(0, 0, 1)  # 1: padding is size // 2, whatever `padding` says
    padding: int = integer(0, 0, 64)
    groups: int = integer(1, 1, 65_536)
    batch_normalize: int = integer(0, 0, 1)
    activation: str = choice("logistic", ACTIVATIONS)

    @property
    def padding_pixels(self) -> int:
        return self.size // 2 if self.pad else self.padding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maxpool(Block):
    """`[maxpool]`: the largest value of each `size` x `size` window, `stride` apart."""

    size: int | None = integer(None, 1, 255)  # as large as the stride where it is not given
    stride: int = integer(1, 1, 64)
    padding: int | None = integer(None, 0, 254)  # right and bottom take the odd pixel

    @property
    def window(self) -> int:
        return self.stride if self.size is None else self.size

    @property
    def padding_pixels(self) -> int:
        padding = self.window - 1 if self.padding is None else self.padding
        if (padding + 1) // 2 >= self.window:
            raise ValueError(f"padding={padding} leaves nothing in a window of {self.window}")
        return padding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upsample(Block):
    """`[upsample]`: every pixel repeated `stride` times in both directions."""

    stride: int = integer(2, 1, 32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Route(Block):
    """`[route]`: the maps of other layers, channels side by side; negative numbers count back."""

    layers: tuple[int, ...] = sequence(_parse_index, most=32)
    groups: int = integer(1, 1, 65_536)
    group_id: int = integer(0, 0, 65_535)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shortcut(Block):
    """`[shortcut]`: the sum of the layer before and the layer `from` (a residual connection)."""

    source: int | None = dataclasses.field(
        default=None, metadata={"parse": _parse_index, "key": "from"}
    )
    activation: str = choice("linear", ACTIVATIONS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Yolo(Block):
    """`[yolo]`: an output; `mask` says which of the `anchors` (width, height in input pixels) are
    its own."""

    TRAINING_KEYS: ClassVar[frozenset[str]] = frozenset(
        """jitter ignore_thresh truth_thresh random max resize iou_thresh iou_loss iou_normalizer
        cls_normalizer obj_normalizer delta_normalizer max_delta nms_kind beta_nms
        counters_per_class label_smooth_eps focal_loss objectness_smooth""".split()
    )
    RARE_KEYS: ClassVar[frozenset[str]] = Block.RARE_KEYS | frozenset(
        """iou_thresh_kind show_details track_history_size sim_thresh dets_for_track dets_for_show
        track_ciou_norm""".split()
    )
    mask: tuple[int, ...] = sequence(_parse_index, most=100)
    anchors: tuple[float, ...] = sequence(_parse_number, most=200)
    classes: int = integer(20, 1, 10_000)
    num: int = integer(1, 1, 100)
    scale_x_y: float = number(1.0)

    @property
    def anchors_wh(self) -> tuple[tuple[float, float], ...]:
        """The anchors of this output: (width, height) in pixels of the network's input."""
        return tuple((self.anchors[2 * i], self.anchors[2 * i + 1]) for i in self.mask)


BLOCKS: dict[str, type[Block]] = {
    "net": Net,
    "network": Net,
    "convolutional": Convolutional,
    "conv": Convolutional,
    "maxpool": Maxpool,
    "max": Maxpool,
    "upsample": Upsample,
    "route": Route,
    "shortcut": Shortcut,
    "yolo": Yolo,
}


def parse_cfg(path: str | Path) -> list[Block]:
    """Read a Darknet .cfg file.

    Args:
        path: the file.

    Returns:
        The blocks in the order of the file. The first is a `Net`, and the only one; block i + 1 is
        layer i.

    Raises:
        DarknetFileError: the file cannot be read, or holds a block, key or value that is not
            allowed. The message names the file and the line.
    """
    blocks, notes = [], Notes()
    for name, line, entries in read_sections(path):
        if name in REFUSED_BLOCKS:
            raise DarknetFileError(
                f"{path}, line {line}: [{name}] cannot be run: it is {REFUSED_BLOCKS[name]}"
            )
        if name not in BLOCKS:
            known = ", ".join(sorted(BLOCKS))
            raise DarknetFileError(f"{path}, line {line}: unknown block [{name}]; known: {known}")
        if (BLOCKS[name] is Net) != (not blocks):
            raise DarknetFileError(
                f"{path}, line {line}: the first block, and no other, must be [net]"
            )
        blocks.append(_read_block(path, BLOCKS[name], line, entries, notes))
    if len(blocks) < 2:
        raise DarknetFileError(
            f"{path}: holds {len(blocks)} blocks, [net] and a layer are the least"
        )
    if len(blocks) > MAX_LAYERS:
        raise DarknetFileError(f"{path}: holds {len(blocks)} blocks, {MAX_LAYERS} are the most")
    notes.say(path)
    return blocks


def _read_block(
    path: str | Path,
    kind: type[Block],
    block_line: int,
    entries: list[tuple[str, str, int]],
    notes: Notes,
) -> Block:
    fields = {
        field.metadata.get("key", field.name): field
        for field in dataclasses.fields(kind)
        if "parse" in field.metadata
    }
    values: dict[str, Any] = {}
    extra: dict[str, str] = {}
    for key, value, line in entries:
        place = f"{path}, line {line}: {key[:60]}={value[:60]!r}"
        if key in extra or (key in fields and fields[key].name in values):
            notes.twice.setdefault(key[:60], line)
        elif key in fields:
            try:
                values[fields[key].name] = fields[key].metadata["parse"](value)
            except ValueError as error:
                raise DarknetFileError(f"{place}: {error}") from None
        elif key in kind.TRAINING_KEYS:
            extra[key] = value
        elif key in REFUSED_KEYS:
            harmless, reason = REFUSED_KEYS[key]
            if value != harmless:
                name = kind.__name__.lower()
                raise DarknetFileError(f"{place}: this [{name}] cannot be run: {reason}")
            extra[key] = value
        elif key in kind.RARE_KEYS or (kind is Net and _is_no_size(key)):
            extra[key] = value
            notes.passed.setdefault(key[:60], line)
        else:
            known = ", ".join(sorted({*fields, *kind.TRAINING_KEYS}))
            raise DarknetFileError(
                f"{place}: unknown key in [{kind.__name__.lower()}]; known: {known}"
            )
    return kind(line=block_line, extra=tuple(extra.items()), **values)


def _is_no_size(key: str) -> bool:
    """Tell whether a key of [net] has nothing to do with the input's size, not even misspelt."""
    return not difflib.get_close_matches(key[:60], ("width", "height", "channels", "inputs"))
