//! Limits per client address: open connections, and rates of connections, requests and new
//! channels.
//!
//! Every limit is off by default, and then costs nothing. An IPv6 /64 counts as one client, since
//! an end site has at least a whole one (RFC 6177). Shared by all shards: one short lock per
//! connection, request or stream, none per event.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;

/// The limits of one client. `None`: unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Open connections.
    pub connections: Option<usize>,
    /// New connections per second.
    pub new_connections: Option<usize>,
    /// Requests per second.
    pub requests: Option<usize>,
    /// Per second, channels that have no subscriber on the shard yet.
    pub new_channels: Option<usize>,
}

/// The limit for which a connection is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceededLimit {
    /// Too many open connections.
    Connections,
    /// Too many new connections per second.
    NewConnections,
}

impl ExceededLimit {
    /// The label value in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections_per_address",
            Self::NewConnections => "new_connections_per_address",
        }
    }
}

/// The usage of every limited client. A cheap handle for all threads.
#[derive(Clone, Debug, Default)]
pub struct Clients(Arc<Mutex<ClientTable>>);

#[derive(Debug, Default)]
struct ClientTable {
    clients: HashMap<IpAddr, ClientUsage>,
    // The size at which entries without usage are evicted.
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct ClientUsage {
    connections: usize,
    new_connections: Bucket,
    requests: Bucket,
    new_channels: Bucket,
}

/// A token bucket that holds one second's worth of its rate. Stored as a time (GCRA), so that it
/// needs no refill.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    // When it is full again; if in the past, it is full. `None`: never used.
    full_at: Option<Instant>,
}

/// The table is swept when it reaches this size, and again at twice what a sweep leaves.
const MIN_SWEEP_SIZE: usize = 1024;

impl Clients {
    /// Admits a connection, and counts it until the returned guard is dropped. `None`: not limited.
    ///
    /// # Errors
    /// The limit that is exceeded.
    pub fn admit_connection(
        &self,
        address: IpAddr,
        limits: &ClientLimits,
        now: Instant,
    ) -> Result<Option<ConnectionGuard>, ExceededLimit> {
        if limits.connections.is_none() && limits.new_connections.is_none() {
            return Ok(None);
        }
        let address = client_key(address);
        let mut table = self.lock();
        let client = table.client(address, now);
        if limits.connections.is_some_and(|limit| client.connections >= limit) {
            return Err(ExceededLimit::Connections);
        }
        if !client.new_connections.take(1, limits.new_connections, now) {
            return Err(ExceededLimit::NewConnections);
        }
        client.connections += 1;
        drop(table);
        Ok(Some(ConnectionGuard { clients: self.clone(), address }))
    }

    /// Takes a request from the client's rate; returns whether it is within the limit.
    pub fn admit_request(&self, address: IpAddr, limits: &ClientLimits, now: Instant) -> bool {
        let Some(rate) = limits.requests else { return true };
        self.lock().client(client_key(address), now).requests.take(1, Some(rate), now)
    }

    /// Takes `channels` new channels from the client's rate; returns whether they are within the
    /// limit.
    pub fn admit_channels(
        &self,
        address: IpAddr,
        channels: usize,
        limits: &ClientLimits,
        now: Instant,
    ) -> bool {
        let Some(rate) = limits.new_channels.filter(|_| channels > 0) else { return true };
        self.lock().client(client_key(address), now).new_channels.take(channels, Some(rate), now)
    }

    fn lock(&self) -> MutexGuard<'_, ClientTable> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

impl ClientTable {
    fn client(&mut self, address: IpAddr, now: Instant) -> &mut ClientUsage {
        if self.clients.len() >= self.sweep_at.max(MIN_SWEEP_SIZE) {
            self.clients.retain(|_, client| !client.is_unused(now));
            self.sweep_at = 2 * self.clients.len();
        }
        self.clients.entry(address).or_default()
    }
}

impl ClientUsage {
    fn is_unused(&self, now: Instant) -> bool {
        let buckets = [self.new_connections, self.requests, self.new_channels];
        self.connections == 0 && buckets.iter().all(|bucket| bucket.is_full(now))
    }
}

impl Bucket {
    /// Takes `amount` at `rate` per second; returns whether it was available. A full bucket grants
    /// even more than it holds: otherwise such an amount could never be granted.
    fn take(&mut self, amount: usize, rate: Option<usize>, now: Instant) -> bool {
        let Some(rate) = rate else { return true };
        #[expect(clippy::cast_precision_loss, reason = "rates are small")]
        let cost = std::time::Duration::from_secs_f64(amount as f64 / rate as f64);
        let full = self.full_at.unwrap_or(now).max(now);
        let second = now + std::time::Duration::from_secs(1);
        let is_there = full + cost <= second || full == now;
        if is_there {
            self.full_at = Some(full + cost);
        }
        is_there
    }

    fn is_full(self, now: Instant) -> bool {
        self.full_at.is_none_or(|full| full <= now)
    }
}

/// A guard that counts a connection until it is dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    clients: Clients,
    address: IpAddr,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut table = self.clients.lock();
        if let Some(client) = table.clients.get_mut(&self.address) {
            client.connections = client.connections.saturating_sub(1);
        }
    }
}

/// Returns the address under which a client is counted: IPv6 by its /64.
fn client_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{ClientLimits, Clients, ExceededLimit, MIN_SWEEP_SIZE};

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let (clients, now) = (Clients::default(), Instant::now());
        let limits = ClientLimits { connections: Some(2), ..ClientLimits::default() };
        let connect = |text| clients.admit_connection(address(text), &limits, now);
        let first = connect("2001:db8::1").expect("a place");
        let _second = connect("2001:db8::ffff:1").expect("a place");
        assert_eq!(connect("2001:db8::2").expect_err("no third"), ExceededLimit::Connections);
        let _other = connect("2001:db8:0:1::1").expect("another network");
        drop(first);
        let _again = connect("2001:db8::3").expect("one was closed");
        let _v4 = [connect("192.0.2.1"), connect("::ffff:192.0.2.1")].map(|c| c.expect("a place"));
        assert_eq!(connect("192.0.2.1").expect_err("one client"), ExceededLimit::Connections);
    }

    #[test]
    fn a_rate_allows_a_burst_of_one_second_and_then_its_pace() {
        let (clients, start) = (Clients::default(), Instant::now());
        let limits = ClientLimits { requests: Some(10), ..ClientLimits::default() };
        let request = |millis| {
            let now = start + Duration::from_millis(millis);
            clients.admit_request(address("192.0.2.1"), &limits, now)
        };
        assert!((0..10).all(|_| request(0)));
        assert!(!request(0));
        assert!(!request(99));
        assert!(request(100));
        assert!(!request(101));
        assert!((0..10).all(|_| request(5000)), "the burst is available again");
        assert!(!request(5000), "but not more than one second's worth");
        assert!(clients.admit_request(address("192.0.2.2"), &limits, start), "another client");
    }

    #[test]
    fn a_full_bucket_grants_more_than_it_holds_once() {
        let (clients, start) = (Clients::default(), Instant::now());
        let limits = ClientLimits { new_channels: Some(10), ..ClientLimits::default() };
        let follow = |channels, seconds| {
            let now = start + Duration::from_secs(seconds);
            clients.admit_channels(address("192.0.2.1"), channels, &limits, now)
        };
        assert!(follow(50, 0));
        assert!(!follow(1, 1));
        assert!(follow(0, 1), "no new channel");
        assert!(follow(1, 5));
    }

    #[test]
    fn entries_without_usage_are_evicted() {
        let (clients, start) = (Clients::default(), Instant::now());
        let limits =
            ClientLimits { connections: Some(1), requests: Some(1), ..ClientLimits::default() };
        let _kept = clients.admit_connection(address("10.0.0.1"), &limits, start).expect("a place");
        for second in 0..10 {
            let now = start + Duration::from_secs(10 * second);
            for number in 0..u32::try_from(MIN_SWEEP_SIZE).expect("few") {
                let address = IpAddr::from((0x0b00_0000_u32 + number).to_be_bytes());
                assert!(clients.admit_request(address, &limits, now));
            }
        }
        assert!(clients.lock().clients.len() <= 2 * MIN_SWEEP_SIZE);
        let again = clients.admit_connection(address("10.0.0.1"), &limits, start);
        assert_eq!(again.expect_err("it was not evicted"), ExceededLimit::Connections);
    }
}
