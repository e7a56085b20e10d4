"""Many designs at once, without simulation: what they cannot beat, and what a steady state predicts."""
