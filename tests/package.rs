//! The Debian package: built, installed on a clean Debian that systemd boots, configured, upgraded, removed and purged.

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use support::needs::{Need, available};
use support::script::Script;

const NEEDS: &[Need] = &[
    Need::Root,
    Need::CargoDeb,
    Need::Program("dpkg-shlibdeps"),
    Need::Program("mmdebstrap"),
    Need::Program("systemd-nspawn"),
    Need::Program("nsenter"),
    Need::Program("ip"),
    Need::Program("jq"),
    Need::Program("curl"),
    Need::QemuIscsi,
];

#[test]
fn a_package_is_installed_used_upgraded_and_purged_and_its_data_stays() {
    if !available(NEEDS) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let [first, newer] = ["0.1.0-1", "0.1.0-2"].map(|version| build(version, scratch.path()));
    Script::new("clients/package").args([first, newer]).limit(Duration::from_secs(240)).run();
}

/// Builds the package with the version that it is to have, in the profile that is asked for or else of the binary that is tested.
fn build(version: &str, directory: &Path) -> PathBuf {
    let package = directory.join(format!("huntaway-{version}.deb"));
    let binary = Path::new(env!("CARGO_BIN_EXE_huntaway"));
    let [_, profile, target, ..] = &*binary.ancestors().collect::<Vec<_>>() else {
        panic!("{}: not below a target directory", binary.display());
    };
    let profile = match profile.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
        "debug" => "dev",
        name => name,
    };
    let profile = env::var("HUNTAWAY_PACKAGE_PROFILE").unwrap_or_else(|_| profile.to_owned());
    Script::program(concat!(env!("CARGO_MANIFEST_DIR"), "/config/debian/build"))
        .args([&*profile, "--fast", "--deb-version", version, "--output"])
        .args([&package])
        .env("CARGO_TARGET_DIR", target)
        .limit(Duration::from_secs(180))
        .run();
    package
}

#[test]
fn the_configuration_that_comes_with_it_is_right_also_with_its_example() {
    let name = "config/debian/huntaway.yaml";
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let parsed = |text: &str| huntaway_config::parse(name, text).unwrap_or_else(|report| panic!("{report}"));
    assert!(parsed(&text).warnings.is_empty());
    assert_eq!(parsed(&text).config.targets, []);
    let (rest, example) = text.split_once("# targets:\n").unwrap();
    let example: Vec<_> = example.lines().filter_map(|line| line.strip_prefix("# ")).collect();
    let checked = parsed(&format!("{rest}targets:\n{}\n", example.join("\n")));
    assert!(checked.warnings.is_empty(), "{}", checked.warnings);
    assert_eq!(checked.config.targets.len(), 1);
}
