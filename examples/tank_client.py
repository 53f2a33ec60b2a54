"""A client of `tank port` in Python, and a session with it. docs/protocol.md says the rest.

    pip install -r examples/requirements.txt
    python3 examples/tank_client.py TANK ROOTFS [OPTION OF TANK PORT]...

Terms are written the way Erlang writes them: an atom is a `str`, a binary is `bytes`, `nil` is
`None`, and tuples, lists, maps and integers are Python's own.
"""

import struct
import subprocess
import sys

import erlang

erlang.set_undefined(b"nil")


class TankError(Exception):
    """The program refused: `error` is the map that says what, where and what to do."""

    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message'].decode()}")
        self.error = error


class Tank:
    """A running `tank port`, and what it has sent that nobody has taken yet."""

    def __init__(self, tank, *options):
        """Starts the program and shakes hands."""
        self.program = subprocess.Popen(
            [tank, "port", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.last_id = 0
        self.answers = {}
        self.notices = []
        kind, self.hello = self._receive()
        if kind == "error":
            raise TankError(self.hello)
        self._send(("hello", {"protocol": 1, "client": b"tank_client.py 1"}))

    def call(self, op, args=None):
        """Asks for an operation, and waits for its value."""
        self.last_id += 1
        request = self.last_id
        self._send((request, op, args))
        while request not in self.answers:
            self._sort(self._receive())
        outcome, value = self.answers.pop(request)
        if outcome == "error":
            raise TankError(value)
        return value

    def next_notice(self):
        """Waits for a notice, and lets the program send another in its place."""
        while not self.notices:
            self._sort(self._receive())
        self._send((0, "credit", 1))
        return self.notices.pop(0)

    def shutdown(self):
        """Stops the pods, then the program: its exit status."""
        self.call("shutdown", {"pods": "stop"})
        return self.program.wait()

    def _sort(self, frame):
        if frame[0] == "notice":
            self.notices.append(frame[1:])
            return
        request, answer = frame
        if request in (0, "error"):
            raise TankError(answer[1] if request == 0 else answer)
        self.answers[request] = answer

    def _send(self, term):
        frame = erlang.term_to_binary(to_erlang(term))
        self.program.stdin.write(struct.pack(">I", len(frame)) + frame)
        self.program.stdin.flush()

    def _receive(self):
        header = self.program.stdout.read(4)
        if len(header) < 4:
            raise EOFError(f"tank port ended with status {self.program.wait()}")
        (length,) = struct.unpack(">I", header)
        return from_erlang(erlang.binary_to_term(self.program.stdout.read(length)))


def to_erlang(term):
    if isinstance(term, str):
        return erlang.OtpErlangAtom(term)
    if isinstance(term, bytes):
        return erlang.OtpErlangBinary(term)
    return _each(to_erlang, term)


def from_erlang(term):
    if isinstance(term, (erlang.OtpErlangAtom, erlang.OtpErlangBinary)):
        return term.value
    return _each(from_erlang, term)


def _each(convert, term):
    if isinstance(term, dict):
        return {convert(key): convert(value) for key, value in term.items()}
    if isinstance(term, (list, tuple)):
        return type(term)(map(convert, term))
    return term


def main(program, rootfs, *options):
    tank = Tank(program, *options)
    image = ("rootfs", rootfs.encode())
    app = {"name": b"app", "image": image, "command": [b"/bin/sleep", b"1000"]}
    show(tank, "subscribe", {"credits": 6})
    show(tank, "apply", {"name": b"web", "containers": []})
    show(tank, "apply", {"name": b"web", "containers": [app]})
    show_notices_until(tank, "started")
    show(tank, "sync")
    show(tank, "status")
    show(tank, "kill", (b"web", 1))
    show_notices_until(tank, "ended")
    show(tank, "restart", b"web")
    show_notices_until(tank, "started")
    show(tank, "delete", b"web")
    show_notices_until(tank, "gone")
    show(tank, "status")
    print("exit", tank.shutdown())


def show(tank, op, args=None):
    try:
        print(op, tank.call(op, args))
    except TankError as refused:
        print(op, refused)


def show_notices_until(tank, kind):
    notice = [None]
    while notice[0] != kind:
        seq, notice = tank.next_notice()
        print("notice", seq, notice)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
