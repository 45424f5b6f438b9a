"""The rules inside vLLM's engine."""
