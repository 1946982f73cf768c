"""Read videos and cameras frame by frame, show pictures, and write annotated videos."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from common.photos import PhotoError

VIDEO_SUFFIXES = tuple(
    """.mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .mpe .m2v .wmv .asf .mjpeg .mjpg .3gp .3g2 .mts
    .m2ts .ts .vob .ogv .flv .f4v""".split()
)
DEFAULT_FRAMES_PER_SECOND = 25.0  # for cameras and files that do not say
MOST_TRIES = 1000  # frames in a row that may be damaged before a film is given up ...
FEW_TRIES = 25  # ... and of one that does not say how many it has
CAMERA_TRIES = 5  # ... and of a camera, which waits for each
NUMBERS_SHOWN = 5


class StoppedError(Exception):
    """The reader pressed q in the window."""


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
        lost: numbers of the frames so far, from 0, that are damaged and were passed over.
        missing: how many frames there should be, by what the file says, after the film has ended.
        ended: whether a camera gives no more pictures.

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
        self.lost: list[int] = []
        self.missing, self.ended = 0, False
        self._is_camera = isinstance(source, int)
        self._tries = MOST_TRIES if count > 0 else FEW_TRIES
        if self._is_camera:
            self._tries = CAMERA_TRIES

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames, uint8 (H, W, 3), RGB, from the first to the last that can be read."""
        return (frame for _, frame in self.numbered())

    def numbered(self) -> Iterator[tuple[int, np.ndarray]]:
        """As above, each frame with its number in the film, from 0; damaged ones leave gaps.

        A frame that cannot be read is damaged if a good one comes after it; else the film is over.
        One failure may stand for many frames: where frames follow evenly, the clock counts them.
        """
        number, seconds, steady, pending = 0, 0.0, True, []
        while len(pending) <= self._tries:
            good, frame = self._capture.read()
            if good:
                if self.frame_count is not None:  # a camera has no clock
                    seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000  # it begins there
                place = round(seconds * self.frames_per_second)
                if pending:
                    number = max(number, place) if steady else number
                    self.lost += range(pending[0], number)
                    pending = []
                steady = abs(place - number) <= 1
                yield number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            else:
                pending.append(number)
                if self.frame_count is not None and number >= self.frame_count:
                    break
            number += 1
        seen = pending[0]  # the first of those after which no good one came
        if seen == len(self.lost):
            raise PhotoError(f"{self.name}: no frame of it can be read")
        self.missing, self.ended = self._count_missing(seen, seconds), self._is_camera

    def problems(self) -> list[str]:
        """What of the film could not be read, one line each, once all frames were asked for."""
        lines = []
        if self.lost:
            more = len(self.lost) - NUMBERS_SHOWN
            numbers = ", ".join(map(str, self.lost[:NUMBERS_SHOWN]))
            numbers += f" and {more} more" if more > 0 else ""
            what = "frames" if len(self.lost) > 1 else "frame"
            lines.append(f"{self.name}: {what} {numbers} (from 0) cannot be read; the others were")
        if self.missing:
            lines.append(
                f"{self.name}: is cut off: of {self.frame_count} frames {self.missing} are missing "
                "at the end"
            )
        if self.ended:
            lines.append(f"{self.name}: gives no more pictures; is it still plugged in?")
        return lines

    def _count_missing(self, seen: int, seconds: float) -> int:
        """Count the frames that are missing at the end, by their number and by the clock.

        Both have to say so: the number is an estimate where frames do not follow evenly, and some
        files say a little too much.
        """
        if self.frame_count is None:
            return 0
        missing = self.frame_count - max(seen, round(seconds * self.frames_per_second) + 1)
        return missing if missing > max(2, self.frame_count // 100) else 0

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


def show(image: np.ndarray, wait_ms: int) -> None:
    """Show an image in a window; wait_ms 0 waits for a key.

    Raises:
        StoppedError: the key was q.
        RuntimeError: this machine has no screen, or OpenCV was built without windows.
    """
    try:
        cv2.imshow("detections (q stops)", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(wait_ms)
    except cv2.error as error:
        raise RuntimeError("--show needs a screen; use --out to save instead") from error
    if key & 0xFF == ord("q"):
        raise StoppedError
