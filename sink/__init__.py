"""Store and serve: results become one CSV per input on S3, served over HTTP."""
