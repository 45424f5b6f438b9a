"""The `implicit-if` commands about submissions and leaderboards."""
