"""The history of a thread: its events, its changes, its states at a time, and a checkpoint as stored."""
