"""What this project is judged by: its savers beside others, on the same server, in the same run. See `suite.py`."""
