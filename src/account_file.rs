//! A CHAP account on the command line: the user, and the file that holds the secret. A secret itself is never there, where
//! other users could see it.

use std::path::PathBuf;
use std::str::FromStr;

/// `USER:SECRETFILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountFile {
    pub(crate) user: String,
    /// The only line of this file is the secret.
    pub(crate) file: PathBuf,
}

/// It is not of that form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write USER:SECRETFILE, such as alice:./secret")]
pub(crate) struct NotAnAccount;

impl FromStr for AccountFile {
    type Err = NotAnAccount;

    fn from_str(text: &str) -> Result<Self, NotAnAccount> {
        match text.split_once(':') {
            Some((user, file)) if !user.is_empty() && !file.is_empty() => {
                Ok(Self { user: user.into(), file: file.into() })
            }
            _ => Err(NotAnAccount),
        }
    }
}
