"""Benchmarks: this project's savers beside others, on the same server, in the same run. See `suite.py`."""
