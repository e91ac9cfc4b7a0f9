//! `huntaway apply`: shows what a configuration changes, and puts it in force.

use std::error::Error;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use crate::control::{Client, PlanAnswer};
use crate::node::read_text;
use crate::node_address::NodeAddress;

/// Who may read a configuration that was not there before: its owner and group.
const NEW_FILE_MODE: u32 = 0o640;

/// Arguments of `huntaway apply`.
#[derive(clap::Args)]
pub(crate) struct ApplyArgs {
    /// The configuration to put in force; relative paths in it begin where the node's own configuration is
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,

    /// Only show what it would change
    #[arg(long)]
    diff: bool,

    #[command(flatten)]
    node: NodeAddress,
}

/// Asks the node for the plan, prints it, and has the node carry it out.
pub(crate) fn run(args: &ApplyArgs) -> Result<ExitCode, Box<dyn Error>> {
    let text = read_text(&args.file)?;
    let name = args.file.display().to_string();
    // a file that is wrong is told so even if no node runs
    huntaway_config::parse(&name, &text)?;
    let client = client(args)?;
    let config = config_of(args, &client)?;
    let plan = client.plan(&name, text.clone())?;
    warn(&plan);
    println!("{}", plan.text);
    if args.diff {
        return Ok(ExitCode::SUCCESS);
    }
    // one that cannot be read, or is not there, is nothing to go back to
    let before = fs::read_to_string(&config).ok().filter(|_| !is_same(&args.file, &config));
    if !is_same(&args.file, &config) {
        replace(&config, &text)?;
    }
    if let Err(error) = client.reload() {
        let place = config.display();
        let Some(before) = before.filter(|_| error.is_refusal()) else {
            return Err(format!("{place} is not in force: {error}").into());
        };
        replace(&config, &before)?;
        return Err(format!("{} was refused, {place} is as it was: {error}", args.file.display()).into());
    }
    println!("{} is in force", config.display());
    Ok(ExitCode::SUCCESS)
}

/// If the node's own file is wrong by now, the new one says where the socket is: it cannot have moved.
fn client(args: &ApplyArgs) -> Result<Client, Box<dyn Error>> {
    args.node.client().or_else(|_| args.node.client_by(&args.file))
}

/// The file that the node reads.
fn config_of(args: &ApplyArgs, client: &Client) -> Result<PathBuf, Box<dyn Error>> {
    let config = PathBuf::from(client.status()?.config);
    // whoever has the socket may name any file: what is replaced is what its owner has named too
    let is_named_by_socket = args.diff && args.node.socket.is_some();
    if !is_named_by_socket && !is_same(&args.node.config, &config) {
        return Err(format!(
            "the node says that its configuration is {}, not {}: say --config {0} if that is right",
            config.display(),
            args.node.config.display()
        )
        .into());
    }
    Ok(config)
}

fn warn(plan: &PlanAnswer) {
    if !plan.warnings.is_empty() {
        eprintln!("{}", plan.warnings);
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// Puts `text` in the place of a file's contents in one step. Its owner and mode stay; a symbolic link stays one.
fn replace(file: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let cannot = |error: &io::Error| format!("cannot replace {}: {error}", file.display());
    let directory = crate::node::directory_of(&file);
    let name = file.file_name().unwrap_or_default().display();
    let new = directory.join(format!(".{name}.{}", process::id()));
    let written = write_like(&file, &new, text).and_then(|()| fs::rename(&new, &file));
    if let Err(error) = written {
        drop(fs::remove_file(&new));
        return Err(cannot(&error).into());
    }
    Ok(File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| cannot(&error))?)
}

/// Writes `new` with the owner and mode of `old`, on stable storage.
fn write_like(old: &Path, new: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(new)?;
    file.write_all(text.as_bytes())?;
    match fs::metadata(old) {
        Ok(found) => {
            fchown(&file, Some(found.uid()), Some(found.gid()))?;
            file.set_permissions(Permissions::from_mode(found.mode() & 0o7777))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            file.set_permissions(Permissions::from_mode(NEW_FILE_MODE))?;
        }
        Err(error) => return Err(error),
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_keeps_its_mode_and_the_link_to_it() {
        let scratch = tempfile::tempdir().unwrap();
        let (file, link) = (scratch.path().join("file"), scratch.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2);
    }
}
