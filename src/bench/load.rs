//! A load: which I/Os, how large, how many at once. The option `--load KEY=VALUE,...` makes one.

use std::str::FromStr;

use serde::Serialize;

use crate::disk_option::parse_bytes;

/// The largest I/O, in bytes.
pub(super) const MAX_IO_BYTES: u32 = 16 << 20;
const MAX_DEPTH: u32 = 1024;
const MAX_CONNECTIONS: u32 = 256;
/// Reads among mixed I/Os unless told.
const READ_PERCENT: u32 = 70;

const KEYS: &str = "mode, size, depth, connections, digests, reads, solicited";
const MODES: &str = "write randread, randwrite, randrw, read, write, fua, flush or check";
const SIZE: &str = "write 512 bytes to 16MiB, such as 4KiB";
const DEPTH: &str = "write 1 to 1024";
const CONNECTIONS: &str = "write 1 to 256";
const DIGESTS: &str = "write none, header, data or both";
const PERCENT: &str = "write 0 to 100: the percentage of reads in randrw";
const BOOLEAN: &str = "write true or false";

/// What the I/Os are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Reads at random places.
    RandRead,
    /// Writes at random places.
    RandWrite,
    /// Both.
    RandRw,
    /// Reads from the beginning to the end.
    Read,
    /// Writes from the beginning to the end.
    Write,
    /// Writes at random places that are on stable storage when they are acknowledged (FUA).
    Fua,
    /// Writes at random places, each followed by a SYNCHRONIZE CACHE.
    Flush,
    /// Reads once what a journal knows of.
    Check,
}

impl Mode {
    /// Whether it only reads.
    pub(super) fn is_reading(self) -> bool {
        matches!(self, Self::RandRead | Self::Read | Self::Check)
    }

    /// Whether it reads anything.
    pub(super) fn reads(self) -> bool {
        self.is_reading() || self == Self::RandRw
    }

    /// Whether it goes from the beginning to the end.
    pub(super) fn is_sequential(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "randread" => Self::RandRead,
            "randwrite" => Self::RandWrite,
            "randrw" => Self::RandRw,
            "read" => Self::Read,
            "write" => Self::Write,
            "fua" => Self::Fua,
            "flush" => Self::Flush,
            "check" => Self::Check,
            _ => return None,
        })
    }
}

/// A load, on any target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Load {
    /// What it is called in tables.
    #[serde(rename = "load")]
    pub(super) name: String,
    pub(super) mode: Mode,
    /// Bytes of each I/O.
    pub(super) io_bytes: u32,
    /// I/Os under way on each connection.
    pub(super) depth: u32,
    /// Sessions of one connection each.
    pub(super) connections: u32,
    /// Ask for header digests; without them it is another load.
    #[serde(skip)]
    pub(super) header_digest: bool,
    /// Ask for data digests; without them it is another load.
    #[serde(skip)]
    pub(super) data_digest: bool,
    /// Of a hundred I/Os.
    pub(super) read_percent: u32,
    /// Send write data only when asked for (R2T).
    #[serde(skip)]
    pub(super) solicited: bool,
}

/// What is wrong with a `--load` option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("`{0}` is not of the form key=value; the keys are {KEYS}")]
    NotKeyValue(String),
    #[error("unknown key `{0}`; the keys are {KEYS}")]
    UnknownKey(String),
    #[error("`{value}` is not a value for {key}: {expected}")]
    BadValue { key: String, value: String, expected: &'static str },
    #[error("a load needs a mode: {MODES}")]
    NoMode,
}

impl Load {
    /// Single I/Os of 4 KiB on one connection.
    pub(super) fn new(name: &str, mode: Mode) -> Self {
        let read_percent = match mode {
            _ if mode.is_reading() => 100,
            Mode::RandRw => READ_PERCENT,
            _ => 0,
        };
        Self {
            name: name.to_owned(),
            mode,
            io_bytes: 4096,
            depth: 1,
            connections: 1,
            header_digest: false,
            data_digest: false,
            read_percent,
            solicited: false,
        }
    }

    #[cfg(test)]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it changes what the LUN holds.
    pub(crate) fn writes(&self) -> bool {
        !self.mode.is_reading()
    }

    /// Whether it reads what a journal knows, and nothing else.
    pub(crate) fn is_check(&self) -> bool {
        self.mode == Mode::Check
    }

    /// Whether it reads what was written before it.
    pub(crate) fn reads(&self) -> bool {
        self.mode.reads()
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), LoadError> {
        let bad = |expected| LoadError::BadValue { key: key.to_owned(), value: value.to_owned(), expected };
        let number = |range: std::ops::RangeInclusive<u32>, expected| {
            value.parse().ok().filter(|number| range.contains(number)).ok_or(bad(expected))
        };
        match key {
            "mode" => {}
            "size" => {
                let bytes = parse_bytes(value).and_then(|bytes| u32::try_from(bytes).ok());
                self.io_bytes =
                    bytes.filter(|bytes| (512..=MAX_IO_BYTES).contains(bytes)).ok_or(bad(SIZE))?;
            }
            "depth" => self.depth = number(1..=MAX_DEPTH, DEPTH)?,
            "connections" => self.connections = number(1..=MAX_CONNECTIONS, CONNECTIONS)?,
            "digests" => {
                let both = [
                    ("none", (false, false)),
                    ("header", (true, false)),
                    ("data", (false, true)),
                    ("both", (true, true)),
                ];
                let found = both.iter().find(|(name, _)| *name == value).ok_or(bad(DIGESTS))?;
                (self.header_digest, self.data_digest) = found.1;
            }
            "reads" if self.mode == Mode::RandRw => self.read_percent = number(0..=100, PERCENT)?,
            "reads" => return Err(bad(PERCENT)),
            "solicited" => self.solicited = value.parse().map_err(|_| bad(BOOLEAN))?,
            _ => return Err(LoadError::UnknownKey(key.to_owned())),
        }
        Ok(())
    }
}

impl FromStr for Load {
    type Err = LoadError;

    fn from_str(text: &str) -> Result<Self, LoadError> {
        let pairs = text.split(',').filter(|part| !part.is_empty());
        let pair = |part: &'_ str| {
            part.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        };
        let pairs: Vec<_> = pairs
            .map(|part| pair(part).ok_or_else(|| LoadError::NotKeyValue(part.to_owned())))
            .collect::<Result<_, _>>()?;
        let mode = pairs.iter().find(|(key, _)| key == "mode").ok_or(LoadError::NoMode)?;
        let bad = || LoadError::BadValue { key: mode.0.clone(), value: mode.1.clone(), expected: MODES };
        let mut load = Self::new(text, Mode::parse(&mode.1).ok_or_else(bad)?);
        pairs.iter().try_for_each(|(key, value)| load.set(key, value))?;
        Ok(load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = "mode=randrw,size=13824,depth=8,connections=4,digests=both,reads=50,solicited=true";
        let load: Load = text.parse().unwrap();
        assert_eq!((load.mode, load.io_bytes, load.depth, load.connections), (Mode::RandRw, 13_824, 8, 4));
        assert!(load.header_digest && load.data_digest && load.solicited && load.writes() && load.reads());
        assert_eq!((load.name.as_str(), load.read_percent), (text, 50));
        assert_eq!("mode=randread".parse::<Load>().unwrap().read_percent, 100);
    }

    #[test]
    fn errors_name_the_place_and_the_cure() {
        let error = |text: &str| text.parse::<Load>().unwrap_err().to_string();
        assert_eq!(error("size=4KiB"), format!("a load needs a mode: {MODES}"));
        assert_eq!(error("mode=read,dept=4"), format!("unknown key `dept`; the keys are {KEYS}"));
        assert_eq!(error("mode=read,depth=0"), format!("`0` is not a value for depth: {DEPTH}"));
        assert_eq!(error("mode=walk"), format!("`walk` is not a value for mode: {MODES}"));
        assert_eq!(error("mode=read,reads=5"), format!("`5` is not a value for reads: {PERCENT}"));
        assert_eq!(
            error("randread"),
            format!("`randread` is not of the form key=value; the keys are {KEYS}")
        );
    }
}
