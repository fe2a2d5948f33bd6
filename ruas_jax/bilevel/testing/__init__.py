"""Tests of estimators in float64: closed forms, reference problems, the conformance table."""
