"""One executable check per paper's claim, with its last result."""

from fewer.claims.claim import Claim, Measured, claim
from fewer.claims.results import claims, of_part, recorded
from fewer.claims.running import run_claims

__all__ = ["Claim", "Measured", "claim", "claims", "of_part", "recorded", "run_claims"]
