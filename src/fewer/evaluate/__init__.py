"""Plans played on initial noises, scored against a reference, compared and decided on: each figure with its interval."""
