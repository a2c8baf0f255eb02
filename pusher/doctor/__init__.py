"""``pusher doctor``: what stands in the way of a push, looked at piece by piece."""

from pusher.doctor.check import Check, Result, Step
from pusher.doctor.examine import Broken, examine
from pusher.doctor.target import Target, read_target

__all__ = ["Broken", "Check", "Result", "Step", "Target", "examine", "read_target"]
