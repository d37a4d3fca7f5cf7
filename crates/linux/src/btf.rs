//! Reads BTF, the kernel's own description of its types (`/sys/kernel/btf/vmlinux`): where a member
//! lies in a structure.
//!
//! Format: kernel Documentation/bpf/btf.rst and include/uapi/linux/btf.h. Bytes in, offsets out; the
//! bytes are not trusted.

use std::fmt;

/// A parsed type section: every type's header and its names have been found inside the bytes.
/// References between types are followed, with limits, only when asked for.
#[derive(Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type starts in `types`; the type with id `n` is at `n - 1` (0 is `void`).
    starts: Vec<u32>,
}

/// Where a member lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the outermost structure.
    pub offset: u64,
    /// Bytes it takes; for an array, all elements.
    pub size: u64,
    /// Elements of an array; 1 for everything else.
    pub elements: u64,
}

/// Why bytes are not BTF. Offsets are from the start of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BtfError {
    /// Too short for a header, or the magic number is not there (a big-endian kernel's is swapped).
    NotBtf,
    /// A version of the format other than 1.
    Version(u8),
    /// The header names a section that is not inside the bytes.
    Section {
        /// Offset the header gives, counted from the end of the header.
        offset: u32,
        /// Length the header gives.
        length: u32,
    },
    /// A type reaches beyond the type section.
    Truncated(u64),
    /// A kind of type this reader does not know the length of.
    Kind {
        /// Where the type starts.
        offset: u64,
        /// The kind.
        kind: u32,
    },
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotBtf => write!(f, "not BTF of a little-endian kernel"),
            Self::Version(version) => write!(f, "BTF version {version}, expected 1"),
            Self::Section { offset, length } => {
                write!(
                    f,
                    "BTF section at 0x{offset:x}, 0x{length:x} bytes long, is not in the data"
                )
            }
            Self::Truncated(offset) => write!(f, "BTF type at 0x{offset:x} is cut off"),
            Self::Kind { offset, kind } => {
                write!(f, "BTF type at 0x{offset:x} is of unknown kind {kind}")
            }
        }
    }
}

impl std::error::Error for BtfError {}

impl<'a> Btf<'a> {
    /// Finds the sections and the start of every type.
    ///
    /// # Errors
    /// [`BtfError`]: each variant says when.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        // struct btf_header: magic u16, version u8, flags u8, hdr_len, type_off, type_len, str_off, str_len.
        if bytes.len() < 24 || bytes[..2] != MAGIC.to_le_bytes() {
            return Err(BtfError::NotBtf);
        }
        if bytes[2] != 1 {
            return Err(BtfError::Version(bytes[2]));
        }
        let header = u32_at(bytes, 4).ok_or(BtfError::NotBtf)?;
        let section = |at: usize| {
            let (offset, length) =
                u32_at(bytes, at).zip(u32_at(bytes, at + 4)).ok_or(BtfError::NotBtf)?;
            let start = u64::from(header) + u64::from(offset);
            let found = usize::try_from(start)
                .ok()
                .and_then(|start| bytes.get(start..)?.get(..length as usize));
            found.map(|found| (start, found)).ok_or(BtfError::Section { offset, length })
        };
        let (base, types) = section(8)?;
        let (_, strings) = section(16)?;

        let mut starts = Vec::with_capacity(types.len() / 24);
        let mut at = 0;
        while at < types.len() {
            let offset = base + at as u64;
            let cut = BtfError::Truncated(offset);
            let info = u32_at(types, at + 4).ok_or(cut)?;
            let length =
                HEADER + trailer(info).ok_or(BtfError::Kind { offset, kind: kind(info) })?;
            if types.len() - at < length {
                return Err(cut);
            }
            starts.push(u32::try_from(at).map_err(|_| cut)?);
            at += length;
        }
        Ok(Self { types, strings, starts })
    }

    /// Byte offset of a member, such as `offset_of("kimage", "arch.pgd")`.
    ///
    /// `None` if this kernel has no such structure or member, if the member is a bit field, or if the
    /// description of the types on the way is damaged.
    #[must_use]
    pub fn offset_of(&self, structure: &str, path: &str) -> Option<u64> {
        self.member(structure, path).map(|member| member.offset)
    }

    /// Offset and size of a member. `path` is member names joined by dots; members of anonymous
    /// structures and unions are found as in C. `None` as for [`Btf::offset_of`].
    #[must_use]
    pub fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let mut current = self.structure(structure)?;
        let mut offset = 0_u64;
        let mut names = path.split('.').peekable();
        let mut budget = MEMBERS_MAX;
        loop {
            let name = names.next()?;
            let (bits, id) = self.find_member(current, name, DEPTH, &mut budget)?;
            if bits % 8 != 0 {
                return None;
            }
            offset = offset.checked_add(bits / 8)?;
            let resolved = self.resolve(id)?;
            if names.peek().is_none() {
                let (size, elements) = self.size_of_id(resolved, DEPTH)?;
                return Some(Member { offset, size, elements });
            }
            current = self.entry(resolved).filter(Entry::is_structure)?;
        }
    }

    /// Where a bit field, or a member that is none, lies: its first bit counted from the start of the
    /// structure, and its width in bits. One name, not a path. `None` as for [`Btf::offset_of`].
    #[must_use]
    pub fn bits(&self, structure: &str, member: &str) -> Option<(u64, u64)> {
        let structure = self.structure(structure)?;
        let mut budget = MEMBERS_MAX;
        let found = self.find_bits(structure, member, DEPTH, &mut budget)?;
        let (first, id, width) = found;
        if width != 0 {
            return Some((first, u64::from(width)));
        }
        let id = self.resolve(id)?;
        let (size, _) = self.size_of_id(id, DEPTH)?;
        // Without the kind flag the integer's own width tells (btf.rst, BTF_KIND_INT).
        let entry = self.entry(id)?;
        if kind(entry.info) == INT {
            let data = u32_at(entry.trailer, 0)?;
            return Some((first + u64::from(data >> 16 & 0xff), u64::from(data & 0xff)));
        }
        Some((first, size.checked_mul(8)?))
    }

    /// Size in bytes of a structure or union. `None` if there is none of that name.
    #[must_use]
    pub fn size_of(&self, structure: &str) -> Option<u64> {
        Some(u64::from(self.structure(structure)?.size_or_type))
    }

    /// The first structure or union of that name that has members: a forward declaration has none.
    fn structure(&self, name: &str) -> Option<Entry<'a>> {
        (1..=self.starts.len())
            .filter_map(|id| self.entry(u32::try_from(id).ok()?))
            .find(|entry| entry.is_structure() && self.is_named(entry.name, name))
    }

    /// Bit offset and type of a member that is no bit field, looking into anonymous members.
    fn find_member(
        &self,
        structure: Entry<'a>,
        name: &str,
        depth: u32,
        budget: &mut u32,
    ) -> Option<(u64, u32)> {
        let (bits, id, width) = self.find_bits(structure, name, depth, budget)?;
        (width == 0).then_some((bits, id))
    }

    /// Bit offset, type, and width if it is a bit field, of a member.
    fn find_bits(
        &self,
        structure: Entry<'a>,
        name: &str,
        depth: u32,
        budget: &mut u32,
    ) -> Option<(u64, u32, u32)> {
        let depth = depth.checked_sub(1)?;
        for at in 0..structure.count() {
            *budget = budget.checked_sub(1)?;
            let (member, id, raw) = structure.triple(at)?;
            // With the kind flag, the upper byte is the width of a bit field (btf.rst, BTF_KIND_STRUCT).
            let (bits, width) =
                if structure.flag() { (raw & 0x00ff_ffff, raw >> 24) } else { (raw, 0) };
            if member != 0 && self.is_named(member, name) {
                return Some((u64::from(bits), id, width));
            }
            if member == 0
                && let Some(inner) =
                    self.resolve(id).and_then(|id| self.entry(id)).filter(Entry::is_structure)
                && let Some((inner_bits, id, width)) = self.find_bits(inner, name, depth, budget)
            {
                return Some((u64::from(bits) + inner_bits, id, width));
            }
        }
        None
    }

    /// Goes through typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..DEPTH {
            let entry = self.entry(id)?;
            match kind(entry.info) {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = entry.size_or_type,
                _ => return Some(id),
            }
        }
        None
    }

    /// Size of a resolved type, and its elements if it is an array.
    fn size_of_id(&self, id: u32, depth: u32) -> Option<(u64, u64)> {
        let depth = depth.checked_sub(1)?;
        let entry = self.entry(id)?;
        match kind(entry.info) {
            INT | STRUCT | UNION | ENUM | FLOAT | ENUM64 => {
                Some((u64::from(entry.size_or_type), 1))
            }
            PTR => Some((8, 1)),
            ARRAY => {
                let element = u32_at(entry.trailer, 0)?;
                let count = u64::from(u32_at(entry.trailer, 8)?);
                let (size, _) = self.size_of_id(self.resolve(element)?, depth)?;
                Some((size.checked_mul(count)?, count))
            }
            _ => None,
        }
    }

    fn entry(&self, id: u32) -> Option<Entry<'a>> {
        let at = *self.starts.get(usize::try_from(id.checked_sub(1)?).ok()?)? as usize;
        let info = u32_at(self.types, at + 4)?;
        Some(Entry {
            name: u32_at(self.types, at)?,
            info,
            size_or_type: u32_at(self.types, at + 8)?,
            trailer: self.types.get(at + HEADER..)?.get(..trailer(info)?)?,
        })
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        self.strings
            .get(offset as usize..)
            .and_then(|text| text.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// `BTF_MAGIC`
const MAGIC: u16 = 0xeb9f;
/// `sizeof(struct btf_type)`
const HEADER: usize = 12;
/// How deep anonymous members, arrays of arrays and chains of typedefs may go.
const DEPTH: u32 = 32;

/// How many members one search may look at: a structure that contains itself twice has 2^[`DEPTH`].
const MEMBERS_MAX: u32 = 1 << 20;

// enum of include/uapi/linux/btf.h, BTF_KIND_*.
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// `struct btf_type`, with what follows it.
#[derive(Clone, Copy)]
struct Entry<'a> {
    name: u32,
    info: u32,
    size_or_type: u32,
    trailer: &'a [u8],
}

impl Entry<'_> {
    fn is_structure(&self) -> bool {
        matches!(kind(self.info), STRUCT | UNION)
    }

    fn count(&self) -> usize {
        count(self.info)
    }

    fn flag(&self) -> bool {
        self.info >> 31 != 0
    }

    /// `struct btf_member`: name, type, offset.
    fn triple(&self, at: usize) -> Option<(u32, u32, u32)> {
        let at = at.checked_mul(12)?;
        Some((
            u32_at(self.trailer, at)?,
            u32_at(self.trailer, at + 4)?,
            u32_at(self.trailer, at + 8)?,
        ))
    }
}

fn kind(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

fn count(info: u32) -> usize {
    (info & 0xffff) as usize
}

/// Bytes that follow a type's header; `None` for an unknown kind.
fn trailer(info: u32) -> Option<usize> {
    Some(match kind(info) {
        PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        ENUM | FUNC_PROTO => count(info) * 8,
        STRUCT | UNION | DATASEC | ENUM64 => count(info) * 12,
        _ => return None,
    })
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    // struct outer { u32 first; struct { u64 deep; u8 list[3]; }; inner_t named; u32 bits:5; }
    // struct inner { struct outer *back; }
    fn sample() -> Vec<u8> {
        let names = b"\0outer\0first\0deep\0list\0named\0bits\0inner\0back\0inner_t\0u32\0";
        let name = |wanted: &str| -> u32 {
            let at = names
                .windows(wanted.len() + 1)
                .position(|at| at[..wanted.len()] == *wanted.as_bytes() && at[wanted.len()] == 0);
            at.unwrap() as u32
        };
        let info = |kind: u32, count: u32| kind << 24 | count;
        let flagged = 1_u32 << 31;
        let words: Vec<u32> = [
            vec![name("u32"), info(INT, 0), 4, 32], // 1
            vec![0, info(INT, 0), 8, 64],           // 2
            vec![0, info(INT, 0), 1, 8],            // 3
            vec![0, info(ARRAY, 0), 0, 3, 1, 3],    // 4: u8[3]
            vec![0, info(STRUCT, 2), 16, name("deep"), 2, 0, name("list"), 4, 64], // 5
            vec![name("inner"), info(STRUCT, 1), 8, name("back"), 7, 0], // 6
            vec![0, info(PTR, 0), 9],               // 7
            vec![name("inner_t"), info(TYPEDEF, 0), 6], // 8
            vec![
                name("outer"),
                info(STRUCT, 4) | flagged,
                40, // 9
                name("first"),
                1,
                0,
                0,
                5,
                64,
                name("named"),
                8,
                192,
                name("bits"),
                1,
                256 | 5 << 24,
            ],
        ]
        .concat();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for field in [24, 0, words.len() as u32 * 4, words.len() as u32 * 4, names.len() as u32] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(names);
        bytes
    }

    #[test]
    fn members_are_found_as_in_c() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.size_of("outer"), Some(40));
        assert_eq!(btf.offset_of("outer", "first"), Some(0));
        assert_eq!(btf.offset_of("outer", "deep"), Some(8), "in an anonymous structure");
        assert_eq!(btf.member("outer", "list"), Some(Member { offset: 16, size: 3, elements: 3 }));
        assert_eq!(btf.offset_of("outer", "named.back"), Some(24), "through a typedef");
        assert_eq!(btf.offset_of("outer", "named.back.first"), None, "not through a pointer");
        assert_eq!(btf.offset_of("outer", "bits"), None, "a bit field has no byte offset");
        assert_eq!(btf.bits("outer", "bits"), Some((256, 5)));
        assert_eq!(btf.bits("outer", "deep"), Some((64, 64)));
        assert_eq!(btf.bits("outer", "named"), Some((192, 64)));
        assert_eq!(btf.bits("outer", "none"), None);
        assert_eq!(btf.offset_of("outer", "fir"), None);
        assert_eq!(btf.offset_of("oute", "first"), None);
        assert_eq!(btf.offset_of("outer", ""), None);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let whole = sample();
        for end in 0..whole.len() {
            assert!(Btf::parse(&whole[..end]).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Ok(btf) = Btf::parse(&bytes) {
                    let _ = btf.member("outer", "named.back");
                    let _ = btf.member("outer", "list");
                    let _ = btf.size_of("inner");
                    let _ = btf.bits("outer", "bits");
                }
            }
        }
    }

    #[test]
    fn a_structure_that_contains_itself_ends() {
        // 1: struct "s" with two anonymous members of type 1; 2: typedef of 2.
        let words = [1_u32, STRUCT << 24 | 2, 8, 0, 1, 0, 0, 1, 0, 0, TYPEDEF << 24, 2];
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for field in [24_u32, 0, 48, 48, 3] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(b"\0s\0");
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset_of("s", "x"), None);
        assert_eq!(btf.resolve(2), None);
    }
}
