"""What units are worth."""
