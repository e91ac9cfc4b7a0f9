//! Good files: what is read from them, and how tolerant the reader is of the ways in which YAML is written.

use std::path::Path;

use huntaway_config::{Cache, Checked, Digests, EXAMPLE, LogFormat, parse};

/// The least that a file says.
const LEAST: &str = "node: {name: a, data_directories: [disk], portals: [{listen: 127.0.0.1:0}]}\n";

fn read(text: &str) -> Checked {
    parse("f", text).unwrap_or_else(|report| panic!("{text}\n{report}"))
}

#[test]
fn the_example_is_accepted_without_a_warning() {
    let Checked { config, warnings } = read(EXAMPLE);
    assert!(warnings.is_empty(), "{warnings}");
    let target = &config.targets[0];
    assert_eq!(&*target.iqn, "iqn.2026-11.net.example:vm");
    assert_eq!(target.initiators[0].luns.as_ref().unwrap()[0].value, 0);
    assert_eq!(target.digests, Digests::Allowed);
    let lun = &target.luns[0];
    assert_eq!((lun.number.value, &**lun.vdi, lun.size_bytes.unwrap().value), (0, "root", 10 << 30));
    assert_eq!(lun.cache, Cache::Writeback);
    assert_eq!(config.node.data_directories[1].weight.unwrap().value, 4000);
    assert_eq!(config.accounts().count(), 5);
}

#[test]
fn defaults_are_those_that_the_documentation_names() {
    let config = read(LEAST).config;
    assert_eq!(&**config.node.zone, "default");
    assert_eq!((&**config.node.log.level, config.node.log.format), ("info", LogFormat::Text));
    assert_eq!((&**config.cluster.name, config.cluster.copies.value), ("huntaway", 1));
    assert!(config.targets.is_empty());
    let base = Path::new("/etc/huntaway");
    assert_eq!(config.node.state_directory(base), Path::new("/etc/huntaway/disk"));
    assert_eq!(config.node.control_socket(base), Path::new("/etc/huntaway/disk/control.sock"));
    assert_eq!(config.node.data_directories(base), [("/etc/huntaway/disk".into(), None)]);
}

#[test]
fn a_gateway_keeps_no_data_if_others_do() {
    let gateway = LEAST.replace(" data_directories: [disk],", "");
    assert!(parse("f", &gateway).is_err());
    let cluster = "cluster: {ledger: {keeper: 192.0.2.9:3270, key_file: key}}\n";
    let config = read(&format!("{gateway}{cluster}")).config;
    assert!(config.node.data_directories.is_empty());
    let base = Path::new("/etc/huntaway");
    assert_eq!(config.node.control_socket(base), Path::new("/etc/huntaway/control.sock"));
}

#[test]
fn a_value_knows_where_it_is_written() {
    let config = read(LEAST).config;
    let span = config.node.portals[0].listen.span;
    assert_eq!(&config.source.text[span.start..span.end], "127.0.0.1:0");
}

#[test]
fn byte_order_marks_and_windows_line_ends_are_ignored() {
    let text = format!("\u{feff}{}", EXAMPLE.replace('\n', "\r\n"));
    assert_eq!(read(&text).config.targets, read(EXAMPLE).config.targets);
}

#[test]
fn words_that_yaml_might_take_for_something_else_stay_text() {
    let text = format!(
        "{LEAST}cluster: {{name: no}}\ntargets:\n- {{iqn: 'iqn.2026-11.net.example:1', digests: off, \
                        initiators: ['*'], luns: [{{lun: 7, vdi: 0123, size: 1048576}}]}}\n"
    );
    let config = read(&text).config;
    assert_eq!(&**config.cluster.name, "no");
    assert_eq!(config.targets[0].digests, Digests::Off);
    assert_eq!(&**config.targets[0].luns[0].vdi, "0123");
}

#[test]
fn an_alias_stands_for_what_it_names() {
    let text = format!(
        "{LEAST}targets:\n- {{iqn: 'iqn.2026-11.net.example:1', initiators: &who ['*']}}\n\
         - {{iqn: 'iqn.2026-11.net.example:2', initiators: *who}}\n"
    );
    let config = read(&text).config;
    assert_eq!(config.targets[0].initiators, config.targets[1].initiators);
}

#[test]
fn lists_of_nothing_may_be_left_open() {
    assert!(read(&format!("{LEAST}targets:\n")).config.targets.is_empty());
}
