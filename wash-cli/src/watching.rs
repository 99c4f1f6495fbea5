//! Looking again and again: `--watch`.
//!
//! On a terminal the picture is drawn anew in its place. Elsewhere it is written when it has changed, one after the other,
//! in JSON mode as one object a line. There is no deadline: while nothing answers, that is said once, and the look goes on.
//! Ctrl-C ends it, as success: that is how it is meant to end.

use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::Value;

use crate::exit::Failure;
use crate::output::{self, Format, Report};

/// Moves the cursor home and clears what is below it, so that a picture replaces the one before without flicker.
const HOME: &str = "\x1b[H\x1b[J";
/// The other screen, which leaves what was on the terminal before as it was.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// What is passed over when two pictures are compared: they always differ by it.
const RESTLESS: [&str; 2] = ["uptime_seconds", "uptime_human"];

/// Shows what `look` sees until Ctrl-C.
///
/// # Errors
/// That of the first look: what cannot be seen at all is not waited for. Later ones are told on stderr.
pub async fn watch<F: Future<Output = Result<Report, Failure>>>(
    every: Duration,
    format: Format,
    mut look: impl FnMut() -> F,
) -> Result<Report, Failure> {
    let first = look().await?;
    let mut screen = Screen::open(format);
    let watched = async {
        screen.show(&first)?;
        loop {
            tokio::time::sleep(every).await;
            match look().await {
                Ok(report) => screen.show(&report)?,
                Err(failure) => screen.say(&failure)?,
            }
        }
    };
    let ended: io::Result<()> = tokio::select! {
        ended = watched => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    drop(screen);
    match ended {
        Ok(()) => Ok(Report::silent()),
        // Whoever read it has gone.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Report::silent()),
        Err(error) => Err(Failure::local(format!("cannot write to stdout: {error}"))),
    }
}

/// Where the pictures go.
struct Screen {
    format: Format,
    on_terminal: bool,
    shown: Option<Value>,
    failing: bool,
}

impl Screen {
    fn open(format: Format) -> Self {
        let on_terminal = format == Format::Table && io::stdout().is_terminal();
        if on_terminal {
            // A terminal that is gone will say so at the first picture.
            let _ = io::stdout().write_all(ENTER.as_bytes());
        }
        Self {
            format,
            on_terminal,
            shown: None,
            failing: false,
        }
    }

    fn show(&mut self, report: &Report) -> io::Result<()> {
        if std::mem::take(&mut self.failing) {
            output::note("note: it answers again");
        }
        let mut stdout = io::stdout().lock();
        if self.on_terminal {
            stdout.write_all(HOME.as_bytes())?;
            stdout.write_all(&report.render(self.format))?;
            return stdout.flush();
        }
        let picture = calm(report.value());
        if self.shown.as_ref() == Some(&picture) {
            return Ok(());
        }
        let is_first = self.shown.replace(picture).is_none();
        if !is_first && self.format == Format::Table {
            stdout.write_all(b"\n")?;
        }
        stdout.write_all(&report.render(self.format))?;
        stdout.flush()
    }

    fn say(&mut self, failure: &Failure) -> io::Result<()> {
        if std::mem::replace(&mut self.failing, true) {
            return Ok(());
        }
        let text = format!("note: {failure}; looking on");
        if self.on_terminal {
            let mut stdout = io::stdout().lock();
            stdout.write_all(format!("\r\n{text}\r\n").as_bytes())?;
            return stdout.flush();
        }
        output::note(&text);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.on_terminal {
            let _ = io::stdout().write_all(LEAVE.as_bytes());
            let _ = io::stdout().flush();
        }
    }
}

/// The same without what changes by the mere passing of time.
fn calm(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|key, _| !RESTLESS.contains(&key.as_str()));
                members.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_passing_of_time_is_no_change() {
        let host = |uptime: u64, name: &str| serde_json::json!({"hosts": [{"uptime_seconds": uptime, "uptime_human": "x", "name": name}]});
        assert_eq!(calm(host(1, "a")), calm(host(2, "a")));
        assert_ne!(calm(host(1, "a")), calm(host(1, "b")));
    }
}
