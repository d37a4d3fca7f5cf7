//! Memory that a bundle, or the running machine, shows.

use identmap_machine::Machine;
use identmap_machine::bundle::{Blob, BlobKind};

use crate::efi::{self, CONFIG_TABLE, SYSTEM_TABLE};
use crate::scene::Content;

/// Pieces of memory as contents, for [`Setup::known`](crate::Setup::known). Page tables of an image that
/// is loaded are none: the next kernel gets others. Of two pieces that share a byte the first stays.
#[must_use]
pub fn known(blobs: &[Blob]) -> Vec<Content> {
    let mut contents: Vec<Content> = Vec::new();
    for blob in blobs {
        let name = match blob.kind {
            BlobKind::EfiSystemTable => SYSTEM_TABLE,
            BlobKind::EfiConfigTable => CONFIG_TABLE,
            BlobKind::AcpiRsdp => "ACPI RSDP",
            BlobKind::AcpiTable => "ACPI table",
            BlobKind::SetupDataHeader => "setup_data header",
            BlobKind::PageTable => continue,
        };
        let Ok(range) = blob.range() else { continue };
        if contents.iter().any(|content| content.range.intersects(range)) {
            continue;
        }
        let (name, bytes) = (name.to_owned(), blob.bytes.clone());
        contents.push(Content { name, range, bytes, loaded: false });
    }
    contents
}

/// What is known, and EFI's two tables as facts of the machine describe them where no bytes of them
/// are known; what is supposed for it, in sentences without a full stop.
#[must_use]
pub fn with_facts(machine: &Machine, known: &[Content]) -> (Vec<Content>, Vec<String>) {
    let mut assumptions = Vec::new();
    (efi::contents(machine, known, &mut assumptions), assumptions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap::PhysAddr;

    #[test]
    fn pieces_that_overlap_and_tables_are_left_out() {
        let blob = |kind, start, len| Blob {
            kind,
            start: PhysAddr::new(start).unwrap(),
            bytes: vec![1; len],
        };
        let blobs = [
            blob(BlobKind::EfiSystemTable, 0x1000, 120),
            blob(BlobKind::EfiConfigTable, 0x1070, 24),
            blob(BlobKind::AcpiRsdp, 0x2000, 36),
            blob(BlobKind::PageTable, 0x3000, 4096),
        ];
        let contents = known(&blobs);
        let names: Vec<&str> = contents.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, [SYSTEM_TABLE, "ACPI RSDP"]);
        assert!(contents.iter().all(|c| !c.loaded && c.bytes.len() as u64 == c.range.len()));
    }
}
