//! Promise: whoever can reach a portal, without proof of who he is, cannot keep initiators out, nor try secrets at any
//! speed, nor hold more than a connection for a while.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use huntaway_gateway::{DEFAULT_LOGIN_TIME, InitiatorConfig};
use support::{
    Account, DATA_IN, Initiator, Pdu, R2T, REJECT, SCSI_RESPONSE, TARGET, TestGateway, Untrusted, anyone,
    discover, served, target, try_login, wait_for,
};

const ALICE: Account = Account("alice", "correct-horse-battery");
const WRONG: Account = Account("alice", "planted-wrong-secret");
const NAME: &str = "iqn.2026-11.test:a";

/// A gateway with one disk for anyone, so many places, and this time for a login.
fn gateway(max_connections: usize, login_time: Duration) -> TestGateway {
    let gateway = TestGateway::with_limits(max_connections, login_time);
    gateway.update(gateway.disks(1)).unwrap();
    gateway
}

/// The same where [`ALICE`] must prove herself.
fn guarded(login_time: Duration) -> TestGateway {
    let gateway = TestGateway::with_limits(1000, login_time);
    let initiators = vec![InitiatorConfig { authentication: ALICE.required(), ..anyone() }];
    gateway.update(served(vec![target(initiators, vec![gateway.unit(0)])])).unwrap();
    gateway
}

fn keys() -> String {
    format!("InitiatorName={NAME} TargetName={TARGET}")
}

fn count(gateway: &TestGateway, name: &str) -> f64 {
    let families = gateway.registry.gather();
    let name = format!("huntaway_gateway_{name}");
    let family = families.iter().find(|family| family.name() == name).unwrap();
    family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum()
}

/// Whether the other end has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn connections_without_a_session_make_room_for_initiators() {
    let gateway = gateway(20, DEFAULT_LOGIN_TIME);
    let mut old = Initiator::login(gateway.portal, NAME);
    let mut idle: Vec<_> = (0..200).map(|_| TcpStream::connect(gateway.portal).unwrap()).collect();
    let mut new = Initiator::login(gateway.portal, "iqn.2026-11.test:b");
    assert_eq!((old.test_unit(1, 0), new.test_unit(1, 0)), (Ok(()), Ok(())));
    wait_for("the oldest made room", || idle[..180].iter_mut().all(is_closed));
    assert!(!is_closed(&mut idle[199]), "the youngest have their places");
    assert!(count(&gateway, "displaced_connections_total") >= 182.0);
    assert_eq!(count(&gateway, "refused_connections_total"), 0.0);
}

#[test]
fn discovery_sessions_make_room_as_well() {
    let gateway = gateway(8, DEFAULT_LOGIN_TIME);
    let discovery = format!("InitiatorName={NAME} SessionType=Discovery");
    let held: Vec<_> =
        (0..20).map(|_| try_login(gateway.portal, &discovery, None, false).ok().unwrap()).collect();
    let mut new = Initiator::login(gateway.portal, NAME);
    assert_eq!(new.test_unit(1, 0), Ok(()));
    drop(held);
}

#[test]
fn sessions_leave_places_to_those_that_log_in() {
    let gateway = gateway(8, DEFAULT_LOGIN_TIME);
    let name = |number: usize| format!("iqn.2026-11.test:{number}");
    let log_in = |number| {
        try_login(gateway.portal, &format!("InitiatorName={} TargetName={TARGET}", name(number)), None, false)
    };
    let mut sessions: Vec<_> = (0..6).map(|number| log_in(number).ok().unwrap()).collect();
    assert_eq!(log_in(6).err(), Some(0x0302), "out of resources");
    assert!(!discover(gateway.portal, NAME, None).unwrap().is_empty());
    assert!(log_in(0).is_ok(), "the place of its own session is free to it");
    drop(sessions.pop());
    wait_for("a place is free again", || log_in(6).is_ok());
}

#[test]
fn a_login_is_cut_in_time_whatever_it_sends() {
    let gateway = guarded(Duration::from_millis(300));
    let mut silent = Untrusted::connect(gateway.portal, None);
    let mut half = Untrusted::connect(gateway.portal, None);
    half.send_bytes(&[0x43, 0x87]);
    let mut challenged = Untrusted::connect(gateway.portal, None);
    challenged.challenge(&keys());
    for untrusted in [&mut silent, &mut half, &mut challenged] {
        untrusted.expect_end();
    }
    let mut trickling = TcpStream::connect(gateway.portal).unwrap();
    trickling.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    // More bytes than there is time for: a deadline that each byte puts off would never come.
    let ended = (0..48 * 100).any(|_| {
        let sent = trickling.write_all(&[0x40]);
        sent.is_err()
            || !matches!(trickling.read(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    });
    assert!(ended);
}

#[test]
fn a_text_without_end_ends_the_login() {
    let gateway = gateway(1000, DEFAULT_LOGIN_TIME);
    let mut endless = Untrusted::connect(gateway.portal, None);
    let text = [b'x'; 8000];
    let statuses: Vec<u16> = (0..20).map_while(|_| endless.exchange_status(0x44, &text)).collect();
    assert!((2..12).contains(&statuses.len()), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&0x0200), "initiator error");
    endless.expect_end();
}

#[test]
fn guessing_is_slowed_down_over_all_connections_of_an_address_and_no_other() {
    let gateway = guarded(DEFAULT_LOGIN_TIME);
    let mut guessers: Vec<_> = (0..40).map(|_| Untrusted::connect(gateway.portal, None)).collect();
    for guesser in &mut guessers {
        guesser.challenge(&keys());
    }
    for guesser in &mut guessers {
        guesser.guess(WRONG);
    }
    wait_for("guesses wait", || count(&gateway, "slowed_logins_total") >= 28.0);
    let judged = gateway.counter("huntaway_gateway_logins_total", ("result", "authentication_failed"));
    assert!(judged.unwrap_or(0.0) < 20.0, "{judged:?} guesses judged at once");
    let elsewhere = "127.0.0.2".parse().unwrap();
    let mut alice = Untrusted::connect(gateway.portal, Some(elsewhere));
    alice.challenge(&keys());
    assert_eq!(alice.prove(ALICE), 0, "the name that is guessed at is not locked");
}

#[test]
fn right_proofs_are_never_slowed_down() {
    let gateway = guarded(DEFAULT_LOGIN_TIME);
    for _ in 0..20 {
        assert!(try_login(gateway.portal, &keys(), Some(ALICE), false).is_ok());
    }
    assert_eq!(count(&gateway, "slowed_logins_total"), 0.0);
}

#[test]
fn the_right_secret_gets_its_turn_at_an_address_that_guessed() {
    let gateway = guarded(DEFAULT_LOGIN_TIME);
    for _ in 0..7 {
        assert_eq!(try_login(gateway.portal, &keys(), Some(WRONG), false).err(), Some(0x0201));
    }
    assert!(try_login(gateway.portal, &keys(), Some(ALICE), false).is_ok());
    assert!(count(&gateway, "slowed_logins_total") >= 1.0);
}

#[test]
fn what_breaks_the_rules_is_not_done_but_counted_and_the_session_lives() {
    let gateway = gateway(1000, DEFAULT_LOGIN_TIME);
    let mut initiator = Initiator::login(gateway.portal, NAME);
    let next = initiator.cmd_sn;
    for far in [next - 1, next + 200, next.wrapping_add(1 << 31)] {
        initiator.cmd_sn = far;
        initiator.write(1, 0, 0x11, true);
    }
    initiator.cmd_sn = next;
    let mut unknown = Pdu { header: [0; 48], data: Vec::new() };
    unknown.header[19] = 99;
    unknown.header[46] = 2;
    initiator.data_out(&unknown, 0x22);
    assert_eq!(initiator.test_unit(2, 0), Ok(()), "outside the window is ignored, and so is data of no task");
    assert_eq!(count(&gateway, "refused_requests_total"), 4.0);

    initiator.write(3, 0, 0x33, false);
    let r2t = initiator.expect(R2T);
    initiator.command(3, 0, &[0; 6], 0, None);
    assert_eq!(initiator.expect(REJECT).header[2], 0x07, "a tag in use");
    let mut other_tag = Pdu { header: r2t.header, data: Vec::new() };
    other_tag.header[20] ^= 1;
    initiator.data_out(&other_tag, 0x44);
    initiator.data_out(&r2t, 0x55);
    assert_eq!(initiator.expect(SCSI_RESPONSE).sense(), (0xb, 0x47, 0x05), "data that nobody asked for");
    assert_eq!(count(&gateway, "refused_requests_total"), 5.0);
    assert!(gateway.peer.writes().is_empty());
    assert_eq!(initiator.test_unit(4, 0), Ok(()));
}

#[test]
fn an_expected_length_of_four_gibibytes_moves_what_the_command_wants() {
    let gateway = gateway(1000, DEFAULT_LOGIN_TIME);
    let mut initiator = Initiator::login(gateway.portal, NAME);
    initiator.command(1, 0, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], u32::MAX, None);
    let r2t = initiator.expect(R2T);
    assert_eq!(r2t.header[44..48], 512_u32.to_be_bytes());
    initiator.data_out(&r2t, 0x66);
    let response = initiator.expect(SCSI_RESPONSE);
    assert_eq!((response.header[1], response.header[3]), (0x82, 0), "an underflow, and GOOD");
    assert_eq!(response.header[44..48], (u32::MAX - 512).to_be_bytes());
    initiator.command(2, 0, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], u32::MAX, None);
    let data = initiator.expect(DATA_IN);
    assert_eq!((data.data, &data.header[44..48]), (vec![0x66; 512], &(u32::MAX - 512).to_be_bytes()[..]));
}

#[test]
fn a_length_that_was_never_agreed_on_ends_the_connection_at_once() {
    let gateway = gateway(1000, DEFAULT_LOGIN_TIME);
    let mut bystander = Initiator::login(gateway.portal, "iqn.2026-11.test:b");
    let mut longest = [0_u8; 48];
    longest[5..8].fill(0xff);
    let mut headers = [0_u8; 48];
    headers[4] = 0xff;
    for bomb in [longest, headers] {
        let mut before_login = Untrusted::connect(gateway.portal, None);
        before_login.send_bytes(&bomb);
        before_login.expect_end();
        let mut initiator = Initiator::login(gateway.portal, NAME);
        initiator.send_bytes(&bomb);
        initiator.expect_end();
    }
    assert_eq!(count(&gateway, "protocol_errors_total"), 4.0);
    assert_eq!(bystander.test_unit(1, 0), Ok(()));
}

#[test]
fn nothing_is_read_ahead_for_one_who_takes_nothing() {
    let gateway = gateway(1000, DEFAULT_LOGIN_TIME);
    let mut bystander = Initiator::login(gateway.portal, "iqn.2026-11.test:b");
    let mut greedy = Initiator::login(gateway.portal, NAME);
    greedy.read_much(1, 0, false);
    wait_for("the first READ", || gateway.peer.reads() > 0);
    for tag in 0..200 {
        assert_eq!(bystander.test_unit(tag, 0), Ok(()));
    }
    let of_one = gateway.peer.reads();
    greedy.read_much(10, 0, false);
    for tag in 200..400 {
        assert_eq!(bystander.test_unit(tag, 0), Ok(()));
    }
    assert_eq!(gateway.peer.reads(), of_one, "the other seven wait until it takes what there is");
    assert!(of_one <= 4, "{of_one} objects for a READ of 8 MiB");
}
