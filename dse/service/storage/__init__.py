"""What the service keeps in its database, beside Optuna's own tables: studies, leases, traces, tokens."""
