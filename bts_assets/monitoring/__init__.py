"""What a forecast turned out to be worth, what will pass a limit, what drifts: pure verdicts, on arrays."""
