"""Check everything that a push needs, for ``pusher doctor``."""

from pusher.doctor.check import Check, CheckResult, Status
from pusher.doctor.run import EarlyErrors, run_checks
from pusher.doctor.target import Target, parse_target

__all__ = ["Check", "CheckResult", "EarlyErrors", "Status", "Target", "parse_target", "run_checks"]
