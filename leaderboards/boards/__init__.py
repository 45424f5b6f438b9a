"""Tables and figures of verified submissions."""
