//! Prometheus: what /metrics says is well made, and a real Prometheus collects it.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::demo::{Demo, lun};
use support::http::{get, try_get};
use support::needs::{Need, available};
use support::script::{Running, Script};
use support::{load, wait};

/// Time in which Prometheus has to start and to have scraped twice.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn promtool_finds_nothing_in_the_metrics() {
    if !available(&[Need::Program("promtool")]) {
        return;
    }
    let demo = Demo::start(lun("size=64MiB"));
    load::run(load::on(&demo, 0, "mode=randrw,depth=4", 0.5));
    let metrics = get(&format!("{}/metrics", demo.ready.admin));
    assert_eq!(metrics.status, 200);
    let output = Script::program("promtool").args(["check", "metrics"]).stdin(&metrics.body).run();
    assert_eq!(output.trim(), "", "promtool has remarks");
}

#[test]
fn prometheus_scrapes_our_series() {
    if !available(&[Need::Program("prometheus")]) {
        return;
    }
    let demo = Demo::start(lun("size=64MiB"));
    load::run(load::on(&demo, 0, "mode=randwrite,depth=4", 0.5));
    let scratch = tempfile::tempdir().unwrap();
    let prometheus = start_prometheus(&demo, scratch.path());
    let address = listening_address(&prometheus);

    let up = query_until_positive(&address, r#"up{job="huntaway"}"#);
    assert_eq!(up, 1.0);
    query_until_positive(&address, r#"count({__name__=~"huntaway_gateway_.+",job="huntaway"})"#);
    query_until_positive(&address, r#"count({__name__=~"huntaway_store_.+",job="huntaway"})"#);
    query_until_positive(&address, "sum(huntaway_gateway_transferred_bytes_total{direction=\"write\"})");
    query_until_positive(&address, "sum(huntaway_gateway_command_duration_seconds_count)");
}

fn start_prometheus(demo: &Demo, directory: &Path) -> Running {
    let scraped = demo.ready.admin.strip_prefix("http://").expect("the admin address is an http:// URL");
    let config = format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs: [{{job_name: huntaway, static_configs: [{{targets: [\"{scraped}\"]}}]}}]\n"
    );
    let file = directory.join("prometheus.yml");
    fs::write(&file, config).expect("the scratch directory is writable");
    Script::program("prometheus")
        .args([format!("--config.file={}", file.display())])
        .args([format!("--storage.tsdb.path={}", directory.join("data").display())])
        .args(["--web.listen-address=127.0.0.1:0"])
        .start()
}

/// Prometheus logs the port that the kernel gave it.
fn listening_address(prometheus: &Running) -> String {
    wait::until("Prometheus to listen", LIMIT, || {
        let log = prometheus.output();
        let line = log.lines().find(|line| line.contains("msg=\"Listening on\""))?;
        let (_, address) = line.split_once("address=")?;
        Some(address.split_whitespace().next()?.to_owned())
    })
}

/// The value of a query that gives one number, once it is above zero.
fn query_until_positive(address: &str, query: &str) -> f64 {
    let url = format!("http://{address}/api/v1/query?query={}", percent_encoded(query));
    wait::until(query, LIMIT, || {
        let answer: Value = serde_json::from_str(&try_get(&url).ok()?.body).ok()?;
        let value: f64 = answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()?;
        (value > 0.0).then_some(value)
    })
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
