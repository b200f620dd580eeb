"""From the bytes of landing files to readings, and from those to observations. It asks no database and no clock."""
