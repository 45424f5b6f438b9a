"""How often a model finds an instruction's own response likelier than another's."""
