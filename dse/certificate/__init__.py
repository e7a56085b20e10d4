"""What a study proved of a finite space: which designs were simulated, excluded by proof, or are open."""
