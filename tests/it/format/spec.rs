//! The on-disk format once more, from `docs/design/format.md` alone: it shares no code with the library, so that the
//! two check each other. What is not as the specification says panics.

/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER_LEN: usize = 4096;
const MAGIC: &[u8; 8] = b"mapwal\r\n";
pub(crate) const VERSION: u32 = 3;
const VERSION_2: u32 = 2;
/// The feature bit of a segment whose file was another one before.
pub(crate) const RECYCLED: u32 = 1;
const FRAME_HEADER_LEN: usize = 24;

pub(crate) const DATA: u8 = 1;
pub(crate) const VOID: u8 = 2;
pub(crate) const LINK: u8 = 3;
pub(crate) const SEAL: u8 = 4;
pub(crate) const TRUNCATE: u8 = 5;
pub(crate) const CLOSE: u8 = 6;
pub(crate) const META: u8 = 7;

/// CRC-32 as in zip and PNG, going on from `initial`, the checksum of what came before.
pub(crate) fn crc32(initial: u32, bytes: &[u8]) -> u32 {
    let mut register = !initial;
    for &byte in bytes {
        register ^= u32::from(byte);
        for _ in 0..8 {
            register = (register >> 1) ^ (0xedb8_8320 & (register & 1).wrapping_neg());
        }
    }
    !register
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn offset_of(at: usize) -> u64 {
    u64::try_from(at).unwrap()
}

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) version: u32,
    pub(crate) salt: u32,
    pub(crate) segment_size: u64,
    pub(crate) number: u64,
    pub(crate) log_id: u128,
    pub(crate) created_unix_ms: u64,
    /// Feature words: incompatible, read-only compatible, compatible.
    pub(crate) features: [u32; 3],
}

impl SegmentHeader {
    /// Of a segment that the current version writes.
    pub(crate) fn new(log_id: u128, number: u64, segment_size: u64) -> Self {
        let created_unix_ms = 1_700_000_000_000;
        let salt = salt(log_id, number);
        Self { version: VERSION, salt, segment_size, number, log_id, created_unix_ms, features: [0; 3] }
    }

    pub(crate) fn is_recycled(&self) -> bool {
        self.features[0] & RECYCLED != 0
    }

    fn encode(&self) -> Vec<u8> {
        assert_eq!(self.version, VERSION, "older ones are only read");
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.salt.to_le_bytes());
        bytes.extend(self.segment_size.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.log_id.to_le_bytes());
        bytes.extend(self.created_unix_ms.to_le_bytes());
        bytes.extend(self.features.iter().flat_map(|word| word.to_le_bytes()));
        bytes.resize(SEGMENT_HEADER_LEN - 4, 0);
        bytes.extend(crc32(0, &bytes).to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Self {
        assert_eq!(&bytes[..8], MAGIC, "magic");
        let version = u32_at(bytes, 8);
        let mut features = [0; 3];
        if version == VERSION {
            let crc = SEGMENT_HEADER_LEN - 4;
            assert_eq!(u32_at(bytes, crc), crc32(0, &bytes[..crc]), "header checksum");
            features = [56, 60, 64].map(|at| u32_at(bytes, at));
            assert_eq!(features[0] & !RECYCLED, 0, "a feature that is not known");
        } else {
            assert_eq!(version, VERSION_2, "version");
            assert_eq!(u32_at(bytes, 56), crc32(0, &bytes[..56]), "header checksum");
            assert!(bytes[60..SEGMENT_HEADER_LEN].iter().all(|&b| b == 0), "reserved bytes");
        }
        let header = Self {
            version,
            salt: u32_at(bytes, 12),
            segment_size: u64_at(bytes, 16),
            number: u64_at(bytes, 24),
            log_id: u128::from_le_bytes(bytes[32..48].try_into().unwrap()),
            created_unix_ms: u64_at(bytes, 48),
            features,
        };
        assert_eq!(header.segment_size, offset_of(bytes.len()), "file length");
        if version == VERSION {
            assert_eq!(header.salt, salt(header.log_id, header.number), "salt");
        }
        header
    }
}

/// The salt that version 3 gives to segment `number` of a log.
fn salt(log_id: u128, number: u64) -> u32 {
    let sum = u64::from(crc32(0, &log_id.to_le_bytes())) + number * 0x9e37_79b1;
    u32::try_from(sum & u64::from(u32::MAX)).unwrap()
}

/// A frame and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) crc: u32,
    pub(crate) lsn: u64,
    pub(crate) durable_lag: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) tag: u16,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// After the frame and its padding.
    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.len).next_multiple_of(8)
    }

    pub(super) fn takes_lsn(&self) -> bool {
        matches!(self.kind, DATA | VOID)
    }

    /// The number of the record after it.
    pub(crate) fn next_lsn(&self) -> u64 {
        self.lsn + u64::from(self.takes_lsn())
    }

    /// What the frame says was durable when it was appended to segment `number`, as a position.
    pub(crate) fn durable_then(&self, number: u64) -> Option<u64> {
        let position = number << 32 | self.offset;
        (self.durable_lag != u32::MAX).then(|| position - 8 * u64::from(self.durable_lag))
    }

    /// The frame at `offset` of a segment, if a valid one stands there; its `lsn` is compared by the caller.
    pub(super) fn parse(bytes: &[u8], offset: usize, salt: u32) -> Result<Self, &'static str> {
        let at = &bytes[offset..];
        let len = if at.len() < FRAME_HEADER_LEN { 0 } else { u32_at(at, 0) as usize };
        if len < FRAME_HEADER_LEN || len.next_multiple_of(8) > at.len() {
            return Err("frame length");
        }
        let frame = Self {
            offset: offset_of(offset),
            len: u32_at(at, 0),
            crc: u32_at(at, 4),
            lsn: u64_at(at, 8),
            durable_lag: u32_at(at, 16),
            kind: at[20],
            flags: at[21],
            tag: u16::from_le_bytes([at[22], at[23]]),
            payload: at[FRAME_HEADER_LEN..len].to_vec(),
        };
        if frame.crc != frame.checksum(salt) {
            return Err("frame checksum");
        }
        if !(DATA..=META).contains(&frame.kind) {
            return Err("frame kind");
        }
        let flags_are_good = frame.flags == 0 || frame.flags == 1 && frame.takes_lsn();
        if !flags_are_good || !frame.takes_lsn() && frame.tag != 0 {
            return Err("flags or tag");
        }
        if at[len..len.next_multiple_of(8)].iter().any(|&b| b != 0) {
            return Err("padding");
        }
        Ok(frame)
    }
}

/// What a link frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Number of the segment before, where it ends, and its last frame's checksum; the number is 0 if there is none.
    pub(crate) previous: (u64, u64, u32),
    pub(crate) oldest: u64,
    pub(crate) meta: Vec<(u8, Vec<u8>)>,
}

impl Link {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (number, end, crc) = self.previous;
        let mut bytes = [number.to_le_bytes(), end.to_le_bytes()].concat();
        bytes.extend(crc.to_le_bytes());
        bytes.extend(u32::try_from(self.meta.len()).unwrap().to_le_bytes());
        bytes.extend(self.oldest.to_le_bytes());
        bytes.extend(self.meta.iter().flat_map(|(slot, value)| encode_meta(*slot, value)));
        bytes
    }

    pub(crate) fn parse(payload: &[u8], version: u32) -> Self {
        let previous = (u64_at(payload, 0), u64_at(payload, 8), u32_at(payload, 16));
        let mut rest = &payload[32..];
        let mut meta = Vec::new();
        for _ in 0..u32_at(payload, 20) {
            let (slot, head, len) = if version == VERSION_2 {
                assert!(rest[1] == 0 && u16::from_le_bytes([rest[2], rest[3]]) <= 256, "metadata");
                (rest[0], 4, usize::from(u16::from_le_bytes([rest[2], rest[3]])))
            } else {
                assert_eq!(rest[1..4], [0; 3], "metadata");
                (rest[0], 8, u32_at(rest, 4) as usize)
            };
            assert!(slot < 16, "metadata");
            meta.push((slot, rest[head..head + len].to_vec()));
            rest = &rest[head + len..];
        }
        assert!(rest.is_empty() && meta.is_sorted(), "link");
        Self { previous, oldest: u64_at(payload, 24), meta }
    }
}

/// A metadata slot and its value, in a metadata frame as in a link.
pub(crate) fn encode_meta(slot: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![slot, 0, 0, 0];
    bytes.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
    bytes.extend(value);
    bytes
}

/// The file of a named pin.
pub(crate) fn encode_pin(lsn: u64, limit_bytes: u64, flags: u8, owner: &[u8]) -> Vec<u8> {
    let mut bytes = b"mapwpin1".to_vec();
    bytes.extend(lsn.to_le_bytes());
    bytes.extend(limit_bytes.to_le_bytes());
    bytes.extend([flags, u8::try_from(owner.len()).unwrap(), 0, 0]);
    bytes.extend(owner);
    bytes.resize(92, 0);
    bytes.extend(crc32(0, &bytes).to_le_bytes());
    bytes
}

/// What goes before frames that are shipped.
pub(crate) fn encode_shipment_header(salt: u32, first_lsn: u64, frames_len: u64) -> Vec<u8> {
    let mut bytes = b"mwf1".to_vec();
    bytes.extend(salt.to_le_bytes());
    bytes.extend(first_lsn.to_le_bytes());
    bytes.extend(frames_len.to_le_bytes());
    bytes.extend(crc32(0, &bytes).to_le_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// A tally of frames that end at `end`: their sum, and how many are records.
pub(super) fn tally_of(end: u64, (sum, records): (u64, u64)) -> Vec<u8> {
    [end, sum, records].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A segment: header and frames, the rest zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) frames: Vec<Frame>,
}

impl Segment {
    /// A segment without a frame.
    pub(crate) fn new(header: SegmentHeader) -> Self {
        Self { header, frames: Vec::new() }
    }

    /// After the last frame.
    pub(crate) fn end(&self) -> u64 {
        self.frames.last().map_or(offset_of(SEGMENT_HEADER_LEN), Frame::end)
    }

    pub(crate) fn link(&self) -> Link {
        Link::parse(&self.frames[0].payload, self.header.version)
    }

    /// What the frames come to, as a seal or a close says it.
    pub(crate) fn tally(&self) -> Vec<u8> {
        let word = |frame: &Frame| u64::from(frame.len) | u64::from(frame.crc) << 32;
        let sum = self
            .frames
            .iter()
            .fold(0, |sum, frame| ((sum + u128::from(word(frame))) % (1 << 64)) * 0x9e37_79b9_7f4a_7c15 % (1 << 64));
        let records = self.frames.iter().filter(|frame| frame.kind == DATA).count();
        tally_of(self.end(), (u64::try_from(sum).unwrap(), u64::try_from(records).unwrap()))
    }

    /// Checks what `frame`, a seal or a close after the frames so far, says of them.
    fn check_tally(&self, frame: &Frame) {
        let at = match frame.kind {
            SEAL => 8,
            CLOSE => 0,
            _ => return,
        };
        let stated = &frame.payload[at..at + 24];
        assert!(*stated == [0; 24] || *stated == self.tally(), "tally at {}", frame.offset);
    }

    /// Adds a frame that says that everything before position `durable` was durable.
    pub(crate) fn push(&mut self, lsn: u64, kind: u8, flags: u8, tag: u16, durable: u64, payload: &[u8]) {
        let offset = self.end();
        let lag = ((self.header.number << 32 | offset) - durable) / 8;
        let len = u32::try_from(FRAME_HEADER_LEN + payload.len()).unwrap();
        let durable_lag = u32::try_from(lag).unwrap_or(u32::MAX);
        let mut frame = Frame { offset, len, crc: 0, lsn, durable_lag, kind, flags, tag, payload: payload.to_vec() };
        frame.crc = frame.checksum(self.header.salt);
        self.frames.push(frame);
    }

    /// The file's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header.encode();
        for frame in &self.frames {
            bytes.extend(frame.len.to_le_bytes());
            bytes.extend(frame.crc.to_le_bytes());
            bytes.extend(frame.header_words().iter().flat_map(|word| word.to_le_bytes()));
            bytes.extend(&frame.payload);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes.resize(usize::try_from(self.header.segment_size).unwrap(), 0);
        bytes
    }

    /// What `bytes`, a whole file, hold. After the first commit word of zero there is nothing, unless the file was another
    /// segment before.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut segment = Self::new(SegmentHeader::parse(bytes));
        let mut offset = SEGMENT_HEADER_LEN;
        let mut next_lsn = None;
        while offset < bytes.len() && u64_at(bytes, offset) != 0 {
            let frame = match Frame::parse(bytes, offset, segment.header.salt) {
                Ok(frame) => frame,
                Err(_) if segment.header.is_recycled() => break,
                Err(why) => panic!("{why} at {offset}"),
            };
            assert_eq!(frame.lsn, *next_lsn.get_or_insert(frame.lsn), "number of the frame at {offset}");
            assert_eq!(frame.kind == LINK, segment.frames.is_empty(), "a link is first, and only first");
            assert!(segment.frames.last().is_none_or(|last| last.kind != SEAL), "nothing follows a seal");
            if segment.header.version != VERSION_2 {
                segment.check_tally(&frame);
            }
            next_lsn = Some(frame.next_lsn());
            offset = usize::try_from(frame.end()).unwrap();
            segment.frames.push(frame);
        }
        let is_clean = segment.header.is_recycled() || bytes[offset..].iter().all(|&b| b == 0);
        assert!(is_clean, "something follows the last frame");
        segment
    }
}

impl Frame {
    /// The header after the commit word.
    fn header_words(&self) -> [u64; 2] {
        let (lag, kind, flags) = (u64::from(self.durable_lag), u64::from(self.kind), u64::from(self.flags));
        [self.lsn, lag | kind << 32 | flags << 40 | u64::from(self.tag) << 48]
    }

    fn checksum(&self, salt: u32) -> u32 {
        checksum(salt, self.len, self.header_words(), &self.payload)
    }
}

/// The checksum of a frame of a segment with this salt.
fn checksum(salt: u32, len: u32, header_words: [u64; 2], payload: &[u8]) -> u32 {
    let [first, second] = header_words.map(u128::from);
    let sum = (first * 0x9e37_79b9_7f4a_7c15).wrapping_add(second * 0xc2b2_ae3d_27d4_eb4f);
    let upper = u32::try_from(sum >> 32 & u128::from(u32::MAX)).unwrap();
    crc32(0, payload) ^ upper ^ salt ^ len
}

/// The checksum that the frame at the start of `bytes`, whose length is right, is to have.
pub(crate) fn checksum_of(salt: u32, bytes: &[u8]) -> u32 {
    let len = u32_at(bytes, 0);
    checksum(salt, len, [u64_at(bytes, 8), u64_at(bytes, 16)], &bytes[FRAME_HEADER_LEN..len as usize])
}
