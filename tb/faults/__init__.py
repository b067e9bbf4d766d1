"""Campaigns of faults, ``make faults``: what goes wrong ends in an error or in the right result.

Each tries every position of a small case, as far as they can be counted, and is run whole by the command
and in a short form by ``make test``.
"""
