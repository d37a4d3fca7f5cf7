//! Files that are read in places, never whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use identmap_linux::memory::ReadAt;

/// An open file.
#[derive(Debug)]
pub(crate) struct Disk(File);

impl Disk {
    pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<Disk> {
        File::open(path).map(Disk)
    }

    /// Its length in bytes.
    pub(crate) fn size(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }
}

impl ReadAt for Disk {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}
