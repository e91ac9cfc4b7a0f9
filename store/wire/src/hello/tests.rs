//! Who is taken, and who is not.

use super::*;
use crate::Incarnation;
use crate::frame::Decoder;

fn identity(node: u8, incarnation: u64) -> Identity {
    let process = Process { node: NodeId([node; 16]), incarnation: Incarnation(incarnation) };
    Identity::new(ClusterId([1; 16]), process)
}

fn received(sent: &Outgoing) -> Frame {
    let mut decoder = Decoder::default();
    decoder.feed(&sent.to_bytes());
    decoder.next_frame().unwrap().unwrap()
}

fn key() -> ClusterKey {
    ClusterKey::new([7; KEY_BYTES])
}

fn call(from: Identity, to: Process) -> Hello {
    Hello { from, to, nonce: [1; KEY_BYTES] }
}

fn challenge(hello: &Hello, ours: Identity, key: &ClusterKey) -> Result<Challenged, Rejection> {
    Caller::of(&received(&hello.frame())).unwrap().challenge(ours, key, [2; KEY_BYTES])
}

/// What both sides make of it.
fn meet(hello: Hello, ours: Identity) -> (Result<Agreed, NotTaken>, Result<Agreed, NotTaken>) {
    match challenge(&hello, ours, &key()) {
        Ok(challenged) => {
            let (proof, here) = hello.challenged(&key(), &received(&challenged.challenge)).unwrap();
            (challenged.proved(ours, &received(&proof)), Ok(here))
        }
        Err(rejection) => {
            let here = hello.challenged(&key(), &received(&rejection.frame()));
            (Err(rejection.into()), here.map(|(_, agreed)| agreed))
        }
    }
}

#[test]
fn both_sides_agree_on_what_both_have() {
    let caller = Identity { versions: Versions { oldest: 1, newest: 4 }, features: 0b110, ..identity(1, 5) };
    let called = Identity { versions: Versions { oldest: 2, newest: 3 }, features: 0b011, ..identity(2, 6) };
    let (there, here) = meet(call(caller, called.process), called);
    assert_eq!(there, Ok(Agreed { version: 3, features: 0b010, peer: caller.process }));
    assert_eq!(here, Ok(Agreed { version: 3, features: 0b010, peer: called.process }));
    assert_eq!(welcomed(&received(&called.welcome())), Ok(()));
}

#[test]
fn whoever_is_not_meant_says_why_and_what_to_do() {
    let (caller, called) = (identity(1, 5), identity(2, 6));
    let hello = call(caller, called.process);
    let cases = [
        (Identity { cluster: ClusterId([9; 16]), ..called }, Why::Cluster, "of this cluster"),
        (identity(3, 6), Why::Node, "its own"),
        (identity(2, 7), Why::Incarnation, "by itself"),
        (identity(2, 5), Why::Incarnation, "by itself"),
        (
            Identity { versions: Versions { oldest: 2, newest: 2 }, ..called },
            Why::Versions,
            "update whichever of both is older",
        ),
    ];
    for (ours, why, cure) in cases {
        let (there, here) = meet(hello, ours);
        let rejection = NotTaken::Rejected(Rejection { why, by: ours });
        assert_eq!((there, here), (Err(rejection), Err(rejection)));
        assert!(rejection.to_string().contains(cure), "{rejection}");
        // Nor is it believed that it is the right one.
        let other = challenge(&call(caller, ours.process), ours, &key());
        assert!(other.is_err() || hello.challenged(&key(), &received(&other.unwrap().challenge)).is_err());
    }
}

/// Of whoever has another key, plays another part, or was told something else.
#[test]
fn a_proof_is_for_one_side_of_one_exchange() {
    let (caller, called) = (identity(1, 5), identity(2, 6));
    let hello = call(caller, called.process);
    let no_key = |by| Err::<Agreed, _>(NotTaken::Rejected(Rejection { why: Why::Key, by }));
    let here = |challenge: &Outgoing, key: &ClusterKey| {
        hello.challenged(key, &received(challenge)).map(|(_, agreed)| agreed)
    };
    let good = challenge(&hello, called, &key()).unwrap();
    let other = ClusterKey::new([8; KEY_BYTES]);
    assert_eq!(here(&good.challenge, &other), no_key(called));

    // The answer to another call, be it of the same processes.
    for other in [Hello { nonce: [3; KEY_BYTES], ..hello }, call(identity(3, 5), called.process)] {
        let other = challenge(&other, called, &key()).unwrap();
        assert_eq!(here(&other.challenge, &key()), no_key(called));
    }

    // A proof that was made for another challenge, and what the other side said itself.
    let (proof, _) = hello.challenged(&key(), &received(&good.challenge)).unwrap();
    let hello_as_sent = Caller::of(&received(&hello.frame())).unwrap();
    let again = hello_as_sent.challenge(called, &key(), [9; KEY_BYTES]).unwrap();
    assert_eq!(again.proved(called, &received(&proof)), no_key(called));
    let own: Challenge = received(&good.challenge).open_hello(Kind::Challenge).unwrap();
    let reflected = Outgoing::hello(Kind::Proof, &Proof { proof: own.proof });
    assert_eq!(good.proved(called, &received(&reflected)), no_key(called));
    assert!(good.proved(called, &received(&hello.frame())).is_err());
    assert!(good.proved(called, &received(&proof)).is_ok());
}

#[test]
fn later_versions_may_say_more() {
    let (caller, called) = (identity(1, 5), identity(2, 6));
    let hello = call(caller, called.process);
    let frame = received(&Outgoing::hello(Kind::Hello, &More(hello)));
    let came = Caller::of(&frame).unwrap();
    assert_eq!(came.hello, hello);
    assert!(came.said.ends_with(b"and more"), "and what it says more is proved as well");
    let rest = Challenge { proof: [0; KEY_BYTES], by: called, nonce: [2; KEY_BYTES] };
    let mut more = said(&rest)[KEY_BYTES..].to_vec();
    more.extend(b"and more");
    let proof = key().proof(IS_CALLED, [&said(&hello), &more]);
    let challenge = Outgoing::hello(Kind::Challenge, &More(Challenge { proof, ..rest }));
    assert!(hello.challenged(&key(), &received(&challenge)).is_ok());
}

struct More<T>(T);

impl<T: Encoding> Encoding for More<T> {
    fn encode(&self, to: &mut Writer) {
        self.0.encode(to);
        to.raw(b"and more");
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::decode(from).map(Self)
    }
}
