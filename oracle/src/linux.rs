//! identmap against Linux's own `ident_map.c`.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::Options;
use crate::model;
use crate::ours::{Ours, Way};
use crate::paste;
use crate::picture::Picture;
use crate::sequence::{Reach, Sequence};
use crate::shim::{Outcome, Shim};
use crate::source::{Behaviour, Source};

/// Sequences sent to the shim at a time.
const BATCH: u64 = 256;
/// Every so many sequences the model is asked too; it is slow and only a third opinion.
const MODEL_EVERY: u64 = 8;
/// Differences shown in full.
const SHOWN: usize = 3;

/// Compares every source asked for; returns the number of sequences with a difference.
pub(crate) fn compare(options: &Options) -> Result<u64, String> {
    let sources = Source::prepare(&options.series)?;
    let mut differing = 0;
    for source in &sources {
        differing += compare_source(source, options)?;
    }
    Ok(differing)
}

/// What was compared, so that "no difference" can be weighed.
#[derive(Default)]
struct Tally {
    sequences: AtomicU64,
    requests: AtomicU64,
    five_levels: AtomicU64,
    gbpages: AtomicU64,
    moved: AtomicU64,
    encrypted: AtomicU64,
    tables: AtomicU64,
    leaves: AtomicU64,
    modelled: AtomicU64,
    differing: AtomicU64,
}

fn compare_source(source: &Source, options: &Options) -> Result<u64, String> {
    let behaviour =
        Behaviour { policy: options.policy.unwrap_or(source.behaviour.policy), ..source.behaviour };
    let (first, end) = match options.only {
        Some(number) => (number, number.checked_add(1).ok_or("--only is too large")?),
        None => (0, options.sequences),
    };
    let next = AtomicU64::new(first);
    let tally = Tally::default();
    let shown = Mutex::new(Vec::<String>::new());
    let start = Instant::now();

    let result = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads)
            .map(|_| {
                let worker = Worker { source, behaviour, options, tally: &tally, shown: &shown };
                let next = &next;
                scope.spawn(move || worker.run(next, end))
            })
            .collect();
        let mut progress = Progress::new(source.series, end - first, start);
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(20));
            progress.show(tally.sequences.load(Relaxed));
        }
        progress.clear();
        workers.into_iter().try_for_each(|w| w.join().map_err(|_| "a worker died".to_string())?)
    });

    for text in shown.into_inner().unwrap_or_default() {
        println!("{text}");
    }
    report(source, behaviour, options.seed, &tally, start.elapsed());
    result?;
    Ok(tally.differing.load(Relaxed))
}

fn report(source: &Source, behaviour: Behaviour, seed: u64, tally: &Tally, took: Duration) {
    let n = |of: &AtomicU64| grouped(of.load(Relaxed));
    println!(
        "{:<5} {:<34} {:<9} {} sequences, {} differing  ({:.1} s, seed {seed})",
        source.series,
        source.package,
        behaviour.policy,
        n(&tally.sequences),
        n(&tally.differing),
        took.as_secs_f64(),
    );
    println!(
        "      {} requests, {} tables, {} leaves; with 5 levels {}, gbpages {}, an offset {}, \
         encryption {}; model asked {}",
        n(&tally.requests),
        n(&tally.tables),
        n(&tally.leaves),
        n(&tally.five_levels),
        n(&tally.gbpages),
        n(&tally.moved),
        n(&tally.encrypted),
        n(&tally.modelled),
    );
}

struct Worker<'w> {
    source: &'w Source,
    behaviour: Behaviour,
    options: &'w Options,
    tally: &'w Tally,
    shown: &'w Mutex<Vec<String>>,
}

/// Pictures of one sequence by identmap, or what it said instead.
struct Answer {
    pictures: [Picture; 2],
    errors: [Option<String>; 2],
    model: Option<Picture>,
}

impl Worker<'_> {
    fn run(&self, next: &AtomicU64, end: u64) -> Result<(), String> {
        let failed = |e: io::Error| format!("shim of {}: {e}", self.source.series);
        let mut shim = Shim::start(&self.source.executable).map_err(failed)?;
        let mut ours = Ours::new();
        let mut theirs = Picture::default();
        let mut answers: Vec<Answer> = Vec::new();
        let mut batch = Vec::new();
        loop {
            let first = next.fetch_add(BATCH, Relaxed);
            if first >= end {
                return Ok(());
            }
            let numbers = first..end.min(first + BATCH);
            batch.clear();
            batch.extend(numbers.clone().map(|number| self.sequence(number)));
            if self.options.only.is_some() {
                println!("{:#x?}", batch[0]);
            }
            shim.send(&batch).map_err(failed)?;
            // While Linux builds, so do we.
            for (index, sequence) in batch.iter().enumerate() {
                if answers.len() == index {
                    answers.push(Answer {
                        pictures: [Picture::default(), Picture::default()],
                        errors: [None, None],
                        model: None,
                    });
                }
                self.answer(&mut ours, sequence, first + index as u64, &mut answers[index]);
            }
            shim.receive().map_err(failed)?;
            let mut differing = Vec::new();
            for (index, sequence) in batch.iter().enumerate() {
                let outcome = shim.next(&mut theirs).map_err(failed)?;
                self.count(sequence, &theirs, answers[index].model.is_some());
                if self.difference(sequence, outcome, &theirs, &answers[index]).is_some() {
                    differing.push(index);
                }
            }
            for index in differing {
                self.tally.differing.fetch_add(1, Relaxed);
                let number = first + index as u64;
                self.show(&mut shim, &mut ours, number, &batch[index]).map_err(failed)?;
            }
        }
    }

    fn sequence(&self, number: u64) -> Sequence {
        let reach =
            if self.behaviour.last_slot { Reach::BelowLastFrame } else { Reach::BelowLastSlot };
        Sequence::generate(self.options.seed, number, reach)
    }

    fn answer(&self, ours: &mut Ours, sequence: &Sequence, number: u64, answer: &mut Answer) {
        for (index, way) in Way::ALL.into_iter().enumerate() {
            let picture = &mut answer.pictures[index];
            answer.errors[index] = ours.picture(sequence, self.behaviour, way, picture).err();
        }
        answer.model = number.is_multiple_of(MODEL_EVERY).then(|| {
            let mut picture = Picture::default();
            model::picture(sequence, self.behaviour, &mut picture);
            picture
        });
    }

    /// In what the two sides differ, in words.
    fn difference(
        &self,
        sequence: &Sequence,
        outcome: Outcome,
        theirs: &Picture,
        answer: &Answer,
    ) -> Option<String> {
        // First Linux's side by itself: what the shim says must be whole.
        let whole = Outcome {
            status: 0,
            calls: sequence.requests.len() as u64,
            allocated: theirs.tables,
            freed: self.behaviour.has_free.then_some(theirs.tables),
        };
        if outcome != whole || theirs.stray != 0 {
            return Some(format!("Linux: {outcome:?} where {whole:?} was due"));
        }
        for (way, (picture, error)) in
            Way::ALL.iter().zip(answer.pictures.iter().zip(&answer.errors))
        {
            if let Some(error) = error {
                return Some(format!("identmap, {way:?}: {error}"));
            }
            if let Some(text) = theirs.difference(picture) {
                return Some(format!("identmap, {way:?} (Linux first), {text}"));
            }
        }
        let model = answer.model.as_ref()?;
        theirs.difference(model).map(|text| format!("the model (Linux first), {text}"))
    }

    fn count(&self, sequence: &Sequence, theirs: &Picture, modelled: bool) {
        let add = |to: &AtomicU64, n: u64| to.fetch_add(n, Relaxed);
        let tally = self.tally;
        add(&tally.sequences, 1);
        add(&tally.requests, sequence.requests.len() as u64);
        add(&tally.five_levels, u64::from(sequence.five_levels));
        add(&tally.gbpages, u64::from(sequence.gbpages));
        add(&tally.moved, u64::from(sequence.offset != 0));
        add(&tally.encrypted, u64::from(sequence.encryption_mask != 0));
        add(&tally.modelled, u64::from(modelled));
        add(&tally.tables, theirs.tables);
        add(&tally.leaves, theirs.runs.iter().map(|run| run.count).sum());
    }

    /// Shrinks a sequence that differs and keeps it for the end, with a test to paste.
    fn show(
        &self,
        shim: &mut Shim,
        ours: &mut Ours,
        number: u64,
        sequence: &Sequence,
    ) -> io::Result<()> {
        if self.shown.lock().map_or(true, |shown| shown.len() >= SHOWN) {
            return Ok(());
        }
        let mut theirs = Picture::default();
        let mut small = sequence.clone();
        let mut text = self.one(shim, ours, &small, &mut theirs)?;
        let mut index = 0;
        while index < small.requests.len() && small.requests.len() > 1 {
            let mut fewer = small.clone();
            fewer.requests.remove(index);
            match self.one(shim, ours, &fewer, &mut theirs)? {
                Some(still) => {
                    text = Some(still);
                    small = fewer;
                }
                None => index += 1,
            }
        }
        // Once more: `theirs` shall be the picture of what is shown.
        self.one(shim, ours, &small, &mut theirs)?;
        let text = format!(
            "--- {}, sequence {number} of seed {}: {}\n{}",
            self.source.package,
            self.options.seed,
            text.unwrap_or_else(|| "it did not differ when it was run again".into()),
            paste::test(&small, self.behaviour, &self.source.package, &theirs),
        );
        if let Ok(mut shown) = self.shown.lock()
            && shown.len() < SHOWN
        {
            shown.push(text);
        }
        Ok(())
    }

    /// One sequence by itself.
    fn one(
        &self,
        shim: &mut Shim,
        ours: &mut Ours,
        sequence: &Sequence,
        theirs: &mut Picture,
    ) -> io::Result<Option<String>> {
        shim.send(std::slice::from_ref(sequence))?;
        let mut answer = Answer {
            pictures: [Picture::default(), Picture::default()],
            errors: [None, None],
            model: None,
        };
        self.answer(ours, sequence, 0, &mut answer);
        shim.receive()?;
        let outcome = shim.next(theirs)?;
        Ok(self.difference(sequence, outcome, theirs, &answer))
    }
}

/// A line that is written over, on a terminal only.
struct Progress {
    what: &'static str,
    total: u64,
    start: Instant,
    last: Option<Instant>,
    tty: bool,
}

impl Progress {
    fn new(what: &'static str, total: u64, start: Instant) -> Progress {
        Progress { what, total, start, last: None, tty: io::stderr().is_terminal() }
    }

    fn show(&mut self, done: u64) {
        if !self.tty || self.last.is_some_and(|at| at.elapsed() < Duration::from_millis(300)) {
            return;
        }
        self.last = Some(Instant::now());
        let seconds = self.start.elapsed().as_secs();
        let (done, total) = (grouped(done), grouped(self.total));
        eprint!("\r\x1b[K{}  {done} of {total} sequences  {seconds} s", self.what);
        // Progress that cannot be shown is not worth a failure.
        let _ = io::stderr().flush();
    }

    fn clear(&self) {
        if self.tty {
            eprint!("\r\x1b[K");
        }
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
