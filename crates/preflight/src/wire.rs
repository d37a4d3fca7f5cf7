//! Scenes and reports as bytes, for the pipe between a parent and the process that runs the engine.
//!
//! Both ends are the same program, so the format has no version. What comes back is still checked:
//! the process that wrote it had run hostile code.

use std::time::Duration;

use identmap::{Levels, Paging, PhysAddr, PhysRange, VirtAddr};

use crate::cpu::{CpuFact, CpuProfile, Vendor};
use crate::outcome::{Access, Fault, ImagePlace, Outcome, PageFault, Report, Touch, Unknown};
use crate::scene::{Content, Limits, Scene};

/// The bytes of a value.
pub(crate) fn encode<T: Wire>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.put(&mut out);
    out
}

/// The value of these bytes; `None` if they are none, or if some are left over.
pub(crate) fn decode<T: Wire>(bytes: &[u8]) -> Option<T> {
    let mut left = bytes;
    let value = T::get(&mut left)?;
    left.is_empty().then_some(value)
}

pub(crate) trait Wire: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn get(from: &mut &[u8]) -> Option<Self>;
}

fn take<'a>(from: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = from.split_at_checked(len)?;
    *from = left;
    Some(taken)
}

macro_rules! numbers {
    ($($number:ty),*) => { $(
        impl Wire for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
            fn get(from: &mut &[u8]) -> Option<Self> {
                take(from, size_of::<$number>())?.try_into().ok().map(<$number>::from_le_bytes)
            }
        }
    )* };
}
numbers!(u8, u32, u64);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        match u8::get(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Wire for Vec<u8> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        out.extend(self);
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        let len = usize::try_from(u64::get(from)?).ok()?;
        take(from, len).map(<[u8]>::to_vec)
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        out.extend(self.as_bytes());
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        String::from_utf8(Vec::<u8>::get(from)?).ok()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        if bool::get(from)? { T::get(from).map(Some) } else { Some(None) }
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        Some((A::get(from)?, B::get(from)?))
    }
}

impl<T: Wire> Wire for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        T::get(from).map(Box::new)
    }
}

/// Lists of anything but bytes, which have a faster way of their own.
macro_rules! lists {
    ($($item:ty),*) => { $(
        impl Wire for Vec<$item> {
            fn put(&self, out: &mut Vec<u8>) {
                (self.len() as u64).put(out);
                for item in self {
                    item.put(out);
                }
            }
            fn get(from: &mut &[u8]) -> Option<Self> {
                let len = u64::get(from)?;
                // An item takes at least one byte: no length makes room for more than there is.
                if len > from.len() as u64 {
                    return None;
                }
                (0..len).map(|_| <$item>::get(from)).collect()
            }
        }
    )* };
}
lists!(Content, Touch, PhysRange, (PhysRange, String));

impl Wire for PhysAddr {
    fn put(&self, out: &mut Vec<u8>) {
        PhysAddr::get(*self).put(out);
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        PhysAddr::new(u64::get(from)?)
    }
}

impl Wire for VirtAddr {
    fn put(&self, out: &mut Vec<u8>) {
        VirtAddr::get(*self).put(out);
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        u64::get(from).map(VirtAddr::new)
    }
}

impl Wire for PhysRange {
    fn put(&self, out: &mut Vec<u8>) {
        self.start().get().put(out);
        self.end().get().put(out);
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        PhysRange::new(u64::get(from)?, u64::get(from)?).ok()
    }
}

impl Wire for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_secs().put(out);
        self.subsec_nanos().put(out);
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        let (seconds, nanos) = (u64::get(from)?, u32::get(from)?);
        (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
    }
}

macro_rules! structs {
    ($($name:ident { $($field:ident),* })*) => { $(
        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
            fn get(from: &mut &[u8]) -> Option<Self> {
                Some($name { $($field: Wire::get(from)?),* })
            }
        }
    )* };
}
structs! {
    Content { name, range, bytes, loaded }
    Limits { instructions, time, memory }
    CpuProfile { vendor, sev, pdpe1gb, la57, maxphyaddr, hypervisor, encrypted }
    Paging { levels, maxphyaddr, pdpe1gb, nxe, encryption_mask }
    Scene { contents, entry, rsi, rsp, root, tables, paging, cr0, cpu, limits, places }
    ImagePlace { name, offset }
    Touch { page, first, rip, at, read, written, executed, what }
    PageFault { cr2, code, access, what, below, above }
    Fault { vector, rip, at, page_fault, handler, own_idt, repeats }
    Report { outcome, touched, instructions, time }
}

/// Enums: a number for each variant, then its fields.
macro_rules! enums {
    ($($name:ident { $($number:literal $variant:ident $(($($unnamed:ident),*))? $({$($field:ident),*})?,)* })*) => { $(
        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $($name::$variant $(($($unnamed),*))? $({$($field),*})? => {
                        ($number as u8).put(out);
                        $($($unnamed.put(out);)*)?
                        $($($field.put(out);)*)?
                    })*
                }
            }
            fn get(from: &mut &[u8]) -> Option<Self> {
                Some(match u8::get(from)? {
                    $($number => {
                        $($(let $unnamed = Wire::get(from)?;)*)?
                        $($(let $field = Wire::get(from)?;)*)?
                        $name::$variant $(($($unnamed),*))? $({$($field),*})?
                    })*
                    _ => return None,
                })
            }
        }
    )* };
}
enums! {
    Vendor { 0 Amd, 1 Hygon, 2 Intel, }
    CpuFact { 0 Vendor, 1 Sev, 2 La57, 3 Pdpe1gb, 4 Maxphyaddr, 5 Hypervisor, 6 Encrypted, }
    Levels { 4 Four, 5 Five, }
    Access { 0 Read, 1 Write, 2 Fetch, }
    Outcome { 0 Reached { cr3 }, 1 Fault(fault), 2 Halted { rip, at }, 3 Unknown(why), }
    Unknown {
        0 Instructions { limit, rip },
        1 Time { rip },
        2 Memory { limit },
        3 Content { range, access, rip, what },
        4 Register { rip },
        5 Cpu(fact),
        6 Table(table),
        7 Engine(why),
        8 Child(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let range = PhysRange::new(0x1000, 0x2000).unwrap();
        let at = Some(ImagePlace { name: "kernel".to_owned(), offset: 0x200 });
        let rip = VirtAddr::new(0x20_0200);
        Report {
            outcome: Outcome::Fault(Box::new(Fault {
                vector: 14,
                rip,
                at: at.clone(),
                page_fault: Some(PageFault {
                    cr2: VirtAddr::new(7),
                    code: 2,
                    access: Access::Write,
                    what: Some((range, "reserved".to_owned())),
                    below: None,
                    above: Some(range),
                }),
                handler: None,
                own_idt: true,
                repeats: false,
            })),
            touched: vec![Touch {
                page: PhysAddr::new(0x1000).unwrap(),
                first: Access::Read,
                rip,
                at,
                read: true,
                written: false,
                executed: false,
                what: None,
            }],
            instructions: 5,
            time: Duration::from_millis(7),
        }
    }

    #[test]
    fn a_report_comes_back_as_it_was() {
        let bytes = encode(&report());
        assert_eq!(decode(&bytes), Some(report()));
        for len in 0..bytes.len() {
            assert_eq!(decode::<Report>(&bytes[..len]), None, "{len}");
        }
    }

    /// No bytes make the reader panic or ask for much memory.
    #[test]
    fn bytes_that_are_no_report_are_refused() {
        let good = encode(&report());
        let mut refused = 0;
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                refused += usize::from(decode::<Report>(&bytes).is_none());
            }
        }
        assert!(refused > 100, "{refused}");
    }
}
