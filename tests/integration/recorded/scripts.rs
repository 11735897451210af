//! The script that appends does what the model checks.

use ssegate_record::{AppendRequest, LogItem, RecordId, ReferenceLog};

use crate::support::Redis;

const APPEND: &str = include_str!("../../../src/source/redis/recorded/append.lua");
const MARK: &str = include_str!("../../../src/source/redis/recorded/mark.lua");

fn text(RecordId { mark, k }: RecordId) -> String {
    format!("{mark}-{k}")
}

#[tokio::test]
async fn the_script_that_appends_does_what_the_model_checks() {
    let redis = Redis::start().await;
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..150 {
        let key = format!("log{round}");
        let mut model = ReferenceLog::default();
        for _ in 0..rng.usize(1..8) {
            let mut id = RecordId { mark: rng.u64(1..5), k: rng.u64(0..3) };
            let since = id;
            let mut items = Vec::new();
            for _ in 0..rng.usize(0..5) {
                if rng.bool() {
                    id = RecordId::start(id.mark + rng.u64(1..3));
                    items.push((id, LogItem::Seal));
                } else {
                    id.k += 1;
                    items.push((id, LogItem::Message(rng.u8(..))));
                }
            }
            let request = AppendRequest { since, may_gap: rng.bool(), items };
            let answer = request.apply(&mut model);
            let mut words: Vec<String> =
                ["EVAL", APPEND, "1", &key, &text(since)].map(str::to_owned).to_vec();
            words.extend([u8::from(request.may_gap).to_string(), "1000".into()]);
            // Ids of the tests are old.
            words.push((1_u64 << 50).to_string());
            for (id, item) in &request.items {
                let (kind, payload) = match item {
                    LogItem::Message(message) => ("m", message.to_string()),
                    LogItem::Seal => ("s", String::new()),
                };
                words.extend([text(*id), kind.to_owned(), payload]);
            }
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (top, is_missing, _, _): (String, u8, u64, u64) = redis.command(&words).await;
            assert_eq!(
                (top, is_missing == 1),
                (text(answer.top), answer.is_missing),
                "{request:?}"
            );
        }
        let entries: Vec<(String, Vec<String>)> = redis.command(&["XRANGE", &key, "-", "+"]).await;
        // A gap has the id before it.
        let kept = entries.iter().map(|(id, fields)| match &fields[..] {
            [kind, payload] if kind != "g" => (id.clone(), payload.clone()),
            _ => (id.clone(), String::new()),
        });
        let expected = model.entries.iter().map(|(id, message)| {
            (text(*id), message.map(|message| message.to_string()).unwrap_or_default())
        });
        assert_eq!(kept.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "round {round}");
    }
}

#[tokio::test]
async fn marks_ascend_whatever_the_clock_says() {
    let redis = Redis::start().await;
    let day = "86400000";
    let mark = async |floor: &str| -> u64 {
        let call = ["EVAL", MARK, "1", "m", "marks", floor, "run", day];
        let (text, time): (String, u64) = redis.command(&call).await;
        let mark = text.parse().expect("a number");
        assert!(time <= mark, "{time} is about now");
        mark
    };
    let first = mark("0").await;
    assert!(first > 1_700_000_000_000, "{first} is about now");
    let second = mark("0").await;
    assert!(second > first);
    let raised = mark(&(second + 1_000_000).to_string()).await;
    assert_eq!(raised, second + 1_000_001);
    assert_eq!(mark("0").await, raised + 1, "the clock is behind");
    // Neither a floor nor a last mark of the far future.
    assert_eq!(mark("9007199254740992000").await, raised + 2);
    let () = redis.command(&["SET", "m", "9007199254740992000"]).await;
    assert!(mark("0").await < second + 1_000_000);
}
