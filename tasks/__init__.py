"""lm-eval tasks, one folder each: YAML, README, and thin code that calls the harness.

alpaca_winrate/     win rate against reference answers
response_ranking/   whether an instruction's own response is likelier than another's
"""
