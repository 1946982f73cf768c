"""The checks of this lesson's exercises: `check(id, answer)` says right, or wrong and why."""

import before_training_checks
import detector_checks
import five_class_checks
import own_folder_checks
from exercise_checking import check

__all__ = [
    "before_training_checks",
    "check",
    "detector_checks",
    "five_class_checks",
    "own_folder_checks",
]
