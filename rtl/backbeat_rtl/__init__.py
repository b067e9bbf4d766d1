"""Backbeat's hardware in Amaranth, and the models that say what it returns."""
