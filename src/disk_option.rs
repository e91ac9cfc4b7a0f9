//! The `--lun key=value,...` option: one disk of the demo.

use std::str::FromStr;

use huntaway_ledger::VdiOptions;

/// The keys that `--lun` knows, for its error text.
const KEYS: &str = "size, thin, read_only, block_size, physical_block_size, cache";

/// Size of a disk of which nothing else is said: 1 GiB.
const DEFAULT_SIZE_BYTES: u64 = 1 << 30;

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cache {
    /// Once logged; a flush or FUA makes it survive power loss (as a disk with a write cache does).
    Writeback,
    /// Once on stable storage.
    Writethrough,
}

/// One disk as asked for on the command line. What is `None` was not mentioned: an existing disk stays as it is, a
/// new one gets the default. How it is served (`read_only`, `cache`) belongs to the run, not to the disk: not mentioned
/// means the default, whatever an earlier run had.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DiskOption {
    size_bytes: Option<u64>,
    thin: Option<bool>,
    block_size: Option<u32>,
    physical_block_size: Option<u32>,
    read_only: Option<bool>,
    cache: Option<Cache>,
}

/// What is wrong with a `--lun` option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DiskOptionError {
    /// Something between commas has no `=`.
    #[error("`{0}` is not of the form key=value; the keys are {KEYS}")]
    NotKeyValue(String),
    /// A key that is not known.
    #[error("unknown key `{0}`; the keys are {KEYS}")]
    UnknownKey(String),
    /// A key that stands there twice.
    #[error("`{0}` is given twice")]
    Repeated(&'static str),
    /// A value that the key cannot have.
    #[error("`{value}` is not a value for {key}: {expected}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// The value as written.
        value: String,
        /// What to write instead.
        expected: &'static str,
    },
}

/// An existing disk differs from what the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{key} is {asked}, but the disk in this directory has {existing}; leave {key} out, or give another --dir"
)]
pub(crate) struct Mismatch {
    key: &'static str,
    asked: String,
    existing: String,
}

impl FromStr for DiskOption {
    type Err = DiskOptionError;

    fn from_str(text: &str) -> Result<Self, DiskOptionError> {
        let mut disk = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) =
                part.split_once('=').ok_or_else(|| DiskOptionError::NotKeyValue(part.into()))?;
            match key.trim() {
                "size" => set(&mut disk.size_bytes, "size", value, SIZE, parse_size)?,
                "thin" => set(&mut disk.thin, "thin", value, BOOLEAN, |v| v.parse().ok())?,
                "read_only" => set(&mut disk.read_only, "read_only", value, BOOLEAN, |v| v.parse().ok())?,
                "block_size" => set(&mut disk.block_size, "block_size", value, BLOCK_SIZE, parse_block_size)?,
                "physical_block_size" => {
                    let key = "physical_block_size";
                    set(&mut disk.physical_block_size, key, value, BLOCK_SIZE, parse_block_size)?;
                }
                "cache" => set(&mut disk.cache, "cache", value, CACHE, parse_cache)?,
                _ => return Err(DiskOptionError::UnknownKey(key.into())),
            }
        }
        disk.check()?;
        Ok(disk)
    }
}

/// What a size looks like.
pub(crate) const SIZE: &str =
    "write a multiple of 4 KiB from 1MiB to 64TiB, such as 10GiB, 512MiB or 1073741824";
const BOOLEAN: &str = "write true or false";
const BLOCK_SIZE: &str = "write 512 or 4096; the physical block size cannot be the smaller one";
const CACHE: &str = "write writeback or writethrough";

fn set<T>(
    field: &mut Option<T>,
    key: &'static str,
    value: &str,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<(), DiskOptionError> {
    if field.is_some() {
        return Err(DiskOptionError::Repeated(key));
    }
    let parsed = parse(value.trim());
    *field = Some(parsed.ok_or_else(|| DiskOptionError::BadValue { key, value: value.into(), expected })?);
    Ok(())
}

/// The size of a disk: a number of bytes that a disk may have.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    parse_bytes(text).filter(|bytes| is_size(*bytes))
}

/// A number with an optional unit KiB, MiB, GiB or TiB (or K, M, G, T).
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Whether a disk may be so large, in bytes.
pub(crate) fn is_size(bytes: u64) -> bool {
    bytes.is_multiple_of(4096) && (1 << 20..=64 << 40).contains(&bytes)
}

fn parse_block_size(text: &str) -> Option<u32> {
    text.parse().ok().filter(|size| matches!(size, 512 | 4096))
}

fn parse_cache(text: &str) -> Option<Cache> {
    match text {
        "writeback" => Some(Cache::Writeback),
        "writethrough" => Some(Cache::Writethrough),
        _ => None,
    }
}

impl DiskOption {
    /// Initiators may only read it.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only.unwrap_or(false)
    }

    /// Writes are acknowledged once logged, and a flush puts them on stable storage; otherwise once they are there.
    pub(crate) fn has_write_cache(&self) -> bool {
        self.cache != Some(Cache::Writethrough)
    }

    fn check(&self) -> Result<(), DiskOptionError> {
        match (self.block_size, self.physical_block_size) {
            (Some(4096), Some(physical)) if physical < 4096 => Err(DiskOptionError::BadValue {
                key: "physical_block_size",
                value: physical.to_string(),
                expected: BLOCK_SIZE,
            }),
            _ => Ok(()),
        }
    }

    /// The properties of a new disk.
    pub(crate) fn for_new_disk(&self) -> VdiOptions {
        VdiOptions {
            size_bytes: self.size_bytes.unwrap_or(DEFAULT_SIZE_BYTES),
            block_size: self.block_size.unwrap_or(512),
            physical_block_size: self.physical_block_size.unwrap_or(4096),
            thin: self.thin.unwrap_or(true),
        }
    }

    /// Checks that an existing disk has every property that was mentioned.
    ///
    /// # Errors
    /// [`Mismatch`] names the first that differs.
    pub(crate) fn check_existing(&self, existing: &VdiOptions) -> Result<(), Mismatch> {
        same("size", self.size_bytes, existing.size_bytes)?;
        same("thin", self.thin, existing.thin)?;
        same("block_size", self.block_size, existing.block_size)?;
        same("physical_block_size", self.physical_block_size, existing.physical_block_size)
    }
}

fn same<T: PartialEq + ToString>(key: &'static str, asked: Option<T>, existing: T) -> Result<(), Mismatch> {
    match asked {
        Some(asked) if asked != existing => {
            Err(Mismatch { key, asked: asked.to_string(), existing: existing.to_string() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = "size=10GiB,thin=false,read_only=true,block_size=4096,physical_block_size=4096,cache=writethrough";
        let disk: DiskOption = text.parse().unwrap();
        assert!(disk.is_read_only() && !disk.has_write_cache());
        let options = disk.for_new_disk();
        assert_eq!((options.size_bytes, options.thin), (10 << 30, false));
        assert_eq!((options.block_size, options.physical_block_size), (4096, 4096));
    }

    #[test]
    fn sizes_take_units_and_are_bounded() {
        let size = |text| parse_size(text);
        assert_eq!(size("1MiB"), Some(1 << 20));
        assert_eq!(size("1073741824"), Some(1 << 30));
        assert_eq!(size("2T"), Some(2 << 40));
        for bad in
            ["", "GiB", "1", "1025KiB1", "1.5GiB", "100TiB", "99999999999999999999", "-1GiB", "1048577"]
        {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn errors_name_the_place_and_the_cure() {
        let error = |text: &str| text.parse::<DiskOption>().unwrap_err().to_string();
        assert_eq!(error("size"), format!("`size` is not of the form key=value; the keys are {KEYS}"));
        assert_eq!(error("sise=1GiB"), format!("unknown key `sise`; the keys are {KEYS}"));
        assert_eq!(error("thin=yes"), "`yes` is not a value for thin: write true or false");
        assert_eq!(error("thin=true,thin=true"), "`thin` is given twice");
        assert!(
            error("block_size=4096,physical_block_size=512").starts_with("`512` is not a value for phys")
        );
    }

    #[test]
    fn an_existing_disk_must_have_what_was_mentioned_only() {
        let existing = "size=2GiB".parse::<DiskOption>().unwrap().for_new_disk();
        assert_eq!("cache=writethrough".parse::<DiskOption>().unwrap().check_existing(&existing), Ok(()));
        let mismatch = "size=1GiB".parse::<DiskOption>().unwrap().check_existing(&existing).unwrap_err();
        assert!(
            mismatch
                .to_string()
                .starts_with("size is 1073741824, but the disk in this directory has 2147483648")
        );
    }
}
