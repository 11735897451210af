//! Publishes the messages of a request that is allowed to publish.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use tokio::time::Instant;

use super::message::{IncomingMessage, IncomingMessages, MAX_MESSAGES};
use super::refusal::PublishRefusal;
use super::{body, encoding, message, once, reply};
use crate::log_limit::LogLimit;
use crate::metrics::RouteMetrics;
use crate::route::{ChannelFollower, PublishChannels, PublishSettings, Router};
use crate::server::connection::BodyError;
use crate::service::body::ResponseBody;
use crate::service::rejection::Rejection;
use crate::source::publishing::{
    NotPublished, Publication, PublicationOutcome, Publisher, Receipt,
};

/// Where a request publishes, and what it may publish to.
pub(super) struct PublishSite<'a> {
    pub(super) publisher: &'a Publisher,
    pub(super) router: &'a Router,
    /// The host of the route.
    pub(super) host: Option<&'a str>,
    pub(super) settings: &'a PublishSettings,
    pub(super) channels: PublishChannels,
    /// The identity of the client and the method that verified it, if there is one.
    pub(super) account: Option<&'a str>,
    pub(super) metrics: &'a Arc<RouteMetrics>,
}

/// The publications of a request, and which of them go to channels that no events route has.
#[derive(Default)]
struct PreparedPublications {
    all: Vec<Publication>,
    // The server of each.
    places: Vec<usize>,
    unfollowed: Vec<usize>,
}

impl PublishSite<'_> {
    /// Publishes the messages of a request: all of them, or those that Redis accepts.
    ///
    /// # Errors
    /// Not everything is known to be published.
    pub(super) async fn publish<B>(
        &self,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, Rejection>
    where
        B: Body<Data = Bytes, Error: Into<BodyError>>,
    {
        let (head, body) = request.into_parts();
        let key = once::header(&head.headers)?;
        let mut memory = self.publisher.reservation();
        let body = body::receive(body, self.settings.max_body, &mut memory).await?;
        let query = head.uri.query().unwrap_or_default();
        let IncomingMessages { messages, is_list } = message::parse(&head.headers, query, &body)?;
        drop(body);
        let PreparedPublications { all, places, unfollowed } = self.prepare(&messages)?;
        memory.grow(all.iter().map(encoding::size).sum()).map_err(PublishRefusal::from)?;
        let scope = [self.metrics.label(), self.host.unwrap_or(""), self.account.unwrap_or("")];
        let key = key.map(|key| once::key(&scope, key, &all));
        let is_list = is_list || all.len() > 1;
        let count = all.len();
        let outcome = self.publisher.publish_among((all, &places), key, memory).await;
        let outcome = outcome.map_err(|why| self.failed(why, (count, &places)))?;
        self.count(&outcome);
        let is_unfollowed = |index: usize| unfollowed.contains(&index);
        reply::response(&head.headers, &outcome.receipts, is_list, is_unfollowed)
            .ok_or_else(|| self.refused(&outcome.receipts).into())
    }

    fn prepare(&self, messages: &[IncomingMessage]) -> Result<PreparedPublications, Rejection> {
        let mut prepared = PreparedPublications::default();
        for message in messages {
            let own = message.channel.as_ref();
            let names = match own {
                Some(name) => {
                    self.channels.check(name)?;
                    std::slice::from_ref(name)
                }
                None => self.channels.default()?,
            };
            for name in names {
                if prepared.all.len() == MAX_MESSAGES {
                    let why =
                        format!("more than {MAX_MESSAGES} messages, for all channels together");
                    return Err(PublishRefusal::Invalid(why).into());
                }
                let follower = self.router.follower(self.host, name);
                if follower.is_none() {
                    prepared.unfollowed.push(prepared.all.len());
                }
                let most = self.settings.max_stream_entries;
                let publication = encoding::publication(message, name, follower, most)?;
                let most = self.publisher.max_event_bytes();
                if encoding::size(&publication) > most {
                    return Err(PublishRefusal::MessageTooLarge(most).into());
                }
                prepared.places.push(self.place(follower, &publication));
                prepared.all.push(publication);
            }
        }
        Ok(prepared)
    }

    /// The server of a channel.
    fn place(&self, follower: Option<ChannelFollower<'_>>, publication: &Publication) -> usize {
        let (servers, channel) = (self.publisher.servers(), publication.channel.in_redis());
        let Some(follower) = follower else { return servers.server_of_unknown(channel) };
        let place = servers.server_of(&follower.events.server, channel);
        place.expect("a reload with routes of other servers is refused")
    }

    fn count(&self, outcome: &PublicationOutcome) {
        let is_refused = |receipt: &&Receipt| matches!(receipt, Receipt::Refused(_));
        let refused = outcome.receipts.iter().filter(is_refused).count();
        let result = if outcome.is_repeated { "repeated" } else { "published" };
        self.metrics.published(result, outcome.receipts.len() - refused);
        self.metrics.published("refused", refused);
    }

    fn failed(&self, why: NotPublished, (count, places): (usize, &[usize])) -> PublishRefusal {
        match why {
            NotPublished::Lost | NotPublished::TimedOut => self.metrics.published("unknown", count),
            NotPublished::Away | NotPublished::Busy | NotPublished::Stopping => {
                self.metrics.published("unsent", count);
            }
            NotPublished::KeyReused => {}
        }
        let servers = match why {
            NotPublished::Away | NotPublished::Lost | NotPublished::TimedOut => {
                self.names_of(places)
            }
            NotPublished::Busy | NotPublished::Stopping | NotPublished::KeyReused => String::new(),
        };
        PublishRefusal::NotPublished { why, servers }
    }

    /// The servers where a request was to be published, in brackets, if the gateway has several.
    fn names_of(&self, places: &[usize]) -> String {
        let names = self.publisher.servers().names();
        let used = names.iter().enumerate().filter(|(index, _)| places.contains(index));
        let used: Vec<_> = used.map(|(_, name)| &**name).collect();
        match used[..] {
            _ if names.len() == 1 => String::new(),
            [one] => format!(" (server {one})"),
            _ => format!(" (at one or more of the servers {})", used.join(", ")),
        }
    }

    /// Describes which messages Redis has refused. The error text of Redis may name its users, so it only
    /// goes to the log.
    fn refused(&self, receipts: &[Receipt]) -> PublishRefusal {
        static REFUSALS: LogLimit = LogLimit::new();
        let error = |(index, receipt): (usize, &Receipt)| match receipt {
            Receipt::Refused(error) => Some((index + 1, error.clone())),
            Receipt::Receivers(_) | Receipt::Entry(_) => None,
        };
        let refused: Vec<_> = receipts.iter().enumerate().filter_map(error).collect();
        let error = refused.first().map_or("", |(_, error)| error.as_str());
        if let Some(held_back) = REFUSALS.pass("refused", Instant::now()) {
            let route = self.metrics.label();
            tracing::warn!(route, error, held_back, "Redis refused a message");
        }
        let code = error.split(' ').next().unwrap_or_default();
        let text = match receipts.len() {
            1 => format!("Redis refused the message ({code}); see the log of the gateway"),
            all if refused.len() == all => {
                format!("Redis refused all {all} messages ({code}); see the log of the gateway")
            }
            all => {
                let numbers = refused.iter().map(|(number, _)| number.to_string());
                let numbers = numbers.collect::<Vec<_>>().join(", ");
                format!(
                    "of {all} messages Redis refused these: {numbers} ({code}); all others are published"
                )
            }
        };
        match is_temporary(error) {
            true => PublishRefusal::NotNow(text),
            false => PublishRefusal::Refused(text),
        }
    }
}

/// Whether Redis may take the same command later, by the first word of its error
/// (<https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors>).
fn is_temporary(error: &str) -> bool {
    const TEMPORARY: [&str; 9] = [
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "OOM",
        "READONLY",
        "TRYAGAIN",
    ];
    TEMPORARY.contains(&error.split(' ').next().unwrap_or_default())
}
