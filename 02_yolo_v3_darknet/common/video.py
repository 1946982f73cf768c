"""Read videos and cameras frame by frame, and write annotated videos."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from common.photos import PhotoError

VIDEO_SUFFIXES = tuple(".mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .wmv .mjpeg".split())
DEFAULT_FRAMES_PER_SECOND = 25.0  # for cameras and files that do not say


def is_video(source: str | Path) -> bool:
    """Whether a source is a video file, by its ending."""
    return Path(source).suffix.lower() in VIDEO_SUFFIXES


class VideoSource:
    """The frames of a video file or a camera.

    Args:
        source: path of a video file, or the number of a camera (0 is the first).

    Attributes:
        frames_per_second: as the file says, or 25.
        frame_count: as the file says (some files say a little too much), None for a camera.

    Raises:
        PhotoError: it cannot be opened, or has no frame that can be read.
    """

    def __init__(self, source: str | Path | int):
        if not isinstance(source, int) and not Path(source).is_file():
            raise PhotoError(f"{source}: there is no such file")
        self.name = f"camera {source}" if isinstance(source, int) else str(source)
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._capture.isOpened():
            raise PhotoError(f"{self.name}: cannot be opened as a video")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frames_per_second = rate if 0 < rate < 1000 else DEFAULT_FRAMES_PER_SECOND
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count = count if not isinstance(source, int) and count > 0 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames, uint8 (H, W, 3), RGB, from the first to the last."""
        seen = 0
        while True:
            good, frame = self._capture.read()
            if not good:
                break
            seen += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        if not seen:
            raise PhotoError(f"{self.name}: no frame of it can be read")

    def close(self) -> None:
        """Free the file or camera."""
        self._capture.release()


class VideoSink:
    """An MP4 file that appears under its name when it is complete.

    Args:
        path: the file to make or replace, ending in .mp4.
        frames_per_second: of the film.
    """

    def __init__(self, path: Path, frames_per_second: float):
        self.path = path
        self._partial = path.with_name(f".{path.stem}.part{path.suffix}")
        self._rate = frames_per_second
        self._writer: cv2.VideoWriter | None = None

    def write(self, image: np.ndarray) -> None:
        """Append a frame, uint8 (H, W, 3), RGB; all frames have one size.

        Raises:
            OSError: OpenCV cannot write this file.
        """
        if self._writer is None:
            height, width = image.shape[:2]
            code = cv2.VideoWriter_fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(self._partial), code, self._rate, (width, height))
            if not writer.isOpened():
                raise OSError(f"{self.path}: OpenCV cannot write this video")
            self._writer = writer
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the film and give it its name."""
        if self._writer is not None:
            self._writer.release()
            self._partial.replace(self.path)
