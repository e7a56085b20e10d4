"""A study's result as a file that needs neither network nor server: ``render_report(result)``, ``render_markdown``."""

from dse.report.page import render_markdown, render_report

__all__ = ["render_markdown", "render_report"]
