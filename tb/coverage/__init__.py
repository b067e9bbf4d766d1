"""What the test benches reach: of the generated Verilog, and of the kinds of products."""
