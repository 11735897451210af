use ssegate_hub::EntryId;
use ssegate_hub::GapReason::{Reset, RolledBack, Trimmed};

use super::Comparison::{Missing, Same, Starts};
use super::{Comparison, StreamProgress};
use crate::source::redis::streams::model_stream::ModelStream;

fn id(milliseconds: u64) -> EntryId {
    EntryId { milliseconds, sequence: 0 }
}

/// The progress of a reader that has read all of a stream, the first entry excepted.
fn read(stream: &ModelStream) -> StreamProgress {
    let mut progress = StreamProgress::default();
    let mut before = ModelStream { is_old: stream.is_old, ..ModelStream::default() };
    before.add(stream.entries[0].0, stream.entries[0].1);
    assert_eq!(before.connect(&mut progress), Starts(before.last));
    for (_, _, comparison) in stream.read(&mut progress, usize::MAX) {
        assert_eq!(comparison, Same);
    }
    progress
}

fn comparisons(read: Vec<(EntryId, u32, Comparison)>) -> Vec<Comparison> {
    read.into_iter().map(|(_, _, comparison)| comparison).collect()
}

#[test]
fn entries_trimmed_before_they_were_read_are_detected() {
    let mut stream = ModelStream::of(1..=10);
    let mut progress = read(&stream);
    assert_eq!(stream.check(&mut progress), Same);
    (11..=16).for_each(|ms| stream.add(id(ms), 0));
    stream.trim(2);
    // Detected only when that entry is read.
    assert_eq!(stream.check(&mut progress), Same);
    let read = stream.read(&mut progress, 9);
    assert_eq!(comparisons(read), [Same, Missing(Trimmed, id(16))]);
    // Reported once.
    assert_eq!(stream.check(&mut progress), Same);
    stream.add(id(17), 0);
    assert_eq!(comparisons(stream.read(&mut progress, 9)), [Same]);
}

#[test]
fn a_trimmed_gap_counts_before_the_entry_that_shows_it() {
    // Of 16 entries four were trimmed unread: the last one shows it, while another check is pending.
    let mut stream = ModelStream::of(1..=10);
    let mut progress = read(&stream);
    (11..=16).for_each(|ms| stream.add(id(ms), 0));
    stream.trim(2);
    assert_eq!(stream.check(&mut progress), Same);
    progress.begin_check();
    let info = stream.info();
    assert_eq!(comparisons(stream.read(&mut progress, 9)), [Same, Missing(Trimmed, id(16))]);
    assert_eq!(progress.compare(&info, false), Same, "told once");
    // Another server lacks what followed: it has as many entries as were counted, and nothing more is missing.
    let there = stream.clone();
    (17..=19).for_each(|ms| stream.add(id(ms), 0));
    assert_eq!(comparisons(stream.read(&mut progress, 9)), [Same; 3]);
    assert_eq!(there.connect(&mut progress), Missing(RolledBack, id(16)));
    assert_eq!(there.check(&mut progress), Same);
}

#[test]
fn entries_read_while_xinfo_is_pending_are_no_difference() {
    let mut stream = ModelStream::of(1..=5);
    let mut progress = read(&stream);
    progress.begin_check();
    stream.add(id(6), 0);
    stream.add(id(7), 0);
    let info = stream.info();
    stream.add(id(8), 0);
    stream.read(&mut progress, 9);
    assert_eq!(progress.compare(&info, false), Same);
    assert_eq!(stream.check(&mut progress), Same);
}

#[test]
fn deleted_entries_are_not_awaited() {
    let mut stream = ModelStream::of(1..=5);
    let mut progress = read(&stream);
    stream.add(id(8), 0);
    stream.trim(0);
    assert_eq!(stream.check(&mut progress), Missing(Trimmed, id(8)));
    assert_eq!(progress.last, Some(id(8)));
    assert_eq!(stream.connect(&mut progress), Same);
}

/// What is told on a new connection, and which entries come then, where `before` was read and `after` is
/// there.
fn moved(before: &ModelStream, after: &ModelStream) -> (Comparison, Vec<u64>) {
    let mut progress = read(before);
    let comparison = after.connect(&mut progress);
    assert_eq!(after.connect(&mut progress), Same, "told once");
    let read = after.read(&mut progress, usize::MAX);
    assert!(read.iter().all(|(_, _, comparison)| *comparison == Same), "{read:?}");
    assert_eq!(after.check(&mut progress), Same);
    let read = read.into_iter().map(|(id, _, _)| id.milliseconds).collect();
    (comparison, read)
}

#[test]
fn what_another_server_lacks_is_told_and_only_what_is_new_there_is_read() {
    let common = 1000..=1009_u64;
    let old = |more: &[u64]| ModelStream::of(common.clone().chain(more.iter().copied()));
    let new = |more: &[u64]| {
        let mut stream = old(&[]);
        more.iter().for_each(|&ms| stream.add(id(ms), 7));
        stream
    };
    let back = |ms| Missing(RolledBack, id(ms));
    for (read, there, told, expected) in [
        // The same, or more.
        (old(&[]), old(&[]), Same, vec![]),
        (old(&[2000]), old(&[2000]), Same, vec![]),
        (old(&[2000]), old(&[2000, 2001]), Same, vec![2001]),
        // Less.
        (old(&[2000, 2001]), old(&[]), back(1009), vec![]),
        (old(&[2000, 2001]), old(&[2000]), back(2000), vec![]),
        // As many others, with ids below, between, the same, and above.
        (old(&[2001]), new(&[2000, 3000]), back(1009), vec![2000, 3000]),
        (old(&[2001]), new(&[2000]), back(1009), vec![2000]),
        (old(&[2001, 2003]), new(&[2000, 2002]), back(1009), vec![2000, 2002]),
        (old(&[2000, 2001]), new(&[2000, 2001]), back(1009), vec![2000, 2001]),
        (old(&[2001, 2004]), new(&[2000, 2004]), back(1009), vec![2000, 2004]),
        (old(&[2000]), new(&[3000]), back(1009), vec![3000]),
        // More others, and fewer.
        (old(&[2000]), new(&[1500, 1501, 1502]), back(1009), vec![1500, 1501, 1502]),
        (old(&[2000, 2001, 2002]), new(&[3000]), back(1009), vec![3000]),
    ] {
        for is_old in [false, true] {
            let read = ModelStream { is_old, ..read.clone() };
            let there = ModelStream { is_old, ..there.clone() };
            let result = moved(&read, &there);
            assert_eq!(result, (told, expected.clone()), "{read:?} {there:?}");
        }
    }
}

#[test]
fn a_stream_that_was_begun_anew_is_read_from_its_start() {
    let mut high = ModelStream::default();
    (30..35).for_each(|ms| high.add(id(ms), 1));
    let mut low = ModelStream::default();
    low.add(id(3), 1);
    let mut same = ModelStream::default();
    (1..=20).for_each(|ms| same.add(id(ms), 1000));
    let reset = Missing(Reset, EntryId::ZERO);
    for (there, ids) in [
        (ModelStream::default(), vec![]),
        (low, vec![3]),
        (high, (30..35).collect()),
        (same, (1..=20).collect()),
    ] {
        let before = ModelStream::of(1..=20);
        assert_eq!(moved(&before, &there), (reset, ids), "{there:?}");
        // Also where the connection stays.
        assert_eq!(there.check(&mut read(&before)), reset, "{there:?}");
    }
}

#[test]
fn deleted_and_trimmed_entries_are_no_other_stream() {
    let before = ModelStream::of(1..=20);
    for deleted in [&[20][..], &[19, 20], &[12, 18, 19, 20], &[1, 2, 3]] {
        let mut there = before.clone();
        deleted.iter().for_each(|&ms| there.delete(id(ms)));
        assert_eq!(moved(&before, &there), (Same, vec![]), "{deleted:?}");
        there.add(id(21), 1);
        assert_eq!(moved(&before, &there), (Same, vec![21]), "{deleted:?}");
    }
    for length in [0, 1, 5, 30] {
        let mut there = before.clone();
        there.trim(length);
        assert_eq!(moved(&before, &there), (Same, vec![]), "{length}");
        there.add(id(21), 1);
        assert_eq!(moved(&before, &there), (Same, vec![21]), "{length}");
    }
}

#[test]
fn what_redis_6_has_deleted_is_not_lost() {
    let before = ModelStream { is_old: true, ..ModelStream::of(1..=20) };
    for deleted in [&[20][..], &[19], &[19, 20], &[12, 18, 19, 20], &[1, 2, 3]] {
        let mut there = before.clone();
        deleted.iter().for_each(|&ms| there.delete(id(ms)));
        assert_eq!(moved(&before, &there), (Same, vec![]), "{deleted:?}");
        if !deleted.contains(&20) {
            there.add(id(21), 1);
            assert_eq!(moved(&before, &there), (Same, vec![21]), "{deleted:?}");
        }
    }
    // What others wrote instead, up to the same id, is another stream.
    let mut there = ModelStream { is_old: true, ..ModelStream::of(1..=15) };
    for ms in [16, 18, 20] {
        there.add(id(ms), 1000);
    }
    there.delete(id(20));
    assert_eq!(moved(&before, &there), (Missing(RolledBack, id(15)), vec![16, 18]));
}

#[test]
fn entries_of_another_writer_are_found_between_deleted_ones() {
    let before = ModelStream::of(1..=20);
    let mut there = ModelStream::of(1..=15);
    for ms in [16, 19, 21] {
        there.add(id(ms), 1000);
    }
    there.delete(id(21));
    assert_eq!(moved(&before, &there), (Missing(RolledBack, id(15)), vec![16, 19]));
}

#[test]
fn a_stream_that_ends_long_before_is_not_read_again() {
    let before = ModelStream::of(1..=6000);
    let told = |ms| Missing(RolledBack, id(ms));
    for kept in [5, 2500, 5000, 5600, 5993] {
        assert_eq!(moved(&before, &ModelStream::of(1..=kept)), (told(kept), vec![]), "{kept}");
    }
    // Others have added to it: a few hundred lost entries are told apart, thousands are not.
    for (kept, is_exact) in [(5990, true), (5700, true), (3000, false)] {
        let mut there = ModelStream::of(1..=kept);
        there.add(id(7000), 1);
        let (told, read) = moved(&before, &there);
        let Missing(RolledBack, from) = told else { panic!("{kept}: {told:?}") };
        assert_eq!((read.last(), from <= id(kept)), (Some(&7000), true), "{kept}");
        assert_eq!(read == [7000], is_exact, "{kept}: {} came", read.len());
    }
}

#[test]
fn later_losses_are_told_after_every_kind_of_loss() {
    let before = ModelStream::of(1..=20);
    let mut fork = ModelStream::of(1..=15);
    fork.add(id(30), 1);
    let mut anew = ModelStream::default();
    anew.add(id(30), 1);
    for mut there in [before.clone(), fork, anew] {
        let mut progress = read(&before);
        there.connect(&mut progress);
        there.read(&mut progress, usize::MAX);
        for round in [100, 200] {
            assert_eq!(there.check(&mut progress), Same, "{there:?}");
            (round..round + 50).for_each(|ms| there.add(id(ms), 1));
            there.trim(2);
            assert_eq!(there.check(&mut progress), Same);
            let read = comparisons(there.read(&mut progress, usize::MAX));
            assert_eq!(read, [Same, Missing(Trimmed, id(round + 49))], "{there:?}");
        }
        let mut third = ModelStream::of(1..=5);
        third.add(id(300), 9);
        let told = third.connect(&mut progress);
        assert!(matches!(told, Missing(reason, _) if reason.goes_back()), "{told:?}");
    }
}

#[test]
fn a_server_that_counts_otherwise_is_learnt_from() {
    let before = ModelStream::of(1..=20);
    let mut progress = read(&ModelStream { is_old: true, ..before.clone() });
    let mut there = before;
    assert_eq!(there.connect(&mut progress), Same);
    (30..40).for_each(|ms| there.add(id(ms), 1));
    there.trim(1);
    assert_eq!(there.check(&mut progress), Same);
    let read = comparisons(there.read(&mut progress, 9));
    assert_eq!(read, [Missing(Trimmed, id(39))]);
}
