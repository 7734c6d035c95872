"""What readers see of the log: folding events to checkpoints, the read models, and rebuilding them."""
