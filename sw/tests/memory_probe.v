// Stands in for the core in tests of the simulator's memory: bursts on request, some against the rules.
//
// Command 1 writes register inputs_1; command 2 makes the bursts and answers with the cycles it took;
// command 3 reads result inputs_0.

module Cfu(
  input clk, input reset,
  input cmd_valid, output cmd_ready, input [9:0] cmd_payload_function_id,
  input [31:0] cmd_payload_inputs_0, input [31:0] cmd_payload_inputs_1,
  output reg rsp_valid, input rsp_ready, output reg [31:0] rsp_payload_outputs_0,
  output m_axi_arid, output reg [31:0] m_axi_araddr, output [7:0] m_axi_arlen,
  output [2:0] m_axi_arsize, output [1:0] m_axi_arburst, output reg m_axi_arvalid,
  input m_axi_arready,
  input m_axi_rid, input [63:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast,
  input m_axi_rvalid, output m_axi_rready,
  output m_axi_awid, output reg [31:0] m_axi_awaddr, output [7:0] m_axi_awlen,
  output [2:0] m_axi_awsize, output [1:0] m_axi_awburst, output reg m_axi_awvalid,
  input m_axi_awready,
  output [63:0] m_axi_wdata, output [7:0] m_axi_wstrb, output m_axi_wlast, output m_axi_wvalid,
  input m_axi_wready,
  input m_axi_bid, input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready
);
  // Registers: addresses, bursts, beats of a burst - 1, what to do wrong, strobe.
  reg [31:0] read_address, write_address, reads, writes, length, mode, strobe;
  wire withdraw = mode == 1, change = mode == 2, early_last = mode == 3, no_address = mode == 4,
       narrow = mode == 5, fixed = mode == 6, changed_data = mode == 7,
       no_last = mode == 8;
  // Results.
  reg [31:0] sum, read_response, write_response, read_latency, write_latency, bad_last;

  reg busy, ar_seen, r_seen, w_done;
  reg [31:0] ar_left, aw_left, w_left, r_left, b_left, beat, r_beat, cycles, wiggle;
  wire stuck = m_axi_arvalid && !m_axi_arready;

  assign cmd_ready = !busy && !rsp_valid;
  assign m_axi_arid = 0, m_axi_awid = 0, m_axi_arlen = length[7:0], m_axi_awlen = length[7:0];
  assign m_axi_arsize = narrow ? 2 : 3, m_axi_awsize = 3;
  assign m_axi_arburst = fixed ? 0 : 1, m_axi_awburst = 1;
  assign m_axi_rready = busy, m_axi_bready = busy;
  assign m_axi_wvalid = busy && w_left != 0;
  assign m_axi_wdata = {32'h12345678, w_left} + (changed_data ? {32'b0, cycles} : 0);
  assign m_axi_wstrb = strobe[7:0];
  assign m_axi_wlast = !no_last && (early_last ? beat == 0 : beat == length);

  always @(posedge clk) begin
    if (rsp_ready) rsp_valid <= 0;
    if (cmd_valid && cmd_ready) begin
      rsp_valid <= cmd_payload_function_id != 2;
      rsp_payload_outputs_0 <= 0;
      if (cmd_payload_function_id == 1)
        case (cmd_payload_inputs_1)
          0: read_address <= cmd_payload_inputs_0;
          1: write_address <= cmd_payload_inputs_0;
          2: reads <= cmd_payload_inputs_0;
          3: writes <= cmd_payload_inputs_0;
          4: length <= cmd_payload_inputs_0;
          5: mode <= cmd_payload_inputs_0;
          6: strobe <= cmd_payload_inputs_0;
        endcase
      else if (cmd_payload_function_id == 3)
        case (cmd_payload_inputs_0)
          0: rsp_payload_outputs_0 <= sum;
          1: rsp_payload_outputs_0 <= read_response;
          2: rsp_payload_outputs_0 <= write_response;
          3: rsp_payload_outputs_0 <= read_latency;
          4: rsp_payload_outputs_0 <= write_latency;
          5: rsp_payload_outputs_0 <= bad_last;
        endcase
      else begin
        busy <= 1;
        {ar_seen, r_seen, w_done} <= 0;
        m_axi_araddr <= read_address - 8 * (length + 1);
        m_axi_awaddr <= write_address - 8 * (length + 1);
        ar_left <= reads;
        r_left <= reads * (length + 1);
        aw_left <= no_address ? 0 : writes;
        w_left <= writes * (length + 1);
        b_left <= writes;
        {sum, read_response, write_response, read_latency, write_latency, bad_last} <= 0;
        {beat, r_beat, cycles} <= 0;
      end
    end
    if (busy) begin
      cycles <= cycles + 1;
      if (!stuck) begin
        m_axi_arvalid <= ar_left != 0;
        if (ar_left != 0) begin
          m_axi_araddr <= m_axi_araddr + 8 * (length + 1);
          ar_left <= ar_left - 1;
        end
      end else if (withdraw) m_axi_arvalid <= 0;
      else if (change) m_axi_araddr <= m_axi_araddr + 8;
      if (!m_axi_awvalid || m_axi_awready) begin
        m_axi_awvalid <= aw_left != 0;
        if (aw_left != 0) begin
          m_axi_awaddr <= m_axi_awaddr + 8 * (length + 1);
          aw_left <= aw_left - 1;
        end
      end
      // The cycle in which the address is accepted counts, that of the first word does not.
      if (m_axi_arvalid && m_axi_arready) ar_seen <= 1;
      if ((ar_seen || m_axi_arvalid && m_axi_arready) && !r_seen && !m_axi_rvalid)
        read_latency <= read_latency + 1;
      if (m_axi_rvalid) begin
        r_seen <= 1;
        sum <= sum + m_axi_rdata[31:0] + m_axi_rdata[63:32];
        read_response <= read_response | {30'b0, m_axi_rresp};
        r_left <= r_left - 1;
        r_beat <= r_beat == length ? 0 : r_beat + 1;
        if (m_axi_rlast != (r_beat == length)) bad_last <= 1;
      end
      if (m_axi_wvalid && m_axi_wready) begin
        w_left <= w_left - 1;
        beat <= beat == length ? 0 : beat + 1;
        if (w_left == 1) w_done <= 1;
      end
      if (w_done && !m_axi_bvalid) write_latency <= write_latency + 1;
      if (m_axi_bvalid) begin
        write_response <= write_response | {30'b0, m_axi_bresp};
        b_left <= b_left - 1;
      end
      if (r_left == 0 && b_left == 0) begin
        busy <= 0;
        rsp_valid <= 1;
        rsp_payload_outputs_0 <= cycles;
      end
    end
    if (reset) {busy, rsp_valid, m_axi_arvalid, m_axi_awvalid} <= 0;
  end
endmodule
