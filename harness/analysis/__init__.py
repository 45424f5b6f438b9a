"""Analyses: why a model follows instructions, and what that means in use. Each is a function with a typed result."""
