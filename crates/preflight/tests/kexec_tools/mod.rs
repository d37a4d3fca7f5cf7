//! The purgatory inside the command `kexec`, linked.

use std::collections::BTreeMap;

use object::elf::{R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32};
use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};

pub(crate) struct Linked {
    pub(crate) base: u64,
    pub(crate) bytes: Vec<u8>,
    symbols: BTreeMap<String, u64>,
}

impl Linked {
    /// The object file inside of `program` that has the function.
    pub(crate) fn from_program(program: &[u8], base: u64) -> Linked {
        let magic = b"\x7fELF\x02\x01\x01";
        let starts = (1..program.len()).filter(|at| program[*at..].starts_with(magic));
        let mut all = starts.filter_map(|at| Linked::link(&program[at..], base).ok());
        all.find(|linked| linked.symbols.contains_key("verify_sha256_digest"))
            .expect("an object file")
    }

    pub(crate) fn symbol(&self, name: &str) -> u64 {
        self.symbols[name]
    }

    fn link(object: &[u8], base: u64) -> object::Result<Linked> {
        let file: ElfFile64<'_, LittleEndian> = ElfFile64::parse(object)?;
        let (mut bytes, mut places) = (Vec::new(), BTreeMap::new());
        for section in file.sections() {
            let loaded =
                !matches!(section.kind(), SectionKind::Metadata | SectionKind::OtherString)
                    && section.size() != 0;
            if loaded {
                bytes.resize(bytes.len().next_multiple_of(4096), 0);
                places.insert(section.index().0, base + bytes.len() as u64);
                bytes.extend(section.data()?);
                bytes.resize(bytes.len().next_multiple_of(4096) + section.size() as usize, 0);
            }
        }
        let place = |symbol: &object::read::elf::ElfSymbol64<'_, '_, LittleEndian>| {
            let section = places.get(&symbol.section_index()?.0)?;
            Some(section + symbol.address())
        };
        for section in file.sections() {
            let Some(start) = places.get(&section.index().0) else { continue };
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(index) = relocation.target() else { continue };
                let Some(target) = place(&file.symbol_by_index(index)?) else { continue };
                let target = target.wrapping_add_signed(relocation.addend());
                let object::RelocationFlags::Elf { r_type } = relocation.flags() else {
                    continue;
                };
                let at = (start - base + offset) as usize;
                let relative = target.wrapping_sub(start + offset);
                match r_type {
                    R_X86_64_64 => bytes[at..at + 8].copy_from_slice(&target.to_le_bytes()),
                    R_X86_64_PC32 | R_X86_64_PLT32 => {
                        bytes[at..at + 4].copy_from_slice(&relative.to_le_bytes()[..4]);
                    }
                    other => panic!("relocation {other:?}"),
                }
            }
        }
        let symbols: BTreeMap<String, u64> = file
            .symbols()
            .filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), place(&symbol)?)))
            .collect();
        Ok(Linked { base, bytes, symbols })
    }
}
