"""Read models of the log: folding events to checkpoints, the projections, and rebuilding them."""
