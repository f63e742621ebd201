"""From documents to batches of ids, and back."""
