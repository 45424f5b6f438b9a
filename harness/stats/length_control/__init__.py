"""Length-controlled win rates: estimators, priors, and the choice between them."""
