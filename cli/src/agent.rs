//! An agent as a child process: started with our standard streams in our process group, signals passed on to it, its end
//! turned into an exit code. Knows nothing of sessions.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// What a signal means at this moment.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Nothing runs yet: as if there were no agent.
    Before,
    /// It is the agent's.
    Running(Pid),
    /// The agent has ended with this exit code; whoever asks again wants us to end as well.
    Ended(u8),
}

/// An agent that runs.
pub(crate) struct Agent {
    child: Child,
    stage: Arc<Mutex<Stage>>,
}

/// Why an agent could not be started, and the exit code for it.
pub(crate) struct NotStarted {
    pub(crate) error: io::Error,
    pub(crate) code: u8,
}

impl Agent {
    /// Starts a program with its arguments. From then on SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to it.
    pub(crate) fn start(command: &[OsString]) -> Result<Self, NotStarted> {
        let stage = Arc::new(Mutex::new(Stage::Before));
        let not_started = |error: io::Error| {
            let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
            NotStarted { error, code }
        };
        let (program, arguments) =
            command.split_first().ok_or_else(|| not_started(io::ErrorKind::NotFound.into()))?;
        // Before the agent: it may tell somebody to stop us as soon as it runs.
        let mut signals = SignalsInfo::<WithOrigin>::new(not_ignored(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM]))
            .map_err(not_started)?;
        let child = Command::new(program).args(arguments).spawn().map_err(not_started)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        *lock(&stage) = Stage::Running(pid);
        let seen = Arc::clone(&stage);
        std::thread::spawn(move || {
            for origin in &mut signals {
                pass_on(*lock(&seen), &origin);
            }
        });
        Ok(Self { child, stage })
    }

    /// Waits for its end and returns the exit code: its own, or 128 + n after signal n.
    pub(crate) fn wait(mut self) -> u8 {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        // Its process id stays its own until it is waited for; so it is first taken from those who send signals.
        let until_ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), until_ended).is_err_and(|error| error == rustix::io::Errno::INTR) {}
        let mut stage = lock(&self.stage);
        let code = self.child.wait().map_or(NOT_EXECUTABLE, exit_code);
        *stage = Stage::Ended(code);
        code
    }
}

fn lock(stage: &Mutex<Stage>) -> std::sync::MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pass_on(stage: Stage, origin: &Origin) {
    match stage {
        Stage::Running(_) if is_of_terminal(origin) => {}
        Stage::Running(pid) => {
            let signal = match origin.signal {
                SIGHUP => Signal::HUP,
                SIGINT => Signal::INT,
                SIGQUIT => Signal::QUIT,
                _ => Signal::TERM,
            };
            // An agent that ended a moment ago needs no signal.
            let _ = kill_process(pid, signal);
        }
        // A second Ctrl-C during the push: the ledger is as whole as after any crash.
        Stage::Ended(code) => std::process::exit(i32::from(code)),
        Stage::Before => std::process::exit(128 + origin.signal),
    }
}

/// Whether the terminal sent a signal: it goes to all processes in the foreground, the agent among them.
fn is_of_terminal(origin: &Origin) -> bool {
    match origin.cause {
        Cause::Kernel => true,
        // A system that does not tell.
        Cause::Unknown => io::stdin().is_terminal(),
        _ => false,
    }
}

/// Leaves out signals that we were told to ignore (`nohup`): the agent is to ignore them too.
fn not_ignored(signals: &[i32]) -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    signals.iter().copied().filter(|signal| ignored >> (signal - 1) & 1 == 0).collect()
}

fn exit_code(status: ExitStatus) -> u8 {
    let signal = || status.signal().map_or(NOT_EXECUTABLE.into(), |signal| 128 + signal);
    u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(u8::MAX)
}
