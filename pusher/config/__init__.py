"""Resolve the settings: flag > environment ``PUSHER_*`` > pusher.toml > default."""

from pusher.config.load import load
from pusher.config.settings import Settings, Timeouts
from pusher.config.timetable import Timetable
from pusher.config.values import MIB, parse_age, parse_size

__all__ = ["MIB", "Settings", "Timeouts", "Timetable", "load", "parse_age", "parse_size"]
