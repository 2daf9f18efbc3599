//! Checking all of a log: every header, link, seal and frame, and what each damage means.
//!
//! The rule is that of recovery: what does not pass its checks is damage if a frame that does, or the control page,
//! says that it was durable, and else a torn end. Recovery stops at the first damage and walks only what it has to;
//! this goes through everything, and on after what is damaged.

use super::report::{VerifyOptions, VerifyReport};
use super::walker::Walker;
use super::{Inspection, judge};
use crate::error::Result;
use crate::segment::pins;

impl Inspection {
    /// About how many bytes [`Self::verify`] is going to read.
    #[must_use]
    pub fn bytes_to_verify(&self) -> u64 {
        let size = |number| self.files.iter().find(|file| file.number == number).map_or(0, |file| file.file_len_bytes);
        self.linked.counting.iter().map(|linked| linked.end.map_or_else(|| size(linked.number), |end| end.offset)).sum()
    }

    /// Reads the whole log and checks all of it, its named pins included, and goes on after what is damaged. `progress` is told now and then how many
    /// more bytes have been read.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when a file cannot be read. Damage is not an error: it is in the report.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// use mapwal::error::Evidence;
    /// use mapwal::inspect::{Inspection, SegmentReport, SegmentState, VerifyOptions, VerifyReport};
    ///
    /// # log.append(1, b"a")?;
    /// # log.close()?;
    /// let inspection = Inspection::open(dir.path())?;
    /// let total = inspection.bytes_to_verify();
    /// let mut done = 0;
    /// let mut progress = |bytes: u64| {
    ///     done += bytes;
    ///     println!("{done} of {total}");
    /// };
    /// let report: VerifyReport = inspection.verify(VerifyOptions::new().device(true), &mut progress)?;
    /// assert_eq!((report.records(), report.torn_bytes(), report.torn_records(), report.closed), (1, 0, 0, true));
    /// for SegmentReport { number, state, records, .. } in &report.segments {
    ///     println!("segment {number}: {records} records{}", if *state == SegmentState::Torn { ", torn" } else { "" });
    /// }
    /// for corruption in &report.damage {
    ///     println!("{corruption}");
    ///     if let Some(Evidence::ControlPage { lsn, .. }) = corruption.evidence {
    ///         println!("all was durable up to record {lsn}");
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(&self, options: VerifyOptions, progress: &mut dyn FnMut(u64)) -> Result<VerifyReport> {
        let mut walker = Walker::new(self, options, progress);
        let mut counting = Vec::with_capacity(self.linked.counting.len());
        for linked in &self.linked.counting {
            counting.extend(walker.walk_linked(linked)?);
        }
        let mut others = Vec::new();
        for file in self.files.iter().filter(|file| !file.counts) {
            others.extend(walker.look_at(file)?);
        }
        let mut report = judge::judge(self, options, &walker, counting, others)?;
        let first = self.counting().as_slice().first().map(|segment| segment.base_lsn());
        let pins = pins::damage(&*self.storage, first)?;
        report.damage.extend(pins);
        Ok(report)
    }
}
