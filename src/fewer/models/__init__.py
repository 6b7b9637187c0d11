"""What the engine calls: models, noise schedules, predictions, adapters, exact mixtures, bundled networks."""
