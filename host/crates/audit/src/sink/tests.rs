//! Sinks beside servers that follow a script: down, busy, picky, and talking nonsense.

use std::collections::{BTreeSet, VecDeque};
use std::io::{Read as _, Seek as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aral_contract::AuditSink as _;
use aral_runtime::files;
use serde_json::{Value, json};

use super::elastic::Elastic;
use super::otlp::Otlp;
use super::stream::Stream;
use super::*;
use crate::testing::{Damage, Listener, event, open, options, session};
use crate::{AuditLog, LogOptions};

type Script = VecDeque<Box<dyn FnOnce(&[Outgoing]) -> Delivery + Send>>;

/// Answers as the script says, and then takes everything.
#[derive(Clone, Default)]
struct Scripted {
    script: Arc<Mutex<Script>>,
    taken: Arc<Mutex<Vec<u64>>>,
    sizes: Arc<Mutex<Vec<usize>>>,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    fn then(self, answer: impl FnOnce(&[Outgoing]) -> Delivery + Send + 'static) -> Self {
        self.script.lock().unwrap().push_back(Box::new(answer));
        self
    }

    fn taken(&self) -> Vec<u64> {
        self.taken.lock().unwrap().clone()
    }
}

impl Exporter for Scripted {
    fn deliver<'a>(&'a self, _log: LogId, batch: &'a [Outgoing]) -> DeliveryFuture<'a> {
        let seqs = batch.iter().map(|outgoing| outgoing.entry.seq);
        self.sizes.lock().unwrap().push(batch.len());
        let delivery = match self.script.lock().unwrap().pop_front() {
            Some(answer) => answer(batch),
            None => Delivery::Done { refused: Vec::new() },
        };
        let again = match &delivery {
            Delivery::Done { .. } => Vec::new(),
            Delivery::Again { seqs, .. } => seqs.clone(),
            Delivery::Split { .. } => seqs.clone().collect(),
        };
        let taken = seqs.filter(|seq| !again.contains(seq));
        self.taken.lock().unwrap().extend(taken);
        Box::pin(std::future::ready(delivery))
    }
}

/// Panics when it is asked, then while it is waited for, and then takes everything.
#[derive(Debug, Default)]
struct Panicking {
    asked: AtomicUsize,
    takes: Scripted,
}

impl Exporter for Panicking {
    fn deliver<'a>(&'a self, log: LogId, batch: &'a [Outgoing]) -> DeliveryFuture<'a> {
        match self.asked.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("of the test"),
            1 => Box::pin(async { panic!("of the test") }),
            _ => self.takes.deliver(log, batch),
        }
    }
}

fn shipper(log: &AuditLog, exporter: impl Exporter + 'static) -> Shipper {
    Shipper::new(log, "test".parse().unwrap(), Box::new(exporter)).unwrap()
}

/// Ships a log of `count` records, of which the first says that it was opened, until it is closed.
async fn ship(exporter: Scripted, count: usize) -> SinkStatus {
    let folder = tempfile::tempdir().unwrap();
    let log = session(&options(folder.path()), count - 1);
    let shipper = shipper(&log, exporter);
    let status = shipper.status();
    log.close().unwrap();
    shipper.run().await.unwrap();
    status.borrow().clone()
}

#[tokio::test]
async fn everything_is_delivered_in_order_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes_max: 5000,
        ..options(folder.path())
    };
    let exporter = Scripted::default();
    for (records, position) in [(1200, 1201), (10, 1212)] {
        let log = session(&options, records);
        let shipper = shipper(&log, exporter.clone());
        let status = shipper.status();
        log.close().unwrap();
        shipper.run().await.unwrap();
        assert_eq!(status.borrow().position, position);
    }
    assert!(exporter.taken().into_iter().eq(0..1212));
    assert!(
        exporter
            .sizes
            .lock()
            .unwrap()
            .iter()
            .all(|size| *size <= BATCH_RECORDS_MAX)
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_the_other_end_is_down() {
    let down = |batch: &[Outgoing]| Delivery::again(batch, "it is down", None);
    let exporter = (0..20).fold(Scripted::default(), |exporter, _| exporter.then(down));
    let begun = tokio::time::Instant::now();
    let status = ship(exporter.clone(), 30).await;
    assert!(exporter.taken().into_iter().eq(0..30));
    assert_eq!((status.position, status.refused, status.failing), (30, 0, None));
    // 0.1 + 0.2 + ... + 25.6 s, and then 30 s each time.
    let waited = begun.elapsed();
    assert!(
        waited > Duration::from_secs(300) && waited < Duration::from_secs(400),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_panics_is_asked_again_and_nothing_is_removed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let log = session(&options(folder.path()), 29);
    let exporter = Panicking::default();
    let taking = exporter.takes.clone();
    let shipper = shipper(&log, exporter);
    let (mut status, holds) = (shipper.status(), Arc::clone(log.holds()));
    let failing = async {
        status.wait_for(|status| status.failing.is_some()).await.unwrap();
        (status.borrow().failing.clone().unwrap(), holds.lowest())
    };
    log.close().unwrap();
    let (shipped, (reason, held)) = tokio::join!(shipper.run(), failing);
    shipped.unwrap();
    assert!(reason.starts_with("the sink panicked") && held == 0, "{reason}, {held}");
    assert!(taking.taken().into_iter().eq(0..30));
    assert_eq!(status.borrow().failing, None);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_asks_for_no_patience_is_waited_for_all_the_same() {
    let busy = |batch: &[Outgoing]| Delivery::again(batch, "it is busy", Some(Duration::ZERO));
    let exporter = (0..20).fold(Scripted::default(), |exporter, _| exporter.then(busy));
    let begun = tokio::time::Instant::now();
    ship(exporter.clone(), 30).await;
    assert!(exporter.taken().into_iter().eq(0..30));
    let waited = begun.elapsed();
    assert!(waited > Duration::from_secs(300), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn only_what_was_not_taken_is_sent_again() {
    let exporter = Scripted::default().then(|batch| Delivery::Again {
        seqs: vec![batch[3].entry.seq, batch[7].entry.seq],
        refused: vec![Refused {
            seq: batch[5].entry.seq,
            reason: "no".to_owned(),
        }],
        reason: "busy".to_owned(),
        after: Some(Duration::from_secs(3600)),
    });
    let begun = tokio::time::Instant::now();
    let status = ship(exporter.clone(), 10).await;
    assert_eq!(exporter.taken(), [0, 1, 2, 4, 5, 6, 8, 9, 3, 7]);
    assert_eq!((status.position, status.refused), (10, 1));
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "the other end does not decide that it is never sent"
    );
}

#[tokio::test]
async fn what_is_refused_as_a_whole_is_sent_in_pieces_until_only_what_is_wrong_stays_out() {
    #[derive(Debug, Clone, Default)]
    struct NotSeven(Arc<Mutex<Vec<u64>>>);
    impl Exporter for NotSeven {
        fn deliver<'a>(&'a self, _log: LogId, batch: &'a [Outgoing]) -> DeliveryFuture<'a> {
            let seqs: Vec<u64> = batch.iter().map(|outgoing| outgoing.entry.seq).collect();
            let delivery = if seqs.contains(&7) {
                Delivery::Split {
                    reason: "no".to_owned(),
                }
            } else {
                self.0.lock().unwrap().extend(seqs);
                Delivery::Done { refused: Vec::new() }
            };
            Box::pin(std::future::ready(delivery))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let log = session(&options(folder.path()), 19);
    let exporter = NotSeven::default();
    let shipper = shipper(&log, exporter.clone());
    let status = shipper.status();
    log.close().unwrap();
    shipper.run().await.unwrap();
    let mut taken = exporter.0.lock().unwrap().clone();
    // The one behind it, once more.
    taken.dedup();
    assert!(taken.into_iter().eq((0..20).filter(|seq| *seq != 7)));
    assert_eq!((status.borrow().position, status.borrow().refused), (20, 1));
}

type Says = fn(&[Outgoing]) -> Delivery;
type Poison = fn(u64) -> bool;

/// Refuses everything, in its way, until it is told not to, and then whatever has poison in it.
#[derive(Debug, Clone)]
struct Refusing {
    says: Says,
    refuses: Arc<AtomicBool>,
    poison: Poison,
    asked: Arc<AtomicUsize>,
    taken: Arc<Mutex<Vec<u64>>>,
}

impl Refusing {
    fn new(says: Says, poison: Poison) -> Self {
        Self {
            says,
            refuses: Arc::new(AtomicBool::new(true)),
            poison,
            asked: Arc::default(),
            taken: Arc::default(),
        }
    }

    /// What arrived, in order.
    fn taken(&self) -> Vec<u64> {
        let mut taken = self.taken.lock().unwrap().clone();
        taken.sort_unstable();
        taken
    }
}

impl Exporter for Refusing {
    fn deliver<'a>(&'a self, _log: LogId, batch: &'a [Outgoing]) -> DeliveryFuture<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let seqs = || batch.iter().map(|outgoing| outgoing.entry.seq);
        let delivery = if self.refuses.load(Ordering::Relaxed) || seqs().any(self.poison) {
            (self.says)(batch)
        } else {
            self.taken.lock().unwrap().extend(seqs());
            Delivery::Done { refused: Vec::new() }
        };
        Box::pin(std::future::ready(delivery))
    }
}

fn splits(_batch: &[Outgoing]) -> Delivery {
    Delivery::Split {
        reason: "status 400".to_owned(),
    }
}

fn refuses_each(batch: &[Outgoing]) -> Delivery {
    let refused = batch.iter().map(|outgoing| Refused {
        seq: outgoing.entry.seq,
        reason: "status 400".to_owned(),
    });
    Delivery::Done {
        refused: refused.collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_everything_is_waited_for() {
    for says in [splits as Says, refuses_each] {
        let folder = tempfile::tempdir().unwrap();
        let log = session(&options(folder.path()), 19);
        let exporter = Refusing::new(says, |_| false);
        let shipper = shipper(&log, exporter.clone());
        let status = shipper.status();
        log.close().unwrap();
        let running = tokio::spawn(shipper.run());
        tokio::time::sleep(Duration::from_secs(10)).await;
        let asked = exporter.asked.load(Ordering::Relaxed);
        assert!((1..40).contains(&asked), "{asked}");
        let seen = status.borrow().clone();
        assert_eq!((seen.position, seen.refused), (0, 0));
        assert!(seen.failing.is_some_and(|reason| reason.contains("status 400")));
        exporter.refuses.store(false, Ordering::Relaxed);
        running.await.unwrap().unwrap();
        assert_eq!(exporter.taken(), (0..20).collect::<Vec<_>>());
        let seen = status.borrow().clone();
        assert_eq!((seen.position, seen.refused, seen.failing), (20, 0, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_refused_alone_waits_for_one_that_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let log = session(&options(folder.path()), 0);
    let exporter = Refusing::new(splits, |seq| seq == 0);
    exporter.refuses.store(false, Ordering::Relaxed);
    let shipper = shipper(&log, exporter.clone());
    let mut status = shipper.status();
    let running = tokio::spawn(shipper.run());
    status.wait_for(|status| status.failing.is_some()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((status.borrow().position, status.borrow().refused), (0, 0));
    log.record(event("next"));
    log.flush().unwrap();
    log.close().unwrap();
    running.await.unwrap().unwrap();
    assert_eq!((status.borrow().position, status.borrow().refused), (2, 1));
    assert_eq!(exporter.taken(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_what_it_has_and_nothing_new_is_waited_for() {
    for says in [splits, refuses_each as Says] {
        let folder = tempfile::tempdir().unwrap();
        let log = session(&options(folder.path()), 19);
        let exporter = Refusing::new(says, |seq| seq >= 20);
        exporter.refuses.store(false, Ordering::Relaxed);
        let shipper = shipper(&log, exporter.clone());
        let mut status = shipper.status();
        let running = tokio::spawn(shipper.run());
        status.wait_for(|status| status.position == 20).await.unwrap();
        for number in 20..1000 {
            log.record(event(&number.to_string()));
        }
        log.flush().unwrap();
        status.wait_for(|status| status.failing.is_some()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!((status.borrow().position, status.borrow().refused), (20, 0));
        running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_again_what_it_got_out_of_its_turn_and_nothing_new_is_waited_for() {
    /// Refuses the first batch, has no time for the second, and is full then: it takes what it has, and nothing new.
    #[derive(Debug, Clone, Default)]
    struct Filling {
        has: Arc<Mutex<BTreeSet<u64>>>,
        is_full: Arc<AtomicBool>,
    }
    impl Exporter for Filling {
        fn deliver<'a>(&'a self, _log: LogId, batch: &'a [Outgoing]) -> DeliveryFuture<'a> {
            let is_full = self.is_full.load(Ordering::Relaxed);
            let seqs: Vec<u64> = batch.iter().map(|outgoing| outgoing.entry.seq).collect();
            let mut has = self.has.lock().unwrap();
            let delivery = if seqs.iter().all(|seq| has.contains(seq)) {
                Delivery::Done { refused: Vec::new() }
            } else if is_full || seqs.iter().any(|seq| *seq < 500) {
                refuses_each(batch)
            } else if seqs.contains(&500) {
                Delivery::again(batch, "busy", None)
            } else {
                has.extend(seqs);
                Delivery::Done { refused: Vec::new() }
            };
            Box::pin(std::future::ready(delivery))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let log = session(&options(folder.path()), 1_099);
    let exporter = Filling::default();
    let shipper = shipper(&log, exporter.clone());
    let mut status = shipper.status();
    let running = tokio::spawn(shipper.run());
    let busy = |status: &SinkStatus| status.failing.as_deref() == Some("busy");
    status.wait_for(busy).await.unwrap();
    assert!(exporter.has.lock().unwrap().iter().eq(&[1_099]));
    for number in 1_100..1_500 {
        log.record(event(&number.to_string()));
    }
    log.flush().unwrap();
    exporter.is_full.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let seen = status.borrow().clone();
    assert_eq!((seen.position, seen.refused), (500, 500));
    assert!(seen.failing.is_some_and(|reason| reason.contains("status 400")));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_begins_within_a_batch_loses_nothing_of_it() {
    // The half of a batch that is too large is taken. Then everything is refused: five halves, and three records
    // and one from further on each time.
    let begun = Scripted::default()
        .then(splits)
        .then(|_| Delivery::Done { refused: Vec::new() });
    let exporter = (0..9 + 4 * 10).fold(begun, |exporter, _| exporter.then(splits));
    let status = ship(exporter.clone(), 40).await;
    assert_eq!((status.position, status.refused, status.failing), (40, 0, None));
    assert!(
        exporter.taken().into_iter().eq(0..40),
        "nothing of the first half is sent again"
    );
}

#[tokio::test(start_paused = true)]
async fn what_one_of_two_servers_refuses_and_the_other_takes_is_delivered() {
    /// Two servers that take turns, of which one refuses everything.
    #[derive(Debug, Clone)]
    struct Turns(Refusing);
    impl Exporter for Turns {
        fn deliver<'a>(&'a self, log: LogId, batch: &'a [Outgoing]) -> DeliveryFuture<'a> {
            let Self(servers) = self;
            let turn = servers.asked.load(Ordering::Relaxed);
            servers.refuses.store(turn.is_multiple_of(2), Ordering::Relaxed);
            servers.deliver(log, batch)
        }
    }
    for says in [splits as Says, refuses_each] {
        let folder = tempfile::tempdir().unwrap();
        let log = session(&options(folder.path()), 699);
        let exporter = Turns(Refusing::new(says, |_| false));
        let shipper = shipper(&log, exporter.clone());
        let status = shipper.status();
        log.close().unwrap();
        shipper.run().await.unwrap();
        assert_eq!((status.borrow().position, status.borrow().refused), (700, 0));
        let mut taken = exporter.0.taken();
        taken.dedup();
        assert_eq!(taken, (0..700).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_ends_within_a_row_loses_nothing_of_it() {
    // Ten are parted four times. Three are refused one by one, and the newest one is taken; then the server is busy once.
    let row = (0..4 + 3).fold(Scripted::default(), |exporter, _| exporter.then(splits));
    let exporter = row
        .then(|_| Delivery::Done { refused: Vec::new() })
        .then(|batch| Delivery::again(batch, "busy", None));
    let status = ship(exporter.clone(), 10).await;
    assert_eq!((status.position, status.refused, status.failing), (10, 0, None));
    assert!(exporter.taken().into_iter().eq(std::iter::once(9).chain(0..10)));
    // A whole batch, which another server takes only in halves.
    let exporter = Scripted::default()
        .then(|batch| Delivery::again(batch, "busy", None))
        .then(refuses_each)
        .then(|_| Delivery::Done { refused: Vec::new() })
        .then(splits);
    let status = ship(exporter.clone(), 501).await;
    assert_eq!((status.position, status.refused, status.failing), (501, 0, None));
    assert_eq!(*exporter.sizes.lock().unwrap(), [500, 500, 1, 500, 250, 250, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_begins_anew_within_a_row_loses_nothing_of_it() {
    // As above, until the newest one is taken. Then each of the three is refused twice, and twice one from further on, and from then
    // on three and one from further on each time.
    let row = (0..4 + 3).fold(Scripted::default(), |exporter, _| exporter.then(splits));
    let taken = row.then(|_| Delivery::Done { refused: Vec::new() });
    let exporter = (0..3 * 2 + 2 + 3 * 4).fold(taken, |exporter, _| exporter.then(splits));
    let status = ship(exporter.clone(), 10).await;
    assert_eq!((status.position, status.refused, status.failing), (10, 0, None));
    assert!(exporter.taken().into_iter().eq(std::iter::once(9).chain(0..10)));
    // The same, but the server is busy before all of the row was sent again.
    let row = (0..4 + 3).fold(Scripted::default(), |exporter, _| exporter.then(splits));
    let taken = row.then(|_| Delivery::Done { refused: Vec::new() });
    let exporter = taken
        .then(splits)
        .then(splits)
        .then(|batch| Delivery::again(batch, "busy", None));
    let status = ship(exporter.clone(), 10).await;
    assert_eq!((status.position, status.refused, status.failing), (10, 0, None));
    assert!(exporter.taken().into_iter().eq(std::iter::once(9).chain(0..10)));
    // A whole batch.
    let taken = Scripted::default()
        .then(refuses_each)
        .then(|_| Delivery::Done { refused: Vec::new() });
    let exporter = (0..4).fold(taken, |exporter, _| exporter.then(refuses_each));
    let status = ship(exporter.clone(), 501).await;
    assert_eq!((status.position, status.refused, status.failing), (501, 0, None));
    assert_eq!(*exporter.sizes.lock().unwrap(), [500, 1, 500, 500, 1, 1, 500, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_sent_again_so_often_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let log = session(&options(folder.path()), 1);
    let exporter = Refusing::new(splits, |seq| seq == 0);
    exporter.refuses.store(false, Ordering::Relaxed);
    let shipper = shipper(&log, exporter.clone());
    let status = shipper.status();
    log.close().unwrap();
    shipper.run().await.unwrap();
    assert_eq!((status.borrow().position, status.borrow().refused), (2, 1));
    // Both, each of them, the first one again, and what was taken.
    assert_eq!(exporter.asked.load(Ordering::Relaxed), 3 + REFUSED_AGAIN_MAX + 1);
    assert_eq!(exporter.taken(), [1, 1]);
}

/// Ships a log of `count` records to a server that refuses those with poison, in whatever way, and takes the others: how that
/// ended, how long it took, and what arrived, in order.
async fn poisoned(says: Says, poison: Poison, count: usize) -> (SinkStatus, Duration, Vec<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let log = session(&options(folder.path()), count - 1);
    let exporter = Refusing::new(says, poison);
    exporter.refuses.store(false, Ordering::Relaxed);
    let shipper = shipper(&log, exporter.clone());
    let status = shipper.status();
    log.close().unwrap();
    let begun = tokio::time::Instant::now();
    shipper.run().await.unwrap();
    let (status, taken) = (status.borrow().clone(), exporter.taken.lock().unwrap().clone());
    (status, begun.elapsed(), taken)
}

#[tokio::test(start_paused = true)]
async fn refused_records_that_fill_a_batch_hold_up_nothing() {
    // One by one, and all of a batch in one answer. The newest one shows for each three, and each rest of a batch, that others are
    // taken, but for the last one, behind which is one that is; and then for each of these that it is refused for good.
    let cases: [(Says, Poison, u64, usize); 2] = [
        (splits, |seq| seq < 600, 600, 200 + 201),
        (refuses_each, |seq| seq < 500, 500, 1 + 1),
    ];
    for (says, poison, refused, shown) in cases {
        let (status, waited, mut taken) = poisoned(says, poison, 700).await;
        assert_eq!((status.position, status.refused, status.failing), (700, refused, None));
        assert_eq!(waited, Duration::ZERO);
        taken.sort_unstable();
        let expected = (refused..700).chain(std::iter::repeat_n(699, shown));
        assert_eq!(taken, expected.collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn the_others_of_a_batch_are_delivered_soon() {
    let cases: [(Poison, usize, u64, usize); 2] = [
        (|seq| seq < 20, 25, 20, 0),
        (|seq| seq < 20 || (25..28).contains(&seq), 29, 23, 1),
    ];
    for (poison, count, refused, behind) in cases {
        let (status, waited, mut taken) = poisoned(splits, poison, count).await;
        assert_eq!((status.position, status.refused), (count as u64, refused));
        assert!(waited < Duration::from_secs(10), "{waited:?}");
        // For each three, but the last of the first twenty, and then for all of these that they are refused.
        let shown = 6 + behind + 7 + behind;
        let newest = count as u64 - 1;
        taken.sort_unstable();
        let expected = (20..25.min(newest)).chain(std::iter::repeat_n(newest, shown + 1));
        assert_eq!(taken, expected.collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_most_records_holds_up_none_that_it_takes() {
    let (status, waited, _taken) = poisoned(splits, |seq| seq % 10 != 9, 2_990).await;
    assert_eq!((status.position, status.refused), (2_990, 2_691));
    assert_eq!(waited, Duration::ZERO);
}

#[test]
fn what_is_tried_out_of_its_turn_is_the_newest_the_first_and_then_any() {
    let tried = |in_vain| super::doubted::probe_at(3, 7, in_vain).unwrap();
    assert!((0..10).map(tried).eq([6, 3, 5, 4, 4, 5, 3, 6, 6, 3]));
    for (untried, end) in [(7, 7), (7, 3), (0, 0)] {
        assert_eq!(super::doubted::probe_at(untried, end, 5), None);
    }
    assert_eq!(super::doubted::probe_at(7, 8, u64::MAX), Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_refuses_for_a_while_ends_no_sink() {
    let folder = tempfile::tempdir().unwrap();
    let log = session(&options(folder.path()), 4);
    let exporter = Scripted::default();
    let shipper = shipper(&log, exporter.clone());
    let mut status = shipper.status();
    let dir = log.dir().try_clone().unwrap();
    let segment = crate::segment::file_name(0);
    // What the log says is on the disk is not there.
    dir.rename(&segment, &dir, "away").unwrap();
    let running = tokio::spawn(shipper.run());
    status.wait_for(|status| status.failing.is_some()).await.unwrap();
    // Then it is, and where the sink stands cannot be written.
    dir.remove_file("sink-test.json").unwrap();
    dir.create_dir("sink-test.json").unwrap();
    dir.rename("away", &dir, &segment).unwrap();
    let in_the_way = |status: &SinkStatus| {
        let failing = status.failing.as_ref();
        failing.is_some_and(|reason| reason.contains("sink-test.json"))
    };
    status.wait_for(in_the_way).await.unwrap();
    assert_eq!(status.borrow().position, 0);
    dir.remove_dir("sink-test.json").unwrap();
    status.wait_for(|status| status.position == 5).await.unwrap();
    assert_eq!(status.borrow().failing, None);
    log.close().unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(exporter.taken(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test damages a file")]
async fn what_stands_before_a_damaged_record_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let log = session(&options, 5);
    let exporter = Scripted::default();
    let shipper = shipper(&log, exporter.clone());
    let status = shipper.status();
    log.end().unwrap();
    let segment = options.directory.join(crate::segment::file_name(0));
    let text = std::fs::read_to_string(&segment).unwrap();
    assert!(text.contains("{\"seq\":3,"), "{text}");
    std::fs::write(&segment, text.replace("{\"seq\":3,", "{\"seq\":4,")).unwrap();
    let error = shipper.run().await.unwrap_err();
    assert!(matches!(error, crate::ReadError::Damaged { seq: 3 }), "{error}");
    assert_eq!(exporter.taken(), [0, 1, 2]);
    // It says that it goes no further, and retention leaves what it has not delivered.
    let status = status.borrow().clone();
    assert!(status.stopped && status.failing.is_some_and(|reason| reason.contains("record 3")));
    assert_eq!((status.position, log.holds().lowest()), (3, 3));
}

#[tokio::test]
async fn a_sink_stops_where_a_segment_is_gone_or_cut_off_and_later_ones_are_there() {
    for damage in Damage::ALL {
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions {
            segment_bytes_max: 1200,
            ..options(folder.path())
        };
        let log = session(&options, 60);
        let exporter = Scripted::default();
        let shipper = shipper(&log, exporter.clone());
        let status = shipper.status();
        log.end().unwrap();
        let seq = damage.happens(&options);
        let error = shipper.run().await.unwrap_err();
        assert!(
            matches!(error, crate::ReadError::Damaged { seq: told } if told == seq),
            "{damage:?}: {error}"
        );
        assert!(exporter.taken().into_iter().eq(0..seq), "{damage:?}");
        let status = status.borrow().clone();
        assert!(status.stopped && status.failing.is_some(), "{damage:?}: {status:?}");
        assert_eq!((status.position, log.holds().lowest()), (seq, seq), "{damage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_stops_where_a_record_that_is_on_the_disk_is_in_no_file_for_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let log = session(&options(folder.path()), 4);
    let shipper = shipper(&log, Scripted::default());
    let status = shipper.status();
    let segment = crate::segment::file_name(0);
    log.dir().rename(&segment, log.dir(), "away").unwrap();
    let begun = tokio::time::Instant::now();
    let error = shipper.run().await.unwrap_err();
    assert!(matches!(error, crate::ReadError::Damaged { seq: 0 }), "{error}");
    let waited = begun.elapsed();
    assert!(
        waited > Duration::from_secs(30) && waited < Duration::from_secs(90),
        "{waited:?}"
    );
    let status = status.borrow().clone();
    assert!(status.stopped, "{status:?}");
    assert_eq!((status.position, log.holds().lowest()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_in_no_file_has_its_minute_also_after_a_long_wait_for_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let log = session(&options(folder.path()), 4);
    let exporter = Refusing::new(splits, |_| false);
    let shipper = shipper(&log, exporter.clone());
    let mut status = shipper.status();
    let dir = log.dir().try_clone().unwrap();
    let segment = crate::segment::file_name(0);
    let running = tokio::spawn(shipper.run());
    // By now it waits as long as it ever does.
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(status.borrow().position, 0);
    dir.rename(&segment, &dir, "away").unwrap();
    let in_no_file = |status: &SinkStatus| {
        let failing = status.failing.as_ref();
        failing.is_some_and(|reason| reason.contains("is not in the file"))
    };
    status.wait_for(in_no_file).await.unwrap();
    dir.rename("away", &dir, &segment).unwrap();
    exporter.refuses.store(false, Ordering::Relaxed);
    status.wait_for(|status| status.position == 5).await.unwrap();
    assert!(!status.borrow().stopped);
    log.close().unwrap();
    running.await.unwrap().unwrap();
}

#[test]
fn only_what_is_damaged_or_gone_ends_a_sink() {
    use crate::ReadError;
    use crate::segment::SegmentError;
    let read = |kind: std::io::ErrorKind| SegmentError::Read {
        name: "0".to_owned(),
        source: kind.into(),
    };
    // As a listing says it.
    let not_looked_at = files::FilesError::Io {
        action: "look at",
        path: "0".into(),
        source: std::io::ErrorKind::Other.into(),
    };
    for (error, is_for_good) in [
        (ReadError::Segment(read(std::io::ErrorKind::Other)), false),
        (ReadError::Segment(SegmentError::TooMany), false),
        (ReadError::Segment(not_looked_at.into()), false),
        (ReadError::Segment(SegmentError::Header { name: "0".to_owned() }), true),
        (ReadError::Gone { wanted: 0, first: 1 }, true),
        (ReadError::Damaged { seq: 0 }, true),
    ] {
        assert_eq!(error.is_for_good(), is_for_good, "{error}");
    }
}

#[tokio::test]
async fn what_the_log_can_still_lose_is_not_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let log = session(&options(folder.path()), 1);
    let exporter = Scripted::default();
    let running = tokio::spawn(shipper(&log, exporter.clone()).run());
    log.record(event("not on the disk yet"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(exporter.taken(), [0, 1]);
    log.flush().unwrap();
    log.close().unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(exporter.taken(), [0, 1, 2]);
}

#[tokio::test]
async fn a_sink_holds_back_retention_until_it_has_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes_max: 2000,
        retain_bytes_max: 4000,
        ..options(folder.path())
    };
    let log = open(&options);
    let exporter = Scripted::default();
    let waiting = shipper(&log, exporter.clone());
    for number in 0..60 {
        log.record(event(&number.to_string()));
        log.flush().unwrap();
    }
    let first = || crate::segment::list(log.dir()).unwrap()[0].first;
    assert_eq!(first(), 0);
    let running = tokio::spawn(waiting.run());
    while exporter.taken().len() < 61 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for number in 0..20 {
        log.record(event(&number.to_string()));
        log.flush().unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(first() > 0);
    log.close().unwrap();
    running.await.unwrap().unwrap();
    let taken = exporter.taken();
    assert!(taken.iter().copied().eq(0..taken.len() as u64));
}

#[tokio::test]
async fn a_sink_whose_position_is_beyond_the_end_of_the_log_goes_on_at_that_end() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    session(&options, 9).close().unwrap();
    let log = open(&options);
    let name: SinkName = "test".parse().unwrap();
    // As in a folder that was copied while the sink delivered.
    let write = || super::position::write(log.dir(), "test", log.id(), 15).unwrap();
    write();
    Shipper::elsewhere(&log, &name);
    let stands = super::position::read(log.dir(), "test", Some(log.id())).unwrap();
    assert_eq!(stands, Some(10), "it is written down before the log grows");
    write();
    let exporter = Scripted::default();
    let shipper = shipper(&log, exporter.clone());
    log.close().unwrap();
    shipper.run().await.unwrap();
    assert_eq!(exporter.taken(), [10], "the record that says that the log was opened");
}

#[test]
fn a_position_of_another_log_or_a_damaged_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&options(folder.path()));
    for bad in [
        &b"{}"[..],
        b"",
        br#"{"log":"00000000000000000000000000000000","next":3}"#,
    ] {
        aral_runtime::files::write_atomic(log.dir(), "sink-test.json", bad, 0o600).unwrap();
        let check = |log| check_position(&folder.path().join("log"), &"test".parse().unwrap(), log);
        assert!(check(Some(log.id())).is_err() && check(None).is_err());
        let error = Shipper::new(&log, "test".parse().unwrap(), Box::new(Scripted::default())).unwrap_err();
        assert!(error.to_string().contains("sink-test.json"), "{error}");
    }
    super::position::write(log.dir(), "test", log.id(), 0).unwrap();
    let check = |log| check_position(&folder.path().join("log"), &"test".parse().unwrap(), log);
    check(Some(log.id())).unwrap();
    assert!(check(None).is_err(), "the log that a host begins is another one");
    for bad in ["", "../lock", "A", "a b", &"a".repeat(65)] {
        assert!(bad.parse::<SinkName>().is_err(), "{bad}");
    }
}

#[derive(Debug, Clone)]
struct Canned {
    answer: Result<(u16, Value), ()>,
    sent: Arc<Mutex<Vec<(String, String)>>>,
}

impl Canned {
    fn new(status: u16, body: Value) -> Self {
        Self {
            answer: Ok((status, body)),
            sent: Arc::default(),
        }
    }
}

impl Transport for Canned {
    fn post<'a>(&'a self, path: &'a str, _content_type: &'static str, body: Vec<u8>) -> AnswerFuture<'a> {
        self.sent
            .lock()
            .unwrap()
            .push((path.to_owned(), String::from_utf8(body).unwrap()));
        let answer = match &self.answer {
            Ok((status, body)) => Ok(Answer {
                status: *status,
                retry_after: Some(Duration::from_secs(7)),
                body: body.to_string().into_bytes(),
            }),
            Err(()) => Err(TransportError("nobody is there".to_owned())),
        };
        Box::pin(std::future::ready(answer))
    }
}

fn batch(count: u64) -> (LogId, Vec<Outgoing>) {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let log = session(&options, usize::try_from(count).unwrap() - 1);
    let id = log.id();
    log.close().unwrap();
    let cursor = crate::Cursor::oldest(&options.directory).unwrap();
    let outgoing = cursor.map(|entry| {
        let entry = entry.unwrap();
        Outgoing {
            record: entry.record().unwrap(),
            entry,
        }
    });
    (id, outgoing.collect())
}

async fn elastic(transport: Canned, count: u64) -> Delivery {
    let (log, batch) = batch(count);
    Elastic::new("aral".to_owned(), Box::new(transport))
        .deliver(log, &batch)
        .await
}

fn created(statuses: &[u16]) -> Value {
    let item = |status: &u16| json!({"create": {"status": status, "error": {"reason": "a\nb"}}});
    json!({"errors": true, "items": statuses.iter().map(item).collect::<Vec<_>>()})
}

#[tokio::test]
async fn documents_are_the_records_under_their_numbers() {
    let canned = Canned::new(200, created(&[201, 201]));
    let (log, batch) = batch(2);
    let exporter = Elastic::new("aral".to_owned(), Box::new(canned.clone()));
    assert_eq!(
        exporter.deliver(log, &batch).await,
        Delivery::Done { refused: Vec::new() }
    );
    let sent = canned.sent.lock().unwrap().clone();
    let [(path, body)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(path, "/_bulk");
    let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        lines[2],
        json!({"create": {"_index": "aral", "_id": format!("{log}-1-{}", batch[1].leaf())}})
    );
    let mut document = lines[3].clone();
    let members = document.as_object_mut().unwrap();
    assert_eq!(members.remove("@timestamp").unwrap(), members["at"]);
    assert_eq!(members.remove("log").unwrap(), log.to_string());
    assert_eq!(members.remove("leaf").unwrap(), batch[1].leaf().to_string());
    assert_eq!(document, serde_json::from_slice::<Value>(&batch[1].entry.line).unwrap());
}

#[tokio::test]
async fn another_record_under_the_same_number_is_another_document() {
    let (log, batch) = batch(2);
    let mut forked = batch[1].clone();
    forked.entry.line.insert(forked.entry.line.len() - 1, b' ');
    let canned = Canned::new(200, created(&[201]));
    let exporter = Elastic::new("aral".to_owned(), Box::new(canned.clone()));
    for outgoing in [&batch[1], &batch[1], &forked] {
        exporter.deliver(log, std::slice::from_ref(outgoing)).await;
    }
    let sent = canned.sent.lock().unwrap().clone();
    let id = |(_path, body): &(String, String)| {
        let action: Value = serde_json::from_str(body.lines().next().unwrap()).unwrap();
        action["create"]["_id"].as_str().unwrap().to_owned()
    };
    let ids: Vec<String> = sent.iter().map(id).collect();
    assert_eq!(ids[0], ids[1], "the same record has the same id each time");
    assert_ne!(ids[1], ids[2]);
    assert!(
        ids.iter().all(|id| id.len() < 512),
        "Elasticsearch takes no longer ones"
    );
}

#[tokio::test]
async fn errors_of_single_documents_are_told_apart() {
    let again = elastic(Canned::new(200, created(&[201, 429, 409, 400, 503])), 5).await;
    let Delivery::Again {
        seqs, refused, after, ..
    } = again
    else {
        panic!("{again:?}")
    };
    assert_eq!((seqs, after), (vec![1, 4], Some(Duration::from_secs(7))));
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].seq, 3);
    assert!(refused[0].reason.contains("status 400") && !refused[0].reason.contains('\n'));
    for status in [401, 403, 404] {
        let denied = elastic(Canned::new(200, created(&[status, status])), 2).await;
        let waits = matches!(&denied, Delivery::Again { seqs, refused, .. } if seqs.len() == 2 && refused.is_empty());
        assert!(waits, "a right that is missing loses nothing: {denied:?}");
    }
    let done = elastic(Canned::new(200, created(&[201, 400])), 2).await;
    assert!(matches!(done, Delivery::Done { refused } if refused.len() == 1));
}

#[tokio::test]
async fn answers_that_make_no_sense_or_refuse_everything_lose_nothing() {
    let all = |delivery: &Delivery| matches!(delivery, Delivery::Again { seqs, .. } if seqs.len() == 2);
    for (status, body) in [
        (200, json!("rubbish")),
        (200, created(&[201])),
        (200, created(&[201, 201, 201])),
        (401, json!({})),
        (404, json!({})),
        (429, json!({})),
        (503, json!({})),
        (302, json!({})),
        (200, json!(" ".repeat(ANSWER_BYTES_MAX))),
    ] {
        let delivery = elastic(Canned::new(status, body), 2).await;
        assert!(all(&delivery), "{status}: {delivery:?}");
    }
    let unreachable = Canned {
        answer: Err(()),
        sent: Arc::default(),
    };
    assert!(all(&elastic(unreachable, 2).await));
    for status in [400, 413] {
        assert!(matches!(
            elastic(Canned::new(status, json!({})), 2).await,
            Delivery::Split { .. }
        ));
    }
}

#[tokio::test]
async fn log_records_hold_the_line_and_what_to_find_it_by() {
    let canned = Canned::new(200, json!({"partialSuccess": null}));
    let (log, batch) = batch(2);
    let exporter = Otlp::new("host-1".to_owned(), Box::new(canned.clone()));
    assert_eq!(
        exporter.deliver(log, &batch).await,
        Delivery::Done { refused: Vec::new() }
    );
    let sent = canned.sent.lock().unwrap().clone();
    assert_eq!(sent[0].0, "/v1/logs");
    let body: Value = serde_json::from_str(&sent[0].1).unwrap();
    let resource = &body["resourceLogs"][0];
    assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "host-1");
    let record = &resource["scopeLogs"][0]["logRecords"][1];
    assert_eq!(
        record["body"]["stringValue"].as_str().unwrap().as_bytes(),
        batch[1].entry.line
    );
    assert_eq!(
        (&record["severityNumber"], &record["severityText"]),
        (&json!(9), &json!("INFO"))
    );
    assert_eq!(record["timeUnixNano"], "1767225600000000000");
    assert_eq!(record["attributes"][0]["value"]["stringValue"], "aral.audit.lifecycle");
}

#[tokio::test]
async fn records_that_a_collector_rejects_while_it_takes_others_are_counted_and_not_sent_again() {
    for rejected in [json!("2"), json!(2)] {
        let canned = Canned::new(
            200,
            json!({"partialSuccess": {"rejectedLogRecords": rejected, "errorMessage": "too\nold"}}),
        );
        let (log, batch) = batch(3);
        let delivery = Otlp::new("host".to_owned(), Box::new(canned))
            .deliver(log, &batch)
            .await;
        let Delivery::Done { refused } = delivery else {
            panic!("{delivery:?}")
        };
        assert_eq!(refused.len(), 2);
        assert!(refused[0].reason.contains("2 of records 0 to 2") && refused[0].reason.contains("too\\nold"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_a_collector_rejects_as_a_whole_is_sent_again_until_something_is_taken() {
    /// Rejects everything so often, and then takes everything.
    #[derive(Debug)]
    struct Rejecting(AtomicUsize);
    impl Transport for Rejecting {
        fn post<'a>(&'a self, _path: &'a str, _content_type: &'static str, _body: Vec<u8>) -> AnswerFuture<'a> {
            let left = self.0.load(Ordering::Relaxed);
            self.0.store(left.saturating_sub(1), Ordering::Relaxed);
            let rejects = b"{\"partialSuccess\": {\"rejectedLogRecords\": \"500\"}}";
            Box::pin(std::future::ready(Ok(Answer {
                status: 200,
                retry_after: None,
                body: if left > 0 { rejects.to_vec() } else { Vec::new() },
            })))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let log = session(&options(folder.path()), 9);
    let transport = Box::new(Rejecting(AtomicUsize::new(5)));
    let shipper = shipper(&log, Otlp::new("host".to_owned(), transport));
    let status = shipper.status();
    log.close().unwrap();
    shipper.run().await.unwrap();
    assert_eq!((status.borrow().position, status.borrow().refused), (10, 0));
}

#[tokio::test]
async fn what_no_collector_says_is_no_delivery() {
    #[derive(Debug)]
    struct Raw(Vec<u8>);
    impl Transport for Raw {
        fn post<'a>(&'a self, _path: &'a str, _content_type: &'static str, _body: Vec<u8>) -> AnswerFuture<'a> {
            Box::pin(std::future::ready(Ok(Answer {
                status: 200,
                retry_after: None,
                body: self.0.clone(),
            })))
        }
    }
    async fn otlp(body: &[u8]) -> Delivery {
        let (log, batch) = batch(3);
        let exporter = Otlp::new("host".to_owned(), Box::new(Raw(body.to_vec())));
        exporter.deliver(log, &batch).await
    }
    for body in [
        &b"<html>Please log in</html>"[..],
        b"\"ok\"",
        b"[null]",
        b"{\"partialSuccess\": 5}",
        b"{\"partialSuccess\": {\"rejectedLogRecords\": \"many\"}}",
    ] {
        let delivery = otlp(body).await;
        let waits = matches!(&delivery, Delivery::Again { seqs, .. } if seqs.len() == 3);
        assert!(waits, "{}: {delivery:?}", String::from_utf8_lossy(body));
    }
    for body in [
        &b""[..],
        b"{}",
        b"{\"partialSuccess\": {\"errorMessage\": \"a warning\"}}",
    ] {
        assert_eq!(otlp(body).await, Delivery::Done { refused: Vec::new() });
    }
    let null = b"{\"partialSuccess\": {\"rejectedLogRecords\": \"500\", \"errorMessage\": null}}";
    assert!(matches!(otlp(null).await, Delivery::Done { refused } if refused.len() == 3));
}

#[tokio::test]
async fn a_stream_gets_the_lines_of_the_log() {
    let mut kept = tempfile::tempfile().unwrap();
    let (log, batch) = batch(2);
    let stream = Stream::new(Box::new(kept.try_clone().unwrap()));
    assert_eq!(
        stream.deliver(log, &batch).await,
        Delivery::Done { refused: Vec::new() }
    );
    kept.rewind().unwrap();
    let mut text = Vec::new();
    kept.read_to_end(&mut text).unwrap();
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1].strip_suffix(b"\n").unwrap(), batch[1].entry.line);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_up_nobody_else() {
    struct Blocked(std::sync::mpsc::Receiver<()>);
    impl std::io::Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _read = self.0.recv_timeout(Duration::from_secs(10));
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (read, reading) = std::sync::mpsc::channel();
    let (log, batch) = batch(2);
    let stream = Stream::new(Box::new(Blocked(reading)));
    let mut delivery = stream.deliver(log, &batch);
    let waited = tokio::time::timeout(Duration::from_millis(50), &mut delivery).await;
    assert!(waited.is_err(), "it was written before anybody read: {waited:?}");
    read.send(()).unwrap();
    assert_eq!(delivery.await, Delivery::Done { refused: Vec::new() });
}

/// Counts the lines of the operator's log that say that retention waits.
#[derive(Clone, Default)]
struct Waits(Arc<AtomicUsize>);

impl tracing::field::Visit for Waits {
    fn record_debug(&mut self, _field: &tracing::field::Field, value: &dyn fmt::Debug) {
        if format!("{value:?}").contains("retention of the audit log waits") {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How often it is said that retention waits for a sink of another process.
fn waits(log: &AuditLog) -> usize {
    let waits = Waits::default();
    let name = "test".parse().unwrap();
    let hears = waits.clone();
    let listener = Listener(move |event: &tracing::Event<'_>| event.record(&mut hears.clone()));
    tracing::subscriber::with_default(listener, || Shipper::elsewhere(log, &name));
    waits.0.load(Ordering::Relaxed)
}

#[tokio::test]
async fn that_retention_waits_for_a_sink_of_another_process_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes_max: 2000,
        ..options(folder.path())
    };
    let log = session(&options, 60);
    assert_eq!(waits(&log), 0, "there is none, and never was");
    let sink = shipper(&log, Scripted::default());
    assert_eq!(waits(&log), 1, "it has delivered nothing");
    log.close().unwrap();
    sink.run().await.unwrap();
    assert_eq!(waits(&open(&options)), 0, "it has delivered everything");
}

#[test]
fn what_a_sink_of_another_process_needs_stays() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes_max: 2000,
        retain_bytes_max: 4000,
        ..options(folder.path())
    };
    let write = |log: &AuditLog| {
        for number in 0..60 {
            log.record(event(&number.to_string()));
            log.flush().unwrap();
        }
    };
    let name = "test".parse().unwrap();
    let log = session(&options, 1);
    // It starts, and delivers nothing.
    drop(shipper(&log, Scripted::default()));
    Shipper::elsewhere(&log, &name);
    write(&log);
    log.close().unwrap();
    assert_eq!(crate::testing::firsts(&options)[0], 0);
    // Where it stands cannot be read: nobody knows what it needs.
    let position = files::open_root(&options.directory).unwrap();
    files::write_atomic(&position, "sink-test.json", b"{}", 0o600).unwrap();
    let log = open(&options);
    Shipper::elsewhere(&log, &name);
    write(&log);
    log.close().unwrap();
    assert_eq!(crate::testing::firsts(&options)[0], 0);
    // There is none, and never was.
    position.remove_file("sink-test.json").unwrap();
    let log = open(&options);
    Shipper::elsewhere(&log, &name);
    write(&log);
    log.close().unwrap();
    assert!(crate::testing::firsts(&options)[0] > 0);
}
