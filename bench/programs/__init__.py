"""What runs in a process of its own beside the stages: the ceilings, and capture with a stop-watch."""
