"""The network that is trained once, on synthetic telemetry, and shipped with its weights. It knows no recordings."""
