//! The screen: two tables, what is selected, and what keys do to them.

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::format;
use super::sample::Sample;
use super::view::{CALLEE_COLUMNS, CalleeRow, HOST_COLUMNS, View};
use crate::cli::SortBy;
use crate::output::printable;

/// Rows that a page key moves by.
const PAGE: u16 = 10;

/// What can be sorted by, in the order of the columns.
const SORTS: [SortBy; 7] = [
    SortBy::Name,
    SortBy::Rate,
    SortBy::P50,
    SortBy::P99,
    SortBy::Refusals,
    SortBy::Running,
    SortBy::Memory,
];

/// Which column each of [`SORTS`] is.
const fn column_of(sort: SortBy) -> usize {
    match sort {
        SortBy::Name => 0,
        SortBy::Rate => 2,
        SortBy::P50 => 3,
        SortBy::P99 => 4,
        SortBy::Refusals => 5,
        SortBy::Running => 6,
        SortBy::Memory => 8,
    }
}

/// What a key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressed {
    /// Nothing that ends it.
    On,
    /// Somebody has seen enough.
    Quit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Focus {
    Hosts,
    Callees,
}

/// The screen.
pub(super) struct Screen {
    lattice: String,
    view: View,
    sort: SortBy,
    is_reversed: bool,
    is_halted: bool,
    focus: Focus,
    hosts: TableState,
    callees: TableState,
    /// Why there is no newer sample.
    complaint: Option<String>,
}

impl Screen {
    pub(super) fn new(lattice: &str, sort: SortBy) -> Self {
        Self {
            lattice: printable(lattice),
            view: View::default(),
            sort,
            is_reversed: false,
            is_halted: false,
            focus: Focus::Callees,
            hosts: TableState::default(),
            callees: TableState::default(),
            complaint: None,
        }
    }

    /// Shows what happened between two samples, unless it is halted.
    pub(super) fn show(&mut self, earlier: &Sample, later: &Sample) {
        self.complaint = None;
        if self.is_halted {
            return;
        }
        self.view = View::between(earlier, later, self.sort);
        if self.is_reversed {
            self.turn_around();
        }
        self.keep_selected();
    }

    /// There is no newer sample.
    pub(super) fn complain(&mut self, why: &str) {
        self.complaint = Some(printable(why));
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: KeyEvent) -> Pressed {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Pressed::Quit,
            KeyCode::Char('c') if control => return Pressed::Quit,
            KeyCode::Tab | KeyCode::BackTab => {
                self.focus = match self.focus {
                    Focus::Hosts => Focus::Callees,
                    Focus::Callees => Focus::Hosts,
                };
            }
            KeyCode::Char(' ') => self.is_halted = !self.is_halted,
            KeyCode::Char('r') => {
                self.is_reversed = !self.is_reversed;
                self.turn_around();
            }
            KeyCode::Left => self.sort_by(SORTS.len() - 1),
            KeyCode::Right => self.sort_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.focused().select_previous(),
            KeyCode::Down | KeyCode::Char('j') => self.focused().select_next(),
            KeyCode::PageUp => self.focused().scroll_up_by(PAGE),
            KeyCode::PageDown => self.focused().scroll_down_by(PAGE),
            KeyCode::Home => self.focused().select_first(),
            KeyCode::End => self.focused().select_last(),
            _ => {}
        }
        self.keep_selected();
        Pressed::On
    }

    fn sort_by(&mut self, step: usize) {
        let at = SORTS.iter().position(|sort| *sort == self.sort);
        self.sort = SORTS[(at.unwrap_or(0) + step) % SORTS.len()];
        self.view.sort(self.sort);
        if self.is_reversed {
            self.turn_around();
        }
    }

    fn turn_around(&mut self) {
        self.view.hosts.reverse();
        self.view.callees.reverse();
    }

    fn focused(&mut self) -> &mut TableState {
        match self.focus {
            Focus::Hosts => &mut self.hosts,
            Focus::Callees => &mut self.callees,
        }
    }

    /// A selection beyond the end moves to it; an empty table has none.
    fn keep_selected(&mut self) {
        let clamp = |state: &mut TableState, rows: usize| {
            let last = rows.checked_sub(1);
            state.select(last.map(|last| state.selected().unwrap_or(0).min(last)));
        };
        clamp(&mut self.hosts, self.view.hosts.len());
        clamp(&mut self.callees, self.view.callees.len());
    }

    /// Draws all of it.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        // The hosts get what they need, up to a third; the rest is for what runs on them.
        let hosts = u16::try_from(self.view.hosts.len()).unwrap_or(u16::MAX);
        let hosts = hosts.saturating_add(1).min((area.height / 3).max(3));
        let [head, _, top, _, middle, detail, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(hosts),
            Constraint::Length(1),
            Constraint::Min(2),
            Constraint::Length(1),
            Constraint::Length(1),
        ])
        .areas(area);
        frame.render_widget(self.head(), head);
        self.draw_hosts(frame, top);
        self.draw_callees(frame, middle);
        frame.render_widget(self.detail(), detail);
        frame.render_widget(self.foot(), foot);
    }

    fn head(&self) -> Line<'_> {
        let total = &self.view.total;
        let mut spans = vec![
            Span::styled("trellis ", Style::new().add_modifier(Modifier::BOLD)),
            Span::raw(format!(
                "{} · {} · {} calls/s · {} refused/s · p50 {} · p99 {}",
                self.lattice,
                match self.view.hosts.len() {
                    1 => "1 host".to_owned(),
                    hosts => format!("{hosts} hosts"),
                },
                format::rate(total.per_second),
                format::rate(total.refused_per_second),
                format::time(total.p50()),
                format::time(total.p99()),
            )),
        ];
        if self.is_halted {
            spans.push(Span::styled(" · halted", Style::new().fg(Color::Yellow)));
        }
        Line::from(spans)
    }

    fn foot(&self) -> Line<'_> {
        match &self.complaint {
            Some(why) => Line::styled(why.as_str(), Style::new().fg(Color::Red)),
            None => Line::styled(
                "q end  ↑↓ row  ←→ sort  r reverse  Tab table  space halt",
                Style::new().add_modifier(Modifier::DIM),
            ),
        }
    }

    /// What the selected row has no column for.
    fn detail(&self) -> Paragraph<'_> {
        let text = match self.focus {
            Focus::Hosts => self.hosts.selected().and_then(|at| {
                let host = self.view.hosts.get(at)?;
                Some(format!(
                    "{} · version {} · actors hold {} · NATS reconnects: {}",
                    printable(&host.id),
                    printable(&host.version),
                    format::bytes(host.guest_memory_bytes),
                    host.nats_reconnects
                ))
            }),
            Focus::Callees => self
                .callees
                .selected()
                .and_then(|at| self.view.callees.get(at).map(refusals)),
        };
        Paragraph::new(text.unwrap_or_default()).style(Style::new().fg(Color::Cyan))
    }

    fn draw_hosts(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.view.hosts.iter().map(|host| {
            let style = match host.silent {
                Some(_) => Style::new().fg(Color::DarkGray),
                None => Style::new(),
            };
            row(host.cells()).style(style)
        });
        let table = self.table(rows.collect(), HOST_COLUMNS, Focus::Hosts);
        frame.render_stateful_widget(table, area, &mut self.hosts);
    }

    fn draw_callees(&mut self, frame: &mut Frame<'_>, area: Rect) {
        if self.view.callees.is_empty() {
            frame.render_widget(Paragraph::new("nothing runs"), area);
            return;
        }
        let rows = self.view.callees.iter().map(|callee| {
            let style = if callee.calls.refused_per_second > 0.0 {
                Style::new().fg(Color::Yellow)
            } else {
                Style::new()
            };
            row(callee.cells()).style(style)
        });
        let table = self.table(rows.collect(), CALLEE_COLUMNS, Focus::Callees);
        frame.render_stateful_widget(table, area, &mut self.callees);
    }

    fn table<'a>(&self, rows: Vec<Row<'a>>, titles: [&'a str; 9], focus: Focus) -> Table<'a> {
        let sorted = column_of(self.sort);
        let header = titles.into_iter().enumerate().map(|(place, title)| {
            let mark = match (place == sorted, self.is_reversed) {
                (true, false) => "▼",
                (true, true) => "▲",
                (false, _) => "",
            };
            aligned(place, format!("{}{mark}", title.to_uppercase()))
        });
        let selected = if self.focus == focus {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new()
        };
        let widths = [
            Constraint::Min(16),
            Constraint::Length(13),
            Constraint::Length(9),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(11),
            Constraint::Length(11),
            Constraint::Length(7),
            Constraint::Length(8),
        ];
        Table::new(rows, widths)
            .header(Row::new(header).style(Style::new().add_modifier(Modifier::BOLD)))
            .row_highlight_style(selected)
    }
}

/// What the hosts refused, the most frequent first.
fn refusals(callee: &CalleeRow) -> String {
    let mut codes: Vec<_> = callee
        .refusals
        .iter()
        .filter(|(_, count)| **count > 0)
        .collect();
    codes.sort_by(|one, other| other.1.cmp(one.1));
    let listed: Vec<_> = codes
        .iter()
        .map(|(code, count)| format!("{} {count}", printable(code)))
        .collect();
    let mut text = format!("{} · {} calls", printable(&callee.id), callee.invocations);
    if callee.restarts > 0 {
        text.push_str(&format!(" · restarts: {}", callee.restarts));
    }
    match listed.as_slice() {
        [] => text.push_str(" · none refused"),
        listed => text.push_str(&format!(" · refused: {}", listed.join(", "))),
    }
    text
}

fn row<'a>(cells: [String; 9]) -> Row<'a> {
    let cells = cells.into_iter().enumerate();
    Row::new(cells.map(|(place, text)| aligned(place, printable(&text))))
}

/// Words are at the left, numbers at the right.
fn aligned<'a>(place: usize, text: String) -> Cell<'a> {
    let alignment = if place < 2 {
        Alignment::Left
    } else {
        Alignment::Right
    };
    Cell::new(Text::from(text).alignment(alignment))
}

#[cfg(test)]
mod tests;
