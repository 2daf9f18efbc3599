//! What a truncation means to followers.

use std::sync::mpsc;
use std::time::Duration;

use mapwal::{Error, Follower, Lsn, Visibility};

use super::fill;
use crate::support::scratch::{append_stamped, open_small, scratch, stamped};
use crate::support::{append, drain_from, followers, read_only};

/// Everything that the follower has, until there is no more; what it was told instead of a record, too.
pub(super) fn drain(follower: &mut Follower) -> Vec<Result<(u64, Vec<u8>), u64>> {
    let mut drained = Vec::new();
    loop {
        match follower.next() {
            Ok(Some(record)) => drained.push(Ok((record.lsn().0, record.payload().to_vec()))),
            Ok(None) => return drained,
            Err(Error::Rewound { to }) => drained.push(Err(to.0)),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn followers_are_told_once_and_go_on_with_the_new_records() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log);
    log.sync().unwrap();
    let reader = read_only(dir.path()).unwrap();
    let mut followers = Vec::new();
    for visibility in [Visibility::Published, Visibility::Durable] {
        followers.push(log.follow(Lsn(1), visibility).unwrap());
        followers.push(reader.follow(Lsn(1), visibility).unwrap());
    }
    for follower in &mut followers {
        assert_eq!(drain(follower).len(), 30);
    }
    // Twice, unheard of in between: what counts is the lower of the two.
    log.truncate_after(Lsn(15)).unwrap();
    append_stamped(&log, 500, 100, 3);
    log.truncate_after(Lsn(16)).unwrap();
    append_stamped(&log, 1_000, 100, 2);
    log.sync().unwrap();
    for follower in &mut followers {
        let told = drain(follower);
        let new = [(16, stamped(500, 100)), (17, stamped(1_000, 100)), (18, stamped(1_001, 100))];
        assert_eq!(told, [Err(16)].into_iter().chain(new.into_iter().map(Ok)).collect::<Vec<_>>());
    }
    // Told at the end of what it has read, and then told again of a later truncation further down.
    log.truncate_after(Lsn(17)).unwrap();
    for follower in &mut followers {
        assert_eq!(drain(follower), [Err(18)]);
    }
    log.truncate_after(Lsn(12)).unwrap();
    for follower in &mut followers {
        assert_eq!(drain(follower), [Err(13)]);
    }
}

#[test]
fn a_follower_of_durable_records_takes_none_by_the_watermark_of_another_history() {
    for foreign in [false, true] {
        let dir = scratch();
        let log = open_small(dir.path());
        append_stamped(&log, 1, 100, 7);
        log.sync().unwrap();
        append_stamped(&log, 8, 100, 3);
        let reader = read_only(dir.path()).unwrap();
        let follow = |visibility| {
            if foreign { reader.follow(Lsn(1), visibility) } else { log.follow(Lsn(1), visibility) }.unwrap()
        };
        // One of published records has the reader know the others before they are durable.
        assert_eq!(drain(&mut follow(Visibility::Published)).len(), 10);
        let mut follower = follow(Visibility::Durable);
        assert_eq!(drain(&mut follower).len(), 7);
        log.truncate_after(Lsn(5)).unwrap();
        append_stamped(&log, 1_000, 100, 5);
        assert_eq!(drain(&mut follower), [Err(6)], "nothing new is durable");
        log.sync().unwrap();
        let new = (0..5).map(|at| Ok((6 + at, stamped(1_000 + at, 100)))).collect::<Vec<_>>();
        assert_eq!(drain(&mut follower), new);
    }
}

#[test]
fn a_follower_that_waits_for_a_number_is_not_given_the_one_before() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 100, 3);
    let (entered, inside) = mpsc::channel();
    let (leave, go) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let log = &log;
        scope.spawn(move || {
            log.append_with(7, 100, |bytes| {
                entered.send(()).unwrap();
                go.recv().unwrap();
                bytes.copy_from_slice(&stamped(4, 100));
            })
        });
        inside.recv().unwrap();
        log.append(7, &stamped(5, 100)).unwrap();
        let mut follower = log.follow(Lsn(5), Visibility::Published).unwrap();
        assert!(follower.next().unwrap().is_none());
        leave.send(()).unwrap();
        let record = follower.next_timeout(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!((record.lsn(), record.payload()), (Lsn(5), &stamped(5, 100)[..]));
    });
}

#[test]
fn a_truncation_while_nothing_is_durable_beyond_is_reported() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=100);
    log.sync().unwrap();
    for mut follower in followers(&log, 1, Visibility::Durable) {
        let next = drain_from(&mut follower, 1);
        // Drops nothing that the follower has seen, but makes it look for its place anew.
        append(&log, next..=next + 10);
        log.truncate_after(Lsn(next + 4)).unwrap();
        append(&log, next + 5..=next + 5);
        assert_eq!(drain_from(&mut follower, next), next + 5);
        let kept = next - 40;
        log.truncate_after(Lsn(kept)).unwrap();
        append(&log, kept + 1..=next + 20);
        log.sync().unwrap();
        assert!(matches!(follower.next(), Err(Error::Rewound { to }) if to == Lsn(kept + 1)));
        assert_eq!(drain_from(&mut follower, kept + 1), next + 21);
    }
}

#[test]
fn a_truncation_between_following_and_the_first_look_is_reported_if_it_takes_what_lies_before() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=100);
    for mut follower in followers(&log, 101, Visibility::Published) {
        log.truncate_after(Lsn(60)).unwrap();
        append(&log, 61..=100);
        assert!(matches!(follower.next(), Err(Error::Rewound { to: Lsn(61) })));
        assert_eq!(drain_from(&mut follower, 61), 101);
    }
}
