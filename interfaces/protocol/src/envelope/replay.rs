//! Which messages of one sender have been taken already.

/// How many sequences below the newest one are still told apart. Older ones are refused unseen.
pub const REPLAY_WINDOW: u64 = 8192;

const WORDS: usize = (REPLAY_WINDOW / 64) as usize;

/// A sliding window over the sequences of one incarnation of one sender: 1 KiB.
///
/// ```
/// use trellis_protocol::envelope::ReplayWindow;
/// let mut window = ReplayWindow::default();
/// assert!(window.is_new(7));
/// assert!(window.take(7));
/// assert!(!window.take(7));
/// ```
#[derive(Clone)]
pub struct ReplayWindow {
    /// A ring of bits: the bit of sequence `s` is `s % REPLAY_WINDOW`.
    taken: Box<[u64; WORDS]>,
    /// One above the newest sequence taken.
    end: u64,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self {
            taken: Box::new([0; WORDS]),
            end: 0,
        }
    }
}

impl ReplayWindow {
    /// Whether a message could still be taken. Asked before its signature is checked, and binding nobody.
    pub fn is_new(&self, sequence: u64) -> bool {
        if sequence == u64::MAX {
            // The window's end would not be a number; no sender gets here by counting.
            return false;
        }
        if sequence >= self.end {
            return true;
        }
        self.end - sequence <= REPLAY_WINDOW && !self.bit(sequence)
    }

    /// Takes a message whose signature holds; `false` where it was taken before, or may have been.
    pub fn take(&mut self, sequence: u64) -> bool {
        if !self.is_new(sequence) {
            return false;
        }
        if sequence >= self.end {
            self.advance(sequence + 1);
        }
        let (word, mask) = place(sequence);
        self.taken[word] |= mask;
        true
    }

    /// Moves the end up and forgets what falls out below.
    fn advance(&mut self, end: u64) {
        if end - self.end >= REPLAY_WINDOW {
            self.taken.fill(0);
        } else {
            for sequence in self.end..end {
                let (word, mask) = place(sequence);
                self.taken[word] &= !mask;
            }
        }
        self.end = end;
    }

    fn bit(&self, sequence: u64) -> bool {
        let (word, mask) = place(sequence);
        self.taken[word] & mask != 0
    }
}

impl std::fmt::Debug for ReplayWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayWindow")
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

fn place(sequence: u64) -> (usize, u64) {
    let index = (sequence % REPLAY_WINDOW) as usize;
    (index / 64, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sequence_is_taken_once_in_any_order() {
        let mut window = ReplayWindow::default();
        for sequence in [0, 3, 1, 2, 100, 64, 63] {
            assert!(window.take(sequence), "{sequence}");
        }
        for sequence in [0, 3, 1, 2, 100, 64, 63] {
            assert!(!window.take(sequence), "{sequence} again");
        }
        assert!(window.take(99));
    }

    #[test]
    fn the_oldest_sequence_of_the_window_is_taken_and_the_one_below_is_refused() {
        let mut window = ReplayWindow::default();
        let newest = 3 * REPLAY_WINDOW;
        assert!(window.take(newest));
        assert!(window.take(newest + 1 - REPLAY_WINDOW));
        assert!(!window.take(newest - REPLAY_WINDOW));
    }

    #[test]
    fn moving_by_exactly_the_window_forgets_nothing_that_it_must_remember() {
        for step in [
            1,
            63,
            64,
            65,
            REPLAY_WINDOW - 1,
            REPLAY_WINDOW,
            REPLAY_WINDOW + 1,
        ] {
            let mut window = ReplayWindow::default();
            assert!(window.take(10));
            assert!(window.take(10 + step));
            assert!(!window.take(10), "step {step}");
            assert!(!window.take(10 + step), "step {step}");
            // Every slot between was never taken, though its bit may have been set for an older sequence.
            let oldest = (11 + step).saturating_sub(REPLAY_WINDOW).max(11);
            for sequence in oldest..10 + step {
                assert!(window.take(sequence), "{sequence} at step {step}");
                assert!(!window.take(sequence));
            }
        }
    }

    #[test]
    fn asking_takes_nothing() {
        let window = ReplayWindow::default();
        assert!(window.is_new(5));
        assert!(window.is_new(5));
    }

    #[test]
    fn the_largest_number_is_no_sequence() {
        let mut window = ReplayWindow::default();
        assert!(!window.take(u64::MAX));
        assert!(window.take(u64::MAX - 1));
        assert!(!window.take(u64::MAX - 1));
        assert!(window.take(u64::MAX - 2));
    }
}
