//! The clients by their addresses, and what each may have: connections, and how often.
//!
//! Every limit is off unless it is set, and then nothing here costs anything. An IPv6 client has a
//! whole /64, so that is counted as one (RFC 6177). Shared by all shards: one short lock for a
//! connection, a request or a stream, none for an event.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;

/// What one client may have. `None`: as much as it wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections at once.
    pub connections: Option<usize>,
    /// New connections a second.
    pub new_connections: Option<usize>,
    /// Requests a second.
    pub requests: Option<usize>,
    /// Channels a second that nobody on their shard listens to yet.
    pub new_channels: Option<usize>,
}

/// Why a connection of a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMuch {
    /// It has as many as it may.
    Connections,
    /// They come faster than they may.
    NewConnections,
}

impl TooMuch {
    /// The word in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections_per_address",
            Self::NewConnections => "new_connections_per_address",
        }
    }
}

/// Everybody who has a limit: a cheap handle that can go to every thread.
#[derive(Clone, Debug, Default)]
pub struct Clients(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    clients: HashMap<IpAddr, Client>,
    // At so many, those who have nothing and may have everything are forgotten.
    tidy_at: usize,
}

#[derive(Debug, Default)]
struct Client {
    connections: usize,
    new_connections: Bucket,
    requests: Bucket,
    new_channels: Bucket,
}

/// What was used of a rate: as much as it allows in a second may be used at once.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    // When all of it can be used again; in the past: it can. `None`: it never was.
    full: Option<Instant>,
}

/// The table is looked through when it has grown to this, and then to twice what is left.
const TIDY_AT_LEAST: usize = 1024;

impl Clients {
    /// Lets a connection in; it is counted for as long as the place lives.
    ///
    /// # Errors
    /// What the client has too much of.
    pub fn connect(
        &self,
        address: IpAddr,
        limits: &ClientLimits,
        now: Instant,
    ) -> Result<Option<ConnectionPlace>, TooMuch> {
        if limits.connections.is_none() && limits.new_connections.is_none() {
            return Ok(None);
        }
        let address = key(address);
        let mut table = self.lock();
        let client = table.client(address, now);
        if limits.connections.is_some_and(|most| client.connections >= most) {
            return Err(TooMuch::Connections);
        }
        if !client.new_connections.take(1, limits.new_connections, now) {
            return Err(TooMuch::NewConnections);
        }
        client.connections += 1;
        drop(table);
        Ok(Some(ConnectionPlace { clients: self.clone(), address }))
    }

    /// Whether a request may be answered.
    pub fn request(&self, address: IpAddr, limits: &ClientLimits, now: Instant) -> bool {
        let Some(rate) = limits.requests else { return true };
        self.lock().client(key(address), now).requests.take(1, Some(rate), now)
    }

    /// Whether so many channels may be followed anew.
    pub fn follow(
        &self,
        address: IpAddr,
        channels: usize,
        limits: &ClientLimits,
        now: Instant,
    ) -> bool {
        let Some(rate) = limits.new_channels.filter(|_| channels > 0) else { return true };
        self.lock().client(key(address), now).new_channels.take(channels, Some(rate), now)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

impl Table {
    fn client(&mut self, address: IpAddr, now: Instant) -> &mut Client {
        if self.clients.len() >= self.tidy_at.max(TIDY_AT_LEAST) {
            self.clients.retain(|_, client| !client.is_as_new(now));
            self.tidy_at = 2 * self.clients.len();
        }
        self.clients.entry(address).or_default()
    }
}

impl Client {
    fn is_as_new(&self, now: Instant) -> bool {
        let buckets = [self.new_connections, self.requests, self.new_channels];
        self.connections == 0 && buckets.iter().all(|bucket| bucket.is_full(now))
    }
}

impl Bucket {
    /// Uses so much of `rate` a second, if it is there. More than a second has can be used by one
    /// who has used nothing: else it never could.
    fn take(&mut self, amount: usize, rate: Option<usize>, now: Instant) -> bool {
        let Some(rate) = rate else { return true };
        #[expect(clippy::cast_precision_loss, reason = "rates are small")]
        let cost = std::time::Duration::from_secs_f64(amount as f64 / rate as f64);
        let full = self.full.unwrap_or(now).max(now);
        let second = now + std::time::Duration::from_secs(1);
        let is_there = full + cost <= second || full == now;
        if is_there {
            self.full = Some(full + cost);
        }
        is_there
    }

    fn is_full(self, now: Instant) -> bool {
        self.full.is_none_or(|full| full <= now)
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub struct ConnectionPlace {
    clients: Clients,
    address: IpAddr,
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let mut table = self.clients.lock();
        if let Some(client) = table.clients.get_mut(&self.address) {
            client.connections = client.connections.saturating_sub(1);
        }
    }
}

/// What a client is known by.
fn key(address: IpAddr) -> IpAddr {
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

    use super::{ClientLimits, Clients, TIDY_AT_LEAST, TooMuch};

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let (clients, now) = (Clients::default(), Instant::now());
        let limits = ClientLimits { connections: Some(2), ..ClientLimits::default() };
        let connect = |text| clients.connect(address(text), &limits, now);
        let first = connect("2001:db8::1").expect("a place");
        let _second = connect("2001:db8::ffff:1").expect("a place");
        assert_eq!(connect("2001:db8::2").expect_err("no third"), TooMuch::Connections);
        let _other = connect("2001:db8:0:1::1").expect("another network");
        drop(first);
        let _again = connect("2001:db8::3").expect("one has left");
        let _v4 = [connect("192.0.2.1"), connect("::ffff:192.0.2.1")].map(|c| c.expect("a place"));
        assert_eq!(connect("192.0.2.1").expect_err("both are one"), TooMuch::Connections);
    }

    #[test]
    fn a_rate_allows_a_second_s_worth_at_once_and_then_its_pace() {
        let (clients, start) = (Clients::default(), Instant::now());
        let limits = ClientLimits { requests: Some(10), ..ClientLimits::default() };
        let request = |millis| {
            let now = start + Duration::from_millis(millis);
            clients.request(address("192.0.2.1"), &limits, now)
        };
        assert!((0..10).all(|_| request(0)));
        assert!(!request(0));
        assert!(!request(99));
        assert!(request(100));
        assert!(!request(101));
        assert!((0..10).all(|_| request(5000)), "no more is saved up");
        assert!(!request(5000));
        assert!(clients.request(address("192.0.2.2"), &limits, start), "that is another");
    }

    #[test]
    fn more_than_a_second_has_can_be_used_once() {
        let (clients, start) = (Clients::default(), Instant::now());
        let limits = ClientLimits { new_channels: Some(10), ..ClientLimits::default() };
        let follow = |channels, seconds| {
            let now = start + Duration::from_secs(seconds);
            clients.follow(address("192.0.2.1"), channels, &limits, now)
        };
        assert!(follow(50, 0));
        assert!(!follow(1, 1));
        assert!(follow(0, 1), "nothing new");
        assert!(follow(1, 5));
    }

    #[test]
    fn who_has_nothing_is_forgotten() {
        let (clients, start) = (Clients::default(), Instant::now());
        let limits =
            ClientLimits { connections: Some(1), requests: Some(1), ..ClientLimits::default() };
        let _kept = clients.connect(address("10.0.0.1"), &limits, start).expect("a place");
        for second in 0..10 {
            let now = start + Duration::from_secs(10 * second);
            for number in 0..u32::try_from(TIDY_AT_LEAST).expect("few") {
                let address = IpAddr::from((0x0b00_0000_u32 + number).to_be_bytes());
                assert!(clients.request(address, &limits, now));
            }
        }
        assert!(clients.lock().clients.len() <= 2 * TIDY_AT_LEAST);
        let again = clients.connect(address("10.0.0.1"), &limits, start);
        assert_eq!(again.expect_err("it was not forgotten"), TooMuch::Connections);
    }
}
