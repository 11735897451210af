//! A stream of events, as a client holds it.

use std::time::Duration;

use super::{Block, Body, Event, Parser, Redis, Response, SOON, within};

/// An open stream.
pub(crate) struct EventStream {
    body: Body,
    parser: Parser,
    end: Option<Result<(), String>>,
}

impl EventStream {
    pub(crate) fn new(response: Response) -> Self {
        Self { body: response.body, parser: Parser::default(), end: None }
    }

    /// The next block, or `None` when the stream has ended; see [`Self::end`] for how.
    pub(crate) async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some(block) = self.parser.next() {
                return Some(block);
            }
            if self.end.is_some() {
                return None;
            }
            match self.body.chunk().await {
                Ok(Some(bytes)) => self.parser.push(&bytes),
                Ok(None) => self.end = Some(Ok(())),
                Err(error) => self.end = Some(Err(error)),
            }
        }
    }

    /// The next block of a stream that must go on.
    pub(crate) async fn next_block(&mut self) -> Block {
        let block = within(SOON, "a block on the stream", self.block()).await;
        block.unwrap_or_else(|| panic!("the stream has ended: {:?}", self.end))
    }

    /// The next block that says more than the client's position, which a gateway of a fleet says once more when
    /// others can know it.
    pub(crate) async fn next_word(&mut self) -> Block {
        loop {
            let block = self.next_block().await;
            let is_position = block.id.is_some() && block.retry.is_none();
            if block.event.is_some() || !is_position {
                return block;
            }
        }
    }

    /// The data of the next events, up to that with this data, which may be a gap: of that it begins with `gap `.
    pub(crate) async fn read_until(&mut self, last: &str) -> Vec<String> {
        self.read_each_within(SOON, last).await
    }

    /// The same up to `last`, which is published again and again: who listens to this Redis may not do so yet. What is
    /// left of an earlier call says nothing.
    pub(crate) async fn read_until_heard(&mut self, redis: &Redis, channel: &str) -> Vec<String> {
        const LAST: &str = "last of ";
        let last = format!("{LAST}{}", fastrand::u64(..));
        let publishing = async {
            loop {
                redis.publish(channel, &last).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut read = tokio::select! {
            read = self.read_each_within(4 * SOON, &last) => read,
            () = publishing => unreachable!("it publishes until it is heard"),
        };
        read.retain(|data| !data.starts_with(LAST));
        read.push("last".to_owned());
        read
    }

    async fn read_each_within(&mut self, limit: Duration, last: &str) -> Vec<String> {
        let mut read = Vec::new();
        while read.last().is_none_or(|data| data != last) {
            let event = within(limit, "an event on the stream", self.event()).await;
            let event = event.unwrap_or_else(|| panic!("the stream has ended: {:?}", self.end));
            read.push(gap_or_data(event));
        }
        read
    }

    /// The same up to `ready`, before which a client is told what it has missed.
    pub(crate) async fn read_until_ready(&mut self) -> Vec<String> {
        let mut read = Vec::new();
        within(SOON, "`ready` on the stream", async {
            loop {
                let block = self.next_block().await;
                if block.comments.iter().any(|comment| comment == "ready") {
                    return;
                }
                read.extend(block.event.map(gap_or_data));
            }
        })
        .await;
        read
    }

    /// The next event; comments before it are passed over.
    pub(crate) async fn next_event(&mut self) -> Event {
        within(SOON, "an event on the stream", async {
            loop {
                if let Some(event) = self.next_block().await.event {
                    return event;
                }
            }
        })
        .await
    }

    /// The next event, or `None` at the end of the stream.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.block().await?.event {
                return Some(event);
            }
        }
    }

    /// The next comment, and nothing but comments before it, or the position, which a stream may be told once more.
    pub(crate) async fn next_comment(&mut self) -> String {
        let block = self.next_word().await;
        assert_eq!(block.event, None, "an event where a comment was awaited");
        block.comments.into_iter().next().unwrap_or_else(|| panic!("no comment, no event"))
    }

    /// Waits until everything that is published will arrive. Gives the block that says so.
    pub(crate) async fn ready(&mut self) -> Block {
        within(SOON, "`ready` on the stream", async {
            loop {
                let block = self.next_block().await;
                if block.comments.iter().any(|comment| comment == "ready") {
                    self.finish_block().await;
                    return block;
                }
                assert_eq!(block.event, None, "an event before `ready`");
            }
        })
        .await
    }

    /// Reads to the end of the block in which something was said.
    async fn finish_block(&mut self) {
        while !self.parser.is_between_blocks() {
            let bytes = self.body.chunk().await.unwrap().expect("a block ends before its stream");
            self.parser.push(&bytes);
        }
        if self.parser.front().is_some_and(|block| block.event.is_none() && block.id.is_some()) {
            drop(self.parser.next());
        }
    }

    /// Waits for the end. `Ok` is an end as the protocol wants it, between two blocks.
    pub(crate) async fn end(&mut self) -> Result<(), String> {
        within(SOON, "the end of a stream", async { while self.block().await.is_some() {} }).await;
        assert!(self.parser.is_between_blocks(), "ended within a block");
        self.end.clone().expect("the loop above ended")
    }

    /// A stream that is sent away for a while: says why and for how long, and ends.
    pub(crate) async fn sent_away(mut self) -> (String, u64) {
        let reason = self.next_comment().await;
        let retry = self.next_block().await.retry.expect("a time to come back");
        let rest = within(SOON, "the end", self.block()).await;
        assert_eq!(rest, None, "after {reason}");
        assert_eq!(self.end().await, Ok(()));
        (reason, retry)
    }

    /// Whether the stream has ended, as far as it has been read.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// What a client would send as `Last-Event-ID`.
    pub(crate) fn last_id(&self) -> &str {
        self.parser.last_id()
    }
}

/// The data of an event; of a gap it begins with `gap `.
fn gap_or_data(event: Event) -> String {
    if event.name == "gap" { format!("gap {}", event.data) } else { event.data }
}
