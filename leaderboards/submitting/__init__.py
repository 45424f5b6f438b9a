"""From a run's files to a submission."""
