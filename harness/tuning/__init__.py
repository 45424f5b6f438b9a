"""Tuning: recipes as data, one runner on TRL's SFTTrainer."""
