"""How fast, how durable, and beside which peers."""
