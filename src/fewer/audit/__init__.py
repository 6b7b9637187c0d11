"""What is wrong with a pipeline's own schedule: read off its table, and repaired one fault at a time."""

from fewer.audit.case import Case, Fault
from fewer.audit.faults import audit

__all__ = ["Case", "Fault", "audit"]
