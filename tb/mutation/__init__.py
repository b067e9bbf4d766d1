"""How many small faults of the Verilog the test benches notice: ``make mutate``."""
