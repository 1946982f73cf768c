"""The street scenes that a training draws: which are for training, validation and test."""

from pathlib import Path

from common.smoke import SMOKE
from common.street.scenes import write_dataset

STREET_FOLDER = Path(__file__).resolve().parents[2] / "data" / "street"
# Far apart, so that no scene is in two of the three; the same in all lessons.
FIRST_SEEDS = {"train": 100_000, "validation": 10_000, "test": 0}
NUM_VALIDATION_SCENES, NUM_TEST_SCENES = (4, 12) if SMOKE else (40, 100)


def draw_part(folder: Path, part: str, count: int, progress: bool = True) -> Path:
    """Draw the first `count` scenes of a part, unless they lie there already.

    Args:
        folder: the scenes come into a folder of their own in it.
        part: train, validation or test.
        count: how many.
        progress: show a progress bar on stderr.

    Returns:
        The folder with the scenes and their annotations.json.
    """
    scenes = folder / f"{part}_{count}"
    if not (scenes / "annotations.json").is_file():  # written last
        first = FIRST_SEEDS[part]
        write_dataset(scenes, range(first, first + count), progress=progress)
    return scenes
