//! `huntaway man`: the manual pages, made from what `--help` says, one for each subcommand.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_mangen::Man;

/// Arguments of `huntaway man`.
#[derive(clap::Args)]
pub(crate) struct ManArgs {
    /// Where the pages (huntaway.1, huntaway-demo.1, ...) are written to; made if it does not exist
    #[arg(long)]
    dir: PathBuf,
}

/// Writes the pages of `program`.
pub(crate) fn run(args: &ManArgs, program: Command) -> Result<ExitCode, Box<dyn Error>> {
    let cannot = |what: &Path, error: &std::io::Error| format!("cannot write {}: {error}", what.display());
    fs::create_dir_all(&args.dir).map_err(|error| cannot(&args.dir, &error))?;
    for (name, page) in pages(program)? {
        let file = args.dir.join(name);
        fs::write(&file, page).map_err(|error| cannot(&file, &error))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The file names and texts of the pages of `program` and of all below it.
fn pages(program: Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    let mut commands = vec![program];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
        let man =
            Man::new(command).source(concat!("huntaway ", env!("CARGO_PKG_VERSION"))).manual("Huntaway");
        let mut page = Vec::new();
        man.render(&mut page)?;
        pages.push((man.get_filename(), page));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Cli;

    #[test]
    fn there_is_a_page_for_each_subcommand() {
        let pages = pages(Cli::command()).unwrap();
        let page = |name: &str| {
            let (_, page) =
                pages.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("no {name}"));
            String::from_utf8(page.clone()).unwrap()
        };
        assert!(page("huntaway.1").contains("huntaway\\-demo(1)"));
        assert!(page("huntaway-demo.1").contains("\\-\\-listen"));
        assert!(page("huntaway-store-check.1").contains(".SH SYNOPSIS\n\\fBhuntaway store check\\fR"));
    }
}
