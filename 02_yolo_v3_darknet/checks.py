"""The checks of this lesson's exercises: `check(id, answer)` says right, or wrong and why."""

import darknet_file_checks
import yolo_box_checks
import yolo_training_checks
from exercise_checking import check

__all__ = ["check", "darknet_file_checks", "yolo_box_checks", "yolo_training_checks"]
