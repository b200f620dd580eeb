"""The web page for looking: read-only, on the public views, drawn on the server. It decides and changes nothing."""
