"""From a model and batches to a trained checkpoint and its card."""
