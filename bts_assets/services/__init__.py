"""What a night or a command does, on a `Home`; where data rests is in `storage`, what is computed in the pure rooms."""
