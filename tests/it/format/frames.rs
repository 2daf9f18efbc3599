//! The frames of one segment, whatever it holds, from `docs/design/format.md` alone: which are valid, and where none is.

use super::spec::{CLOSE, DATA, Frame, LINK, META, SEAL, SEGMENT_HEADER_LEN, SegmentHeader, TRUNCATE, u64_at};
use super::spec::{VERSION, crc32, tally_of, u32_at};

/// What a header is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    Sound(SegmentHeader),
    Damaged,
    /// Of a version, or with a feature, that the page does not know.
    Unknown,
}

/// The header of a file with this number in its name.
pub(super) fn header(bytes: &[u8], number: u64) -> Header {
    if bytes.len() < SEGMENT_HEADER_LEN || bytes[..8] != *b"mapwal\r\n" {
        return Header::Damaged;
    }
    let stated = u32_at(bytes, 8);
    let with = |version: u32, len: usize| {
        let mut bytes = bytes[..len].to_vec();
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        crc32(0, &bytes)
    };
    let version = if with(3, 4092) == u32_at(bytes, 4092) {
        3
    } else if with(2, 56) == u32_at(bytes, 56) {
        2
    } else if stated == 2 || stated == 3 {
        return Header::Damaged;
    } else {
        return Header::Unknown;
    };
    let is_new = version == VERSION;
    let header = SegmentHeader {
        version,
        salt: u32_at(bytes, 12),
        segment_size: u64_at(bytes, 16),
        number: u64_at(bytes, 24),
        log_id: u128::from_le_bytes(bytes[32..48].try_into().unwrap()),
        created_unix_ms: u64_at(bytes, 48),
        features: if is_new { [56, 60, 64].map(|at| u32_at(bytes, at)) } else { [0; 3] },
    };
    let is_size = header.segment_size.is_power_of_two() && (1 << 16..=1 << 32).contains(&header.segment_size);
    let is_good = stated == version
        && is_size
        && header.segment_size == u64::try_from(bytes.len()).unwrap()
        && header.number == number
        && (is_new || bytes[60..4096].iter().all(|&b| b == 0));
    match is_good {
        false => Header::Damaged,
        true if header.features[0] & !1 != 0 => Header::Unknown,
        true => Header::Sound(header),
    }
}

/// Where frames are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'b> {
    /// Up to where they may reach.
    pub(super) bytes: &'b [u8],
    pub(super) header: SegmentHeader,
}

/// What has been passed of a row of frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    next_lsn: Option<u64>,
    /// The frame before: its kind, checksum, and whether its batch goes on.
    before: Option<(u8, u32, bool)>,
    /// What the frames come to, if they are all.
    tally: Option<(u64, u64)>,
}

impl State {
    /// Before the first frame, whose number is `lsn` if that is known.
    pub(super) fn new(lsn: Option<u64>) -> Self {
        Self { next_lsn: lsn, before: None, tally: Some((0, 0)) }
    }

    /// Before a frame after a gap.
    fn apart() -> Self {
        Self { next_lsn: None, before: None, tally: None }
    }

    pub(super) fn is_in_batch(&self) -> bool {
        self.before.is_some_and(|(_, _, goes_on)| goes_on)
    }

    /// The next record's number, and the last frame's checksum.
    pub(super) fn end(&self) -> (Option<u64>, u32) {
        (self.next_lsn, self.before.map_or(0, |(_, crc, _)| crc))
    }
}

/// Why there is no valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A seal or a close, valid but for its tally.
    Tally,
    Other,
}

impl Place<'_> {
    /// The frame at `offset` that follows what has been passed.
    pub(super) fn step(&self, offset: usize, state: &mut State) -> Result<Frame, Fault> {
        let frame = Frame::parse(self.bytes, offset, self.header.salt).map_err(|_| Fault::Other)?;
        let takes_lsn = frame.takes_lsn();
        let is_first = offset == SEGMENT_HEADER_LEN;
        let (before, goes_on) = state.before.map_or((None, false), |(kind, _, goes_on)| (Some(kind), goes_on));
        let may_stand = is_first == (frame.kind == LINK)
            && before != Some(SEAL)
            && (takes_lsn || !goes_on)
            && (frame.kind != TRUNCATE || before.is_none_or(|before| before == LINK));
        if !may_stand || state.next_lsn.is_some_and(|lsn| lsn != frame.lsn) || !has_form(&frame, self.header.version) {
            return Err(Fault::Other);
        }
        if let (Some(stated), Some(found)) = (stated_tally(&frame, self.header.version), state.tally)
            && *stated != [0; 24]
            && stated != tally_of(frame.offset, found)
        {
            return Err(Fault::Tally);
        }
        state.next_lsn = Some(frame.next_lsn());
        state.before = Some((frame.kind, frame.crc, frame.flags & 1 != 0));
        state.tally = state.tally.map(|(sum, records)| {
            let word = u128::from(u64::from(frame.len) | u64::from(frame.crc) << 32);
            let sum = (u128::from(sum) + word) % (1 << 64) * 0x9e37_79b9_7f4a_7c15 % (1 << 64);
            (u64::try_from(sum).unwrap(), records + u64::from(frame.kind == DATA))
        });
        Ok(frame)
    }

    /// Where the first frame from `from` on begins that is valid by itself, before byte `end`.
    pub(super) fn find(&self, from: usize, end: usize) -> Option<(usize, State)> {
        (from..end).step_by(8).find_map(|offset| {
            let state = State::apart();
            self.step(offset, &mut state.clone()).is_ok().then_some((offset, state))
        })
    }

    /// After the last byte from `from` on that is not zero.
    pub(super) fn nonzero_end(&self, from: usize) -> usize {
        self.bytes[from..].iter().rposition(|&byte| byte != 0).map_or(from, |last| from + last + 1)
    }
}

fn stated_tally(frame: &Frame, version: u32) -> Option<&[u8]> {
    match frame.kind {
        SEAL if version == VERSION => Some(&frame.payload[8..32]),
        CLOSE if version == VERSION => Some(&frame.payload[..24]),
        _ => None,
    }
}

/// Whether the payload has the form that the kind asks for.
fn has_form(frame: &Frame, version: u32) -> bool {
    let payload = &frame.payload[..];
    let is_tally = |bytes: &[u8]| {
        bytes.len() == 24 && bytes[20..] == [0; 4] && (u64_at(bytes, 0) != 0 || bytes.iter().all(|&b| b == 0))
    };
    match frame.kind {
        LINK => {
            payload.len() >= 32
                && (u64_at(payload, 0) != 0 || payload[8..20].iter().all(|&b| b == 0))
                && are_slots(&payload[32..], u32_at(payload, 20), version)
        }
        SEAL if version == VERSION => payload.len() == 32 && is_tally(&payload[8..]),
        SEAL => payload.len() == 8,
        TRUNCATE => payload.len() == 8 && u64_at(payload, 0) == frame.lsn.wrapping_sub(1),
        CLOSE => {
            let head = if version == VERSION { 24 } else { 0 };
            let slots = payload.get(head..);
            (head == 0 || payload.get(..head).is_some_and(is_tally))
                && slots.is_some_and(|slots| {
                    slots.is_empty()
                        || slots.len() >= 8
                            && u32_at(slots, 4) == 0
                            && are_slots(&slots[8..], u32_at(slots, 0), version)
                })
        }
        META => are_slots(payload, 1, version),
        _ => true,
    }
}

/// Whether `bytes` are `count` slots and their values, by slot, and nothing else.
fn are_slots(mut bytes: &[u8], count: u32, version: u32) -> bool {
    let mut free = 0;
    for _ in 0..count.min(17) {
        let head = if version == VERSION { 8 } else { 4 };
        if bytes.len() < head {
            return false;
        }
        let (zero, len) = match version {
            VERSION => (&bytes[1..4], u32_at(bytes, 4)),
            _ => (&bytes[1..2], u32::from(u16::from_le_bytes([bytes[2], bytes[3]]))),
        };
        let is_good = bytes[0] >= free && bytes[0] < 16 && zero.iter().all(|&b| b == 0);
        let end = head + len as usize;
        if !is_good || (version != VERSION && len > 256) || end > bytes.len() {
            return false;
        }
        (free, bytes) = (bytes[0] + 1, &bytes[end..]);
    }
    count <= 16 && bytes.is_empty()
}
