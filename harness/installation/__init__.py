"""This installation: what works, what the cache folder holds, and completion for the shell."""
