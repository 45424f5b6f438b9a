"""`implicit-if chat`: a base model with and without rules, side by side."""
