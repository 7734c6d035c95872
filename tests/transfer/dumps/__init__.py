"""What versions of langgraph-checkpoint-postgres stored: see `make.py`."""

#: Of the threads called "encrypted": `write.py` has it too.
KEY = "0123456789abcdef"
