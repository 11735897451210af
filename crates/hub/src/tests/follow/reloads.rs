//! What is followed changes with a reload.

use std::collections::BTreeSet;

use ssegate_format::Format;

use super::{LINGER, all, following, read_all, told, with_whole_ids};
use crate::tests::{TestHub, id_of, run, settle};
use crate::{StreamSettings, Subscriber};

#[test]
fn a_reload_changes_what_is_followed_without_a_hole() {
    run(async {
        let test = TestHub::new(1, following(&[], 9));
        let stream = test.open_with(0, &["a1"], None, all());
        settle().await;
        test.follow().await;
        drop(told(&stream).await);
        test.hub.change(following(&[("a*", Format::Raw)], 9));
        assert_eq!(test.requested(), ["+a*".to_owned()].into());
        test.publish_copies("a1", &["a1"], "1").await;
        // The pattern takes over once it is confirmed.
        test.confirm_all(&["a*"]);
        assert_eq!(test.requested(), ["-a1".to_owned()].into());
        test.publish_copies("a1", &["a1", "a*"], "2").await;
        test.publish_copies("a1", &["a*"], "3").await;
        test.publish_copies("a2", &["a*"], "4").await;

        // Another pattern takes over from it: the first is left when the second is confirmed.
        test.hub.change(following(&[("a?", Format::Raw)], 9));
        assert_eq!(test.requested(), ["+a?".to_owned()].into());
        test.publish_copies("a1", &["a*"], "5").await;
        test.confirm_all(&["a?"]);
        assert_eq!(test.requested(), ["-a*".to_owned()].into());
        test.publish_copies("a1", &["a*", "a?"], "6").await;

        // Nothing is followed any more: a channel that has subscribers, or had them lately, gets a subscription
        // of its own.
        test.hub.change(following(&[], 9));
        let requested = test.requested();
        assert_eq!(requested, ["+a1".to_owned(), "+a2".to_owned()].into());
        test.publish_copies("a1", &["a?"], "7").await;
        test.confirm_all(&["a1"]);
        test.publish_copies("a1", &["a1", "a?"], "8").await;
        assert_eq!(test.requested(), BTreeSet::new(), "the other channel still needs it");
        test.confirm_all(&["a2"]);
        assert_eq!(test.requested(), ["-a?".to_owned()].into());
        test.publish_copies("a1", &["a1"], "9").await;
        assert_eq!(told(&stream).await, ["1", "2", "3", "5", "6", "7", "8", "9"]);
        tokio::time::sleep(2 * LINGER).await;
        assert_eq!(test.requested(), ["-a2".to_owned()].into(), "its linger is over");
        assert!(!test.hub.follows_patterns());
    });
}

/// A hub that has followed `a*` and `a?`, left them, and follows them again between two copies of the message 1
/// on `a1`, of which that through `a*` is still to come. Also returns three streams: of `a1`, of `a*`, and of `a1` and
/// `a3`, which was opened while no pattern was followed.
async fn reloaded_between_copies() -> (TestHub, [Subscriber; 3]) {
    let patterns = [("a*", Format::Raw), ("a?", Format::Raw)];
    let test = TestHub::new(1, following(&patterns, 9));
    let [plain, pattern] = ["a1", "a*"].map(|name| test.open(0, &[name]));
    settle().await;
    test.follow().await;
    drop((told(&plain).await, told(&pattern).await));
    test.hub.change(following(&[], 9));
    let id = id_of(&test, 0);
    let late = test.open_with(0, &["a1", "a3"], Some(&id), StreamSettings::default());
    settle().await;
    test.hub.begin_message(b"a1", None);
    test.copy("a?", "1");
    assert_eq!(told(&late).await, Vec::<String>::new(), "`a3` has a subscription of its own");
    test.hub.change(following(&patterns, 9));
    test.hub.flush();
    settle().await;
    (test, [plain, pattern, late])
}

#[test]
fn a_reload_between_two_copies_of_a_message_does_not_make_two_of_it() {
    run(async {
        let (test, [plain, pattern, late]) = reloaded_between_copies().await;
        test.copy("a*", "1");
        settle().await;
        assert_eq!(told(&plain).await, ["1"]);
        assert_eq!(told(&pattern).await, ["1"]);
        assert_eq!(told(&late).await, Vec::<String>::new());
        // `a3` is fed when no further copy may follow. What came before may be missing of it.
        test.hub.end_message();
        test.hub.flush();
        settle().await;
        assert_eq!(told(&late).await, ["1", "expired"]);
        assert!(!test.hub.is_followed(false, "a3"));
        test.publish_copies("a3", &["a*", "a?"], "2").await;
        assert_eq!(told(&late).await, ["2"]);
    });
}

#[test]
fn a_client_that_comes_after_a_reload_between_two_copies_of_a_message_misses_none() {
    run(async {
        let (test, _streams) = reloaded_between_copies().await;
        let early = test.open(0, &["a*"]);
        settle().await;
        let ready = read_all(&early, with_whole_ids).await;
        let id = ready.lines().find_map(|line| line.strip_prefix("id: ")).expect("a position");
        drop(early);
        test.copy("a*", "1");
        test.hub.end_message();
        let back = test.open_with(0, &["a*"], Some(id), StreamSettings::default());
        settle().await;
        assert_eq!(told(&back).await, ["1"]);
    });
}
