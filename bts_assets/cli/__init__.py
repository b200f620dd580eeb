"""The command line: arguments in, text out; what is done is in `services`."""
