"""The checks of this lesson's exercises: `check(id, answer)` says right, or wrong and why."""

import box_checks
import metric_checks
from exercise_checking import check

__all__ = ["box_checks", "check", "metric_checks"]
