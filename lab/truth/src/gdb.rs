//! Enough of GDB's remote protocol to answer one CPUID leaf in QEMU.
//!
//! The failure of 2024 needs a processor with SEV in CPUID, which QEMU without KVM does not emulate.
//! So the consumer's `cpuid` for that leaf is stepped over with the answer of such a processor in its
//! registers; everything else is QEMU's.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use identmap_lab::guest::Failure;

/// The leaf.
pub const SEV_LEAF: u32 = 0x8000_001f;
/// EAX, EBX, ECX, EDX as the preflight's profile answers (APM vol. 3, appendix E.4.17).
pub type Answer = [u32; 4];

/// Where in `code` CPUID may be asked for the leaf: offsets of the `cpuid` instructions.
///
/// Compilers and the kernel's assembly load its number, or compare with it, a few bytes before.
#[must_use]
pub fn sites(code: &[u8]) -> Vec<usize> {
    let leaf = SEV_LEAF.to_le_bytes();
    let found = code.windows(leaf.len()).enumerate().filter(|(_, bytes)| *bytes == leaf);
    let mut sites: Vec<usize> = found
        .filter_map(|(at, _)| {
            let after = at + leaf.len();
            let near = code.get(after..after + 16)?;
            near.windows(2).position(|bytes| bytes == [0x0f, 0xa2]).map(|offset| after + offset)
        })
        .collect();
    sites.dedup();
    sites
}

/// Starts the guest, answers the leaf wherever it is asked for, and lets go when that has not happened for
/// a while: the consumer has its own tables by then, or has come to its end.
///
/// # Errors
/// What the socket or the protocol gives; when the leaf is not asked for, and the machine runs on.
pub fn answer_sev(socket: &Path, at: &[u64]) -> Result<(), Failure> {
    // What crates/preflight/src/cpu.rs answers for `amd-sev`.
    const ANSWER: Answer = [0b1111, 0x33 | 5 << 6, 509, 1];
    /// Half a second is what a hand-over takes on a busy machine.
    const WHILE: Duration = Duration::from_secs(6);
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(WHILE))?;
    let mut gdb = Gdb { stream: BufReader::new(stream) };
    // Only one who has read the description may set single registers (QEMU, gdbstub.c, `gdb_has_xml`).
    gdb.ask("qXfer:features:read:target.xml:0,ffb")?;
    gdb.all(at, 'Z')?;
    let mut answered = 0;
    loop {
        gdb.send("c")?;
        if !gdb.stops()? {
            gdb.stream.get_mut().write_all(&[3])?;
            gdb.answer()?;
            break;
        }
        let registers = gdb.ask("g")?;
        // 16 general-purpose registers of 8 bytes, then RIP (QEMU, gdb-xml/i386-64bit.xml).
        let word = |index: usize| -> Option<u64> {
            let text = registers.get(index * 16..index * 16 + 16)?;
            u64::from_str_radix(text, 16).ok().map(u64::swap_bytes)
        };
        let (Some(rax), Some(rip)) = (word(0), word(16)) else {
            return Err(format!("registers: {registers}").into());
        };
        if !at.contains(&rip) {
            // The machine has been reset: it stands where that happened.
            return Ok(());
        }
        if rax as u32 == SEV_LEAF {
            // The debugger's numbers: RAX, RBX, RCX, RDX are 0 to 3, RIP is 16.
            for (number, value) in ANSWER.iter().enumerate() {
                gdb.expect_ok(&format!("P{number:x}={:016x}", u64::from(*value).swap_bytes()))?;
            }
            gdb.expect_ok(&format!("P10={:016x}", (rip + 2).swap_bytes()))?;
            answered += 1;
        } else {
            gdb.all(at, 'z')?;
            gdb.ask("s")?;
            gdb.all(at, 'Z')?;
        }
    }
    gdb.all(at, 'z')?;
    // To detach continues the guest.
    gdb.expect_ok("D")?;
    if answered == 0 { Err("the consumer did not ask for SEV".into()) } else { Ok(()) }
}

struct Gdb {
    stream: BufReader<UnixStream>,
}

impl Gdb {
    fn ask(&mut self, packet: &str) -> Result<String, Failure> {
        self.send(packet)?;
        self.answer()
    }

    fn send(&mut self, packet: &str) -> Result<(), Failure> {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        Ok(self.stream.get_mut().write_all(format!("${packet}#{sum:02x}").as_bytes())?)
    }

    /// Whether the guest stops before the socket's patience ends.
    fn stops(&mut self) -> Result<bool, Failure> {
        loop {
            match self.stream.fill_buf() {
                // An acknowledgement of what was sent.
                Ok([b'+', ..]) => self.stream.consume(1),
                Ok(_) => return self.answer().map(|_| true),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sets (`Z`) or removes (`z`) breakpoints.
    fn all(&mut self, at: &[u64], kind: char) -> Result<(), Failure> {
        at.iter().try_for_each(|address| self.expect_ok(&format!("{kind}1,{address:x},1")))
    }

    fn answer(&mut self) -> Result<String, Failure> {
        let mut answer = Vec::new();
        let mut inside = false;
        loop {
            match self.byte()? {
                b'$' => (inside, answer) = (true, Vec::new()),
                b'#' if inside => break,
                byte if inside => answer.push(byte),
                _ => {}
            }
        }
        // A checksum, which a local socket does not need.
        self.byte()?;
        self.byte()?;
        self.stream.get_mut().write_all(b"+")?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn expect_ok(&mut self, packet: &str) -> Result<(), Failure> {
        let answer = self.ask(packet)?;
        if answer == "OK" { Ok(()) } else { Err(format!("{packet}: {answer}").into()) }
    }

    fn byte(&mut self) -> Result<u8, Failure> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_where_the_leaf_is_loaded_and_asked_for() {
        // mov $0x8000001f,%eax; xor %ecx,%ecx; cpuid; mov $0x80000000,%eax; cpuid
        let code = [
            0x90, 0xb8, 0x1f, 0x00, 0x00, 0x80, 0x31, 0xc9, 0x0f, 0xa2, 0xb8, 0x00, 0x00, 0x00,
            0x80, 0x0f, 0xa2, 0, 0, 0, 0, 0,
        ];
        assert_eq!(sites(&code), [8]);
        assert!(sites(&code[..12]).is_empty());
    }
}
