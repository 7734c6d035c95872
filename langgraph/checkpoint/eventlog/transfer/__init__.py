"""Moving threads between checkpointers: into the log, from other savers, and back to PostgresSaver's tables."""
