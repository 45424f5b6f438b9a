"""`implicit-if compare`: which of several judged systems is better."""
