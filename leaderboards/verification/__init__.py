"""Whether a submission's numbers follow from its answers and verdicts."""
