"""The names of the embedded base model: what users type, what the hub calls it, and its licence."""

EMBEDDED = "embedded"
HUB_NAME = "google/gemma-3-270m"
SHORT_NAME = HUB_NAME.partition("/")[2]
LICENCE = "Gemma"
