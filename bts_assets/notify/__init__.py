"""Messages out: channels that send them, within a time. What is sent and to whom is decided elsewhere."""
