"""The running service: receive, queue, process, deliver."""
