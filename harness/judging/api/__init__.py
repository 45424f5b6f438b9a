"""What judges behind an API share: one client, its faults, options, prompts and the judge itself."""
