"""The rules, their presets, and their product with a base model."""
