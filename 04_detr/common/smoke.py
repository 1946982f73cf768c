"""The smallest sizes in which a whole notebook still runs, for a quick check of every cell.

The environment variable LESSON_SMOKE=1 asks for them. Nothing is learned then; all is run once.
"""

import os

SMOKE = os.environ.get("LESSON_SMOKE") == "1"
SMOKE_SETTINGS = {"num_scenes": 8, "batch_size": 4, "epochs": 1} if SMOKE else {}  # two steps
