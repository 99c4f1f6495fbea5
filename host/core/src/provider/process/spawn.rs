//! Forking: the one thread that does it, and what happens in the child before it becomes the provider.
//!
//! A process asks to be killed when its parent dies (`PR_SET_PDEATHSIG`). The kernel understands by that the *thread* that
//! forked, and threads of an async runtime come and go. So every provider process is forked by a thread that lives as long
//! as the host's process and does nothing else.
//!
//! The provider's socket has to become descriptor 3. Until the child has become another program, the standard library
//! holds a pipe there by which it learns whether that worked, and it must not be 3. So 3 is held by something else when the
//! child is made, and the child looks whether it is that.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use rustix::thread::CapabilitySet;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use super::isolation::Confinement;
use super::program::Program;

/// The descriptor that a provider's socket has.
const SOCKET_FD: RawFd = 3;

/// Descriptors that are closed one by one where the kernel cannot do it at once.
const DESCRIPTORS_MAX: RawFd = 4_096;

/// How much likelier than others the kernel takes a provider process where memory runs out: by half of all memory.
const OOM_SCORE: &str = "500";

/// How often descriptor 3 is fought for, and how long the pauses between are.
const ATTEMPTS_MAX: usize = 100;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(2);

/// Starts a program with a socket as descriptor 3. Its child is of the given runtime.
///
/// # Errors
/// What the system said: no such file, no permission, no memory, no more processes.
pub(super) async fn spawn(
    runtime: Handle,
    program: Program,
    socket: UnixStream,
    confinement: Confinement,
) -> io::Result<Child> {
    let (done, result) = tokio::sync::oneshot::channel();
    let job: Job = Box::new(move || {
        let _guard = runtime.enter();
        // Whoever asked may have gone. The child is killed when it is dropped.
        let _ = done.send(fork(&program, &socket, &confinement));
    });
    let gone = || io::Error::other("the thread that starts providers has ended");
    spawner()?.send(job).map_err(|_| gone())?;
    result.await.map_err(|_| gone())?
}

type Job = Box<dyn FnOnce() + Send>;

/// The way to the thread that forks. It is the process's, not a host's: a second host in the same process shares it.
fn spawner() -> io::Result<mpsc::Sender<Job>> {
    static SPAWNER: Mutex<Option<mpsc::Sender<Job>>> = Mutex::new(None);
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(spawner) = &*spawner {
        return Ok(spawner.clone());
    }
    let (sender, jobs) = mpsc::channel::<Job>();
    std::thread::Builder::new()
        .name("trellis-spawner".to_owned())
        .spawn(move || {
            // The sender stands in a static, so this ends with the process.
            for job in jobs {
                // A panic in one job must not kill the children of all others.
                let _ = std::panic::catch_unwind(AssertUnwindSafe(job));
            }
        })?;
    *spawner = Some(sender.clone());
    Ok(sender)
}

fn fork(program: &Program, socket: &UnixStream, confinement: &Confinement) -> io::Result<Child> {
    let mut result = Err(io::Error::from(Errno::AGAIN));
    for _ in 0..ATTEMPTS_MAX {
        result = fork_once(program, socket, confinement);
        match &result {
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => {
                // Somebody opened or closed 3 at that moment. This thread has nothing else to do.
                std::thread::sleep(ATTEMPT_PAUSE);
            }
            _ => break,
        }
    }
    result
}

fn fork_once(
    program: &Program,
    socket: &UnixStream,
    confinement: &Confinement,
) -> io::Result<Child> {
    let mut command = Command::new(program.path());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_clear()
        .envs(
            confinement
                .environment
                .iter()
                .map(|(key, value)| (key, value)),
        )
        .current_dir("/")
        .process_group(0)
        .kill_on_drop(true);
    if let Some(user) = confinement.user {
        command.uid(user.uid).gid(user.gid);
    }
    hold_socket_fd()?;
    let holder = identity(descriptor_3())?;
    let mut landlock = confinement
        .landlock
        .as_ref()
        .map(landlock::RulesetCreated::try_clone)
        .transpose()?;
    // Not one that is itself 3 or below: it is copied to 3.
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(socket, SOCKET_FD + 1)?;
    let parent = rustix::process::getpid();
    let in_child = move || become_provider(&socket, holder, parent, landlock.take());
    #[expect(
        unsafe_code,
        reason = "there is no safe way to act between fork and exec"
    )]
    // SAFETY: the closure runs in the child of a process with many threads, where only what needs no lock of theirs is
    // sound. It makes system calls on values that it owns or that were made before the fork. It allocates nothing
    // (errors are plain numbers), takes no lock, does not log and cannot panic: there is no index, no unwrap and no
    // arithmetic in it that could.
    unsafe {
        command.pre_exec(in_child);
    }
    let child = command.spawn()?;
    prefer_for_oom(&child);
    Ok(child)
}

/// Has the kernel end the process, and not its host, where the machine's memory runs out.
fn prefer_for_oom(child: &Child) {
    let Some(pid) = child.id() else {
        return;
    };
    // Raising it is allowed to everybody who may write the file at all.
    if let Err(error) = std::fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE) {
        tracing::debug!(pid, %error, "a provider process is no likelier than its host to be ended where memory runs out");
    }
}

/// Keeps descriptor 3 taken: by a descriptor of ours from the moment at which it is free, for as long as the process
/// lives. Until then it is somebody else's, and may change under us.
fn hold_socket_fd() -> io::Result<()> {
    static HOLDER: Mutex<Option<OwnedFd>> = Mutex::new(None);
    let mut holder = HOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    if holder.is_none() {
        let null = File::open("/dev/null")?;
        // The file itself may have got the number.
        let taken = match null.as_raw_fd() {
            SOCKET_FD => OwnedFd::from(null),
            _ => rustix::io::fcntl_dupfd_cloexec(null, SOCKET_FD)?,
        };
        *holder = Some(taken).filter(|taken| taken.as_raw_fd() == SOCKET_FD);
    }
    Ok(())
}

/// What a descriptor refers to. One that somebody else has just closed is worth another attempt.
fn identity(descriptor: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    match rustix::fs::fstat(descriptor) {
        Ok(stat) => Ok((stat.st_dev, stat.st_ino)),
        Err(Errno::BADF) => Err(Errno::AGAIN.into()),
        Err(error) => Err(error.into()),
    }
}

/// Descriptor 3, whatever it is.
fn descriptor_3() -> BorrowedFd<'static> {
    #[expect(
        unsafe_code,
        reason = "the number of a provider's socket is fixed, and no value of ours stands for it"
    )]
    // SAFETY: the value is used for single system calls on the number, which fail where it is closed; nothing is read
    // or written by it, and it is never closed by it.
    unsafe {
        BorrowedFd::borrow_raw(SOCKET_FD)
    }
}

/// What the child does before it becomes the provider. The user has been changed already: the kernel forgets the wish to
/// die with the parent when that happens, so it has to come later.
fn become_provider(
    socket: &OwnedFd,
    holder: (u64, u64),
    parent: Pid,
    landlock: Option<landlock::RulesetCreated>,
) -> io::Result<()> {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the wish was known.
    if rustix::process::getppid() != Some(parent) {
        return Err(Errno::SRCH.into());
    }
    if identity(descriptor_3())? != holder {
        return Err(Errno::AGAIN.into());
    }
    copy_to_3(socket)?;
    close_others_on_exec();
    drop_capabilities()?;
    rustix::thread::set_no_new_privs(true)?;
    if let Some(landlock) = landlock
        && landlock.restrict_self().is_err()
    {
        return Err(Errno::PERM.into());
    }
    Ok(())
}

/// Leaves the program without privileges even where it runs as root, for want of another user: some of them see through
/// Landlock. They are gone once it is executed.
fn drop_capabilities() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets)?;
    // Follows from an empty inheritable set; old kernels have none.
    let _ = rustix::thread::clear_ambient_capability_set();
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Behind the last that this kernel knows; or not privileged, so that there is nothing to lose.
            Err(Errno::INVAL | Errno::PERM) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes descriptor 3 the socket. It stays open when the program is executed, as no other does.
fn copy_to_3(socket: &OwnedFd) -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "a descriptor of a fixed number can only be made by its number"
    )]
    // SAFETY: dup2 on two numbers. Descriptor 3 belongs to the parent's copy of some value, of which nothing runs in this
    // process any more, and it is none of the standard library's own (that was looked at).
    let copied = unsafe { libc::dup2(socket.as_fd().as_raw_fd(), SOCKET_FD) };
    if copied == SOCKET_FD {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Nothing behind descriptor 3 reaches the program. All of ours close by themselves; those of other people's code may not.
fn close_others_on_exec() {
    const FIRST: libc::c_uint = 4;
    #[expect(unsafe_code, reason = "rustix has no call for it")]
    // SAFETY: a system call on a range of numbers, which only marks descriptors; the flags are of the type that it takes.
    let marked = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if marked == 0 {
        return;
    }
    for descriptor in SOCKET_FD + 1..DESCRIPTORS_MAX {
        #[expect(unsafe_code, reason = "rustix marks only what it owns")]
        // SAFETY: it marks a number, and fails where nothing is open under it.
        unsafe {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}
