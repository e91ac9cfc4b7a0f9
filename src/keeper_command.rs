//! `huntaway keeper`: keeps the ledger of a cluster of several nodes.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use huntaway_ledger::{MAX_COPIES, Member, Name};
use huntaway_membership::local::shared::{ClusterKey, KeeperOptions, KeeperServer, NewCluster};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::address::Address;
use crate::new_node::{NewNode, canonical, check_address, member};
use crate::node::{cannot_listen, keeper_tls, read_key};
use crate::signals::Signals;

const EXAMPLES: &str = "\
Examples:
  huntaway keeper --dir /var/lib/huntaway-keeper --listen 192.0.2.9:3270 --key-file /etc/huntaway/secrets/cluster \\
    --new lab --copies 3 --node storage-1=192.0.2.11:3271,zone=rack-a --node storage-2=192.0.2.12:3271,zone=rack-b \\
    --node storage-3=192.0.2.13:3271,zone=rack-c
  huntaway keeper --dir /var/lib/huntaway-keeper --listen 192.0.2.9:3270 --key-file /etc/huntaway/secrets/cluster";

/// Arguments of `huntaway keeper`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct KeeperArgs {
    /// Where the ledger is
    #[arg(long)]
    dir: PathBuf,

    /// Where the nodes find it
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Address,

    /// The cluster's key: a file with 64 hexadecimal digits that nobody else can read. With --new it is made if it is not there
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,

    /// With TLS: the certificates of the cluster's CA, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls_certificate_file", "tls_private_key_file"])]
    tls_ca_file: Option<PathBuf>,

    /// The keeper's certificate, which has `keeper` as a subjectAltName
    #[arg(long, value_name = "FILE", requires = "tls_ca_file")]
    tls_certificate_file: Option<PathBuf>,

    /// Its key: a file that nobody else can read
    #[arg(long, value_name = "FILE", requires = "tls_ca_file")]
    tls_private_key_file: Option<PathBuf>,

    /// Make a new cluster of this name, once, in a directory without a ledger
    #[arg(long, value_name = "NAME", requires = "node")]
    new: Option<Name>,

    /// Copies of everything in a new cluster; half of them, rounded up, have to be in sync for writes [default: 3, or as many
    /// as there are nodes]
    #[arg(long, requires = "new", value_parser = parse_copies)]
    copies: Option<usize>,

    /// A node of a new cluster, where the others reach it, in what zone (default: its name), and its share of the data (default: 1);
    /// once for each
    #[arg(long, value_name = "NAME=ADDR:PORT[,zone=ZONE][,weight=N]", requires = "new")]
    node: Vec<NewNode>,
}

fn parse_copies(text: &str) -> Result<usize, String> {
    let copies = text.parse().ok().filter(|copies| (1..=MAX_COPIES).contains(copies));
    copies.ok_or_else(|| format!("from 1 to {MAX_COPIES} copies"))
}

/// Keeps the ledger until it is told to stop.
pub(crate) fn run(args: &KeeperArgs) -> Result<ExitCode, Box<dyn Error>> {
    let new = args.new.as_ref().map(|name| new_cluster(name, args.copies, &args.node)).transpose()?;
    let key = if new.is_some() { key(&args.key_file)? } else { read_key(&args.key_file)? };
    let tls = match (&args.tls_ca_file, &args.tls_certificate_file, &args.tls_private_key_file) {
        (Some(ca), Some(certificate), Some(key)) => Some(keeper_tls(ca, certificate, key)?),
        _ => None,
    };
    let options = KeeperOptions { make: new, tls, ..KeeperOptions::new(key) };
    let server = KeeperServer::open(&args.dir, options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(server, args))?;
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn serve(server: KeeperServer, args: &KeeperArgs) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::listen()?;
    let listener = TcpListener::bind(args.listen.0).await;
    let listener = listener.map_err(|error| cannot_listen(args.listen.0, &error))?;
    tracing::info!(listen = %listener.local_addr()?, dir = %args.dir.display(), "keeping the ledger");
    let (stop, stopped) = oneshot::channel::<()>();
    let mut kept = tokio::spawn(server.serve(listener, async move { _ = stopped.await }));
    tokio::select! {
        // It ends by itself when the ledger cannot be written.
        kept = &mut kept => return Ok(kept??),
        signal = signals.next() => tracing::info!(signal, "stopping: nodes serve until their leases run out"),
    }
    signals.end_at_the_next();
    drop(stop);
    Ok(kept.await??)
}

fn new_cluster(name: &Name, copies: Option<usize>, nodes: &[NewNode]) -> Result<NewCluster, Box<dyn Error>> {
    let mut members: Vec<Member> = Vec::new();
    for NewNode { name, address, zone, weight } in nodes {
        // On certificates upper and lower case are the same.
        let is_name = |member: &Member| member.name.as_str().eq_ignore_ascii_case(name.as_str());
        if members.iter().any(is_name) {
            return Err(format!("node {name} is given twice (upper and lower case are the same)").into());
        }
        members.push(member(name.clone(), canonical(address.0), zone.clone(), *weight)?);
    }
    for member in &members {
        let others = members.iter().filter(|other| other.name != member.name);
        member
            .addresses
            .iter()
            .try_for_each(|at| check_address(member.name.as_str(), *at, others.clone()))?;
    }
    let keepers = members.iter().filter(|member| member.weight > 0).count();
    if keepers == 0 {
        return Err("no node is to keep data: give one a weight".into());
    }
    let copies = copies.unwrap_or(DEFAULT_COPIES.min(keepers));
    if copies > keepers {
        return Err(format!("{copies} copies take as many nodes with a weight, not {keepers}").into());
    }
    Ok(NewCluster { name: name.clone(), members, copies, min_copies: copies.div_ceil(2) })
}

/// Copies of everything in a new cluster that has so many nodes.
pub(crate) const DEFAULT_COPIES: usize = 3;

/// The cluster's key: made if there is none.
///
/// # Errors
/// It cannot be made or read.
pub(crate) fn key(file: &Path) -> Result<ClusterKey, Box<dyn Error>> {
    if !file.exists() {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
        let mut text = String::new();
        bytes.iter().try_for_each(|byte| write!(text, "{byte:02x}"))?;
        let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        let mut made = made.map_err(|error| format!("cannot make the key {}: {error}", file.display()))?;
        writeln!(made, "{text}")?;
        made.sync_all()?;
    }
    Ok(read_key(file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_three_copies_if_it_has_the_nodes() {
        let nodes = |number: u8| -> Vec<NewNode> {
            (1..=number).map(|number| format!("n{number}=192.0.2.{number}:3271").parse().unwrap()).collect()
        };
        let name = Name::new("lab").unwrap();
        let made = |copies, number| new_cluster(&name, copies, &nodes(number));
        let numbers =
            [2, 3, 5].map(|number| made(None, number).map(|new| (new.copies, new.min_copies)).unwrap());
        assert_eq!(numbers, [(2, 1), (3, 2), (3, 2)]);
        assert!(made(Some(3), 2).is_err());
        assert!(new_cluster(&name, None, &[nodes(1), nodes(1)].concat()).is_err());
        let twice = ["a=192.0.2.1:3271", "A=192.0.2.2:3271"].map(|node| node.parse().unwrap());
        let refused = new_cluster(&name, None, &twice).unwrap_err().to_string();
        assert!(refused.contains("upper and lower case"), "{refused}");
    }

    #[test]
    fn nodes_reach_one_another() {
        let name = Name::new("lab").unwrap();
        let made = |nodes: &[&str]| {
            let nodes: Vec<NewNode> = nodes.iter().map(|node| node.parse().unwrap()).collect();
            new_cluster(&name, None, &nodes).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(made(&["a=127.0.0.1:3271", "b=[::1]:3271", "c=[::ffff:127.0.0.1]:3272"]), Ok(()));
        assert_eq!(made(&["a=192.0.2.1:3271", "b=[2001:db8::1]:3271"]), Ok(()));
        for (nodes, why) in [
            // What Debian has a machine's own name stand for.
            (
                ["a=127.0.1.1:3271", "b=192.0.2.2:3271"],
                "b at 192.0.2.2:3271 cannot reach `a` at 127.0.1.1:3271",
            ),
            (["a=192.0.2.1:3271", "b=[::1]:3271"], "a at 192.0.2.1:3271 cannot reach `b`"),
            (["a=0.0.0.0:3271", "b=192.0.2.2:3271"], "cannot reach `a` at 0.0.0.0:3271"),
            (["a=192.0.2.1:3271", "b=[::]:3271"], "cannot reach `b`"),
            (["a=192.0.2.1:3271", "b=192.0.2.2:0"], "cannot reach `b` at 192.0.2.2:0"),
            (["a=192.0.2.1:3271", "b=[::ffff:192.0.2.1]:3271"], "has the address 192.0.2.1:3271"),
            (["a=192.0.2.1:3271,weight=0", "b=192.0.2.2:3271,weight=0"], "give one a weight"),
        ] {
            let refused = made(&nodes).unwrap_err();
            assert!(refused.contains(why), "{nodes:?}: {refused}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_for_nobody_else() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("key");
        key(&file).unwrap();
        let made = fs::read_to_string(&file).unwrap();
        assert_eq!(
            (made.trim().len(), fs::metadata(&file).unwrap().permissions().mode() & 0o777),
            (64, 0o600)
        );
        key(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), made);
    }
}
