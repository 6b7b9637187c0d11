"""How a light network is repaired."""
