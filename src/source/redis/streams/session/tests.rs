//! What a session does with replies, without a server that sends them.

use std::rc::Rc;

use ssegate_bus::{Broker, BusSettings};
use ssegate_hub::{ChannelName, Hub, HubSettings, SourceRequest};
use tokio::task::LocalSet;

use super::StreamSession;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::redis::connection::{ConnectionKind, RedisConnection};
use crate::source::redis::streams::command::{StreamCommand, StreamSearch};
use crate::source::redis::streams::fork_search::{ForkSearch, SearchStep};
use crate::source::redis::streams::link::StreamLink;
use crate::source::redis::streams::model_stream::ModelStream;
use crate::source::redis::streams::progress::StreamProgress;
use crate::source::redis::streams::{ReaderState, StreamReader, StreamServer};

const MAX_EVENT_BYTES: usize = 1 << 20;

fn session() -> (StreamSession, Rc<ReaderState>) {
    let broker = Broker::new(BusSettings::default());
    let stream = Box::new(broker.connect());
    let connection = RedisConnection::over(stream, MAX_EVENT_BYTES, ConnectionKind::Command);
    let (hub, _links) = Hub::new(HubSettings::default(), 1, ());
    let metrics = Metrics::new().expect("metrics");
    let server = StreamServer::Bus(broker);
    let reader = StreamReader::new(server, MAX_EVENT_BYTES, hub, Health::default(), metrics);
    (StreamSession::new(StreamLink::server(connection), Rc::clone(&reader.0)), reader.0)
}

#[tokio::test]
async fn a_stream_that_is_followed_again_while_its_search_is_refused_is_read() {
    let run = async {
        let (mut session, state) = session();
        let (name, stream) = (ChannelName::new("s").expect("a name"), ModelStream::of(1..=5));
        let mut read = StreamProgress::default();
        stream.connect(&mut read);
        let begun = ForkSearch::begin(stream.info(), &read.trail().expect("it was read"));
        let SearchStep::Fetch(fork) = begun else { panic!("{begun:?}") };
        // The search was begun for the stream as it was followed before.
        session.pending_info.insert(name.clone());
        session.searching.insert(name.clone());
        state.record_change(name.clone(), SourceRequest::Follow);
        let search =
            StreamSearch { name: name.clone(), info: stream.info(), is_new_connection: true, fork };
        let refused = session.handle_error(StreamCommand::Search(search), "NOPERM".to_owned());
        refused.expect("the session goes on");
        let is_asked = |command: &&StreamCommand| matches!(command, StreamCommand::Info(asked) if *asked == name);
        assert_eq!(session.link.pending().iter().filter(is_asked).count(), 1, "where it stands");
        assert_eq!(session.readers.streams(), []);
        session.compare(name.clone(), &stream.info());
        assert_eq!(session.readers.streams(), std::slice::from_ref(&name));
        assert_eq!(state.streams.borrow()[&name].last, Some(stream.last));
    };
    LocalSet::new().run_until(run).await;
}
