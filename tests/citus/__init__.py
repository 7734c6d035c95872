"""Tests of a log on a Citus cluster: only `make test-citus` runs them."""
