"""Bytes of servers, in pieces of any size."""

import unittest

from scaling import wire
from scaling.load import Mode
from scaling.sailors import Sequence

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked"


def pieces(data, size):
    return [data[at:at + size] for at in range(0, len(data), size)]


class Bodies(unittest.TestCase):
    def test_chunks_are_read_in_pieces_of_any_size(self):
        data = b"5\r\nhello\r\n10;x=y\r\n0123456789abcdef\r\n0\r\n\r\n"
        for size in range(1, len(data) + 1):
            body = wire.Body(CHUNKED)
            text = b"".join(body.text(piece) for piece in pieces(data, size))
            self.assertEqual((text, body.has_ended), (b"hello0123456789abcdef", True), size)

    def test_a_body_that_goes_on_has_not_ended(self):
        body = wire.Body(CHUNKED)
        self.assertEqual((body.text(b"5\r\nhel"), body.has_ended), (b"hel", False))

    def test_a_body_with_a_length_ends_with_it(self):
        body = wire.Body(b"HTTP/1.1 200 OK\r\nContent-Length: 5")
        self.assertEqual((body.text(b"hel"), body.has_ended), (b"hel", False))
        self.assertEqual((body.text(b"lo, more"), body.has_ended), (b"lo", True))


class Events(unittest.TestCase):
    STREAM = (b":\nretry: 3000\nid: a-1\n: ready\n\ndata: one\ndata: more\nid: a-2\n\n"
              b":\nevent: gap\ndata: {}\nid: a-3\n\nretry: 4500\n")

    def test_events_are_read_in_pieces_of_any_size(self):
        for size in range(1, len(self.STREAM) + 1):
            reader, found = wire.EventReader(), []
            for piece in pieces(self.STREAM, size):
                found += reader.events(piece)
            self.assertEqual(found, [("message", "one\nmore"), ("gap", "{}")], size)
            self.assertEqual((reader.last_id, reader.retry, reader.is_ready), ("a-3", 4.5, True))

    def test_an_id_counts_with_the_end_of_its_event(self):
        reader = wire.EventReader("a-1")
        self.assertEqual(list(reader.events(b"data: x\nid: a-2\n")), [])
        self.assertEqual(reader.last_id, "a-1")
        self.assertEqual(list(reader.events(b"\n")), [("message", "x")])
        self.assertEqual(reader.last_id, "a-2")


class Frames(unittest.TestCase):
    def test_frames_are_read_in_pieces_of_any_size(self):
        sent = [(wire.DATA, 0, 3, b"data: x\n"), (wire.PING, 1, 0, b"12345678"), (wire.DATA, 1, 5, b"")]
        data = b"".join(wire.frame(*one) for one in sent)
        for size in range(1, len(data) + 1):
            reader, found = wire.FrameReader(), []
            for piece in pieces(data, size):
                found += reader.frames(piece)
            self.assertEqual(found, sent, size)

    def test_long_texts_have_a_length_of_two_bytes(self):
        self.assertEqual(wire.literal("a", "b" * 130)[3:5], bytes([127, 3]))


class Modes(unittest.TestCase):
    def test_modes_are_read_as_they_are_written(self):
        for text in ("h1", "h1+tls", "h2+tls", "h2+tls/16"):
            self.assertEqual(str(Mode.parse(text)), text)

    def test_what_is_no_mode_is_refused(self):
        for text in ("h2", "h1/2", "h2+tls/0", "h2+tls/257", "h2+tls/x", ""):
            with self.assertRaises(ValueError, msg=text):
                Mode.parse(text)


class Sequences(unittest.TestCase):
    def told(self, *what):
        sequence = Sequence()
        for one in what:
            if isinstance(one, str):
                sequence.gap(one)
            else:
                sequence.message(one)
        return sequence.lost, sequence.repeated, dict(sequence.gaps)

    def test_what_is_lost_in_silence_is_counted(self):
        self.assertEqual(self.told(1, 2, 5, 6), (2, 0, {}))

    def test_the_first_message_counts_too(self):
        self.assertEqual(self.told(2), (1, 0, {}))

    def test_what_was_told_is_not_lost(self):
        self.assertEqual(self.told(1, "expired", 5, 6), (0, 0, {"expired": 1}))

    def test_a_gap_excuses_nothing_behind_the_next_message(self):
        self.assertEqual(self.told(1, "expired", 5, 8), (2, 0, {"expired": 1}))

    def test_what_comes_again_is_counted(self):
        self.assertEqual(self.told(1, 2, 2, 1, 3), (0, 2, {}))


if __name__ == "__main__":
    unittest.main()
