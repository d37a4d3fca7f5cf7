//! The files that `load` is given. Each is opened once: a pipe can be read once only, and what was judged is what is
//! loaded.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use identmap_kexec::format::{self, KernelFile};
use identmap_linux::signature::{self, FileSignature};

use crate::args::Load;
use crate::output::Failure;

/// The largest file taken for a kernel or an initrd.
const LARGEST: u64 = 4 << 30;

pub(super) struct Files {
    pub(super) kernel: KernelFile,
    /// Of the file as it is, before anything is unpacked.
    pub(super) signature: FileSignature,
    /// The files one behind the other, or what the kernel file brings.
    pub(super) initrd: Vec<u8>,
    opened_kernel: Opened,
    opened_initrds: Vec<Opened>,
}

struct Opened {
    path: PathBuf,
    file: File,
}

impl Files {
    /// Each initrd begins at a multiple of 4, as cpio archives have to
    /// (`Documentation/driver-api/early-userspace/buffer-format.rst`).
    pub(super) fn read(args: &Load) -> Result<Files, Failure> {
        let (opened_kernel, bytes) = Opened::read(&args.kernel)?;
        let signature = signature::of_file(&bytes);
        let kernel = format::read(bytes).map_err(|error| opened_kernel.failure(error))?;
        let mut initrd = Vec::new();
        let mut opened_initrds = Vec::new();
        for path in &args.initrd {
            let (opened, bytes) = Opened::read(path)?;
            initrd.resize(initrd.len().next_multiple_of(4), 0);
            initrd.extend(bytes);
            opened_initrds.push(opened);
        }
        if args.initrd.is_empty() {
            initrd = kernel.initrd.clone().unwrap_or_default();
        }
        Ok(Files { kernel, signature, initrd, opened_kernel, opened_initrds })
    }

    /// Kernel and initrd as `kexec_file_load(2)` takes them: it reads them itself, from their beginning, and no pipes
    /// (`kernel_read_file()` in `fs/kernel_read_file.c`).
    pub(super) fn to_hand_over(&self) -> Result<(&File, Option<&File>), Failure> {
        let initrd = match self.opened_initrds.as_slice() {
            [] => None,
            [one] => Some(one),
            _ => {
                let why = "kexec_file_load takes one initrd: join them into one file";
                return Err(Failure::new(why));
            }
        };
        for opened in [&self.opened_kernel].into_iter().chain(initrd) {
            let metadata = opened.file.metadata().map_err(|error| opened.failure(error))?;
            if !metadata.is_file() {
                return Err(
                    opened.failure("kexec_file_load reads regular files only: copy it to one")
                );
            }
        }
        Ok((&self.opened_kernel.file, initrd.map(|opened| &opened.file)))
    }
}

impl Opened {
    fn read(path: &Path) -> Result<(Opened, Vec<u8>), Failure> {
        let failed = |error: std::io::Error| Failure(format!("{}: {error}", path.display()));
        let opened = Opened { path: path.to_owned(), file: File::open(path).map_err(failed)? };
        let mut bytes = Vec::new();
        (&opened.file).take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > LARGEST {
            return Err(opened.failure(format!("more than {LARGEST:#x} bytes")));
        }
        if bytes.is_empty() {
            return Err(opened.failure("empty"));
        }
        Ok((opened, bytes))
    }

    fn failure(&self, why: impl std::fmt::Display) -> Failure {
        Failure(format!("{}: {why}", self.path.display()))
    }
}
