"""Claims of rules of guidance."""
