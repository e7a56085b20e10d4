"""A study's result as one HTML file that needs neither network nor server: ``render_report(result) -> str``."""

from dse.report.page import render_report

__all__ = ["render_report"]
