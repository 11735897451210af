//! Parses `redis+cluster://` and `rediss+cluster://`: nodes of a Redis Cluster to begin with.
//!
//! `redis+cluster://USER:PASSWORD@HOST:6379,HOST:6379`. No message contains a part of the URL that may be secret.

use super::host_list::{HostList, is_login_repeated};
use super::redis_url::redis_info;
use crate::source::redis::{ClusterAddress, RedisLocation};

const FORM: &str = "redis+cluster://node-1:6379,node-2:6379";
const NODES: HostList = HostList { what: "node", default_port: 6379, form: FORM };

/// Parses what follows `://`. `is_insecure`: with TLS, and whether the certificates are not verified.
///
/// # Errors
/// A message that says what is wrong and how to fix it.
pub(super) fn location(rest: &str, is_insecure: Option<bool>) -> Result<RedisLocation, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    if database.contains('@') || query.contains('@') {
        return Err(
            "not a valid URL; in a password, percent-encode characters such as / # ? @".to_owned()
        );
    }
    if !query.is_empty() {
        return Err(format!("has no parameters; use forms like {FORM}"));
    }
    // https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#implemented-subset
    if !["", "0"].contains(&database) {
        return Err("a Cluster has database 0 alone; remove what is behind the last /".to_owned());
    }
    let at = authority.rfind('@').map_or(0, |at| at + 1);
    let (login, hosts) = authority.split_at(at);
    if is_login_repeated(login) {
        return Err(
            "has a user and a password at more than one host; write them once, before the first host, and percent-encode \
             , and @ in a password"
                .to_owned(),
        );
    }
    let nodes = NODES.parse(hosts, is_insecure)?;
    let login = redis_info(&format!("redis://{login}node"))?;
    let address = ClusterAddress::new(nodes)
        .ok_or_else(|| format!("names no node; use forms like {FORM}"))?;
    Ok(RedisLocation::cluster(address, login.redis_settings().clone()))
}
