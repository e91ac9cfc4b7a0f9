//! The table of loads that have names.

use super::load::{Load, Mode};

/// Name, mode, bytes, depth, connections, digests.
const LOADS: [(&str, Mode, u32, u32, u32, bool); 18] = [
    ("read 4k q1", Mode::RandRead, 4 << 10, 1, 1, false),
    ("write 4k q1", Mode::RandWrite, 4 << 10, 1, 1, false),
    ("read 4k q32", Mode::RandRead, 4 << 10, 32, 1, false),
    ("write 4k q32", Mode::RandWrite, 4 << 10, 32, 1, false),
    ("read 4k q32 x4", Mode::RandRead, 4 << 10, 32, 4, false),
    ("write 4k q32 x4", Mode::RandWrite, 4 << 10, 32, 4, false),
    ("70% read 4k q32", Mode::RandRw, 4 << 10, 32, 1, false),
    ("read 64k q8", Mode::RandRead, 64 << 10, 8, 1, false),
    ("write 64k q8", Mode::RandWrite, 64 << 10, 8, 1, false),
    ("read 1m q8", Mode::Read, 1 << 20, 8, 1, false),
    ("write 1m q8", Mode::Write, 1 << 20, 8, 1, false),
    ("read 4k q32, digests", Mode::RandRead, 4 << 10, 32, 1, true),
    ("write 4k q32, digests", Mode::RandWrite, 4 << 10, 32, 1, true),
    ("read 1m q8, digests", Mode::Read, 1 << 20, 8, 1, true),
    ("write 1m q8, digests", Mode::Write, 1 << 20, 8, 1, true),
    ("write through 4k q1", Mode::Fua, 4 << 10, 1, 1, false),
    ("write through 4k q1 x4", Mode::Fua, 4 << 10, 1, 4, false),
    ("write + flush 4k q1", Mode::Flush, 4 << 10, 1, 1, false),
];

/// Those of a first look.
const QUICK: [&str; 6] =
    ["read 4k q1", "write 4k q1", "read 4k q32", "write 4k q32", "read 1m q8", "write 1m q8"];

/// Loads of the table, in the order in which they are measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loads(pub(crate) Vec<Load>);

impl Loads {
    /// A few: single and many small I/Os, and large ones.
    pub(crate) fn quick() -> Self {
        Self(QUICK.iter().filter_map(|name| named(name)).collect())
    }
}

/// `all`, `quick`, or names with commas between them. Some names have a comma themselves: the longest that fits is meant.
///
/// # Errors
/// There is no such load: the text names all there are.
pub(crate) fn parse_loads(text: &str) -> Result<Loads, String> {
    match text.trim() {
        "all" => return Ok(Loads(LOADS.iter().filter_map(|(name, ..)| named(name)).collect())),
        "quick" => return Ok(Loads::quick()),
        _ => {}
    }
    let mut loads = Vec::new();
    let mut rest = text;
    while !rest.trim().is_empty() {
        let begin = rest.trim_start();
        let fits = |name: &str| {
            let after = begin.strip_prefix(name).map(str::trim_start);
            after.is_some_and(|after| after.is_empty() || after.starts_with(','))
        };
        let names = LOADS.iter().map(|(name, ..)| *name).filter(|name| fits(name));
        let name = names.max_by_key(|name| name.len()).ok_or_else(|| {
            let known: Vec<String> = LOADS.iter().map(|(name, ..)| format!("`{name}`")).collect();
            format!("`{begin}` begins with no load: write all, quick, or some of {}", known.join(", "))
        })?;
        loads.extend(named(name));
        rest = begin[name.len()..].trim_start().trim_start_matches(',');
    }
    if loads.is_empty() { Err("write all, quick, or names of loads".into()) } else { Ok(Loads(loads)) }
}

fn named(wanted: &str) -> Option<Load> {
    let row = LOADS.iter().find(|(name, ..)| *name == wanted)?;
    let &(name, mode, io_bytes, depth, connections, digests) = row;
    Some(Load {
        io_bytes,
        depth,
        connections,
        header_digest: digests,
        data_digest: digests,
        ..Load::new(name, mode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse_loads(text).unwrap().0.into_iter().map(|load| load.name).collect()
    }

    #[test]
    fn names_with_commas_are_told_from_several_names() {
        assert_eq!(names("read 4k q32, digests"), ["read 4k q32, digests"]);
        assert_eq!(
            names("read 4k q32, read 1m q8, digests,write 4k q1"),
            ["read 4k q32", "read 1m q8, digests", "write 4k q1"]
        );
        assert_eq!(names("read 4k q32 x4"), ["read 4k q32 x4"]);
    }

    #[test]
    fn groups_have_what_they_should() {
        assert_eq!(names("quick"), QUICK);
        assert_eq!(names("all").len(), LOADS.len());
        let Loads(loads) = parse_loads("read 1m q8, digests").unwrap();
        assert!(loads[0].data_digest && loads[0].header_digest && !loads[0].writes());
        assert_eq!((loads[0].io_bytes, loads[0].depth, loads[0].connections), (1 << 20, 8, 1));
    }

    #[test]
    fn what_is_no_load_is_named_with_all_that_are() {
        for bad in ["read 4k", "read 4k q32,nonsense", "", ","] {
            parse_loads(bad).unwrap_err();
        }
        let error = parse_loads("read 4k q32,nonsense").unwrap_err();
        assert!(error.contains("`nonsense`") && error.contains("`write + flush 4k q1`"), "{error}");
    }
}
