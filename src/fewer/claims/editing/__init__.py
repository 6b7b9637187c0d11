"""Claims of editing methods."""
