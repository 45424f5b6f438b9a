"""Runs of any kind brought to rows that may stand in one table or figure of a paper."""
