"""A submission's folder: its format, and how it is read."""
