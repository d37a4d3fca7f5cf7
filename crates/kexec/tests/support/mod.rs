//! Small kernel files of every kind, made by hand: for unit tests, `tests/` and the fuzz target.

#![allow(dead_code, reason = "not every user needs all of them")]
#![allow(unreachable_pub, reason = "the fuzz crate exports it")]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// A sound bzImage without code.
pub fn bzimage() -> Vec<u8> {
    made_kernel::BzImage::default().bytes()
}

/// `p_type`, `p_flags`, `p_offset`, `p_vaddr`, `p_paddr`, `p_filesz`, `p_memsz`.
pub type Load = (u32, u32, u64, u64, u64, u64, u64);

/// Headers, and `data` behind them, at 64 + 56 * segments.
pub fn elf(entry: u64, loads: &[Load], data: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2_u16, 62, 1, 0] {
        file.extend(half.to_le_bytes());
    }
    for word in [entry, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0; 4]);
    for half in [64, 56, loads.len() as u16, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for (kind, flags, offset, virt, phys, len, memory) in loads {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        for word in [offset, virt, phys, len, memory, &0x20_0000] {
            file.extend(word.to_le_bytes());
        }
    }
    file.extend(data);
    file
}

pub const TEXT: u64 = 0xffff_ffff_8100_0000;

/// A `vmlinux` as the linker makes it: text, data, per-CPU data at virtual address 0, and a note.
pub fn vmlinux() -> Vec<u8> {
    let data: Vec<u8> = (0..100).collect();
    let at = 64 + 4 * 56;
    let loads = [
        (1, 5, at, TEXT, 0x100_0000, 50, 0x1000),
        (1, 6, at + 50, TEXT + 0x20_0000, 0x120_0000, 20, 0x3000),
        (1, 6, at + 70, 0, 0x140_0000, 30, 0x100_0001),
        (4, 0, at, 0, 0, 4, 4),
    ];
    elf(0x100_0000, &loads, &data)
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// xz with LZMA2 chunks that are not compressed (the .xz file format 1.2.1, sections 2 to 4; no check).
pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let number = |mut number: usize| {
        let mut bytes = Vec::new();
        while number > 0x7f {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    };
    let mut file = XZ_MAGIC.to_vec();
    file.extend([0, 0]);
    file.extend(crc(&[0, 0]));
    let block = file.len();
    // 12 bytes of header, one filter: LZMA2, with a dictionary of 64 KiB.
    let header = [2, 0, 0x21, 1, 8, 0, 0, 0];
    file.extend(header);
    file.extend(crc(&header));
    for (i, chunk) in bytes.chunks(1 << 16).enumerate() {
        file.push(if i == 0 { 1 } else { 2 });
        file.extend(((chunk.len() - 1) as u16).to_be_bytes());
        file.extend(chunk);
    }
    file.push(0);
    let unpadded = file.len() - block;
    file.resize(file.len().next_multiple_of(4), 0);
    let mut index = vec![0, 1];
    index.extend(number(unpadded));
    index.extend(number(bytes.len()));
    index.resize(index.len().next_multiple_of(4), 0);
    let sum = crc(&index);
    index.extend(sum);
    file.extend(&index);
    let mut end = ((index.len() / 4 - 1) as u32).to_le_bytes().to_vec();
    end.extend([0, 0]);
    file.extend(crc(&end));
    file.extend(end);
    file.extend(b"YZ");
    file
}

const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";

/// A PE32+ file with sections of these names and contents, each padded to 32 bytes.
pub fn pe(machine: u16, sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = vec![0; 0x80];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x80;
    file.extend(b"PE\0\0");
    file.extend(machine.to_le_bytes());
    file.extend((sections.len() as u16).to_le_bytes());
    file.extend([0; 12]);
    file.extend(112_u16.to_le_bytes());
    file.extend([0, 0]);
    // The optional header: PE32+, and no data directories.
    file.extend(0x20b_u16.to_le_bytes());
    file.resize(file.len() + 110, 0);
    let mut at = (file.len() + sections.len() * 40).next_multiple_of(32);
    for (name, content) in sections {
        let mut padded_name = name.as_bytes().to_vec();
        padded_name.resize(8, 0);
        file.extend(padded_name);
        let padded = content.len().next_multiple_of(32);
        for word in [content.len(), 0x1000, padded, at] {
            file.extend((word as u32).to_le_bytes());
        }
        file.resize(file.len() + 16, 0);
        at += padded;
    }
    for (_, content) in sections {
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(*content);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file
}

pub fn uki(linux: &[u8]) -> Vec<u8> {
    let sections: [(&str, &[u8]); 6] = [
        (".osrel", b"ID=debian\n"),
        (".cmdline", b" root=/dev/sda1\tquiet\n\0"),
        (".uname", b"6.12.107\n"),
        (".initrd", b"070701 initrd"),
        (".ucode", b"070701 microcode"),
        (".linux", linux),
    ];
    pe(0x8664, &sections)
}
