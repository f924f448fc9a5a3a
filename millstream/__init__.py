"""The command line, and everything on one machine: `up` and `demo`."""
