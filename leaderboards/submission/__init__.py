"""A submission's folder: its format, and reading and writing it."""
