"""A packed bitstream, unpacked and simulated between its pins, equals the reference."""

import pytest
from spikeloom import boards, tools
from spikeloom.boards import connection, host
from spikeloom.errors import SpikeloomError
from spikeloom.sim import bitstream
from test_gateware import frames
from test_netlist import tiny


def test_bitstream_equals_reference(tmp_path):
    try:
        tools.find("icebox_vlog")
    except SpikeloomError as error:
        pytest.skip(str(error))
    program = tiny("hx8k")
    boards.build(program, "hx8k", tmp_path / "build", clock="oscillator")
    with (bitstream.virtual_board(program, tmp_path / "build", work=tmp_path) as board,
          connection.connect(board.port, baud=board.baud) as connected):
        result = host.verify(connected, program, frames(program.network, 3))
    assert result.difference is None and result.scores == 9
    with pytest.raises(SpikeloomError, match="was built from another program"):
        bitstream.virtual_board(tiny("icebreaker"), tmp_path / "build", work=tmp_path)
