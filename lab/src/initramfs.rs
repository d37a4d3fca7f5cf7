//! Writes an initramfs: the "newc" cpio format (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).

/// An archive that is being written. Paths are relative, without a leading slash.
#[derive(Debug, Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    entries: u32,
}

impl Initramfs {
    /// An empty archive.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory; parents have to be added first, as the kernel makes none.
    pub fn dir(&mut self, path: &str) {
        self.entry(path, 0o040755, 2, (0, 0), &[]);
    }

    /// Adds a regular file, readable and executable by all.
    pub fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, 0o100755, 1, (0, 0), content);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, 0o120777, 1, (0, 0), target.as_bytes());
    }

    /// Adds a character device: the console must be there before devtmpfs is mounted, or the first
    /// process has no standard output.
    pub fn char_device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, 0o020600, 1, (major, minor), &[]);
    }

    /// The archive, with its trailer.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, 1, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, links: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("a file of an initramfs is below 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a path is short");
        self.bytes.extend_from_slice(b"070701");
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        for field in
            [self.entries, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0]
        {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_reads_as_the_format_says() {
        let mut archive = Initramfs::new();
        archive.file("a/b", b"hello");
        let bytes = archive.finish();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000081ed", "mode 0100755");
        assert_eq!(&bytes[54..62], b"00000005", "file size");
        assert_eq!(&bytes[94..102], b"00000004", "name size with its NUL");
        assert_eq!(&bytes[110..114], b"a/b\0");
        assert_eq!(
            &bytes[116..121],
            b"hello",
            "the name is padded to 4 bytes from the header's start"
        );
        assert_eq!(&bytes[124..130], b"070701", "and so is the content");
        assert_eq!(&bytes[124 + 110..124 + 120], b"TRAILER!!!");
        assert_eq!(bytes.len() % 4, 0);
    }
}
