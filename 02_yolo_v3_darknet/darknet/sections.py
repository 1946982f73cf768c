"""Cut Darknet's .cfg files into blocks of text, and say what in them is odd but can be read.

Also the list of what Darknet's kin know and this lesson does not build, with the reason.
"""

import dataclasses
import re
import sys
from pathlib import Path
from typing import ClassVar

MAX_CFG_BYTES = 1_000_000  # yolov3.cfg has 10 KB

CLASSIFIER = "a layer of classifiers; this lesson builds detectors"
RECURRENT = "a layer for texts and films, which remembers what came before"
ATTENTION = "YOLOv4's attention: it multiplies two maps, and none of YOLOv3 does"
REFUSED_BLOCKS = {
    **dict.fromkeys("connected local dropout softmax cost crop normalization".split(), CLASSIFIER),
    **dict.fromkeys("rnn gru lstm crnn conv_lstm".split(), RECURRENT),
    "avgpool": "a mean over the map, of classifiers and of YOLOv4's attention",
    "sam": ATTENTION,
    "scale_channels": ATTENTION,
    "detection": "the output of YOLOv1, which has no anchors",
    "region": "the output of YOLOv2, whose classes exclude one another",
    "reorg": "YOLOv2's way to lay pixels into channels",
    "reorg3d": "YOLOv2's way to lay pixels into channels",
    "Gaussian_yolo": "an output of Gaussian YOLOv3, whose boxes have variances",
    "contrastive": "a loss for training that follows objects from frame to frame",
}
# Keys that make another layer of a block: the values that do not, and what it would be.
REFUSED_KEYS = {
    "new_coords": ("0", "boxes are decoded as in Scaled-YOLOv4, without logistic and exponential"),
    "weights_type": ("none", "YOLOv4's sum with learned weights (BiFPN)"),
    "antialiasing": ("0", "YOLOv4's blur behind a stride"),
    "maxpool_depth": ("0", "YOLOv4's pooling over channels"),
    "dilation": ("1", "kernels with gaps"),
    "xnor": ("0", "kernels of one bit"),
    "binary": ("0", "kernels of one bit"),
    "reverse": ("0", "an upsampling that shrinks"),
}


class DarknetFileError(ValueError):
    """A cfg or weights file that cannot be used; the message says which, where in it, and why."""


@dataclasses.dataclass
class Notes:
    """What is worth knowing about a file: keys by name, each with the line where it stands first.

    Attributes:
        passed: RARE_KEYS, and those of [net] that no other keys are like.
        twice: keys that stood in their block already.
    """

    said: ClassVar[set[str]] = set()  # a file is read several times, and copies are made of it

    passed: dict[str, int] = dataclasses.field(default_factory=dict)
    twice: dict[str, int] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return "; ".join(
            f"{about}: " + ", ".join(f"{key} (line {line})" for key, line in keys.items())
            for about, keys in (
                ("passed over, as it steers training alone", self.passed),
                ("stands twice in its block, the first counts as in Darknet", self.twice),
            )
            if keys
        )

    def say(self, path: str | Path) -> None:
        """Say it on stderr, once, if there is something to say."""
        if str(self) and str(self) not in self.said:
            self.said.add(str(self))
            print(f"note: {path}: {self}", file=sys.stderr)


def _read_text(path: str | Path) -> str:
    try:
        size = Path(path).stat().st_size
        if size > MAX_CFG_BYTES:
            raise DarknetFileError(
                f"{path}: {size:,} bytes are too many for a cfg file (1,000,000)"
            )
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DarknetFileError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DarknetFileError(f"{path}, byte {error.start}: this is not a text file") from error


def read_sections(path: str | Path) -> list[tuple[str, int, list[tuple[str, str, int]]]]:
    """Cut a cfg file into (block name, line, [(key, value, line), ...]), without any blanks.

    Raises:
        DarknetFileError: it cannot be read, or a line is neither a block, a key nor a comment.
    """
    sections: list[tuple[str, int, list[tuple[str, str, int]]]] = []
    for line, raw in enumerate(_read_text(path).split("\n"), 1):
        text = re.sub(r"\s|[#;].*", "", raw)  # as Darknet does: blanks never matter
        if not text:
            continue
        if text[0] == "[":
            if not text.endswith("]"):
                raise DarknetFileError(f"{path}, line {line}: {raw[:60]!r} lacks the closing ]")
            sections.append((text[1:-1], line, []))
            continue
        key, equals, value = text.partition("=")
        if not equals:
            raise DarknetFileError(
                f"{path}, line {line}: {raw[:60]!r} is neither [block], key=value nor a # comment"
            )
        if not sections:
            raise DarknetFileError(f"{path}, line {line}: {key[:60]!r} stands before any [block]")
        sections[-1][2].append((key, value, line))
    return sections
