"""lm-eval tasks, one folder each: YAML, README, and thin code that calls the harness.

alpaca_winrate/     win rate against reference answers
chatbot_audit/      what a general chatbot meets
own_metrics         what tasks with metrics of their own tell lm-eval
response_ranking/   whether an instruction's own response is likelier than another's
"""
