//! Running a program within limits of time and output, from a process that is PostgreSQL's.
//!
//! No thread, no signal handler: the parent polls the pipes and reaps its own child by its id, so SIGCHLD stays what the
//! server made of it. The child is the leader of a process group of its own, which is killed as a whole when a limit is
//! passed, when the query is cancelled and when the backend ends in the meantime; the kernel kills the leader should the
//! backend be killed. It starts with no signal blocked or ignored (the postmaster blocks them while it loads libraries)
//! and without the server's open files.

use std::io::{Error, ErrorKind, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::{Failed, said};

/// How long a cancellation may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a killed child is waited for. One that hangs in the kernel becomes its parent's zombie.
const REAP_WITHIN: Duration = Duration::from_secs(2);

pub struct Limits {
    pub time: Duration,
    /// In bytes.
    pub output: usize,
}

/// The interrupts of the process that waits.
pub trait Interrupts {
    /// Whether [`Interrupts::process`] has something to do.
    fn is_pending(&self) -> bool;
    /// Unwinds when the query is to end; ends the process when the session is to end; else comes back.
    fn process(&self);
}

/// Process group of the child that is running, else 0.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// Kills what is running, for a process that ends without unwinding.
pub fn kill_running() {
    kill_group(RUNNING.swap(0, Ordering::Relaxed));
}

fn kill_group(group: i32) {
    if group > 0 {
        // SAFETY: a system call. The leader of the group has not been reaped, so the id is still its own.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}

/// What `command`, whose output and errors are piped, prints.
pub fn run(
    command: &mut Command,
    limits: &Limits,
    interrupts: &dyn Interrupts,
) -> Result<Zeroizing<Vec<u8>>, Failed> {
    let deadline = Instant::now() + limits.time;
    command.process_group(0);
    // SAFETY: makes nothing but system calls, which is all that is allowed between fork and exec.
    unsafe { command.pre_exec(prepare) };
    let mut running = Running(
        command
            .spawn()
            .map_err(|error| Failed::NotRunnable(error.kind().to_string()))?,
    );
    RUNNING.store(running.group(), Ordering::Relaxed);
    running.set_nonblocking().map_err(unreadable)?;
    // Allocated once, so that growing leaves no copy behind.
    let mut output = Zeroizing::new(Vec::with_capacity(limits.output + 1));
    let mut errors = Zeroizing::new(Vec::with_capacity(said::KEPT));
    let status = loop {
        let is_open = running.read(&mut output, &mut errors)?;
        if output.len() > limits.output {
            return Err(Failed::TooLarge);
        }
        let ended = if is_open { None } else { running.ended()? };
        if let Some(status) = ended {
            // What it said last.
            running.read(&mut output, &mut errors)?;
            break status;
        }
        if interrupts.is_pending() {
            interrupts.process();
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let said = said::shown(&errors);
            return Err(Failed::TimedOut { said });
        }
        running.wait(is_open, left.min(LOOK_EVERY));
    };
    if status.success() {
        return Ok(output);
    }
    Err(Failed::Unsuccessful {
        how: match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (_, Some(signal)) => format!("was killed by signal {signal}"),
            _ => "failed".to_owned(),
        },
        said: said::shown(&errors),
    })
}

/// Makes the forked process ready for its program.
fn prepare() -> Result<(), Error> {
    // SAFETY: system calls, with constants.
    unsafe {
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
        let flags = libc::CLOSE_RANGE_CLOEXEC;
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) != 0 {
            close_each_on_exec();
        }
    }
    Ok(())
}

/// For kernels before 5.11.
unsafe fn close_each_on_exec() {
    // SAFETY: system calls; a number that is no open file is an error that means nothing.
    unsafe {
        let most = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, 1 << 20);
        for file in 3..most as RawFd {
            libc::fcntl(file, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

fn unreadable(error: Error) -> Failed {
    Failed::Unreadable(error.kind().to_string())
}

/// Killed with its group, and reaped, when dropped before it was seen to end.
struct Running(Child);

impl Running {
    fn group(&self) -> i32 {
        self.0.id() as i32
    }

    fn set_nonblocking(&self) -> Result<(), Error> {
        for file in self.pipes().into_iter().filter(|file| *file >= 0) {
            // SAFETY: system calls on a file that is open.
            let done = unsafe {
                let flags = libc::fcntl(file, libc::F_GETFL);
                flags >= 0 && libc::fcntl(file, libc::F_SETFL, flags | libc::O_NONBLOCK) >= 0
            };
            if !done {
                return Err(Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Output and errors; -1 for the one that has ended.
    fn pipes(&self) -> [RawFd; 2] {
        [
            self.0.stdout.as_ref().map_or(-1, AsRawFd::as_raw_fd),
            self.0.stderr.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        ]
    }

    /// Reads what is there; whether more output can come.
    fn read(&mut self, output: &mut Vec<u8>, errors: &mut Vec<u8>) -> Result<bool, Failed> {
        if let Some(pipe) = &mut self.0.stderr
            && !drain(pipe, errors, true).map_err(unreadable)?
        {
            self.0.stderr = None;
        }
        if let Some(pipe) = &mut self.0.stdout
            && !drain(pipe, output, false).map_err(unreadable)?
        {
            self.0.stdout = None;
        }
        Ok(self.0.stdout.is_some())
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Result<Option<ExitStatus>, Failed> {
        let status = self.0.try_wait().map_err(unreadable)?;
        if status.is_some() {
            RUNNING.store(0, Ordering::Relaxed);
        }
        Ok(status)
    }

    /// Waits for output, a signal to this process, or for `most`; briefly when only its end is awaited.
    fn wait(&self, is_open: bool, most: Duration) {
        let most = if is_open {
            most
        } else {
            most.min(Duration::from_millis(2))
        };
        let mut pipes = self.pipes().map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: two initialised descriptions; negative files are skipped.
        unsafe {
            libc::poll(
                pipes.as_mut_ptr(),
                2,
                most.as_millis().max(1) as libc::c_int,
            )
        };
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            RUNNING.store(0, Ordering::Relaxed);
            return;
        }
        kill_group(self.group());
        RUNNING.store(0, Ordering::Relaxed);
        let deadline = Instant::now() + REAP_WITHIN;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Appends what can be read at once to `kept`, up to its capacity; false at the end of the stream. Beyond the capacity,
/// it stops, or reads on and forgets when `is_lossy`.
fn drain(pipe: &mut impl Read, kept: &mut Vec<u8>, is_lossy: bool) -> Result<bool, Error> {
    let mut block = Zeroizing::new([0; 4096]);
    // A program that never stops printing must not keep its reader from looking at the time.
    for _ in 0..64 {
        match pipe.read(&mut block[..]) {
            Ok(0) => return Ok(false),
            Ok(length) => {
                let room = kept.capacity() - kept.len();
                kept.extend_from_slice(&block[..length.min(room)]);
                if length >= room && !is_lossy {
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;
    use std::process::Stdio;

    use super::*;

    struct Never;

    impl Interrupts for Never {
        fn is_pending(&self) -> bool {
            false
        }
        fn process(&self) {}
    }

    fn shell(script: &str, seconds: u64) -> Result<String, Failed> {
        run_shell(script, seconds, &Never)
    }

    fn run_shell(
        script: &str,
        seconds: u64,
        interrupts: &dyn Interrupts,
    ) -> Result<String, Failed> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let limits = Limits {
            time: Duration::from_secs(seconds),
            output: 1000,
        };
        let output = run(&mut command, &limits, interrupts)?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    fn unsuccessful(how: &str, said: &str) -> Result<String, Failed> {
        Err(Failed::Unsuccessful {
            how: how.to_owned(),
            said: said.to_owned(),
        })
    }

    #[test]
    fn output_and_end_are_seen() {
        assert_eq!(
            shell("printf 'one\\ntwo'; printf no >&2", 9),
            Ok("one\ntwo".to_owned())
        );
        assert_eq!(
            shell("read line; echo \"got $line\"", 9),
            Ok("got \n".to_owned())
        );
        assert_eq!(
            shell("printf %01000d 7", 9).map(|output| output.len()),
            Ok(1000)
        );
        assert_eq!(shell("printf %01001d 7", 9), Err(Failed::TooLarge));
        assert_eq!(
            shell("echo part; echo why >&2; exit 3", 9),
            unsuccessful("exited with status 3", ": why")
        );
        assert_eq!(
            shell("kill -TERM $$", 9),
            unsuccessful("was killed by signal 15", "")
        );
        assert_eq!(
            shell("exec >&- 2>&-; sleep 0.1; exit 4", 9),
            unsuccessful("exited with status 4", "")
        );
        assert_eq!(
            shell("head -c 100000000 /dev/zero >&2; exit 5", 9).map_err(|_| ()),
            Err(())
        );
    }

    #[test]
    fn an_endless_one_is_killed_with_its_group() {
        let file = std::env::temp_dir().join(format!("rotator-child-{}", std::process::id()));
        let script = |work: &str| format!("sleep 600 & echo $! $$ > {}; {work}", file.display());
        let begin = Instant::now();
        let timed_out = shell(&script("echo waiting >&2; wait"), 1);
        assert_eq!(
            timed_out,
            Err(Failed::TimedOut {
                said: ": waiting".to_owned()
            })
        );
        let too_much = shell(&script("while :; do echo more; done"), 9);
        assert_eq!(too_much, Err(Failed::TooLarge));
        assert!(begin.elapsed() < Duration::from_secs(8));
        let ids = std::fs::read_to_string(&file).expect("it wrote");
        let lives = |id: &&str| {
            std::fs::read_to_string(Path::new("/proc").join(id).join("status"))
                .is_ok_and(|status| !status.contains("State:\tZ"))
        };
        // A signal takes effect a moment later; what it killed may wait for init to reap it.
        while let Some(id) = ids.split_whitespace().find(lives) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{id} lives");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::fs::remove_file(&file).expect("removes");
    }

    #[test]
    fn an_interrupt_that_unwinds_ends_it() {
        struct Second(Cell<u32>);
        impl Interrupts for Second {
            fn is_pending(&self) -> bool {
                self.0.set(self.0.get() + 1);
                true
            }
            fn process(&self) {
                assert!(self.0.get() < 2, "cancelled");
            }
        }
        let begin = Instant::now();
        let cancelled =
            std::panic::catch_unwind(|| run_shell("sleep 600", 60, &Second(Cell::new(0))));
        assert!(cancelled.is_err() && begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn it_starts_without_our_files_and_with_all_signals() {
        let file = std::fs::File::open("/proc/self/status").expect("opens");
        // SAFETY: a system call on a file that is open.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) };
        let open = shell("exec ls /proc/self/fd", 9).expect("lists");
        let open: Vec<&str> = open.split_whitespace().collect();
        assert_eq!(
            open,
            ["0", "1", "2", "3"],
            "the fourth is the folder that is listed"
        );
        let signals = shell("exec grep -E '^Sig(Blk|Ign)' /proc/self/status", 9).expect("reads");
        for line in signals.lines() {
            let bits = line.split_whitespace().last().unwrap_or("?");
            // 32 and above are the C library's own, and nobody's.
            let bits = u64::from_str_radix(bits, 16).expect("hex") & 0x7fff_ffff;
            assert_eq!(bits, 0, "{line}");
        }
    }
}
