//! One message, encoded for connections.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use ssegate_resp::{Payload, RespVersion, Value};

use super::memory::BusMemory;
use super::outbox::Outbox;
use super::reply;

/// A message, encoded at most once for each RESP version, and only if a connection uses that
/// version.
pub(super) struct EncodedMessage<'a> {
    channel: &'a [u8],
    pattern: Option<&'a Rc<[u8]>>,
    payload: &'a Payload,
    memory: &'a BusMemory,
    resp2: Option<Bytes>,
    resp3: Option<Bytes>,
}

impl<'a> EncodedMessage<'a> {
    pub(super) fn new(
        channel: &'a [u8],
        pattern: Option<&'a Rc<[u8]>>,
        payload: &'a Payload,
        memory: &'a BusMemory,
    ) -> Self {
        Self { channel, pattern, payload, memory, resp2: None, resp3: None }
    }

    /// Queues the message. Returns false if it was too large, so that nothing was sent.
    pub(super) fn send(&mut self, outbox: &Outbox) -> bool {
        let Payload::Whole(payload) = self.payload else { return false };
        let protocol = outbox.protocol();
        let (channel, pattern) = (self.channel, self.pattern);
        let encoded = match protocol {
            RespVersion::Resp2 => &mut self.resp2,
            RespVersion::Resp3 => &mut self.resp3,
        };
        let encoded = encoded.get_or_insert_with(|| {
            let message = encode(channel, pattern, payload, protocol);
            // A short message is copied into each queue, and counted there.
            if message.len() <= Outbox::MAX_COPIED { message } else { self.memory.count(message) }
        });
        outbox.message(encoded);
        true
    }
}

fn encode(
    channel: &[u8],
    pattern: Option<&Rc<[u8]>>,
    payload: &Bytes,
    protocol: RespVersion,
) -> Bytes {
    let mut words = Vec::with_capacity(4);
    match pattern {
        None => words.push(reply::bulk("message")),
        Some(pattern) => {
            words.extend([reply::bulk("pmessage"), Value::Bulk(Bytes::copy_from_slice(pattern))]);
        }
    }
    words.extend([Value::Bulk(Bytes::copy_from_slice(channel)), Value::Bulk(payload.clone())]);
    let mut out = BytesMut::new();
    ssegate_resp::encode(&Value::Push(words), protocol, &mut out);
    out.freeze()
}
