"""The pages of `eventlog ui` in Chromium, over a log that real graphs wrote. `make test-ui` runs these."""
