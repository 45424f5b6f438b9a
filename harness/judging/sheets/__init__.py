"""Verdicts filled in outside of the program, by people or any other rater: sheets written, read back and compared."""
