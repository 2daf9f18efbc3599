#!/usr/bin/env python3
"""Shows the records of mapwal logs, and whether each log is sound, torn or damaged: read_mapwal.py [--summary] DIR...

A line for each record (number, tag, payload) unless --summary is given, then one for the log: verdict, records, their CRC-32, directory.
`-` stands for directories named on the standard input. Ends with 0 if all logs are sound, 1 if one is torn, 2 if damaged, 3 if refused.
Needs Python 3.8 and nothing else. Nobody may write to the log meanwhile. The steps are those of docs/design/format.md.
"""
import os, re, sys
from collections import Counter, namedtuple
from struct import Struct, pack, unpack_from
from zlib import crc32

FIRST, UNKNOWN, U64 = 4096, 2**32 - 1, 2**64 - 1
DATA, VOID, LINK, SEAL, TRUNCATION, CLOSE, META = range(1, 8)
HEAD, WORDS = Struct("<IIQIBBH"), Struct("<8xQQ")
Frame = namedtuple("Frame", "at end length crc lsn lag kind flags tag payload")
Link = namedtuple("Link", "previous end crc oldest lsn")
Gap = namedtuple("Gap", "start bad records wrong_tally")

class Refused(Exception):
    """A directory that is no log, or one that a later version has written."""

class Segment:
    def __init__(self, number, path):
        self.number, self.base, self.fault, name = number, number << 32, None, os.path.basename(path)
        if not re.fullmatch(r"\d{20}\.seg", name) or os.path.islink(path) or not os.path.isfile(path):
            raise Refused(f"{name} is no segment")
        with open(path, "rb") as file:
            self.data = file.read()
        self.records, self.gaps, self.last, self.end, self.claim = [], [], None, FIRST, 0
        self.used = len(self.data.rstrip(b"\0"))
        self.read_header(name)
        first = None if self.fault else self.frame(FIRST)
        self.link = Link(*unpack_from("<QQI4xQ", first.payload), first.lsn) if first and self.valid(first) else None

    def read_header(self, name):  # step 1
        data, has_magic = self.data.ljust(FIRST, b"\0"), len(self.data) >= FIRST and self.data[:8] == b"mapwal\r\n"
        version, self.salt, size, number, self.log_id, incompatible = unpack_from("<IIQQ16s8xI", data, 8)
        is_3 = crc32(data[:8] + pack("<I", 3) + data[12:4092]) == unpack_from("<I", data, 4092)[0]
        is_2 = crc32(data[:8] + pack("<I", 2) + data[12:56]) == incompatible
        self.version, self.recycled = 3 if is_3 else 2, is_3 and incompatible & 1
        if has_magic and (not is_3 and not is_2 and version not in (2, 3) or is_3 and version == 3 and incompatible & ~1):
            raise Refused(f"{name} is of version {version}, or has features that are not known")
        if not has_magic or not (is_3 or is_2) or version != self.version or not is_3 and any(data[60:FIRST]):
            self.fault = f"the header of {name} is damaged"
        elif number != self.number or size != len(self.data) or size & size - 1 or not 2**16 <= size <= 2**32:
            self.fault = f"{name} is not the segment, or not as long, as its header says"

    def frame(self, at):
        """The intact frame at an offset, if there is one."""
        if at + 24 > len(self.data):
            return None
        length, crc, lsn, lag, kind, flags, tag = HEAD.unpack_from(self.data, at)
        end = at + (length + 7 & ~7)
        if length < 24 or end > len(self.data) or not DATA <= kind <= META:
            return None
        (number, rest), payload = WORDS.unpack_from(self.data, at), self.data[at + 24:at + length]
        mix = (number * 0x9E3779B97F4A7C15 + rest * 0xC2B2AE3D27D4EB4F & U64) >> 32
        is_intact = crc32(payload) ^ mix ^ self.salt ^ length == crc
        return Frame(at, end, length, crc, lsn, lag, kind, flags, tag, payload) if is_intact else None

    def valid(self, frame, before=None, lsn=None):
        """Whether an intact frame may follow another one, but for its tally. With none before, it is sound by itself."""
        kind, is_record = frame.kind, frame.kind in (DATA, VOID)
        return ((lsn is None or frame.lsn == lsn) and frame.flags <= is_record and (is_record or not frame.tag)
                and not any(self.data[frame.at + frame.length:frame.end]) and (kind == LINK) == (frame.at == FIRST)
                and (not before or before.kind != SEAL and (is_record or not before.flags)
                     and (kind != TRUNCATION or before.kind == LINK)) and (is_record or self.has_form(frame)))

    def has_form(self, frame):
        kind, payload = frame.kind, frame.payload
        if kind in (TRUNCATION, META):
            return payload == pack("<Q", frame.lsn - 1 & U64) if kind == TRUNCATION else self.are_slots(payload, 1)
        if kind == LINK:
            is_tie = len(payload) >= 32 and (any(payload[:8]) or not any(payload[8:20]))
            return is_tie and self.are_slots(payload[32:], *unpack_from("<I", payload, 20))
        head = 8 if kind == SEAL else 0
        tally, rest = (payload[head:head + 24], payload[head + 24:]) if self.version == 3 else (bytes(24), payload[head:])
        is_tally = len(payload) >= head and len(tally) == 24 and not any(tally[20:]) and (any(tally[:8]) or not any(tally))
        is_end = kind == CLOSE and len(rest) >= 8 and not any(rest[4:8]) and self.are_slots(rest[8:], *unpack_from("<I", rest))
        return is_tally and (not rest or is_end)

    def are_slots(self, rest, count):
        last, half, most = -1, 4 if self.version == 3 else 2, U64 if self.version == 3 else 256
        for _ in range(min(count, 17)):
            length = int.from_bytes(rest[half:2 * half], "little")
            if len(rest) < 2 * half + length or length > most or not last < rest[0] < 16 or any(rest[1:half]):
                return False
            last, rest = rest[0], rest[2 * half + length:]
        return not rest and count <= 16

    def sound_from(self, at, stop):
        """The frames at any multiple of 8 that are sound by themselves, and begin and end before `stop`."""
        for at in range(at, min(stop, self.used - 20), 8):
            if self.data[at + 20] and (frame := self.frame(at)) and frame.end <= stop and self.valid(frame):
                yield frame

    def walk(self, end=None, link=None):  # steps 4 and 5; `link` is the one that names the end
        at, lsn, before, stop = FIRST, self.link and self.link.lsn, None, end or len(self.data)
        count, total, whole, batch, in_gap = 0, 0, True, None, bool(self.fault)
        while not self.fault and at < stop:
            frame = self.frame(at)
            fits = frame and frame.end <= stop and self.valid(frame, before, lsn)
            told = frame.payload[8 * (frame.kind == SEAL):][:24] if fits and whole and frame.kind in (SEAL, CLOSE) else b""
            wrong_tally = self.version == 3 and any(told) and told != pack("<QQQ", at, total, count)
            if fits and not wrong_tally:
                self.claim = max(self.claim, self.base + at - 8 * frame.lag if frame.lag != UNKNOWN else 0)
                batch = frame.flags and (batch or (at, len(self.records)))
                if frame.kind == DATA:
                    self.records.append((frame.lsn, frame.tag, frame.payload))
                total = (total + (frame.length | frame.crc << 32)) * 0x9E3779B97F4A7C15 & U64
                count, lsn, before = count + (frame.kind == DATA), frame.lsn + (frame.kind in (DATA, VOID)), frame
                at, in_gap = frame.end, False
                continue
            following = next(self.sound_from(at + 8, stop), None)
            if not following and (self.recycled or len(self.data[:stop].rstrip(b"\0")) <= at):
                break
            self.add_gap(at, batch, wrong_tally)
            lsn, before, batch, whole, in_gap, at = None, None, None, False, True, following.at if following else stop
        self.last, self.end = before, at
        if not in_gap and (batch if not link else at < stop or (lsn, before.crc) != (link.lsn, link.crc)):
            self.add_gap(at, None if link and at == stop else batch, False)

    def add_gap(self, at, batch, wrong_tally):
        start, records = batch or (at, len(self.records))
        self.gaps.append(Gap(self.base + start, self.base + at, records, wrong_tally))
        del self.records[records:]

class Log:
    def __init__(self, directory):
        names = sorted(name for name in os.listdir(directory) if name.endswith(".seg"))
        if not names:
            raise Refused("there is no segment")
        self.damage, self.torn, self.records = [], [], []
        self.files = {segment.number: segment for segment in (
            Segment(int(name[:20]) if name[:20].isdigit() else 0, os.path.join(directory, name)) for name in names)}
        sound = [segment for segment in self.files.values() if not segment.fault]
        self.log_id = Counter(segment.log_id for segment in sound).most_common(1)[0][0] if sound else None
        for segment in sound:
            if segment.log_id != self.log_id:
                segment.fault, segment.link = f"segment {segment.number} is of another log", None
        self.damage += [segment.fault for segment in self.files.values() if segment.fault]
        self.read_control(os.path.join(directory, "control"))
        self.follow_chain()
        self.judge()
        self.read_pins(os.path.join(directory, "pins"))
        is_closed = not self.torn and self.tip and self.tip.last and self.tip.last.kind == CLOSE
        self.verdict = "damaged" if self.damage else "torn" if self.torn else "sound, closed" if is_closed else "sound"

    def read_control(self, path):  # step 2
        self.oldest, self.active, self.close, self.durable = None, 0, None, 0
        page = open(path, "rb").read() if os.path.isfile(path) else b""
        words = unpack_from("<512Q", page.ljust(4096, b"\0"))
        if len(page) < 4096 or page[:8] != b"mapwctl\1" or page[8:24] != self.log_id or words[5] > 1:
            return
        check = lambda *values: crc32(self.log_id + pack(f"<{len(values)}Q", *values))
        low = lambda word: word & UNKNOWN if check(word & UNKNOWN) == word >> 32 else None
        self.active, self.oldest = low(words[7]) or 0, low(words[9])
        self.durable = max([words[at:at + 2] for at in (80, 88) if check(*words[at:at + 3]) == words[at + 3]] or [(0, 0)])[1]
        self.close = words[96] if words[96] and check(words[96]) == words[97] else None

    def follow_chain(self):  # step 3; `link` is that of the segment above, if it names one
        self.tip = tip = max((file for file in self.files.values() if file.link), key=lambda file: file.number, default=None)
        bound, link, self.counted = max(tip.link.oldest, self.oldest or 0) if tip else 0, None, []
        self.above = [file for number, file in self.files.items() if not tip or number > tip.number]
        for number, file in sorted(self.files.items(), reverse=True):
            if file in self.above or file is not tip and (number < bound or link and link.previous < number):
                continue
            if link and link.previous > number:
                self.damage.append(f"segment {link.previous} is missing")
                link = None
            file.walk(link and link.end, link)
            self.counted.insert(0, file)
            link, before = file.link, self.files.get(file.link.previous) if file.link else None
            fits = not before or before.fault or link.end <= len(before.data) and (not before.link or before.link.lsn <= link.lsn)
            if link and link.previous and (link.previous >= number or link.end <= FIRST or not fits):
                self.damage.append(f"the link of segment {number} says what cannot be")
                link = None
        if link and link.previous >= max(bound, 1) and self.oldest is not None and link.previous not in self.files:
            self.damage.append(f"segment {link.previous} is missing")
        for file in self.above:
            file.walk()

    def judge(self):  # steps 6 and 7
        proved = max([self.durable] + [segment.claim for segment in self.counted + self.above])
        for segment in self.counted:
            for gap in segment.gaps if not self.torn else []:
                where = f"segment {segment.number}, offset {gap.bad - segment.base}"
                if proved > gap.bad or self.close and gap.start > self.close or gap.wrong_tally:
                    self.damage.append(f"damaged: {where}")
                else:
                    self.torn.append(f"torn: {where}")
                    self.records += segment.records[:gap.records]
                    break
            self.records += [] if self.torn else segment.records
        tip, named = self.tip, min(self.files)
        if tip:
            named = unpack_from("<Q", tip.last.payload)[0] if tip.last and tip.last.kind == SEAL else None
        if not self.torn and not (tip and tip.gaps):
            if proved > (tip.base + tip.end if tip else self.files[named].base + FIRST):
                self.damage.append("what was durable after the end is missing")
                self.records += self.files[named].records if named in self.files else []
            elif named and named not in self.files and (tip.version == 3 or self.active >= named):
                self.damage.append(f"segment {named} is missing")
        if self.durable > (tip.number + 1 << 32 if tip else 0):
            self.damage.append("what was durable in a later segment is missing")
        for file in (file for file in self.above if not file.fault):
            if next(file.sound_from(FIRST, len(file.data)), None) if file.recycled else file.used > FIRST:
                (self.damage if self.close else self.torn).append(f"segment {file.number} has been begun")

    def read_pins(self, directory):  # step 8
        names = os.listdir(directory) if os.path.isdir(directory) else []
        for name in filter(re.compile(r"[a-zA-Z0-9_-]{1,64}").fullmatch, names):
            pin = open(os.path.join(directory, name), "rb").read(97)
            if len(pin) != 96 or pin[:8] != b"mapwpin1" or crc32(pin[:92]) != unpack_from("<I", pin, 92)[0]:
                self.damage.append(f"pin {name} is damaged")

def show(directory, is_summary):
    try:
        log = Log(directory)
        verdict, records, why = log.verdict, log.records, log.damage + log.torn
    except (Refused, OSError) as error:
        verdict, records, why = "refused", [], [error]
    for lsn, tag, payload in records if not is_summary else []:
        print(f"{lsn}\t{tag}\t{repr(payload)[2:-1]}")
    for line in why if not is_summary else []:
        print(f"{directory}: {line}", file=sys.stderr)
    digest = crc32(b"".join(pack("<QHI", lsn, tag, len(payload)) + payload for lsn, tag, payload in records))
    print(f"{verdict}\t{len(records)}\t{digest:08x}\t{directory}", flush=True)
    return ("sound", "torn", "damaged", "refused").index(verdict.split(",")[0])

if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if name != "--summary"]
    if not names or "--help" in names:
        sys.exit(__doc__)
    lines = (line for name in names for line in (map(str.rstrip, sys.stdin) if name == "-" else [name]))
    sys.exit(max([show(directory, "--summary" in sys.argv) for directory in lines], default=0))
