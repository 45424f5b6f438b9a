"""Cards of judges: what is known and measured of each."""
