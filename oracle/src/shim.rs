//! Talks to the compiled shim over its pipes. The protocol is described in `shim/oracle.c`.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::picture::{LeafRun, Link, Picture};
use crate::sequence::Sequence;

/// Tables the shim may hand out for one sequence: its arena.
const MAX_TABLES: u64 = 65536;
/// Where the shim's tables lie, as far as their entries say.
const TABLE_BASE: u64 = 1 << 20;
const PS: u64 = 1 << 7;
/// "Not in this source", for the number of freed tables.
const NO_FREE: u64 = u64::MAX;

/// A running shim.
pub(crate) struct Shim {
    child: Child,
    to: Option<ChildStdin>,
    from: ChildStdout,
    bytes: Vec<u8>,
    /// Words of the answer not yet taken, last one first.
    words: std::vec::IntoIter<u64>,
}

/// What Linux did with one sequence, besides the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    /// 0, or Linux's error as a positive number.
    pub(crate) status: u64,
    /// Requests done without an error.
    pub(crate) calls: u64,
    /// Tables it took.
    pub(crate) allocated: u64,
    /// Tables it gave back when asked to free everything, where it can.
    pub(crate) freed: Option<u64>,
}

/// How long Linux took for one sequence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Times {
    /// 0, or Linux's error as a positive number.
    pub(crate) status: u64,
    /// Tables of one build.
    pub(crate) tables: u64,
    /// Nanoseconds of a round of builds, of a round of memsets of the same bytes to 0, and to 0xe3.
    pub(crate) rounds: Vec<[u64; 3]>,
}

impl Shim {
    /// One that answers with pictures.
    pub(crate) fn start(executable: &Path) -> io::Result<Shim> {
        Shim::run(Command::new(executable))
    }

    /// One that measures: rounds, and builds in each.
    pub(crate) fn start_clock(executable: &Path, rounds: u64, repeats: u64) -> io::Result<Shim> {
        let mut command = Command::new(executable);
        command.args([rounds.to_string(), repeats.to_string()]);
        Shim::run(command)
    }

    fn run(mut command: Command) -> io::Result<Shim> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the shim has no pipes"));
        };
        Ok(Shim { child, to: Some(to), from, bytes: Vec::new(), words: Vec::new().into_iter() })
    }

    /// Sends a batch. The shim reads all of it before it answers, so this does not block for long;
    /// every answer must be taken before the next batch.
    pub(crate) fn send(&mut self, batch: &[Sequence]) -> io::Result<()> {
        let bytes = &mut self.bytes;
        bytes.clear();
        let mut put = |word: u64| bytes.extend_from_slice(&word.to_le_bytes());
        put(0);
        for s in batch {
            put(if s.five_levels { 5 } else { 4 });
            put(u64::from(s.gbpages));
            put(s.offset);
            put(s.leaf_flags | PS | s.encryption_mask);
            put(s.table_flags | s.encryption_mask);
            put(u64::MAX); // every flag is supported
            put(s.encryption_mask);
            put(TABLE_BASE);
            put(MAX_TABLES);
            put(s.requests.len() as u64);
            for request in &s.requests {
                put(request.start().get());
                put(request.end().get());
            }
        }
        let length = bytes.len() as u64 - 8;
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        let to = self.to.as_mut().ok_or_else(|| io::Error::other("the shim was closed"))?;
        to.write_all(bytes)?;
        to.flush()
    }

    /// Reads the answer to a batch; [`next`](Shim::next) takes it apart.
    pub(crate) fn receive(&mut self) -> io::Result<()> {
        let mut length = [0; 8];
        self.from.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length) as usize;
        self.bytes.resize(length, 0);
        self.from.read_exact(&mut self.bytes)?;
        let words = self.bytes.chunks_exact(8).map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            u64::from_le_bytes(bytes)
        });
        self.words = words.collect::<Vec<u64>>().into_iter();
        Ok(())
    }

    /// The answer to the next sequence of the batch.
    pub(crate) fn next(&mut self, picture: &mut Picture) -> io::Result<Outcome> {
        picture.clear();
        let words = &mut self.words;
        let mut word = || words.next().ok_or_else(|| io::Error::other("the answer is cut short"));
        let (status, calls, allocated) = (word()?, word()?, word()?);
        picture.tables = word()?;
        let freed = word()?;
        picture.stray = word()?;
        let (links, runs) = (word()?, word()?);
        for _ in 0..links {
            let (level, virt, flags) = (word()? as u8, word()?, word()?);
            picture.links.push(Link { level, virt, flags });
        }
        for _ in 0..runs {
            let (virt, phys, flags) = (word()?, word()?, word()?);
            let (size, count) = (word()?, word()?);
            picture.runs.push(LeafRun { virt, phys, flags, size, count });
        }
        Ok(Outcome { status, calls, allocated, freed: (freed != NO_FREE).then_some(freed) })
    }

    /// What was measured of the next sequence of the batch.
    pub(crate) fn next_times(&mut self, rounds: u64) -> io::Result<Times> {
        let words = &mut self.words;
        let mut word = || words.next().ok_or_else(|| io::Error::other("the answer is cut short"));
        let (status, tables) = (word()?, word()?);
        let rounds =
            (0..rounds).map(|_| Ok([word()?, word()?, word()?])).collect::<io::Result<_>>()?;
        Ok(Times { status, tables, rounds })
    }
}

impl Drop for Shim {
    /// Its input ends, so it does.
    fn drop(&mut self) {
        drop(self.to.take());
        // Nothing to do about a failure here: the process is ours and has nothing left to read.
        let _ = self.child.wait();
    }
}
