"""From a trained checkpoint to a reply, byte by byte."""
