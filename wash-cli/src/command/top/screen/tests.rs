use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::command::top::view::tests::two_samples;

/// The whole screen as text, without the blanks at the ends of lines.
fn drawn(screen: &mut Screen, width: u16, height: u16) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| screen.draw(frame));
    let buffer = terminal.backend().buffer();
    let lines = (0..height).map(|y| {
        let cells = (0..width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn screen() -> Screen {
    let (one, other) = two_samples();
    let mut screen = Screen::new("default", SortBy::Rate);
    screen.show(&one, &other);
    screen
}

fn press(screen: &mut Screen, code: KeyCode) -> Pressed {
    screen.press(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn the_screen_shows_hosts_then_what_runs_on_them_then_what_is_selected() {
    assert_eq!(
        drawn(&mut screen(), 100, 12),
        "\
trellis default · 2 hosts · 1,310 calls/s · 10 refused/s · p50 500µs · p99 990µs

HOST                UP             CALLS/S▼     P50     P99   REFUSED/S     RUNNING     CPU   MEMORY
fern                1h 1m             1,210   500µs   990µs          10      4/1000     50%      80M
moss                1h 1m               100   500µs   990µs         0.0      4/1000     50%      80M

ID                  KIND           CALLS/S▼     P50     P99   REFUSED/S     RUNNING  QUEUED   MEMORY
hello               actor ×2          1,310   500µs   990µs          10       8/200       2     2.0M
cache               provider            0.0       -       -         0.0           3       -        -

hello · 2620 calls · refused: overloaded 20
q end  ↑↓ row  ←→ sort  r reverse  Tab table  space halt"
    );
}

#[test]
fn arrows_move_the_row_and_the_column_and_r_turns_the_order_around() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Down);
    assert!(drawn(&mut screen, 100, 12).contains("\ncache · 0 calls · none refused\n"));
    press(&mut screen, KeyCode::Down);
    assert_eq!(screen.callees.selected(), Some(1), "there is no row below");

    press(&mut screen, KeyCode::Right);
    assert_eq!(screen.sort, SortBy::P50);
    assert!(drawn(&mut screen, 100, 12).contains("P50▼"));
    press(&mut screen, KeyCode::Left);
    press(&mut screen, KeyCode::Left);
    assert_eq!(screen.sort, SortBy::Name);
    assert_eq!(screen.view.callees[0].id, "cache");
    press(&mut screen, KeyCode::Char('r'));
    assert_eq!(screen.view.callees[0].id, "hello");
    assert!(drawn(&mut screen, 100, 12).contains("ID▲"));
}

#[test]
fn the_other_table_is_reached_by_tab_and_tells_of_the_host() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Tab);
    let text = drawn(&mut screen, 100, 12);
    assert!(
        text.contains("\nNFERN · version 0.1.0 · actors hold 5.0M · NATS reconnects: 0\n"),
        "{text}"
    );
}

#[test]
fn a_halted_screen_keeps_what_it_shows() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Char(' '));
    let (one, _) = two_samples();
    screen.show(&one, &one);
    let text = drawn(&mut screen, 100, 12);
    assert!(
        text.contains("1,310 calls/s") && text.contains("halted"),
        "{text}"
    );
}

#[test]
fn what_keeps_new_samples_away_is_said_and_then_forgotten() {
    let mut screen = screen();
    screen.complain("no answer\u{1b}[2J");
    assert!(drawn(&mut screen, 100, 12).ends_with("no answer\\u{1b}[2J"));
    let (one, other) = two_samples();
    screen.show(&one, &other);
    assert!(!drawn(&mut screen, 100, 12).contains("no answer"));
}

#[test]
fn a_screen_of_any_size_is_drawn() {
    for (width, height) in [(1, 1), (20, 3), (40, 6), (300, 80)] {
        drawn(&mut screen(), width, height);
        drawn(&mut Screen::new("default", SortBy::Name), width, height);
    }
}

#[test]
fn q_escape_and_control_c_end_it_and_other_keys_do_not() {
    let mut screen = screen();
    assert_eq!(press(&mut screen, KeyCode::Char('q')), Pressed::Quit);
    assert_eq!(press(&mut screen, KeyCode::Esc), Pressed::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.press(interrupt), Pressed::Quit);
    assert_eq!(press(&mut screen, KeyCode::Char('x')), Pressed::On);
}
