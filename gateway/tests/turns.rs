//! Connections that share a thread take turns: one that always has something to do does not keep it from the others.

mod support;

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use support::{Initiator, PATIENCE, SCSI_RESPONSE, TARGET, TestGateway, try_login};

/// Sessions that write without end.
const FLOODERS: usize = 3;

/// Bytes of each of their writes.
const WRITE_BYTES: usize = 256 << 10;

/// Commands that each of them has under way: more than sockets hold, so that there is always something to be received.
const DEPTH: usize = 32;

/// Writes of each of them before the other session asks for something.
const BEFORE: usize = 8;

/// Each write takes the store as long as a turn at least: so a turn is over with what it began with.
const TURN: Duration = Duration::from_millis(1);

/// Writes that are served in one turn then: the rest of the one that had been read in part, and the next.
const WRITES_OF_A_TURN: usize = 2;

/// Turns that a flooder may have before the other session's: the one that it has or waits for when that asks for something, and
/// one more until the thread looks.
const TURNS: usize = 2;

fn log_in(gateway: &TestGateway, number: usize) -> Initiator {
    let keys = format!(
        "InitiatorName=iqn.2026-11.test:{number} SessionType=Normal TargetName={TARGET} InitialR2T=No \
         ImmediateData=Yes FirstBurstLength={WRITE_BYTES} MaxBurstLength={WRITE_BYTES}"
    );
    let mut initiator = try_login(gateway.portal, &keys, None, false).expect("the login is let in");
    initiator.command(0xffff, 0, &[0; 6], 0, None);
    initiator.expect(SCSI_RESPONSE);
    initiator
}

/// Sessions that one thread serves: each thread gets one of as many connections as there are threads.
fn log_in_to_one_thread(gateway: &TestGateway, sessions: usize) -> (Vec<Initiator>, Vec<Initiator>) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let all = (0..sessions * threads).map(|number| (number, log_in(gateway, number)));
    let (ours, others): (Vec<_>, Vec<_>) = all.partition(|(number, _)| number.is_multiple_of(threads));
    let mut ours: Vec<Initiator> = ours.into_iter().map(|(_, initiator)| initiator).collect();
    for initiator in &mut ours {
        initiator.write(1, 0, 0, true);
        initiator.expect(SCSI_RESPONSE);
    }
    assert_eq!(gateway.peer.writing_threads(), 1);
    (ours, others.into_iter().map(|(_, initiator)| initiator).collect())
}

/// Writes one place over and over until it is told to stop.
fn flood(mut initiator: Initiator, number: usize, stop: &AtomicBool) {
    let data = vec![number as u8; WRITE_BYTES];
    let lba = ((number * WRITE_BYTES / 512) as u16).to_be_bytes();
    let cdb = [0x2a, 0, 0, 0, lba[0], lba[1], 0, 2, 0, 0];
    for tag in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        initiator.command(tag, 0, &cdb, WRITE_BYTES as u32, Some(&data));
        if tag as usize >= DEPTH {
            assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
        }
    }
}

#[test]
fn three_sessions_that_flood_a_thread_leave_the_fourth_its_turn() {
    let gateway = TestGateway::start(1);
    let (mut sessions, _others) = log_in_to_one_thread(&gateway, FLOODERS + 1);
    let mut fourth = sessions.pop();
    let (tell, told) = mpsc::channel();
    let mut writes = [0; FLOODERS];
    let mut asked_at = None;
    // The thread itself asks and looks for the answer, since others may be late.
    gateway.peer.at_write(move |flooder| {
        let begun = Instant::now();
        writes[usize::from(flooder)] += 1;
        let all: usize = writes.iter().sum();
        match (&mut fourth, asked_at) {
            (Some(session), None) if writes.iter().all(|writes| *writes >= BEFORE) => {
                session.command(1, 0, &[0; 6], 0, None);
                asked_at = Some(all);
            }
            (Some(session), Some(at)) => {
                if let Some(answer) = session.receive_now() {
                    assert_eq!((answer.opcode(), answer.tag()), (SCSI_RESPONSE, 1));
                    tell.send(all - at).expect("it is waited for");
                    fourth = None;
                }
            }
            _ => {}
        }
        while begun.elapsed() < TURN {
            std::hint::spin_loop();
        }
    });
    let stop = AtomicBool::new(false);
    let writes_meanwhile = thread::scope(|scope| {
        for (number, session) in sessions.into_iter().enumerate() {
            let stop = &stop;
            scope.spawn(move || flood(session, number, stop));
        }
        let answer = told.recv_timeout(PATIENCE);
        stop.store(true, Ordering::Relaxed);
        answer.expect("the fourth session must be answered")
    });
    assert!(writes_meanwhile <= FLOODERS * TURNS * WRITES_OF_A_TURN, "{writes_meanwhile} writes");
}
