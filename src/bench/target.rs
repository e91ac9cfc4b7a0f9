//! The `--target key=value,...` option: one side of a comparison.

use std::fmt;
use std::str::FromStr;

use huntaway_config::{SecretError, read_secret};
use iscsi_target::Lun;

use super::initiator::{Account, Address};
use crate::account_file::AccountFile;

const KEYS: &str = "name, portal, iqn, lun, pid, chap";
const DEFAULT_PORT: u16 = 3260;

/// A LUN, and the processes that serve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// What it is called in tables.
    pub(super) name: String,
    /// `HOST:PORT`.
    pub(super) portal: String,
    pub(super) iqn: String,
    pub(super) lun: u16,
    /// Whose CPU time it uses; none if that is not to be measured.
    pub(super) pids: Vec<u32>,
    account: Option<AccountFile>,
}

/// What is wrong with a `--target` option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("`{0}` is not of the form key=value; the keys are {KEYS}")]
    NotKeyValue(String),
    #[error("unknown key `{0}`; the keys are {KEYS}")]
    UnknownKey(String),
    #[error("`{0}` is given twice")]
    Repeated(String),
    #[error("`{value}` is not a value for {key}: {expected}")]
    BadValue { key: &'static str, value: String, expected: String },
    #[error(
        "{0} is missing: a target is such as portal=127.0.0.1:3260,iqn=iqn.2026-11.dev.huntaway:demo,lun=0"
    )]
    Missing(&'static str),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let mut values: [Option<&str>; 6] = [None; 6];
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| TargetError::NotKeyValue(part.into()))?;
            let index = KEYS.split(", ").position(|known| known == key.trim());
            let slot = &mut values[index.ok_or_else(|| TargetError::UnknownKey(key.into()))?];
            if slot.replace(value.trim()).is_some() {
                return Err(TargetError::Repeated(key.into()));
            }
        }
        let [name, portal, iqn, lun, pids, account] = values;
        let portal = parse_portal(portal.ok_or(TargetError::Missing("portal"))?);
        let iqn = iqn.filter(|iqn| !iqn.is_empty()).ok_or(TargetError::Missing("iqn"))?.to_owned();
        Ok(Self {
            name: name.unwrap_or(&portal).to_owned(),
            portal,
            iqn,
            lun: parse("lun", lun.unwrap_or("0"), "write 0 to 16383", |text| {
                text.parse().ok().filter(|lun| Lun::from_number(*lun).is_some())
            })?,
            pids: pids.map_or(Ok(Vec::new()), |text| {
                let expected = "write the numbers of its processes, such as 123 or 123+124";
                parse("pid", text, expected, |text| text.split('+').map(|pid| pid.parse().ok()).collect())
            })?,
            account: account
                .map(|text| {
                    let expected = |error| TargetError::BadValue {
                        key: "chap",
                        value: text.into(),
                        expected: format!("{error}"),
                    };
                    text.parse::<AccountFile>().map_err(expected)
                })
                .transpose()?,
        })
    }
}

fn parse<T>(
    key: &'static str,
    value: &str,
    expected: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, TargetError> {
    read(value).ok_or_else(|| TargetError::BadValue { key, value: value.into(), expected: expected.into() })
}

/// The portal, with iSCSI's port if it names none.
fn parse_portal(text: &str) -> String {
    let has_port = text.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    match text.contains(':') && !text.starts_with('[') && !has_port {
        _ if has_port => text.to_owned(),
        true => format!("[{text}]:{DEFAULT_PORT}"),
        false => format!("{text}:{DEFAULT_PORT}"),
    }
}

impl Target {
    /// What it is called in tables.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The processes whose CPU time it uses.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.pids.clone()
    }

    /// How to log in. Reads the secret file.
    ///
    /// # Errors
    /// The secret cannot be had.
    pub(super) fn address(&self) -> Result<Address, SecretError> {
        let account = self
            .account
            .as_ref()
            .map(|AccountFile { user, file }| Ok(Account { user: user.clone(), secret: read_secret(file)? }));
        Ok(Address {
            portal: self.portal.clone(),
            target: self.iqn.clone(),
            // the option admits no other
            lun: Lun::from_number(self.lun).unwrap_or(Lun::ZERO),
            account: account.transpose()?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LUN {} of {} at {}", self.lun, self.iqn, self.portal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = "name=ours,portal=[::1]:4000,iqn=iqn.x,lun=3,pid=12+34,chap=alice:./secret";
        let target: Target = text.parse().unwrap();
        assert_eq!((&*target.name, &*target.portal, &*target.iqn), ("ours", "[::1]:4000", "iqn.x"));
        assert_eq!((target.lun, &*target.pids), (3, &[12, 34][..]));
        assert_eq!(target.account.unwrap().user, "alice");
    }

    #[test]
    fn what_is_not_mentioned_has_a_default() {
        let target: Target = "portal=disk.example,iqn=iqn.x".parse().unwrap();
        assert_eq!((&*target.name, &*target.portal), ("disk.example:3260", "disk.example:3260"));
        assert_eq!((target.lun, target.pids.len()), (0, 0));
        for (text, portal) in [("::1", "[::1]:3260"), ("[::1]", "[::1]:3260"), ("1.2.3.4:5", "1.2.3.4:5")] {
            assert_eq!(parse_portal(text), portal);
        }
    }

    #[test]
    fn errors_name_the_place_and_the_cure() {
        let error = |text: &str| text.parse::<Target>().unwrap_err().to_string();
        assert!(error("iqn=iqn.x").starts_with("portal is missing: a target is such as portal="));
        assert!(error("portal=x").starts_with("iqn is missing"));
        assert_eq!(error("portal=x,iqn=y,lum=1"), format!("unknown key `lum`; the keys are {KEYS}"));
        assert_eq!(error("portal=x,iqn=y,lun=99999"), "`99999` is not a value for lun: write 0 to 16383");
        assert!(error("portal=x,iqn=y,pid=x").contains("such as 123 or 123+124"));
        assert!(error("portal=x,iqn=y,chap=alice").contains("USER:SECRETFILE"));
        assert_eq!(error("portal=x,portal=y"), "`portal` is given twice");
    }
}
