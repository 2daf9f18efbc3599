#!/usr/bin/env python3
"""Shows the records of mapwal logs, and whether each log is sound, torn or damaged: read_mapwal.py [--summary] DIR...

A line for each record (number, tag, payload) unless --summary is given, then one for the log: verdict, records, their CRC-32, directory.
`-` stands for directories named on the standard input. Ends with 0 if all logs are sound, 1 if one is torn, 2 if damaged, 3 if refused.
Needs Python 3.8 and nothing else. Nobody may write to the log meanwhile. The steps are those of docs/design/format.md."""
import re, sys
from collections import Counter, namedtuple
from pathlib import Path
from struct import pack, unpack, unpack_from
from zlib import crc32

FIRST, UNKNOWN, U64 = 4096, 2**32 - 1, 2**64 - 1
DATA, VOID, LINK, SEAL, TRUNCATION, CLOSE, META = range(1, 8)
Frame = namedtuple("Frame", "at end length crc lsn lag kind flags tag payload")
Link = namedtuple("Link", "previous end crc oldest lsn")
Gap = namedtuple("Gap", "start bad records wrong_tally")
class Refused(Exception): """A directory that is no log, or one that a later version has written."""

class Segment:
    def __init__(self, number, path):  # step 1
        name = path.name
        if not re.fullmatch(r"[0-9]{20}\.seg", name) or not 0 < number < 2**32: raise Refused(f"{name} is not a segment's name")
        self.number, self.base, self.fault, self.data = number, number << 32, None, path.read_bytes()
        self.records, self.gaps, self.last, self.end, self.claim, self.used = [], [], None, FIRST, 0, len(self.data.rstrip(b"\0"))
        data, has_magic = self.data.ljust(FIRST, b"\0"), len(self.data) >= FIRST and self.data[:8] == b"mapwal\r\n"
        version, self.salt, size, told, self.log_id, incompatible = unpack_from("<IIQQ16s8xI", data, 8)
        is_3 = crc32(data[:8] + pack("<I", 3) + data[12:4092]) == unpack_from("<I", data, 4092)[0]
        is_2 = crc32(data[:8] + pack("<I", 2) + data[12:56]) == incompatible
        self.version, self.recycled = 3 if is_3 else 2, is_3 and incompatible & 1
        if has_magic and (not is_3 and not is_2 and version not in (2, 3) or is_3 and version == 3 and incompatible & ~1):
            raise Refused(f"{name} is of version {version}, or has features that are not known")
        if not has_magic or not (is_3 or is_2) or version != self.version or not is_3 and any(data[60:FIRST]):
            self.fault = f"the header of {name} is damaged"
        elif told != number or size != len(self.data) or size & size - 1 or not 2**16 <= size <= 2**32:
            self.fault = f"{name} is not the segment, or not as long, as its header says"
        first, longest = None if self.fault else self.frame(FIRST), 56 + min(size // 4, 2**24)
        is_link = first and first.length <= longest and self.valid(first)
        self.link = Link(*unpack_from("<QQI4xQ", first.payload), first.lsn) if is_link else None

    def frame(self, at):  # the intact one at an offset, if there is one
        length, crc, lsn, lag, kind, flags, tag = unpack("<IIQIBBH", self.data[at:at + 24].ljust(24, b"\0"))
        end = at + (length + 7 & ~7)
        if length < 24 or end > len(self.data) or not DATA <= kind <= META: return None
        (number, rest), payload = unpack_from("<8xQQ", self.data, at), self.data[at + 24:at + length]
        mix = (number * 0x9E3779B97F4A7C15 + rest * 0xC2B2AE3D27D4EB4F & U64) >> 32
        is_intact = crc32(payload) ^ mix ^ self.salt ^ length == crc
        return Frame(at, end, length, crc, lsn, lag, kind, flags, tag, payload) if is_intact else None

    def valid(self, frame, before=None, lsn=None):  # whether an intact frame is sound by itself and, but for its tally, after another
        kind, is_record = frame.kind, frame.kind in (DATA, VOID)
        return ((lsn is None or frame.lsn == lsn) and frame.flags <= is_record and (is_record or not frame.tag)
                and not any(self.data[frame.at + frame.length:frame.end]) and (kind == LINK) == (frame.at == FIRST)
                and (not before or before.kind != SEAL and (is_record or not before.flags)
                     and (kind != TRUNCATION or before.kind == LINK)) and (is_record or self.has_form(kind, frame.payload, frame.lsn)))

    def has_form(self, kind, payload, lsn):  # a control frame
        if kind in (TRUNCATION, META):
            return payload == pack("<Q", lsn - 1 & U64) if kind == TRUNCATION else self.are_slots(payload, 1)
        if kind == LINK:
            has_tie = len(payload) >= 32 and (any(payload[:8]) or not any(payload[8:20]))
            return has_tie and self.are_slots(payload[32:], *unpack_from("<I", payload, 20))
        head = 8 if kind == SEAL else 0
        tally, rest = (payload[head:head + 24], payload[head + 24:]) if self.version == 3 else (bytes(24), payload[head:])
        is_tally = len(payload) >= head and len(tally) == 24 and not any(tally[20:]) and (any(tally[:8]) or not any(tally))
        is_end = kind == CLOSE and len(rest) >= 8 and not any(rest[4:8]) and self.are_slots(rest[8:], *unpack_from("<I", rest))
        return is_tally and (not rest or is_end)

    def are_slots(self, rest, count, last=-1):
        half, most = (4, U64) if self.version == 3 else (2, 256)
        length = int.from_bytes(rest[half:2 * half], "little")
        return not rest if not count else (
            len(rest) >= 2 * half + length and length <= most and last < rest[0] < 16 and not any(rest[1:half])
            and self.are_slots(rest[2 * half + length:], count - 1, rest[0]))

    def sound_from(self, at, stop):  # the first frame at a multiple of 8 that is sound by itself, and begins and ends before `stop`
        frames = (self.frame(at) for at in range(at, min(stop, self.used - 20), 8) if self.data[at + 20])
        return next((frame for frame in frames if frame and frame.end <= stop and self.valid(frame)), None)

    def walk(self, end=None, link=None):  # steps 4 and 5; `link` is the one that names the end
        at, lsn, before, stop = FIRST, self.link and self.link.lsn, None, end or len(self.data)
        total, whole, batch, in_gap = 0, True, None, bool(self.fault)
        while not self.fault and at < stop:
            frame = self.frame(at)
            fits = frame and frame.end <= stop and self.valid(frame, before, lsn)
            told = frame.payload[8 * (frame.kind == SEAL):][:24] if fits and whole and frame.kind in (SEAL, CLOSE) else b""
            wrong_tally = self.version == 3 and any(told) and told != pack("<QQQ", at, total, len(self.records))
            if fits and not wrong_tally:
                self.claim = max(self.claim, self.base + at - 8 * frame.lag if frame.lag != UNKNOWN else 0)
                batch = frame.flags and (batch or (at, len(self.records)))
                self.records += [(frame.lsn, frame.tag, frame.payload)] if frame.kind == DATA else []
                total = (total + (frame.length | frame.crc << 32)) * 0x9E3779B97F4A7C15 & U64
                lsn, before, at, in_gap = frame.lsn + (frame.kind in (DATA, VOID)), frame, frame.end, False
                continue
            following = self.sound_from(at + 8, stop)
            if not following and (self.recycled or len(self.data[:stop].rstrip(b"\0")) <= at): break
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
        for path in directory.iterdir():
            if re.fullmatch(r"LOCK|pins|control(\.tmp)?|.*\.seg|[0-9]{20}\.tmp", path.name):
                may_be_directory = path.name == "pins" or path.name.endswith(".tmp")
                is_sound = path.is_dir() and may_be_directory or path.is_file() and path.name != "pins"
                if path.is_symlink() or not is_sound: raise Refused(f"{path.name} is no file")
        paths = sorted(path for path in directory.iterdir() if path.name.endswith(".seg"))
        self.files = {(number := int(path.name[:20]) if path.name[:20].isdigit() else 0): Segment(number, path) for path in paths}
        sound = [segment for segment in self.files.values() if not segment.fault]
        self.log_id = Counter(segment.log_id for segment in sound).most_common(1)[0][0] if sound else b"" if paths else None
        for segment in (segment for segment in sound if segment.log_id != self.log_id):
            segment.fault, segment.link = f"segment {segment.number} is of another log", None
        self.damage, self.torn, self.records = [segment.fault for segment in self.files.values() if segment.fault], [], []
        self.read_control(directory / "control")
        self.follow_chain()
        self.judge()
        self.read_pins(directory / "pins")
        if not paths and not self.damage: raise Refused("there is no segment")
        is_closed = not self.torn and self.tip and self.tip.last and self.tip.last.kind == CLOSE
        self.verdict = "damaged" if self.damage else "torn" if self.torn else "sound, closed" if is_closed else "sound"

    def read_control(self, path):  # step 2
        page = path.read_bytes() if path.is_file() else b""
        words = unpack_from("<512Q", page) if len(page) == 4096 else [0] * 512
        own, low = page[8:24], lambda at: words[at] & UNKNOWN
        check = lambda *values, of=self.log_id or own: crc32(of + pack(f"<{len(values)}Q", *values))
        is_right = lambda at, **of: check((at if at != 5 else 0) << 32 | low(at), **of) == words[at] >> 32
        is_page, is_other = page[:8] in (b"mapwctl\1", b"mapwopen"), is_right(5, of=own) and low(5) != 2
        with_checksum = (5, 7, 9, *range(80, 87), *range(88, 95), *range(96, 99))
        is_own = is_page and self.log_id in (own, None) or self.log_id != b"" and any(map(is_right, with_checksum))
        says = len(page) == 4096 and is_own and not is_other and not (is_right(5) and low(5) != 2)
        self.active, self.oldest = says and is_right(7) and low(7) or 0, low(9) if says and is_right(9) else None
        begun = [file for file in self.files.values() if file.link] or [file for file in self.files.values() if not file.fault]
        is_old = len(page) == 4096 and begun and max(begun, key=lambda file: file.number).version == 2 and not words[5]
        if self.log_id and path.is_file() and not is_old:
            if len(page) != 4096 or not is_page or not is_other and (page[8:24] != self.log_id or not all(map(is_right, with_checksum))):
                self.damage.append("the control page is damaged")
        halves = lambda at: [low(at) | low(at + 1) << 32, low(at + 2) | low(at + 3) << 32]
        self.durable = max([halves(at) for at in (80, 88) if says and check(*words[at:at + 6]) == low(at + 6)] or [[0, 0]])[1]

    def follow_chain(self):  # step 3; `link` is that of the segment above, if it names one
        self.tip = tip = max((file for file in self.files.values() if file.link), key=lambda file: file.number, default=None)
        bound, link, self.counted = max(tip.link.oldest, self.oldest or 0) if tip else 0, None, []
        self.above = [file for number, file in self.files.items() if not tip or number > tip.number]
        for number, file in sorted(self.files.items(), reverse=True):
            if file in self.above or file is not tip and (number < bound or link and link.previous < number): continue
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
        lowest, is_told = self.counted[0].number if self.counted else min(self.files, default=0), self.counted and self.counted[0].link and not link
        if not link and not is_told and bound <= (self.oldest or 0) < lowest and self.oldest is not None and self.oldest not in self.files:
            self.damage.append(f"segment {self.oldest} is missing")
        for file in self.above: file.walk()

    def judge(self):  # steps 6 and 7
        proved = max([self.durable] + [segment.claim for segment in self.counted + self.above])
        for segment in self.counted:
            for gap in segment.gaps if not self.torn else []:
                is_damage = proved > gap.bad or gap.wrong_tally
                (self.damage if is_damage else self.torn).append(f"segment {segment.number}, offset {gap.bad - segment.base}")
                if not is_damage:
                    self.records += segment.records[:gap.records]
                    break
            self.records += [] if self.torn else segment.records
        tip, seal = self.tip, self.tip and self.tip.last and self.tip.last.kind == SEAL
        named = unpack_from("<Q", tip.last.payload)[0] if seal else None if tip else min(self.files, default=0)
        if self.files and not self.torn and not (tip and tip.gaps):
            if proved > (tip.base + tip.end if tip else self.files[named].base + FIRST):
                self.damage.append("what was durable after the end is missing")
                self.records += self.files[named].records if named in self.files else []
            elif named and named not in self.files and (tip.version == 3 or self.active >= named):
                self.damage.append(f"segment {named} is missing")
        if self.durable > (tip.number + 1 << 32 if tip else 0): self.damage.append("what was durable in a later segment is missing")
        for file in (file for file in self.above if not file.fault):
            if file.sound_from(FIRST, len(file.data)) if file.recycled else file.used > FIRST:
                self.torn.append(f"segment {file.number} has been begun")

    def read_pins(self, directory):  # step 8
        for path in directory.iterdir() if directory.is_dir() else []:
            if path.is_symlink() or not path.is_file() or not re.fullmatch("[a-zA-Z0-9_-]{1,64}", path.name): continue
            owner = pin[28:28 + pin[25]] if len(pin := path.read_bytes()) == 96 else b""
            is_bad = (len(pin) != 96 or pin[:8] != b"mapwpin1" or crc32(pin[:92]) != unpack_from("<I", pin, 92)[0] or pin[24] > 1
                      or pin[25] > 64 or any(pin[26:28]) or owner.decode(errors="ignore").encode() != owner)
            if is_bad == bool(self.files): self.damage.append(f"pin {path.name} is {'damaged' if is_bad else 'all that is left'}")

def show(directory, is_summary):
    try:
        log = Log(Path(directory))
        verdict, records, why = log.verdict, log.records, log.damage + log.torn
    except (Refused, OSError) as error:
        verdict, records, why = "refused", [], [error]
    if not is_summary:
        print(*(f"{lsn}\t{tag}\t{repr(payload)[2:-1]}\n" for lsn, tag, payload in records), sep="", end="")
        print(*(f"{directory}: {reason}\n" for reason in why), sep="", end="", file=sys.stderr)
    digest = crc32(b"".join(pack("<QHI", lsn, tag, len(payload)) + payload for lsn, tag, payload in records))
    print(f"{verdict}\t{len(records)}\t{digest:08x}\t{directory}", flush=True)
    return ("sound", "torn", "damaged", "refused").index(verdict.split(",")[0])

if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if name != "--summary"]
    if not names or "--help" in names: sys.exit(__doc__)
    lines = (line for name in names for line in (map(str.rstrip, sys.stdin) if name == "-" else [name]))
    sys.exit(max([show(directory, "--summary" in sys.argv) for directory in lines], default=0))
