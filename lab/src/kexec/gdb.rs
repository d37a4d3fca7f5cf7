//! A client of QEMU's debugger port: memory by physical address, breakpoints, registers.
//!
//! The protocol is in GDB's manual, appendix "GDB Remote Serial Protocol"; `Qqemu.PhyMemMode` in
//! QEMU's, "GDB usage".

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A connected debugger; the guest is stopped while it is not told to go on.
#[derive(Debug)]
pub struct Gdb {
    stream: UnixStream,
}

/// Registers as `g` gives them for x86-64: the order of GDB's `i386/64bit-core.xml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// rax
    Rax,
    /// rbx
    Rbx,
    /// rcx
    Rcx,
    /// rdx
    Rdx,
    /// rip
    Rip,
}

impl Register {
    fn index(self) -> usize {
        match self {
            Self::Rax => 0,
            Self::Rbx => 1,
            Self::Rcx => 2,
            Self::Rdx => 3,
            Self::Rip => 16,
        }
    }
}

impl Gdb {
    /// Takes the guest over.
    ///
    /// # Errors
    /// What the socket gives.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let mut gdb = Self { stream };
        gdb.stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        gdb.ask("?")?;
        Ok(gdb)
    }

    /// Reads physical memory.
    ///
    /// # Errors
    /// What the socket gives, or [`ErrorKind::Other`] with QEMU's answer.
    pub fn read_physical(&mut self, at: u64, size: usize) -> io::Result<Vec<u8>> {
        self.ok("Qqemu.PhyMemMode:1")?;
        let answer = self.ask(&format!("m{at:x},{size:x}"))?;
        self.ok("Qqemu.PhyMemMode:0")?;
        bytes(&answer).filter(|bytes| bytes.len() == size).ok_or_else(|| wrong("m", &answer))
    }

    /// Writes physical memory.
    ///
    /// # Errors
    /// As [`Gdb::read_physical`].
    pub fn write_physical(&mut self, at: u64, content: &[u8]) -> io::Result<()> {
        let text: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
        self.ok("Qqemu.PhyMemMode:1")?;
        self.ok(&format!("M{at:x},{:x}:{text}", content.len()))?;
        self.ok("Qqemu.PhyMemMode:0")
    }

    /// Sets or removes a hardware breakpoint at a virtual address.
    ///
    /// # Errors
    /// As [`Gdb::read_physical`].
    pub fn breakpoint(&mut self, at: u64, set: bool) -> io::Result<()> {
        self.ok(&format!("{}1,{at:x},1", if set { 'Z' } else { 'z' }))
    }

    /// Lets the guest run.
    ///
    /// # Errors
    /// What the socket gives.
    pub fn go_on(&mut self) -> io::Result<()> {
        self.send("c")
    }

    /// Waits until the guest stops at a breakpoint; `false` if QEMU has ended.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if it does not within `patience`, or what the socket gives.
    pub fn stopped(&mut self, patience: Duration) -> io::Result<bool> {
        self.stream.set_read_timeout(Some(patience))?;
        let answer = self.receive();
        self.stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        match answer {
            Ok(answer) if answer.starts_with('T') || answer.starts_with('S') => Ok(true),
            // W, X: the process has ended.
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The registers, to be changed and given back.
    ///
    /// # Errors
    /// As [`Gdb::read_physical`].
    pub fn registers(&mut self) -> io::Result<Registers> {
        let answer = self.ask("g")?;
        bytes(&answer)
            .filter(|bytes| bytes.len() >= 17 * 8)
            .map(Registers)
            .ok_or_else(|| wrong("g", &answer))
    }

    /// Sets the registers.
    ///
    /// # Errors
    /// As [`Gdb::read_physical`].
    pub fn set_registers(&mut self, registers: &Registers) -> io::Result<()> {
        let text: String = registers.0.iter().map(|byte| format!("{byte:02x}")).collect();
        self.ok(&format!("G{text}"))
    }

    /// Executes the instruction at a breakpoint.
    ///
    /// # Errors
    /// As [`Gdb::read_physical`].
    pub fn step_over(&mut self, at: u64) -> io::Result<()> {
        self.breakpoint(at, false)?;
        self.ask("s")?;
        self.breakpoint(at, true)
    }

    /// Leaves the guest running, without breakpoints.
    ///
    /// # Errors
    /// As [`Gdb::read_physical`].
    pub fn detach(mut self) -> io::Result<()> {
        self.ok("D")
    }

    fn ok(&mut self, command: &str) -> io::Result<()> {
        let answer = self.ask(command)?;
        if answer == "OK" { Ok(()) } else { Err(wrong(command, &answer)) }
    }

    fn ask(&mut self, command: &str) -> io::Result<String> {
        self.send(command)?;
        self.receive()
    }

    fn send(&mut self, command: &str) -> io::Result<()> {
        let sum = command.bytes().fold(0_u8, u8::wrapping_add);
        self.stream.write_all(format!("${command}#{sum:02x}").as_bytes())
    }

    /// The next packet; acknowledgements are passed over.
    fn receive(&mut self) -> io::Result<String> {
        while self.byte()? != b'$' {}
        let mut text = Vec::new();
        loop {
            match self.byte()? {
                b'#' => break,
                // A run of equal bytes: the last one, and how often more.
                b'*' => {
                    let count = self.byte()?.saturating_sub(29);
                    let last = *text.last().ok_or(ErrorKind::InvalidData)?;
                    text.extend(std::iter::repeat_n(last, usize::from(count)));
                }
                byte => text.push(byte),
            }
        }
        self.byte()?;
        self.byte()?;
        self.stream.write_all(b"+")?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

/// All registers, as the protocol has them.
#[derive(Clone, Debug)]
pub struct Registers(Vec<u8>);

impl Registers {
    /// One of them.
    #[must_use]
    pub fn get(&self, register: Register) -> u64 {
        let at = register.index() * 8;
        self.0[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    /// Changes one.
    pub fn set(&mut self, register: Register, value: u64) {
        let at = register.index() * 8;
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8))
        .collect()
}

fn wrong(command: &str, answer: &str) -> io::Error {
    io::Error::other(format!("QEMU's debugger port answers {command} with {answer:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_framed_and_runs_are_spread() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"+$T05#b9").unwrap();
        let mut gdb = Gdb::new(ours).unwrap();
        theirs.write_all(b"+$OK#9a+$0* 1#00+$OK#9a").unwrap();
        assert_eq!(
            gdb.read_physical(0x1000, 2).unwrap_err().kind(),
            ErrorKind::Other,
            "0* is 0000, then 1"
        );
        theirs.write_all(b"+$OK#9a+$0* #00+$OK#9a").unwrap();
        assert_eq!(gdb.read_physical(0x1000, 2).unwrap(), [0, 0]);
        let mut sent = [0; 4];
        theirs.read_exact(&mut sent).unwrap();
        assert_eq!(&sent, b"$?#3");
    }
}
