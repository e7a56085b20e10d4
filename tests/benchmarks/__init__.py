"""Speed and memory figures: ``python -m tests.benchmarks`` prints them; nothing here is a test."""
