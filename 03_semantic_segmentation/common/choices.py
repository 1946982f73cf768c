"""The words that some settings may have, and how many detections count."""

OPTIMIZERS = ("adamw", "sgd")
ON_INVALID = ("refuse", "drop")  # what to do with labels that cannot be used
MAX_DETECTIONS = 100  # of a picture that count: COCO's own number, there of each class
