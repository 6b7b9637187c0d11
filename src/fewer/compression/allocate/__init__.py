"""How many units of each group stay."""
