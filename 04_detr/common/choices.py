"""The words that some settings may have."""

OPTIMIZERS = ("adamw", "sgd")
ON_INVALID = ("refuse", "drop")  # what to do with labels that cannot be used
