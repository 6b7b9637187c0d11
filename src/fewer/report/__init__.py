"""The report: one self-contained HTML file that says what was asked, what was found, and how it was measured."""

from fewer.report.html import write_report

__all__ = ["write_report"]
