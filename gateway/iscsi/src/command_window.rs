//! The CmdSN window of a session: which commands are accepted, and in what order they act
//! (RFC 7143 §4.2.2.1).
//!
//! The window closes by one for each task under way and opens again when it ends, so an initiator that
//! keeps to it can never have more than the window's size under way. MaxCmdSN never goes back.

/// What to do with a non-immediate command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is the next one.
    Next,
    /// An earlier one is missing: hold it.
    Early,
    /// Outside the window, or a repetition: ignore it.
    Ignore,
}

/// The window, and the commands that arrived ahead of their turn.
#[derive(Debug)]
pub(crate) struct CommandWindow<T> {
    expected: u32,
    size: u16,
    under_way: u16,
    early: Vec<(u32, Early<T>)>,
}

#[derive(Debug)]
enum Early<T> {
    Held(T),
    /// Aborted before it arrived: treated as received (RFC 7143 §11.6.1).
    Skipped,
}

impl<T> CommandWindow<T> {
    pub(crate) fn new(first: u32, size: u16) -> Self {
        Self { expected: first, size, under_way: 0, early: Vec::new() }
    }

    /// ExpCmdSN.
    pub(crate) fn exp_cmd_sn(&self) -> u32 {
        self.expected
    }

    /// MaxCmdSN.
    pub(crate) fn max_cmd_sn(&self) -> u32 {
        self.expected.wrapping_add(u32::from(self.size - self.under_way)).wrapping_sub(1)
    }

    /// Judges a non-immediate command.
    pub(crate) fn admission(&self, cmd_sn: u32) -> Admission {
        let distance = cmd_sn.wrapping_sub(self.expected);
        if distance >= u32::from(self.size - self.under_way) || self.is_early(cmd_sn) {
            Admission::Ignore
        } else if distance == 0 {
            Admission::Next
        } else {
            Admission::Early
        }
    }

    /// Counts the next command as received.
    pub(crate) fn advance(&mut self) {
        self.expected = self.expected.wrapping_add(1);
    }

    /// A received command became a task: it occupies a place until [`task_ended`](Self::task_ended).
    pub(crate) fn task_began(&mut self) {
        self.under_way = (self.under_way + 1).min(self.size);
    }

    /// A task that occupied a place ended.
    pub(crate) fn task_ended(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Keeps a command that was judged early.
    pub(crate) fn hold(&mut self, cmd_sn: u32, item: T) {
        self.early.push((cmd_sn, Early::Held(item)));
    }

    /// Counts a command that has not arrived as received; `false` if it is not awaited.
    pub(crate) fn skip(&mut self, cmd_sn: u32) -> bool {
        let awaited = self.admission(cmd_sn) != Admission::Ignore;
        if awaited {
            self.early.push((cmd_sn, Early::Skipped));
        }
        awaited
    }

    /// The held command whose turn it is now, counted as received.
    pub(crate) fn take_next(&mut self) -> Option<T> {
        loop {
            let at = self.early.iter().position(|(cmd_sn, _)| *cmd_sn == self.expected)?;
            let (_, early) = self.early.swap_remove(at);
            self.advance();
            if let Early::Held(item) = early {
                return Some(item);
            }
        }
    }

    /// Whether no early command is kept.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.early.is_empty()
    }

    fn is_early(&self, cmd_sn: u32) -> bool {
        self.early.iter().any(|(held, _)| *held == cmd_sn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_window_is_accepted_across_the_wrap() {
        let window = CommandWindow::<()>::new(u32::MAX - 1, 4);
        assert_eq!((window.exp_cmd_sn(), window.max_cmd_sn()), (u32::MAX - 1, 1));
        assert_eq!(window.admission(u32::MAX - 1), Admission::Next);
        for cmd_sn in [u32::MAX, 0, 1] {
            assert_eq!(window.admission(cmd_sn), Admission::Early);
        }
        for cmd_sn in [2, u32::MAX - 2, 1 << 31] {
            assert_eq!(window.admission(cmd_sn), Admission::Ignore);
        }
    }

    #[test]
    fn tasks_close_the_window_and_their_end_opens_it() {
        let mut window = CommandWindow::<()>::new(10, 2);
        for _ in 0..2 {
            assert_eq!(window.max_cmd_sn(), 11, "never goes back");
            window.advance();
            window.task_began();
        }
        assert_eq!((window.exp_cmd_sn(), window.max_cmd_sn()), (12, 11));
        assert_eq!(window.admission(12), Admission::Ignore);
        window.task_ended();
        assert_eq!(window.max_cmd_sn(), 12);
        assert_eq!(window.admission(12), Admission::Next);
    }

    #[test]
    fn early_commands_wait_for_their_turn_once() {
        let mut window = CommandWindow::new(1, 8);
        window.hold(3, "three");
        window.hold(2, "two");
        assert_eq!(window.admission(3), Admission::Ignore, "repeated");
        assert_eq!(window.take_next(), None);
        window.advance();
        assert_eq!(window.take_next(), Some("two"));
        assert_eq!(window.take_next(), Some("three"));
        assert_eq!(window.take_next(), None);
        assert_eq!(window.exp_cmd_sn(), 4);
    }

    #[test]
    fn a_skipped_command_counts_as_received() {
        let mut window = CommandWindow::new(1, 8);
        window.hold(2, "two");
        assert!(window.skip(1));
        assert!(!window.skip(1) && !window.skip(9) && !window.skip(0));
        assert_eq!(window.take_next(), Some("two"));
        assert_eq!(window.admission(1), Admission::Ignore);
    }
}
