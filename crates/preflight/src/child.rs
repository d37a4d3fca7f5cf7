//! Runs in a process of their own: a crash or a hang of the engine is an answer, not an accident.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::outcome::{Outcome, Report, Unknown};
use crate::run;
use crate::scene::{Scene, SceneError};
use crate::wire;

/// What a worker may take besides the guest's memory: the program, the engine, its translations,
/// the scene twice.
const OVERHEAD: u64 = 1 << 30;
/// How much longer than the scene's own limit the parent waits: for the process to start and
/// to read the scene.
const GRACE: Duration = Duration::from_secs(5);
/// The most that a worker may answer; a page touched takes about 150 bytes.
const LONGEST_ANSWER: u64 = 64 << 20;

/// Runs a scene in a child process: `command` has to end up in [`worker`].
///
/// The child gets the scene on its standard input and answers on its standard output. It is
/// ended when the scene's time is over and 5 s have passed; its address space is limited to the
/// guest's memory and 1 GiB. Whatever happens to it, the parent gets a report.
///
/// # Errors
/// [`SceneError`] if the scene makes no sense; nothing is started then.
pub fn run_in_child(mut command: Command, scene: &Scene) -> Result<Report, SceneError> {
    scene.check()?;
    let start = Instant::now();
    let answer = answer(&mut command, scene, start);
    Ok(answer.unwrap_or_else(|why| Report {
        outcome: Outcome::Unknown(why),
        touched: Vec::new(),
        instructions: 0,
        time: start.elapsed(),
    }))
}

/// This program, to start it again: [`std::env::current_exe`], or, where `/proc` is not mounted, the
/// name it was started by, which is looked up as then.
#[must_use]
pub fn this_program() -> Command {
    let name = || std::env::args_os().next().unwrap_or_default().into();
    Command::new(std::env::current_exe().unwrap_or_else(|_| name()))
}

fn answer(command: &mut Command, scene: &Scene, start: Instant) -> Result<Report, Unknown> {
    let failed = |error: io::Error| Unknown::Child(format!("cannot be started: {error}"));
    // Not `Stdio::null()`: a rescue system may have no /dev/null. Nobody reads the other end.
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().map_err(failed)?;
    drop(child.stderr.take());
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Unknown::Child("it has no pipes".to_owned()));
    };
    let request = wire::encode(scene);
    // Both ends may fill their pipe: one thread writes, one reads, this one watches the clock.
    let writer = thread::spawn(move || stdin.write_all(&request));
    let (said_all, answered) = channel();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(LONGEST_ANSWER).read_to_end(&mut bytes);
        // Nobody listens where the time was over first.
        let _ = said_all.send(());
        read.map(|_| bytes)
    });
    let status = wait(&mut child, &answered, start + scene.limits.time + GRACE);
    let bytes = reader.join();
    // A child that was ended has closed its side: the write has failed, and says nothing new.
    let _ = writer.join();
    let status = status?;
    if !status.success() {
        return Err(Unknown::Child(status.to_string()));
    }
    let report = bytes.ok().and_then(Result::ok).and_then(|bytes| wire::decode(&bytes));
    report.ok_or_else(|| Unknown::Child("its answer makes no sense".to_owned()))
}

/// Until it has ended; that is soon after it `answered`.
fn wait(
    child: &mut Child,
    answered: &Receiver<()>,
    deadline: Instant,
) -> Result<std::process::ExitStatus, Unknown> {
    let _ = answered.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(pause),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Unknown::Time { rip: None });
            }
            Err(error) => return Err(Unknown::Child(error.to_string())),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// The child's side: reads a scene from standard input, runs it, writes the report to standard output.
#[must_use]
pub fn worker() -> ExitCode {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    let Some(scene) = read.ok().and_then(|_| wire::decode::<Scene>(&bytes)) else {
        return ExitCode::FAILURE;
    };
    drop(bytes);
    if confine(&scene).is_err() {
        return ExitCode::FAILURE;
    }
    let Ok(report) = run(&scene) else { return ExitCode::FAILURE };
    let written = io::stdout().lock().write_all(&wire::encode(&report));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Limits of this process: address space, processor time, no core dump, no file to write.
fn confine(scene: &Scene) -> rustix::io::Result<()> {
    let limit = |resource, amount| {
        setrlimit(resource, Rlimit { current: Some(amount), maximum: Some(amount) })
    };
    limit(Resource::As, scene.limits.memory.saturating_add(OVERHEAD))?;
    limit(Resource::Cpu, scene.limits.time.as_secs().saturating_add(GRACE.as_secs()))?;
    limit(Resource::Core, 0)?;
    limit(Resource::Nproc, 1).or(Ok(()))
}
