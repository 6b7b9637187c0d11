"""Side-by-side runs against other libraries."""
