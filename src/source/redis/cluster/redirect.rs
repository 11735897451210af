//! Error replies of a node that do not refuse a command, but say where or when it is served
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#moved-redirection>).

use redis::ConnectionAddr;

use super::slot_map::node_address;

/// Where or when a command is served, if a node of a Cluster has not executed it.
#[derive(Debug, PartialEq)]
pub(in super::super) enum Redirect {
    /// At this node, which owns the slot.
    Moved(u16, ConnectionAddr),
    /// This one command at this node, behind `ASKING`: the slot is on its way there.
    Ask(ConnectionAddr),
    /// Later: the keys of the command are at two nodes for now (`TRYAGAIN`).
    TryAgain,
    /// Later: the Cluster has no owner of the slot, the node does not know the address of the owner (as after `CLUSTER
    /// RESET HARD`: `MOVED 1 :0`), or it is not ready. Or the node has become a replica while the command was blocked
    /// (`UNBLOCKED`), as after a planned `CLUSTER FAILOVER`.
    Wait,
}

impl Redirect {
    /// Reads an error reply of the node at `asked`. `None`: it is another error.
    pub(in super::super) fn of(message: &[u8], asked: &ConnectionAddr) -> Option<Self> {
        let message = str::from_utf8(message).ok()?;
        let mut words = message.split(' ');
        match words.next()? {
            kind @ ("MOVED" | "ASK") => {
                let slot = words.next().and_then(|slot| slot.parse().ok());
                let node = words.next().and_then(|text| node(text, asked));
                Some(match (slot, node) {
                    (Some(slot), Some(node)) if kind == "MOVED" => Self::Moved(slot, node),
                    (Some(_), Some(node)) => Self::Ask(node),
                    _ => Self::Wait,
                })
            }
            "TRYAGAIN" => Some(Self::TryAgain),
            "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "UNBLOCKED" => Some(Self::Wait),
            _ => None,
        }
    }
}

fn node(text: &str, asked: &ConnectionAddr) -> Option<ConnectionAddr> {
    let (host, port) = text.rsplit_once(':')?;
    node_address(host, port, asked)
}

#[cfg(test)]
mod tests {
    use redis::ConnectionAddr;

    use super::Redirect;

    #[test]
    fn replies_say_where_and_when() {
        let at = |host: &str, port| ConnectionAddr::Tcp(host.to_owned(), port);
        for (reply, expected) in [
            ("MOVED 3999 10.0.0.2:6381", Some(Redirect::Moved(3999, at("10.0.0.2", 6381)))),
            ("MOVED 1 :7", Some(Redirect::Moved(1, at("10.0.0.1", 7)))),
            ("MOVED 1 ::1:7", Some(Redirect::Moved(1, at("::1", 7)))),
            ("ASK 3999 node-2:6381", Some(Redirect::Ask(at("node-2", 6381)))),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Some(Redirect::TryAgain)),
            ("CLUSTERDOWN Hash slot not served", Some(Redirect::Wait)),
            ("LOADING Redis is loading the dataset in memory", Some(Redirect::Wait)),
            (
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
                Some(Redirect::Wait),
            ),
            ("MOVED 14517 :0", Some(Redirect::Wait)),
            ("MOVED x 10.0.0.2:1", Some(Redirect::Wait)),
            ("ASK 1 10.0.0.2:99999", Some(Redirect::Wait)),
            ("ERR MOVED 1 10.0.0.2:1", None),
            ("NOPERM", None),
        ] {
            assert_eq!(Redirect::of(reply.as_bytes(), &at("10.0.0.1", 1)), expected, "{reply}");
        }
        assert_eq!(Redirect::of(b"\xff", &at("10.0.0.1", 1)), None);
    }
}
