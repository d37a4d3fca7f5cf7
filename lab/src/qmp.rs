//! A client of QEMU's monitor protocol: enough to pause a guest, read its registers and dump its memory.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// An open monitor, past the greeting.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and takes the monitor out of its negotiation mode. `patience` bounds every later answer.
    ///
    /// # Errors
    /// What the socket gives, or [`io::ErrorKind::InvalidData`] when the other side does not speak QMP.
    pub fn connect(socket: &Path, patience: Duration) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(patience))?;
        let mut qmp = Self { stream: BufReader::new(stream) };
        let greeting = qmp.message()?;
        if greeting.get("QMP").is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no QMP greeting"));
        }
        qmp.run("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and gives its return value; events that come in between are dropped.
    ///
    /// # Errors
    /// What the socket gives, or [`io::ErrorKind::Other`] with QEMU's own description.
    pub fn run(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        let socket = self.stream.get_mut();
        socket.write_all(line.as_bytes())?;
        socket.write_all(b"\n")?;
        loop {
            let mut message = self.message()?;
            if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = message.get("error") {
                return Err(io::Error::other(format!("{command}: {error}")));
            }
        }
    }

    /// Runs a command of the human monitor.
    ///
    /// # Errors
    /// As [`Qmp::run`].
    pub fn human(&mut self, command: &str) -> io::Result<String> {
        let text = self.run("human-monitor-command", &json!({ "command-line": command }))?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    fn message(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "QEMU is gone"));
        }
        serde_json::from_str(&line)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// The value of a control register in the text of `info registers`, such as `CR3=0000000002a0c000`.
#[must_use]
pub fn register(text: &str, name: &str) -> Option<u64> {
    let word =
        text.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    u64::from_str_radix(word, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_found_by_whole_name() {
        let text =
            "CR0=80050033 CR2=00007f CR3=0000000012345000 CR4=000006f0\nEFER=0000000000000d01";
        assert_eq!(register(text, "CR3"), Some(0x12345000));
        assert_eq!(register(text, "EFER"), Some(0xd01));
        assert_eq!(register(text, "CR8"), None);
        assert_eq!(register(text, "R3"), None);
    }
}
