"""Claims of strategies of the search."""
