//! A kernel file made by hand, for `identmap load`.

/// A bzImage of 6.1.76 without code, 48 MiB when it runs.
pub(crate) fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 1024 + 0x400];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1f4, &0x40_u32.to_le_bytes());
    put(0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    put(0x202, b"HdrS");
    put(0x206, &0x20f_u16.to_le_bytes());
    put(0x20e, &0x100_u16.to_le_bytes());
    put(0x211, &[1]);
    put(0x230, &0x20_0000_u32.to_le_bytes());
    put(0x234, &[1]);
    put(0x236, &[0x7f]);
    put(0x238, &2047_u32.to_le_bytes());
    put(0x258, &0x100_0000_u32.to_le_bytes());
    put(0x260, &0x300_0000_u32.to_le_bytes());
    put(0x300, b"6.1.76 (build@host) #1\0");
    image
}
