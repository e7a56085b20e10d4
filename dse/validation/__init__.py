"""Predicted against measured: how far the simulator can be trusted, and where."""
