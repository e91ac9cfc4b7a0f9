//! Portals open and close while sessions go on, and a target is served through those that it names.

mod support;

use huntaway_gateway::{MAX_PORTALS, TargetConfig, TargetError, listen};
use support::{Initiator, TARGET, TestGateway, anyone, discover, served, target, try_login};

const A: &str = "iqn.2026-11.test:a";
const ANY: &str = "127.0.0.1:0";

#[test]
fn a_portal_opens_and_closes_and_sessions_stay() {
    let gateway = TestGateway::start(1);
    let second = gateway.add_portal("second", ANY.parse().unwrap()).unwrap();
    assert_eq!(gateway.gateway().portals(), [("p".to_owned(), gateway.portal), ("second".into(), second)]);
    let mut through = Initiator::login(second, A);
    assert_eq!(gateway.gateway().sessions()[0].portal, "second");
    gateway.runtime.block_on(gateway.gateway().remove_portal("second"));
    assert!(std::net::TcpStream::connect(second).is_err(), "nobody listens");
    assert_eq!(through.test_unit(1, 0), Ok(()));
    assert_eq!(gateway.gateway().portals().len(), 1);
    let again = gateway.add_portal("again", second).unwrap();
    assert_eq!(again, second, "the address was free");
    Initiator::login(again, "iqn.2026-11.test:b");
    assert_eq!(through.test_unit(2, 0), Ok(()));
}

#[test]
fn sessions_of_a_closed_portal_end_with_the_gateway() {
    let mut gateway = TestGateway::start(1);
    let mut through = Initiator::login(gateway.portal, A);
    gateway.runtime.block_on(gateway.gateway().remove_portal("p"));
    let stopping = gateway.take();
    gateway.runtime.block_on(stopping.shut_down());
    through.expect(support::ASYNC_MESSAGE);
    through.expect_end();
}

#[test]
fn a_target_is_found_and_served_through_its_portals_only() {
    let gateway = TestGateway::empty();
    let second = gateway.add_portal("second", ANY.parse().unwrap()).unwrap();
    let disk = TargetConfig {
        portals: Some(vec!["second".into()]),
        ..target(vec![anyone()], vec![gateway.unit(0)])
    };
    gateway.update(served(vec![disk])).unwrap();
    let keys = format!("InitiatorName={A} TargetName={TARGET}");
    assert_eq!(try_login(gateway.portal, &keys, None, false).err(), Some(0x0203));
    Initiator::login(second, A);
    let shown = [format!("TargetName={TARGET}"), format!("TargetAddress={second},1")];
    for portal in [gateway.portal, second] {
        assert_eq!(discover(portal, A, None).unwrap(), shown);
    }
}

#[test]
fn names_of_portals_are_unique_and_there_are_not_too_many() {
    let gateway = TestGateway::start(1);
    let address = ANY.parse().unwrap();
    assert_eq!(gateway.add_portal("p", address), Err(TargetError::PortalTwice("p".into())));
    for number in 1..MAX_PORTALS {
        gateway.add_portal(&format!("p{number}"), address).unwrap();
    }
    assert_eq!(gateway.add_portal("one more", address), Err(TargetError::TooManyPortals));
    assert!(gateway.runtime.block_on(async { listen(address) }).is_ok());
}
