"""`python -m bts_assets.cli`: the command line where the `bts` script is not on the path."""

from bts_assets.cli.app import main

main()
