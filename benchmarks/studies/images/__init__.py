"""Real and drawn images."""
