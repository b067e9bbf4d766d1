"""Properties of the RTL, proved by solvers: ``make formal``.

A checker wraps a component of ``backbeat_rtl`` unchanged: it drives the ports with anything the
assumptions allow and says what must hold. Nothing of it is in the Verilog that is shipped.
"""
