"""Label maps, their classes and objects: read, checked, changed at random, drawn."""

IGNORE_INDEX = 255  # the label of pixels that count neither in the loss nor in the metrics
