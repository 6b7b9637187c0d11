"""A whole pipeline as a network: its loop, cut where it calls its scheduler."""
