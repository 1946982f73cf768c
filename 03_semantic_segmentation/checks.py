"""The checks of this lesson's exercises: `check(id, answer)` says right, or wrong and why."""

import label_map_checks
import pixel_loss_checks
import unet_checks
import unet_training_checks
from exercise_checking import check

__all__ = ["check", "label_map_checks", "pixel_loss_checks", "unet_checks", "unet_training_checks"]
