"""Pages to read in a browser: one HTML file, the same parts for boards and for runs on this machine."""
