"""Nightly batch forecasts for base transceiver stations: landing files in, traceable forecasts out."""

from typing import Final

__version__: Final = "0.1.0"
