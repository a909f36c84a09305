"""The processor's core is `vitals.patients`."""

from vitals.patients import Patients as Processor
from vitals.patients import PlanOf

__all__ = ["PlanOf", "Processor"]
