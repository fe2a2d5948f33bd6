"""Enhancing photographs: reading and writing them, the enhancement itself, export."""
