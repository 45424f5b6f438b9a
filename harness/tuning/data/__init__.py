"""From a data set to tokens and labels."""
