//! Opening the file of a segment to be walked over.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use super::SegmentScan;
use super::window::Window;
use crate::error::{Damage, Error, Result};
use crate::format::frame::Frame;
use crate::format::segment_header::{self, Layout, SegmentHeader};
use crate::format::walk::{Check, Walk};
use crate::lsn::Lsn;
use crate::storage::{Access, Disk, Storage, StorageFile};

impl SegmentScan {
    /// Opens the segment in file `path`, whatever its name.
    ///
    /// # Errors
    /// [`Error::Format`]; [`Error::Corrupt`] when it has no sound header: without it, no frame can be checked;
    /// [`Error::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |source| Error::io("open", path, source);
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().and_then(OsStr::to_str);
        let name = name.ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
        let disk = Disk::open(directory).map_err(failed)?;
        Self::open_in(&disk, name, path)
    }

    /// Opens file `name` of `storage`, which is `path` in messages.
    pub(crate) fn open_in(storage: &dyn Storage, name: &str, path: &Path) -> Result<Self> {
        let failed = |operation| move |source| Error::io(operation, path, source);
        let file = storage.open(name, Access::Read).map_err(failed("open"))?;
        let len = file.len_bytes().map_err(failed("read the length of"))?;
        let mut prefix = vec![0; segment_header::LEN];
        let read = file.read_at(&mut prefix, 0).map_err(failed("read"))?;
        let Some((header, _)) = prefix[..read].split_first_chunk() else {
            let expected = segment_header::LEN as u64;
            let damage = if segment_header::may_begin_with(&prefix[..read]) {
                Damage::FileLength { expected, found: read as u64 }
            } else {
                Damage::Magic
            };
            return Err(Error::corrupt(path, 0, None, damage));
        };
        let header = SegmentHeader::parse(header).map_err(|fault| fault.into_error(path))?;
        let start = segment_header::LEN;
        let (number, log_id, size) = (header.number(), header.log_id(), header.segment_size());
        let mut scan = Self::new(file, path, (number, log_id, header.layout()), (size, len));
        // A link says itself which record follows.
        let available = scan.prepare(start as u64)?.unwrap_or(0);
        if let Ok(link) = Frame::parse(scan.window.bytes(start as u64, available)) {
            let lsn = link.lsn();
            scan.begin_with(lsn);
        }
        Ok(scan)
    }

    /// Opens a file of `storage` as segment `number` of the log `log_id`, whatever its header says.
    pub(crate) fn open_as(
        storage: &dyn Storage,
        (name, path): (&str, &Path),
        identity: (u64, u128, Layout),
    ) -> io::Result<Self> {
        let file = storage.open(name, Access::Read)?;
        let len = file.len_bytes()?;
        Ok(Self::new(file, path, identity, (len, len)))
    }

    fn new(
        file: Box<dyn StorageFile>,
        path: &Path,
        (number, log_id, layout): (u64, u128, Layout),
        (size, len): (u64, u64),
    ) -> Self {
        Self {
            file,
            path: path.to_owned(),
            number,
            log_id,
            size,
            layout,
            window: Window::default(),
            walk: Walk::new(layout, Check::Full, segment_header::LEN, Lsn::ZERO),
            limit: len.min(size),
            is_done: false,
            sums: None,
        }
    }
}
