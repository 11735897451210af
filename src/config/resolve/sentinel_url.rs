//! Parses `redis+sentinel://` and `rediss+sentinel://`: sentinels, and the name of the master that they watch.
//!
//! `redis+sentinel://USER:PASSWORD@HOST:26379,HOST:26379/MASTER/DATABASE`; user and password are those of the master.
//! Those of the sentinels are `?sentinel_username=…&sentinel_password=…`. No message contains a part of the URL
//! that may be secret.

use redis::RedisConnectionInfo;

use ssegate_strict_yaml::quoted;

use super::host_list::{HostList, is_login_repeated};
use super::redis_url::redis_info;
use crate::source::redis::{RedisLocation, SentinelAddress};

const SENTINELS: HostList = HostList { what: "sentinel", default_port: 26379, form: FORM };
const FORM: &str = "redis+sentinel://sentinel-1:26379,sentinel-2:26379/mymaster";
/// More than this are a mistake, and not a set of sentinels.
const MAX_SENTINELS: usize = 16;

/// The parts of the URL behind its scheme, as they are written.
struct SentinelUrl<'a> {
    login: &'a str,
    hosts: &'a str,
    master: &'a str,
    database: &'a str,
    query: &'a str,
}

/// Parses what follows `://`. `is_insecure`: with TLS, and whether the certificates are not verified.
///
/// # Errors
/// A message that says what is wrong and how to fix it.
pub(super) fn location(rest: &str, is_insecure: Option<bool>) -> Result<RedisLocation, String> {
    let url = SentinelUrl::split(rest)?;
    let many = url.hosts.split(',').count();
    if many > MAX_SENTINELS {
        return Err(format!("has {many} sentinels; {MAX_SENTINELS} are enough"));
    }
    // A second one would count as another sentinel where most of them have to agree.
    let sentinels = SENTINELS.parse(url.hosts, is_insecure)?;
    let login = redis_info(&format!("redis://{}sentinel/{}", url.login, url.database))?;
    let own_login = url.login_at_sentinels()?;
    let address = SentinelAddress::new(sentinels, url.master.to_owned(), own_login);
    let address = address.ok_or_else(|| format!("names no sentinel; use forms like {FORM}"))?;
    Ok(RedisLocation::master(address, login.redis_settings().clone()))
}

impl<'a> SentinelUrl<'a> {
    fn split(rest: &'a str) -> Result<Self, String> {
        const ENCODE: &str =
            "not a valid URL; in a password, percent-encode characters such as / # ? @";
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains("://") {
            return Err(format!("has a second ://; use forms like {FORM}"));
        }
        if query.contains('@') {
            return Err(ENCODE.to_owned());
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let at = authority.rfind('@').map_or(0, |at| at + 1);
        let (login, hosts) = authority.split_at(at);
        if is_login_repeated(login) {
            return Err(
                "has a user and a password at more than one host; write those of the master once, before the first \
                 host, and percent-encode , and @ in a password"
                    .to_owned(),
            );
        }
        let (master, database) = path.split_once('/').unwrap_or((path, ""));
        // `sentinel monitor` takes no others.
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if path.contains('@') {
            return Err(ENCODE.to_owned());
        }
        if master.is_empty() {
            return Err(format!("names no master; use forms like {FORM}"));
        }
        if !master.chars().all(is_name) {
            return Err(format!(
                "the name of the master has other characters than letters, digits, . - and _; use forms like {FORM}"
            ));
        }
        if database.is_empty() && master.chars().all(|c| c.is_ascii_digit()) {
            return Err(format!(
                "names no master: {} is a database; use forms like {FORM}/0, or write the database behind a master that \
                 is called so",
                quoted(master)
            ));
        }
        Ok(Self { login, hosts, master, database, query })
    }

    fn login_at_sentinels(&self) -> Result<RedisConnectionInfo, String> {
        let (mut user, mut password) = (None, None);
        for parameter in self.query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (name, before) = match name {
                "sentinel_username" => ("sentinel_username", user.replace(value)),
                "sentinel_password" => ("sentinel_password", password.replace(value)),
                _ => {
                    const KNOWN: &str = "sentinel_username and sentinel_password";
                    return Err(format!("the only parameters of this URL are {KNOWN}"));
                }
            };
            if before.is_some() {
                return Err(format!("{name} is set twice"));
            }
            if value.is_empty() {
                return Err(format!("{name} is empty"));
            }
        }
        let (user, password) = (user.unwrap_or_default(), password.unwrap_or_default());
        if password.is_empty() && !user.is_empty() {
            return Err("sentinel_username needs a sentinel_password".to_owned());
        }
        // Both are percent-encoded, as in the authority.
        let login = if password.is_empty() { String::new() } else { format!("{user}:{password}@") };
        Ok(redis_info(&format!("redis://{login}sentinel"))?.redis_settings().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::location;
    use crate::source::redis::RedisAddress;

    fn parsed(rest: &str, is_insecure: Option<bool>) -> crate::source::redis::RedisLocation {
        location(rest, is_insecure).expect(rest)
    }

    #[test]
    fn sentinels_a_master_and_both_logins_are_parsed() {
        for (rest, shown) in [
            ("a/mymaster", "mymaster (sentinels a:26379)"),
            ("a:1,b,[::1]:3/my.master-1_/3", "my.master-1_ (sentinels a:1, b:26379, [::1]:3)"),
            ("[::1],b/m", "m (sentinels [::1]:26379, b:26379)"),
            ("A:,b/m", "m (sentinels a:26379, b:26379)"),
            ("a/m/", "m (sentinels a:26379)"),
            // A master may be called so.
            ("a/0/0", "0 (sentinels a:26379)"),
            // A password with an @ has always been taken.
            ("u:p@ss@a/m", "m (sentinels a:26379)"),
        ] {
            assert_eq!(parsed(rest, None).to_string(), shown, "{rest}");
        }
        let location = parsed(
            "me:s%40crt@a:1,b:2/m/3?sentinel_username=watch&sentinel_password=%2Fo",
            Some(true),
        );
        let login = location.login();
        assert_eq!(
            (login.username(), login.password(), login.db()),
            (Some("me"), Some("s@crt"), 3)
        );
        let RedisAddress::Sentinels(address) = location.address() else { panic!("{location:?}") };
        let login = address.login();
        assert_eq!((login.username(), login.password()), (Some("watch"), Some("/o")));
        let tls = |address: &redis::ConnectionAddr| {
            matches!(address, redis::ConnectionAddr::TcpTls { insecure: true, .. })
        };
        assert!(address.sentinels().iter().all(tls));
        assert!(!format!("{location:?}").contains("crt"), "{location:?}");
    }

    #[test]
    fn each_mistake_has_its_message_and_no_secret() {
        let many = format!("{}/m", ["a"; 17].join(","));
        for (rest, hint) in [
            (":secret@a", "names no master; use forms like redis+sentinel://"),
            (":secret@a/", "names no master"),
            (":secret@a/m%2F/0", "letters, digits"),
            (":secret@,a/m", "a sentinel has no host"),
            (":secret@a:99999/m", "is not a valid port"),
            (":secret@a/m/zero", "must be a number"),
            (":sec/secret@a/m", "percent-encode"),
            ("a/m?password=secret", "sentinel_username and sentinel_password"),
            ("a/m?sentinel_username=secret", "needs a sentinel_password"),
            ("a/m?sentinel_password=secret&sentinel_password=x", "sentinel_password is set twice"),
            ("a/m?sentinel_password=", "sentinel_password is empty"),
            ("a/m?sentinel_password", "sentinel_password is empty"),
            ("a/m?sentinel_password=secret%zz", "write %25"),
            ("u:secret@a:1,u:secret@b:2/m", "more than one host"),
            ("u:secret%zz@a/m", "write %25"),
            ("u:secret%@a/m", "write %25"),
            ("u:se?secret@a/m", "percent-encode"),
            ("u:se#secret@a/m", "percent-encode"),
            ("secret@a/m", "a user and no password"),
            ("secret:@a/m", "a user and no password"),
            ("http://a/m", "a second ://"),
            ("a:0/m", "port 0"),
            ("a/m/-1", "from 0 to"),
            ("a/m/99999999999", "from 0 to"),
            ("a/0", "\"0\" is a database"),
            ("a,b,A:26379/m", "names the sentinel \"a:26379\" twice"),
            ("999.1.1.1/m", "\"999.1.1.1\" is not an IP address"),
            ("tést/m", "a host with 'é' in it"),
            ("a b/m", "a host with ' ' in it"),
            (&many, "has 17 sentinels"),
        ] {
            let message = location(rest, None).expect_err(rest);
            assert!(message.contains(hint), "{rest}: {message}");
            assert!(!message.contains("secret"), "{rest}: {message}");
        }
    }
}
