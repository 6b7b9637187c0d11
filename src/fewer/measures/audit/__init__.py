"""What is wrong with a pipeline's own schedule: read off its table, repaired one fault at a time, and measured."""

from fewer.measures.audit.case import Case, Fault
from fewer.measures.audit.cost import measured
from fewer.measures.audit.faults import audit

__all__ = ["Case", "Fault", "audit", "measured"]
