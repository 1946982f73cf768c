"""Photos made into batches to train on."""
