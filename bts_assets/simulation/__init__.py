"""A network with known truth and known dirt, written as landing files."""
