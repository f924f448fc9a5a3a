"""Stands before pandas on the path of measured processes: a test's data brings it, and `pip install millstream` doesn't.

Where pandas is there, pyarrow imports it with the first array that it makes: 37 MB of every process.
"""

raise ImportError("not installed with Millstream")
