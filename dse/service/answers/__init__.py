"""What the service says of a study's trials: computed from trials alone, without HTTP."""
