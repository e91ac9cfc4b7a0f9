//! tshark's dissector finds nothing wrong in what goes over the wire.

mod support;

use std::time::Duration;

use support::demo::{Demo, lun};
use support::load;
use support::needs::{Need, available};
use support::script::Script;

const NEEDS: &[Need] = &[Need::Root, Need::Program("tshark"), Need::Program("dumpcap")];

#[test]
fn no_pdu_of_qemus_sessions_is_malformed() {
    if !available(NEEDS) || !available(&[Need::QemuIscsi, Need::Program("jq")]) {
        return;
    }
    let demo = Demo::start(lun("size=128MiB"));
    let qemu = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/qemu");
    capture(&demo).args([qemu, &demo.url(0), "images"]).run();
}

#[test]
fn no_pdu_with_digests_and_r2ts_is_malformed() {
    if !available(NEEDS) {
        return;
    }
    let demo = Demo::start(lun("size=64MiB"));
    let load = "mode=randrw,size=300KiB,depth=4,digests=both,solicited=true";
    let output = capture(&demo)
        .args([env!("CARGO_BIN_EXE_huntaway")])
        .args(load::arguments(demo.portal(), demo.target(), 0, load, 1.0))
        .run();
    assert!(output.contains(" 0x31\n"), "no R2T was seen:\n{output}");
}

fn capture(demo: &Demo) -> Script {
    Script::new("clients/wire-capture").args([demo.port().to_string()]).limit(Duration::from_secs(180))
}
