"""Label maps and their classes: read, checked, changed at random and drawn."""

IGNORE_INDEX = 255  # the label of pixels that count neither in the loss nor in the metrics
