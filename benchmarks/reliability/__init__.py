"""Tests of reliability: recovery from faults, and equal results on any devices."""
