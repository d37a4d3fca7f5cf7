//! Enough of GDB's remote protocol to answer one CPUID leaf in QEMU.
//!
//! The failure of 2024 needs a processor with SEV in CPUID, which QEMU without KVM does not emulate.
//! So the consumer's `cpuid` for that leaf is stepped over with the answer of such a processor in its
//! registers; everything else is QEMU's.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use identmap_lab::guest::Failure;
use identmap_lab::qmp::Qmp;

/// The leaf.
pub const SEV_LEAF: u32 = 0x8000_001f;
/// EAX, EBX, ECX, EDX as the preflight's profile answers (APM vol. 3, appendix E.4.17).
pub type Answer = [u32; 4];

/// Where in `code` CPUID is asked for the leaf: offsets of the `cpuid` instructions.
///
/// Compilers and the kernel's assembly load the leaf by `mov $0x8000001f,%eax` a few bytes before.
#[must_use]
pub fn sites(code: &[u8]) -> Vec<usize> {
    let load = [&[0xb8][..], &SEV_LEAF.to_le_bytes()].concat();
    let found = code.windows(load.len()).enumerate().filter(|(_, bytes)| *bytes == load);
    found
        .filter_map(|(at, _)| {
            let after = at + load.len();
            let near = code.get(after..after + 16)?;
            near.windows(2).position(|bytes| bytes == [0x0f, 0xa2]).map(|offset| after + offset)
        })
        .collect()
}

/// Starts the guest, answers the leaf at the first of the instructions that runs, and lets go.
///
/// # Errors
/// What the socket or the protocol gives; when the instruction is reached with another leaf.
pub fn answer_sev(socket: &Path, at: &[u64], qmp: &mut Qmp) -> Result<(), Failure> {
    // What crates/preflight/src/cpu.rs answers for `amd-sev`.
    const ANSWER: Answer = [0b1111, 0x33 | 5 << 6, 509, 1];
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut gdb = Gdb { stream: BufReader::new(stream) };
    for address in at {
        gdb.expect_ok(&format!("Z1,{address:x},2"))?;
    }
    let stop = gdb.ask("c")?;
    if !stop.starts_with('T') {
        return Err(format!("the debugger stopped with {stop}").into());
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
    for address in at {
        gdb.expect_ok(&format!("z1,{address:x},2"))?;
    }
    if at.contains(&rip) {
        if rax as u32 != SEV_LEAF {
            return Err(format!("at {rip:#x} CPUID is asked for {rax:#x}").into());
        }
        // RAX, RBX, RCX, RDX are 0 to 3 in the debugger's order; RIP is 16.
        for (number, value) in ANSWER.iter().enumerate() {
            gdb.expect_ok(&format!("P{number:x}={:016x}", u64::from(*value).swap_bytes()))?;
        }
        gdb.expect_ok(&format!("P10={:016x}", (rip + 2).swap_bytes()))?;
    }
    gdb.expect_ok("D")?;
    // To detach continues the guest, unless it has ended by now.
    let _ = qmp.run("query-status", &serde_json::json!({}))?;
    Ok(())
}

struct Gdb {
    stream: BufReader<UnixStream>,
}

impl Gdb {
    fn ask(&mut self, packet: &str) -> Result<String, Failure> {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        self.stream.get_mut().write_all(format!("${packet}#{sum:02x}").as_bytes())?;
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
        (self.byte()?, self.byte()?);
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
        assert_eq!(sites(&code[..12]), []);
    }
}
