"""ABC as a program of its own, for SymbiYosys: the one inside Yosys, which is all that PyPI has.

    python -m spikeloom.sim.formal.abc -c COMMANDS

Nothing that this ABC prints is sure to arrive, so it is asked for its verdict in a file, and that is told in the words
that SymbiYosys waits for.
"""

import re
import sys
import tempfile
from pathlib import Path

from spikeloom import tools
from spikeloom.errors import SpikeloomError


def main(arguments):
    if len(arguments) != 2 or arguments[0] != "-c" or "; write_cex" not in arguments[1]:
        print("abc: only -c with commands that end in write_cex is known here", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="abc-", dir=".") as folder:
        folder = Path(Path(folder).name)
        status = folder / "status"
        commands, cex = arguments[1].rsplit("; write_cex", 1)
        commands = [*commands.split(";"), f"write_status {status}", f"write_cex{cex}"]
        (folder / "script").write_text("".join(f"{command.strip()}\n" for command in commands))
        # Yosys runs a script of ABC's on some logic, which has nothing to do with what this one reads; and then misses
        # the logic that ABC should have given back.
        (folder / "any.v").write_text("module any(input a, b, output o); assign o = a & b; endmodule\n")
        script = f"read_verilog {folder}/any.v; simplemap; abc -script {folder}/script"
        try:
            tools.find("yosys").run(["-q", "-p", script])
        except SpikeloomError as error:
            if not status.exists():
                print(f"abc: {error}", file=sys.stderr)
                return 1
        verdict = re.match(r"snl_(\w+) (\d+)", status.read_text())
    if verdict and verdict[1] == "UNSAT":
        print("Property proved.")
    elif verdict and verdict[1] == "SAT":
        print(f'Output 0 of miter "design" was asserted in frame {verdict[2]}.')
    elif verdict and "bmc3" in arguments[1]:
        print(f"No output asserted in {verdict[2]} frames.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
