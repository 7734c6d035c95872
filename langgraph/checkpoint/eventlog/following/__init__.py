"""Following the log: the feed and custom projections."""
