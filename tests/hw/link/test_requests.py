"""Frames taken apart: which words reach an array, and what is answered."""

import random

import pytest
from amaranth.sim import Simulator
from programs import random_inputs, random_program
from spikeloom import link
from spikeloom.hw.link.requests import Requests

#: Clock cycles after which somebody waits in vain.
PATIENCE = 5000


class Log:
    """What came out of `Requests`.

    Attributes
    ----------
    samples : list of (tag, dropped, time steps of words)
        what an array would have computed, every word of a time step listed
    answers : list of (code, type, tag, chunk)
    order : list
        both of them, in the order they came
    """

    def __init__(self):
        self.samples, self.answers, self.order = [], [], []


def serve(program, payloads, *, seed=0, stall=0.3):
    """Let `Requests` serve frames of these ``payloads`` (None: a damaged one), all sides hesitating; a `Log`."""
    requests, log, pauses = Requests(program), Log(), random.Random(seed)
    words = program.i_words
    waiting = []  # cycles that each sample of the array still takes

    async def frames(ctx):
        for payload in payloads:
            content = [0] if payload is None else [len(payload), *payload]
            at = 0
            while at < len(content):
                while pauses.random() < stall:
                    await ctx.tick()
                last = at == len(content) - 1
                ctx.set(requests.i.payload, {"data": content[at], "last": last})
                ctx.set(requests.i.valid, 1)
                for _ in range(PATIENCE):
                    _, _, ready, again = await ctx.tick().sample(requests.i.ready, requests.again)
                    if ready:
                        break
                else:
                    raise AssertionError(f"stuck at byte {at} of {payload}")
                ctx.set(requests.i.valid, 0)
                at = 1 + link.EVENTS_HEADER if last and again else at + 1
        for _ in range(PATIENCE):
            if not ctx.get(requests.busy) and not waiting:
                return
            await ctx.tick()
        raise AssertionError("stuck after the last frame")

    async def array(ctx):
        steps, step, index = [], [0] * words.count, -1
        word, ticket, answer = requests.words, requests.tickets, requests.answers
        ports = [one for port in (word, ticket, answer) for one in (port.valid, port.ready, port.payload)]
        while True:
            ctx.set(word.ready, pauses.random() >= stall)
            ctx.set(ticket.ready, len(waiting) < 2 and pauses.random() >= stall)
            ctx.set(answer.ready, pauses.random() >= stall)
            _, _, *seen = await ctx.tick().sample(*ports)
            if seen[3] and seen[4]:
                log.samples.append((seen[5].tag, bool(seen[5].drop), steps))
                waiting.append(pauses.randrange(2, 60))
            if seen[6] and seen[7]:
                log.answers.append((seen[8].code, seen[8].type, seen[8].tag, seen[8].chunk))
                log.order.append(log.answers[-1])
            if seen[0] and seen[1]:
                entry = seen[2]
                if entry.bits:
                    assert index < entry.index < words.count, "words must come in order"
                    index = entry.index
                    step[index] = entry.bits
                    assert words.graded or not entry.bits >> max(0, words.size - index * words.width)
                if entry.last:
                    steps.append(step)
                    step, index = [0] * words.count, -1
                    assert len(steps) <= program.network.time_steps
                    if entry.final:
                        steps = []
                else:
                    assert entry.bits and not entry.final
            if waiting:
                waiting[0] -= 1
                if not waiting[0]:
                    log.order.append(log.samples[len(log.samples) - len(waiting)])
                    del waiting[0]
            ctx.set(requests.pending, bool(waiting))

    simulator = Simulator(requests)
    simulator.add_clock(1e-6)
    simulator.add_testbench(array, background=True)
    simulator.add_testbench(frames)
    simulator.run()
    return log


def samples(program, inputs):
    """For each sample: its one payload, and what an array is to see of it."""
    words = program.i_words.pack(inputs)
    payloads = [link.sample(number, sample) for number, sample in enumerate(words)]
    assert all(len(each) == 1 for each in payloads)
    return [payload for (payload,) in payloads], [(n, False, sample.tolist()) for n, sample in enumerate(words)]


@pytest.mark.parametrize("options", [{}, {"i_width": 3, "kind": ("int", 4)}, {"sizes": (3, 4, 2), "time_steps": 1},
                                     {"sizes": (64, 4, 2)}])
@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_words_of_samples(options, stall):
    program = random_program(1, **options)
    payloads, seen = samples(program, random_inputs(program, 20, density=0.2))
    log = serve(program, payloads, stall=stall)
    assert log.samples == seen and log.answers == []


def test_a_sample_in_chunks():
    """Runs, words and time steps split anywhere, more chunks than there are numbers for, and whole samples between."""
    program = random_program(3, sizes=(64, 4, 2), time_steps=120)
    words = program.i_words.pack(random_inputs(program, 3, density=0.05))
    pick, payloads, answers = random.Random(1), [], []
    for tag, sample in enumerate(words):
        content, pieces = b"".join(map(link.events, sample)), []
        while content:
            size = pick.randint(0, 6) if tag == 0 else 1 if tag == 1 else 100
            pieces.append(content[:size])
            content = content[size:]
        payloads += [bytes([link.FINISH if n == len(pieces) - 1 else link.EVENTS, tag, n & 255, n % 2]) + piece
                     for n, piece in enumerate(pieces)]
        answers += [(0, link.EVENTS, tag, n & 255) for n in range(len(pieces) - 1)]
        payloads.append(None)  # a damaged frame between samples, or within one, changes nothing
    payloads.insert(7, None)
    log = serve(program, payloads, stall=0.1)
    assert log.samples == [(tag, False, sample.tolist()) for tag, sample in enumerate(words)]
    assert [answer for answer in log.answers if not answer[0]] == answers and len(answers) > 300
    assert [answer[::2] for answer in log.answers if answer[0]] == [(link.DAMAGED, 0)] * 4


@pytest.mark.parametrize("repeat, times", [(0, 1), (1, 1), (2, 2), (255, 255)])
def test_events_are_played_again(repeat, times):
    program = random_program(5, time_steps=255)
    log = serve(program, [bytes([link.FINISH, 9, 0, repeat]) + b"\0\1\3\0\0"])
    assert log.samples == [(9, False, [[0, 3]] * times)]


# What is refused ---------------------------------------------------------------------------------

#: Of a program with eleven inputs, which are two words, the second of three bits, and with three time steps.
REFUSED = [
    ("no such request", b"\x00\x05", link.UNKNOWN),
    ("no such request", b"\x09\x05", link.UNKNOWN),
    ("no such request", b"\x12\x05\0\1\1\0\0", link.UNKNOWN),
    ("no such request", b"\xff\x05" + b"x" * 249, link.UNKNOWN),
    ("identify with a body", b"\x01\x05\x00", link.UNKNOWN),
    ("counters with a body", b"\x04\x05\x00", link.UNKNOWN),
    ("end of boot with a body", b"\x08\x05\x00", link.UNKNOWN),
    ("events without a chunk", b"\x02\x05", link.UNKNOWN),
    ("events without a repeat", b"\x03\x05\0", link.UNKNOWN),
    ("not the first chunk", b"\x03\x05\1\1\1\0\0", link.ORDER),
    ("no events", b"\x03\x05\0\1", link.BAD_EVENTS),
    ("an unfinished time step", b"\x03\x05\0\1\1", link.BAD_EVENTS),
    ("half an end", b"\x03\x05\0\1\1\0", link.BAD_EVENTS),
    ("half an end by repetition", b"\x03\x05\0\3\0\1\0", link.BAD_EVENTS),
    ("a third word", b"\x03\x05\0\1\1\1\1\0\0", link.BAD_EVENTS),
    ("a run beyond the last word", b"\x03\x05\0\1\0\3\0\0", link.BAD_EVENTS),
    ("a longer run", b"\x03\x05\0\1\0\xff\0\0", link.BAD_EVENTS),
    ("runs that come round", b"\x03\x05\0\1" + b"\0\xff" * 100 + b"\0\0", link.BAD_EVENTS),
    ("runs that come round", b"\x03\x05\0\xff" + b"\0\x80" * 100 + b"\0\0", link.BAD_EVENTS),
    ("a word behind a run", b"\x03\x05\0\1\0\2\1\0\0", link.BAD_EVENTS),
    ("an input beyond the last", b"\x03\x05\0\1\1\x08\0\0", link.BAD_EVENTS),
    ("a fourth time step", b"\x03\x05\0\1" + b"\0\0" * 4, link.BAD_EVENTS),
    ("a fourth time step", b"\x03\x05\0\4\1\0\0", link.BAD_EVENTS),
    ("a fourth time step begun", b"\x03\x05\0\1" + b"\0\0" * 3 + b"\1", link.BAD_EVENTS),
    ("all time steps, and more to come", b"\x02\x05\0\1" + b"\0\0" * 3, link.BAD_EVENTS),
    ("load where nothing can be", b"\x05\x05" + b"\0" * 6 + b"data", link.RANGE),
    ("check where nothing can be", b"\x06\x05\0", link.RANGE),
    ("commit where nothing can be", b"\x07\x05" + b"\0" * 32, link.RANGE),
]


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_what_makes_no_sense_is_refused_and_nothing_else_suffers(stall):
    program = random_program(6)
    payloads, (first, second) = samples(program, random_inputs(program, 2))
    for what, payload, code in REFUSED:
        log = serve(program, [payloads[0], payload, payloads[1]], stall=stall)
        assert [sample for sample in log.samples if not sample[1]] == [first, second], what
        assert [(answer[0], answer[2]) for answer in log.answers] == [(code, 5)], what
        # Errors wait for the scores before them.
        assert [entry[0] for entry in log.order if entry not in log.answers and entry[1]] in ([], [5]), what
        assert log.order.index(first) < log.order.index(log.answers[0]), what


def test_several_bits_that_do_not_fit_an_input():
    program = random_program(7, i_width=3)
    log = serve(program, [b"\x03\x09\0\1\x07\0\0", b"\x03\x0a\0\1\x08\0\0"])
    assert [sample[:2] for sample in log.samples] == [(9, False), (10, True)]
    assert log.answers == [(link.BAD_EVENTS, link.FINISH, 10, 0)]


def test_an_unfinished_sample_is_given_up():
    program = random_program(8)
    good, (before, after) = samples(program, random_inputs(program, 2))
    alone = [[1, 0]]
    for what, payload, more, answer in [
        ("another request", b"\x01\x21", [], (0, link.IDENTIFY, 0x21)),
        ("another sample", b"\x03\x21\0\1\1\0\0", [(0x21, False, alone)], None),
        ("the same sample once more", b"\x03\x20\0\1\1\0\0", [(0x20, False, alone)], None),
        ("the chunk after the next", b"\x03\x20\2\1\1\0\0", [], (link.ORDER, link.FINISH, 0x20)),
        ("the next chunk with another tag", b"\x03\x21\1\1\1\0\0", [], (link.ORDER, link.FINISH, 0x21)),
        ("a bad next chunk", b"\x02\x20\1\1\1\1\1\1", [], (link.BAD_EVENTS, link.EVENTS, 0x20)),
        ("nonsense", b"\xf0\x21\1\1\1\0\0", [], (link.UNKNOWN, 0, 0x21)),
    ]:
        for part in (b"", b"\1", b"\0", b"\2\0\0", b"\0\1\1\0\0\0\0"):
            # The next chunk of what was given up is none any more.
            log = serve(program, [good[0], b"\x02\x20\0\1" + part, payload, b"\x03\x20\1\1\1\0\0", good[1]])
            assert [sample for sample in log.samples if not sample[1]] == [before, *more, after], what
            assert [sample[1] for sample in log.samples].count(True) == 1, what
            answers = [each[:3] for each in log.answers]
            assert answers == [(0, link.EVENTS, 0x20), *([answer] if answer else []),
                               (link.ORDER, link.FINISH, 0x20)], what


def test_no_bytes_wedge_it_or_reach_the_array_unchecked():
    """Whole frames of bytes that nobody meant, some near to what is meant."""
    pick = random.Random(1)
    program = random_program(9, reloadable=True)

    def payload():
        kind = pick.choice([1, 2, 2, 2, 3, 3, 3, 4, 5, 6, 7, 8, pick.randrange(256)])
        head = bytes([kind, pick.randrange(2), pick.choice([0, 0, 1, 2, 255]), pick.choice([0, 1, 2, 255])])
        body = bytes(pick.choice([0, 0, 1, 1, 2, 3, 8, 255]) for _ in range(pick.choice([0, 1, 2, 5, 28, 60])))
        return (head + body)[:pick.choice([2, 3, 4, 250])]

    frames = [pick.choice([None, *[payload()] * 15]) for _ in range(400)]
    serve(program, frames, stall=0.1)
