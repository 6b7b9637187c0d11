"""Methods of editing, one a file."""
