"""Finished trials on disk and in databases, in Optuna's own formats."""

from dse.storage.journal import TrialJournal, read_evaluations
from dse.storage.records import EVALUATION, SPEC
from dse.storage.store import Store, open_store

__all__ = ["EVALUATION", "SPEC", "Store", "TrialJournal", "open_store", "read_evaluations"]
