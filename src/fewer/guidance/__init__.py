"""How many passes a row makes, and how their outputs are combined."""
