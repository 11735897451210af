//! Calls that test everything that kept streams need of Redis, on a stream that nobody has, and leave nothing behind.

use std::time::Duration;

use bytes::Bytes;
use ssegate_resp::Value;

use super::record::{
    AppendOutcome, AppendRecord, BeginRecord, IndexStep, PumpRecord, ReadRecord, index_key,
    stream_keys,
};
use super::scripts::{APPEND, BEGIN, INDEX, READ, STOP, STOPPED};
use crate::source::redis::script::RedisScript;

/// One call: the key that decides its node, and the command.
pub(crate) struct TrialCall {
    pub(crate) key: String,
    pub(crate) words: Vec<Bytes>,
}

/// The calls, in order, on a stream of this id. All keys belong together.
pub(crate) fn trial(id: &str) -> Vec<TrialCall> {
    let (gateway, moment) = ("check", Duration::from_millis(1));
    let of = PumpRecord { id, token: "t", epoch: "e", after_end: moment };
    let about = Bytes::from_static(b"{}");
    let begin = BeginRecord { of, began: 0, about, digest: String::new() };
    let append = |seq, state, entry| AppendRecord {
        of,
        seq,
        keep_from: 1,
        state,
        digest: String::new(),
        is_numbered: None,
        last: 0,
        entry,
    };
    let entry = Some((String::new(), Bytes::from_static(b"x")));
    let read = ReadRecord { id, epoch: "", after: 0, count: 1, follows: true, wants_about: true };
    let mut read = read.arguments(gateway);
    read.push(Bytes::from_static(b"0"));
    let stop = [id, "check", ""].map(|word| Bytes::copy_from_slice(word.as_bytes()));
    let claim = IndexStep::Claim("reject", moment).arguments((id, 0), gateway);
    let remove = IndexStep::Remove.arguments((id, 0), gateway);
    let [hash, log] = stream_keys(id);
    let both = [hash, log];
    let index = [index_key(id)];
    let call = |script: &RedisScript, keys: &[String], arguments: Vec<Bytes>| {
        let words = keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes()));
        let words = script.call(true, keys.len(), words.chain(arguments));
        TrialCall { key: keys[0].clone(), words }
    };
    vec![
        call(&BEGIN, &both, begin.arguments(gateway)),
        call(&READ, &both, read),
        call(&APPEND, &both, append(1, "running", entry).arguments()),
        call(&STOP, &both[..1], stop.into()),
        call(&STOPPED, &both[..1], Vec::new()),
        call(&APPEND, &both, append(1, "ended", None).arguments()),
        call(&INDEX, &index, claim),
        call(&INDEX, &index, remove),
    ]
}

/// Returns what Redis refused to a script that succeeded all the same.
pub(crate) fn trial_fault(reply: &Value) -> Option<String> {
    match AppendOutcome::parse(reply)? {
        AppendOutcome::Done { fault, .. } => fault,
        AppendOutcome::Fenced | AppendOutcome::Gone => None,
    }
}
