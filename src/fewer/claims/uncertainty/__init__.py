"""Claims of how sure samples may be."""
