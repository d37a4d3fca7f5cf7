//! Small bzImages made by hand, for the tests of the other crates. Nothing is published that needs this crate.

/// Bytes of boot sector and setup: one sector each.
const SETUP: usize = 1024;
/// Where the 64-bit entry lies in the protected-mode part.
const ENTRY_64: usize = 0x200;

/// What ends a hand-over, wherever it lies below 512 GiB: tables at 0x500000 with the GiB that this runs in, a root
/// for 5 levels below them, and the switch to them:
/// ```text
/// lea rbx, [rip]; mov rcx, rbx; shr rcx, 30; mov rax, rcx; shl rax, 30; or al, 0x83; mov edi, 0x502000; mov edx, 512
/// 1: mov [rdi], rax; add rdi, 8; add rax, 0x200000; dec edx; jnz 1b
/// mov qword [rcx*8+0x501000], 0x502003; mov qword [0x500000], 0x501003; mov qword [0x4ff000], 0x500003
/// mov rax, cr4; bt eax, 12; mov eax, 0x500000; jnc +5; mov eax, 0x4ff000; mov cr3, rax; jmp .
/// ```
pub const OWN_TABLES: [u8; 110] = [
    0x48, 0x8d, 0x1d, 0, 0, 0, 0, 0x48, 0x89, 0xd9, 0x48, 0xc1, 0xe9, 0x1e, 0x48, 0x89, 0xc8, 0x48,
    0xc1, 0xe0, 0x1e, 0x0c, 0x83, 0xbf, 0, 0x20, 0x50, 0, 0xba, 0, 2, 0, 0, 0x48, 0x89, 0x07, 0x48,
    0x83, 0xc7, 8, 0x48, 0x05, 0, 0, 0x20, 0, 0xff, 0xca, 0x75, 0xef, 0x48, 0xc7, 0x04, 0xcd, 0,
    0x10, 0x50, 0, 0x03, 0x20, 0x50, 0, 0x48, 0xc7, 0x04, 0x25, 0, 0, 0x50, 0, 0x03, 0x10, 0x50, 0,
    0x48, 0xc7, 0x04, 0x25, 0, 0xf0, 0x4f, 0, 0x03, 0, 0x50, 0, 0x0f, 0x20, 0xe0, 0x0f, 0xba, 0xe0,
    0x0c, 0xb8, 0, 0, 0x50, 0, 0x73, 0x05, 0xb8, 0, 0xf0, 0x4f, 0, 0x0f, 0x22, 0xd8, 0xeb, 0xfe,
];

/// What the header of a bzImage says, and its code. The default is sound: every rule of
/// `Documentation/arch/x86/boot.rst` is kept, and what boots it may put it anywhere.
#[derive(Clone, Copy, Debug)]
pub struct BzImage<'a> {
    /// Bytes that it needs when it runs.
    pub init_size: u32,
    /// Where it wants to lie.
    pub pref_address: u64,
    /// Whether it may lie elsewhere.
    pub relocatable: bool,
    /// `XLF_KERNEL_64` (1), `XLF_CAN_BE_LOADED_ABOVE_4G` (2), `XLF_5LEVEL` (0x20) and the others.
    pub xloadflags: u8,
    /// The text of its version, as in `/proc/version` behind "Linux version "; empty: it has none.
    pub version: &'a str,
    /// What stands at the 64-bit entry.
    pub code: &'a [u8],
}

impl Default for BzImage<'_> {
    fn default() -> Self {
        BzImage {
            init_size: 1 << 20,
            pref_address: 16 << 20,
            relocatable: true,
            xloadflags: 0x7f,
            version: "",
            code: &[],
        }
    }
}

impl BzImage<'_> {
    /// The file: protocol 2.15, aligned to 2 MiB, its code padded with zeros.
    ///
    /// # Panics
    ///
    /// If the version has no room in the setup part.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let protected = (ENTRY_64 + self.code.len()).next_multiple_of(0x200) + 0x200;
        let mut image = vec![0; SETUP + protected];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x1f1, &[1]);
        put(0x1f4, &(protected as u32 / 16).to_le_bytes());
        // The boot flag, and a jump over the header.
        put(0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
        put(0x202, b"HdrS");
        put(0x206, &0x20f_u16.to_le_bytes());
        if !self.version.is_empty() {
            assert!(self.version.len() < SETUP - 0x300, "{}", self.version);
            put(0x20e, &0x100_u16.to_le_bytes());
            put(0x300, self.version.as_bytes());
        }
        put(0x211, &[1]);
        put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
        put(0x230, &0x20_0000_u32.to_le_bytes());
        put(0x234, &[u8::from(self.relocatable)]);
        put(0x236, &[self.xloadflags]);
        put(0x238, &2047_u32.to_le_bytes());
        put(0x248, &0x10_u32.to_le_bytes());
        put(0x24c, &0x20_u32.to_le_bytes());
        put(0x258, &self.pref_address.to_le_bytes());
        put(0x260, &self.init_size.to_le_bytes());
        put(SETUP + ENTRY_64, self.code);
        image
    }
}
