"""Mutation testing: the code broken in one small way at a time, to see whether a test notices."""
