"""The shared reference measurements: what was fitted to them, and how well that predicts the rest.

``python -m dse.validation.reference DIR -o docs/fidelity.md`` writes the page. Each module here has the rows of one
kind of data; :mod:`dse.validation.reference.rows` lists them.
"""
