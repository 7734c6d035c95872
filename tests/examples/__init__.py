"""The examples, run as a reader runs them: servers in processes of their own, on loopback."""
