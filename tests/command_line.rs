//! What helps at a terminal: completions that a shell can use, and manual pages.

mod support;

use std::fs;

use support::demo::{huntaway, refused};
use support::script::Script;

/// The text that `huntaway` prints.
fn printed(args: &[&str]) -> String {
    let output = huntaway().args(args).output().expect("huntaway can be started");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn bash_completes_subcommands_and_options() {
    let completions = printed(&["completions", "bash"]);
    let completed = |line: &str| {
        let script = format!(
            "{completions}\nCOMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _huntaway huntaway \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\""
        );
        Script::program("bash").args(["-euo", "pipefail", "-c", &script]).run()
    };
    assert_eq!(completed("huntaway dem"), "demo\n");
    assert_eq!(completed("huntaway store ch"), "check\n");
    assert_eq!(completed("huntaway demo --mutual"), "--mutual-chap\n");
}

#[test]
fn other_shells_are_given_completions_too() {
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(printed(&["completions", shell]).contains("mutual-chap"), "{shell}");
    }
}

#[test]
fn manual_pages_are_written_where_they_are_wanted() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("share/man1");
    printed(&["man", "--dir", directory.to_str().unwrap()]);
    let help = printed(&["--help"]);
    let subcommands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let subcommands = subcommands.map_while(|line| line.strip_prefix("  ")?.split_whitespace().next());
    for name in subcommands.filter(|name| *name != "help") {
        let page = fs::read_to_string(directory.join(format!("huntaway-{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    assert!(fs::read_to_string(directory.join("huntaway.1")).unwrap().contains("HUNTAWAY_LOG"));
}

#[test]
fn names_become_no_other_path() {
    for command in [
        &["node", "drain", "node-2#old"][..],
        &["node", "show", "node-2?"],
        &["node", "remove", "a/b"],
        &["node", "undrain", ""],
        &["node", "weight", "a b", "2"],
        &["object", "where", "root/5#", "0"],
    ] {
        let said = refused(command);
        assert!(said.contains("invalid value"), "{command:?}: {said}");
    }
}
