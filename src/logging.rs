//! Log lines on standard error: as text or JSON, with levels that change while we run, and with priorities in the journal.
//!
//! systemd connects a service's standard error with the journal. There each line begins with its priority (`<3>` error to
//! `<7>` debug, sd-daemon(3)), which journald takes off again, and has neither colours nor, as text, a time: the journal
//! keeps its own.

use std::env::VarError;
use std::fmt::{self, Write};
use std::io::{IsTerminal, stderr};
use std::os::fd::AsFd;

pub(crate) use huntaway_config::LogFormat;
use rustix::fs::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Format, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;

/// Chooses what is logged, before any configuration file.
const LOG_VARIABLE: &str = "HUNTAWAY_LOG";

/// What is logged unless told otherwise.
pub(crate) const DEFAULT_LEVEL: &str = "info";

/// By what systemd tells which stream is the journal: `DEVICE:INODE` (systemd.exec(5)).
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";

/// What may stand alone in a list of levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A text that does not say what is to be logged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` says of no log level: {reason}; write one of error, warn, info, debug, trace, or such as `info,huntaway_gateway=debug`"
)]
pub(crate) struct LevelError {
    text: String,
    reason: String,
}

/// The log, which all parts of the process write to. Clones are the same log.
#[derive(Debug, Clone)]
pub(crate) struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    // HUNTAWAY_LOG has said it for the whole run
    settled: bool,
}

impl Logging {
    /// Starts to log on standard error what `level` lets through; `HUNTAWAY_LOG` (such as `debug` or
    /// `huntaway_gateway=trace`), if it is set, decides instead. Once in a process: what comes later is not in force.
    ///
    /// # Errors
    /// When `level` is not one; then nothing is started. A mistake in `HUNTAWAY_LOG` is only logged.
    pub(crate) fn start(format: LogFormat, level: &str) -> Result<Self, LevelError> {
        let fallback = filter(level)?;
        let (chosen, settled, mistake) = match std::env::var(LOG_VARIABLE).map(|text| filter(&text)) {
            Ok(Ok(chosen)) => (chosen, true, None),
            Ok(Err(mistake)) => (fallback, false, Some(mistake.to_string())),
            Err(VarError::NotPresent) => (fallback, false, None),
            Err(mistake @ VarError::NotUnicode(_)) => (fallback, false, Some(mistake.to_string())),
        };
        let target = if stderr_is_journal() { Place::Journal } else { Place::Stream };
        let (chosen, handle) = reload::Layer::new(chosen);
        let subscriber = Registry::default().with(chosen).with(lines(format, target, stderr));
        let started = tracing::subscriber::set_global_default(subscriber);
        debug_assert!(started.is_ok(), "the log is started once");
        if let Some(mistake) = mistake {
            tracing::warn!("{LOG_VARIABLE} cannot be used, `{level}` is taken instead: {mistake}");
        }
        Ok(Self { filter: handle, settled })
    }

    /// From now on logs what `level` lets through, unless `HUNTAWAY_LOG` decides.
    ///
    /// # Errors
    /// When `level` is not one; then nothing changes.
    pub(crate) fn set_level(&self, level: &str) -> Result<(), LevelError> {
        let filter = filter(level)?;
        if !self.settled {
            self.filter.reload(filter).map_err(|error| LevelError::new(level, &error))?;
        }
        Ok(())
    }
}

impl LevelError {
    fn new(text: &str, reason: &dyn fmt::Display) -> Self {
        Self { text: text.to_owned(), reason: reason.to_string() }
    }
}

/// Whether `level` says what is to be logged.
///
/// # Errors
/// When it does not: what to write instead.
pub(crate) fn check_level(level: &str) -> Result<(), LevelError> {
    filter(level).map(|_| ())
}

/// Tells a person, or the journal, why the process ends: log lines may not be started, or may be filtered.
pub(crate) fn last_words(text: &str) {
    let place = if stderr_is_journal() { Place::Journal } else { Place::Stream };
    eprint!("{}", place.lines(Level::ERROR, &format!("huntaway: {text}\n")));
}

/// A lone word that is no level would stand for a part of the program of that name, and silence all others.
fn filter(text: &str) -> Result<EnvFilter, LevelError> {
    let words = text.split(',').map(str::trim);
    let levels: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    if levels.is_empty() {
        return Err(LevelError::new(text, &"it is empty"));
    }
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let unknown = levels.iter().find(|word| !word.contains(['=', '[', '{', '}', ']']) && !is_level(word));
    if let Some(unknown) = unknown {
        return Err(LevelError::new(text, &format_args!("`{unknown}` is not a level")));
    }
    EnvFilter::try_new(text).map_err(|error| LevelError::new(text, &error))
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A terminal, a file or a pipe.
    Stream,
    /// journald's socket.
    Journal,
}

impl Place {
    /// `text`, which ends in a line feed, as this place takes it. journald cuts it into lines: each has its priority.
    fn lines(self, level: Level, text: &str) -> String {
        let priority = match self {
            Self::Stream => return text.to_owned(),
            Self::Journal => priority(level),
        };
        text.lines().fold(String::new(), |mut lines, line| {
            let _ = writeln!(lines, "<{priority}>{line}");
            lines
        })
    }
}

/// syslog's number of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

fn stderr_is_journal() -> bool {
    let Ok(stat) = fstat(stderr().as_fd()) else { return false };
    std::env::var(JOURNAL_VARIABLE).is_ok_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// The layer that writes an event's line.
fn lines<S, W>(format: LogFormat, place: Place, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let text = Format::default().with_target(false);
    match (format, place) {
        (LogFormat::Text, Place::Stream) => {
            let colours = stderr().is_terminal();
            layer.event_format(text).fmt_fields(DefaultFields::new()).with_ansi(colours).boxed()
        }
        (LogFormat::Text, Place::Journal) => {
            let text = Prioritised { inner: text.without_time().with_level(false) };
            layer.event_format(text).fmt_fields(DefaultFields::new()).with_ansi(false).boxed()
        }
        (LogFormat::Json, place) => {
            let json = Format::default().json().flatten_event(true);
            let layer = layer.fmt_fields(JsonFields::new()).with_ansi(false);
            match place {
                Place::Stream => layer.event_format(json).boxed(),
                Place::Journal => layer.event_format(Prioritised { inner: json }).boxed(),
            }
        }
    }
}

/// Puts the priority before each line of an event.
struct Prioritised<F> {
    inner: F,
}

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.inner.format_event(context, Writer::new(&mut text), event)?;
        writer.write_str(&Place::Journal.lines(*event.metadata().level(), &text))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    /// What was written so far.
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `log` writes.
    fn written(format: LogFormat, place: Place, log: impl FnOnce()) -> Vec<String> {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = lines(format, place, move || writer.clone());
        tracing::subscriber::with_default(Registry::default().with(layer), log);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn in_the_journal_each_line_begins_with_its_priority_and_has_no_time() {
        let lines = written(LogFormat::Text, Place::Journal, || {
            tracing::error!(disk = "/srv/disk1", "it failed");
            tracing::warn!("slow");
            tracing::info!("two\nlines");
            tracing::debug!("more");
            tracing::trace!("most");
        });
        let expected =
            ["<3>it failed disk=\"/srv/disk1\"", "<4>slow", "<6>two", "<6>lines", "<7>more", "<7>most"];
        assert_eq!(lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn elsewhere_a_line_has_its_time_and_its_level() {
        let lines = written(LogFormat::Text, Place::Stream, || tracing::warn!("slow"));
        let [line] = &*lines else { panic!("{lines:?}") };
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        assert_eq!(rest.trim_start(), "WARN slow");
    }

    #[test]
    fn json_is_one_object_a_line_with_the_spans_of_its_event() {
        for (place, prefix) in [(Place::Stream, ""), (Place::Journal, "<3>")] {
            let lines = written(LogFormat::Json, place, || {
                let _span = tracing::info_span!("connection", peer = "192.0.2.1").entered();
                tracing::error!(lun = 7, "two\nlines");
            });
            let [line] = &*lines else { panic!("{lines:?}") };
            let value: Value = serde_json::from_str(line.strip_prefix(prefix).unwrap()).unwrap();
            assert_eq!(value["message"], "two\nlines");
            assert_eq!(value["level"], "ERROR");
            assert_eq!(value["lun"], 7);
            assert_eq!(value["span"]["peer"], "192.0.2.1");
            assert!(value["timestamp"].is_string());
        }
    }

    #[test]
    fn levels_change_while_it_runs_unless_the_environment_has_decided() {
        let (chosen, handle) = reload::Layer::<_, Registry>::new(filter("warn").unwrap());
        let logging = Logging { filter: handle, settled: false };
        let held = Logging { settled: true, ..logging.clone() };
        let shown = |logging: &Logging| logging.filter.with_current(ToString::to_string).unwrap();
        held.set_level("trace").unwrap();
        assert_eq!(shown(&logging), "warn");
        logging.set_level("info,huntaway_gateway=debug").unwrap();
        assert_eq!(shown(&logging), "huntaway_gateway=debug,info");
        assert!(logging.set_level("loud").is_err() && held.set_level("loud").is_err());
        assert_eq!(shown(&logging), "huntaway_gateway=debug,info");
        drop(chosen);
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for text in ["info", "WARN", "off", "info,huntaway_store=trace", "huntaway_gateway[connection]=debug"]
        {
            assert_eq!(check_level(text), Ok(()), "{text}");
        }
        for text in ["", " , ", "inof", "info,huntaway_store", "huntaway_store=loud", "info,[{"] {
            assert!(check_level(text).is_err(), "{text}");
        }
        let error = check_level("inof").unwrap_err().to_string();
        assert!(error.contains("`inof` is not a level") && error.contains("write one of"), "{error}");
    }

    #[test]
    fn without_the_journal_last_words_stay_as_they_are() {
        assert_eq!(Place::Stream.lines(Level::ERROR, "huntaway: no\n"), "huntaway: no\n");
        assert_eq!(Place::Journal.lines(Level::ERROR, "huntaway: no\nmore\n"), "<3>huntaway: no\n<3>more\n");
    }
}
