"""The decoder-only transformer, one idea a file."""
