//! `wash top`: a lattice at work, live on a terminal, or one sample of it.
//!
//! [`sample`] asks hosts for their numbers, [`view`] makes rates of two samples, [`screen`] draws them and knows what keys
//! do, and this page is the loop between them.

mod format;
mod sample;
mod screen;
mod view;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

use crate::cli::Top;
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::output::{Format, Report};
use crate::progress::Progress;
use crate::settings::Settings;
use sample::{Sample, Sampler};
use screen::{Pressed, Screen};
use view::View;

/// How long the thread of the keyboard waits before it looks whether it is still wanted.
const KEYS_POLL: Duration = Duration::from_millis(100);

/// Keys that are kept while the screen is drawn.
const KEYS_MAX: usize = 64;

pub(super) async fn run(args: Top, settings: &Settings, format: Format) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    let name = lattice.name().to_owned();
    let mut sampler = Sampler::new(lattice);
    let is_screen = io::stdout().is_terminal() && io::stdin().is_terminal();
    if args.once || format == Format::Json || !is_screen {
        let progress = Progress::start("counting calls");
        let first = sampler.first().await?;
        tokio::time::sleep(args.interval).await;
        let second = sampler.next().await?;
        drop(progress);
        return Ok(View::between(&first, &second, args.sort).report(&name));
    }
    let first = sampler.first().await?;
    let screen = Screen::new(&name, args.sort);
    live(screen, sampler, first, args.interval).await?;
    Ok(Report::silent())
}

/// Draws until somebody has seen enough.
async fn live(
    mut screen: Screen,
    mut sampler: Sampler,
    first: Sample,
    every: Duration,
) -> Result<(), Failure> {
    let mut terminal = Restored::new()?;
    let (keyboard, mut keys) = Keyboard::start();
    let (sender, mut samples) = mpsc::channel(1);
    let sampling = tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            if sender.send(sampler.next().await).await.is_err() {
                return;
            }
        }
    });
    screen.show(&first, &first);
    let mut last = first;
    let outcome = loop {
        if let Err(error) = terminal.draw(|frame| screen.draw(frame)) {
            break Err(Failure::local(format!(
                "cannot draw on the terminal: {error}"
            )));
        }
        tokio::select! {
            key = keys.recv() => match key {
                Some(key) => {
                    if screen.press(key) == Pressed::Quit {
                        break Ok(());
                    }
                }
                None => break Err(Failure::local("cannot read the keyboard any longer")),
            },
            sample = samples.recv() => match sample {
                Some(Ok(sample)) => {
                    screen.show(&last, &sample);
                    last = sample;
                }
                Some(Err(failure)) => screen.complain(failure.message()),
                None => break Err(Failure::local("the samples have ended")),
            },
        }
    };
    sampling.abort();
    drop(keyboard);
    drop(terminal);
    outcome
}

/// A terminal that gets its former look back, however this ends.
struct Restored(DefaultTerminal);

impl Restored {
    fn new() -> Result<Self, Failure> {
        ratatui::try_init().map(Self).map_err(|error| {
            Failure::local(format!(
                "cannot use the terminal: {error}; `wash top --once` prints one sample"
            ))
        })
    }

    fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// The thread that reads keys. It ends with this value.
struct Keyboard {
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Keyboard {
    fn start() -> (Self, mpsc::Receiver<KeyEvent>) {
        let (sender, keys) = mpsc::channel(KEYS_MAX);
        let ended = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                match event::poll(KEYS_POLL).and_then(|ready| ready.then(event::read).transpose()) {
                    Ok(Some(Event::Key(key))) if key.kind == KeyEventKind::Press => {
                        // A screen that does not keep up has keys enough.
                        if let Err(mpsc::error::TrySendError::Closed(_)) = sender.try_send(key) {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        let keyboard = Self {
            ended,
            thread: Some(thread),
        };
        (keyboard, keys)
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It only reads keys; a panic in it has been told already.
            let _ = thread.join();
        }
    }
}
