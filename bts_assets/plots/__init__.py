"""Arrays in, PNG bytes out."""
