"""HTTP: health and metrics for monitoring. The only room that knows Starlette."""
