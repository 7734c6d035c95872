"""What happens when connections, servers and disks fail: the promises of docs/reliability.md, line by line."""
