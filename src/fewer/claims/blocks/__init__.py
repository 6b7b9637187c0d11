"""Claims of leaving blocks of a network out."""
