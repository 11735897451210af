//! The role of a node of a Cluster, asked for after each `SSUBSCRIBE`.
//!
//! A replica accepts subscriptions, and passes on what it receives from its master. Its messages would come again once
//! the gateway subscribes at the master: so the gateway subscribes at masters only.

use redis::ConnectionAddr;
use ssegate_resp::Value;

use super::super::cluster::node_address;

/// What a node is.
#[derive(Debug, PartialEq)]
pub(super) enum NodeRole {
    /// It may own slots. Also a node that refuses `ROLE`.
    Master,
    /// A replica, and its master if the reply names it.
    Replica(Option<ConnectionAddr>),
}

impl NodeRole {
    /// Reads the reply to `ROLE` of the node at `asked` (<https://redis.io/docs/latest/commands/role/>): an array that begins with
    /// `master`, or with `slave` and the address of its master.
    pub(super) fn of(reply: &Value, asked: &ConnectionAddr) -> Self {
        let Value::Array(parts) = reply else { return Self::Master };
        let text = |part: &Value| Some(str::from_utf8(part.as_bytes()?).ok()?.to_owned());
        match &parts[..] {
            [kind, host, Value::Integer(port), ..] if text(kind).as_deref() == Some("slave") => {
                let host = text(host).unwrap_or_default();
                Self::Replica(node_address(&host, &port.to_string(), asked))
            }
            _ => Self::Master,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use redis::ConnectionAddr;
    use ssegate_resp::Value;

    use super::NodeRole;

    fn at(port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp("10.0.0.1".to_owned(), port)
    }

    #[test]
    fn a_replica_names_its_master_and_what_is_no_replica_is_listened_to() {
        let text = |text: &'static str| Value::Bulk(Bytes::from_static(text.as_bytes()));
        let slave = |host, port| {
            Value::Array(vec![text("slave"), text(host), Value::Integer(port), text("connected")])
        };
        for (reply, expected) in [
            (slave("10.0.0.1", 2), NodeRole::Replica(Some(at(2)))),
            (slave("", 2), NodeRole::Replica(Some(at(2)))),
            (slave("10.0.0.1", 0), NodeRole::Replica(None)),
            (slave("not a host", 2), NodeRole::Replica(None)),
            (
                Value::Array(vec![text("master"), Value::Integer(7), Value::Array(Vec::new())]),
                NodeRole::Master,
            ),
            (Value::Array(vec![text("slave")]), NodeRole::Master),
            (Value::Null, NodeRole::Master),
        ] {
            assert_eq!(NodeRole::of(&reply, &at(1)), expected, "{reply:?}");
        }
    }
}
