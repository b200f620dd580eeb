"""Groups of commands; each translates its arguments and calls a service."""
