"""Compute: a Faust agent turns row events into result events, a batch at a time."""
