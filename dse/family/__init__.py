"""Studies that belong together: one question in several circumstances, or with choices that no space holds."""

from dse.family.answer import Answer, Found, FrontDesign
from dse.family.spec import FamilySpec, Member

__all__ = ["Answer", "FamilySpec", "Found", "FrontDesign", "Member"]
