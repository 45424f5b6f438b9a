"""`implicit-if ablate`: what each rule is for."""
