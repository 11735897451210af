//! A real Prometheus scrapes the gateway.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Gateway, Program, Redis, Request, SOON, Via, eventually, free_port};

#[tokio::test]
#[ignore = "needs prometheus: run by tests/run"]
async fn prometheus_scrapes_the_gateway() {
    let redis = Redis::start().await;
    // printf %s admin-token | sha256sum
    let token =
        "{ name: ops, sha256: 10a4c7c9fc5206d6f36dc6944a81bb6f4a3cb0e25014ae3b12e6c3e52712292a }";
    let admin = format!("{{ address: \"127.0.0.1:0\", auth: {{ tokens: [{token}] }} }}");
    let gateway = Gateway::build(&redis).admin(&admin).start().await;
    let _streams = gateway.subscribe_all("/events/news", 7).await;

    let dir = TempDir::new().unwrap();
    let config = dir.path().join("prometheus.yml");
    let target = gateway.address("admin");
    let scrape = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n\
         - job_name: ssegate\n  authorization: {{ credentials: admin-token }}\n  static_configs: [{{ targets: [\"{target}\"] }}]\n"
    );
    std::fs::write(&config, scrape).unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let _prometheus = Program::new("/usr/bin/prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .start();

    let listens = async || tokio::net::TcpStream::connect(address).await.is_ok();
    eventually(SOON, "Prometheus listens", listens).await;
    for (query, expected) in [
        ("up", "1"),
        ("sum(ssegate_streams)", "7"),
        ("ssegate_redis_connected", "1"),
        ("count(ssegate_build_info)", "1"),
    ] {
        let known = async || value_of(address, query).await.as_deref() == Some(expected);
        eventually(4 * SOON, query, known).await;
    }
}

/// The value of the only sample that `query` gives.
async fn value_of(prometheus: std::net::SocketAddr, query: &str) -> Option<String> {
    let query = query.replace('(', "%28").replace(')', "%29");
    let request = Request::get(&format!("/api/v1/query?query={query}"));
    let answer = request.send(Via::Http1, prometheus).await.text().await;
    let answer: Value = serde_json::from_str(&answer).ok()?;
    let [sample] = answer["data"]["result"].as_array()?.as_slice() else { return None };
    Some(sample["value"][1].as_str()?.to_owned())
}
