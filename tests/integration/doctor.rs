//! `ssegate doctor`, against real servers that are well and ill: Redis with rights, nginx, PHP, certificates.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::nginx::Nginx;
use crate::support::{
    Gateway, GatewayBuilder, Output, Pem, Program, Redis, SOON, eventually, free_port,
};

/// What the doctor prints about a configuration.
#[derive(Debug)]
struct Report {
    code: i32,
    findings: Vec<Value>,
    stderr: String,
}

impl Report {
    fn new(output: &Output) -> Self {
        let parsed =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{output:?}"));
        let findings = output.stdout.lines().map(parsed).collect();
        Self { code: output.code(), findings, stderr: output.stderr.clone() }
    }

    /// Fails unless a finding of this level is about `about`, and says `words`, with what to do.
    fn says(&self, level: &str, about: &str, words: &str) -> &Value {
        let has = |finding: &&Value, key: &str, words: &str| {
            finding[key].as_str().unwrap().contains(words)
        };
        let found = self.findings.iter().find(|finding| {
            finding["level"] == level
                && has(finding, "about", about)
                && has(finding, "found", words)
        });
        found.unwrap_or_else(|| {
            panic!("no {level} about {about} says {words:?}: {:#?} {}", self.findings, self.stderr)
        })
    }

    fn count(&self, level: &str) -> usize {
        self.findings.iter().filter(|finding| finding["level"] == level).count()
    }
}

async fn report(program: Program, arguments: &[&str]) -> Report {
    let program = program.args(["--json"]).args(arguments.iter().copied());
    Report::new(&program.output(4 * SOON).await)
}

async fn doctor(builder: &GatewayBuilder, arguments: &[&str]) -> Report {
    let dir = TempDir::new().unwrap();
    report(builder.program(dir.path(), "doctor"), arguments).await
}

#[tokio::test]
#[ignore = "needs nginx: run by tests/run"]
async fn what_is_well_is_ok_and_nothing_is_left_behind() {
    let redis = Redis::start().await;
    let nginx = Nginx::start("location / { return 200 ok; }").await;
    let builder = Gateway::build(&redis).route(&nginx.route("/{*rest}"));
    let well = doctor(&builder, &[]).await;
    assert_eq!((well.code, well.count("error")), (0, 0), "{:#?}", well.findings);
    well.says("ok", "gateway.yaml", "no mistake in it");
    well.says("ok", "redis", "it permits what the routes read");
    well.says("ok", "fleet", "clients can resume at another gateway");
    well.says("ok", &format!("upstream http://{}", nginx.address()), "responds 200 OK to HEAD /");
    well.says("ok", "listeners[1] 127.0.0.1:0", "the system will choose a port");
    well.says("warning", "listeners[0].tls", "self-signed");
    well.says("ok", "clock", "agrees with that of http://127.0.0.1");
    for about in ["open files", "net.core.somaxconn", "memory"] {
        assert!(well.findings.iter().any(|finding| finding["about"] == about), "{about}");
    }
    assert_eq!(redis.command::<u64>(&["DBSIZE"]).await, 0);
    assert_eq!(nginx.log(), ["HEAD / HTTP/1.1 200"]);

    // As people read it.
    let dir = TempDir::new().unwrap();
    let output = builder.program(dir.path(), "doctor").output(4 * SOON).await;
    assert_eq!(output.code(), 0);
    assert!(output.stdout.lines().any(|line| line.starts_with("ok      redis: 127.0.0.1:")));
    assert!(output.stderr.ends_with(" warning") || output.stderr.ends_with(" warnings"));
}

#[tokio::test]
async fn a_mistake_in_the_file_is_what_check_says() {
    let redis = Redis::start().await;
    let dir = TempDir::new().unwrap();
    let builder = Gateway::build(&redis).settings("drain: 5 parsecs");
    let output = builder.program(dir.path(), "doctor").output(SOON).await;
    let checked = builder.program(dir.path(), "check").output(SOON).await;
    assert_eq!((output.code(), output.stdout), (64, String::new()));
    assert_eq!(output.stderr, checked.stderr);
}

#[tokio::test]
async fn a_running_gateway_holds_its_own_ports_and_nobody_else_may() {
    let redis = Redis::start().await;
    let (port, admin) = (free_port(), free_port());
    let builder = || {
        let admin = format!("{{ address: \"127.0.0.1:{admin}\" }}");
        Gateway::build(&redis).port(port).admin(&admin)
    };
    let free = doctor(&builder(), &[]).await;
    free.says("ok", &format!("listeners[1] 127.0.0.1:{port}"), "free: no gateway runs there");
    let gateway = builder().start().await;
    let held = doctor(&builder(), &[]).await;
    let holder = format!("held by a gateway that runs (pid {})", gateway.id());
    held.says("ok", &format!("listeners[1] 127.0.0.1:{port}"), &holder);
    held.says("ok", &format!("admin 127.0.0.1:{admin}"), &holder);
    // It was not disturbed.
    gateway.subscribe("/events/news").await;

    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = other.local_addr().unwrap();
    let foreign = builder().port(taken.port()).listener("address: 192.0.2.7:443");
    let taken_report = doctor(&foreign, &[]).await;
    assert_eq!(taken_report.code, 1);
    taken_report.says("error", &format!("listeners[1] {taken}"), "in use by ");
    taken_report.says("error", "listeners[2] 192.0.2.7:443", "no network interface");
}

#[tokio::test]
async fn what_redis_does_not_permit_is_an_error_with_the_mend_and_no_secret() {
    let redis = Redis::start().await;
    let rights = "ACL SETUSER gate on >hunter2 resetkeys resetchannels &other -@all +ping +subscribe +info +client \
                  +unsubscribe +psubscribe +punsubscribe +hello +pubsub +publish";
    redis.command::<String>(&rights.split_whitespace().collect::<Vec<_>>()).await;
    let url = redis.url().replace("redis://", "redis://gate:hunter2@");
    let denied = doctor(&Gateway::build(&redis).redis_url(&url), &[]).await;
    assert_eq!(denied.code, 1);
    let finding = denied.says("error", "redis", "NOPERM");
    assert!(finding["mend"].as_str().unwrap().contains("deploy/redis-users.acl"), "{finding}");

    let away = format!("redis://gate:hunter2@127.0.0.1:{}", free_port());
    let away = doctor(&Gateway::build(&redis).redis_url(&away), &[]).await;
    assert_eq!(away.code, 1);
    let finding = away.says("error", "redis", "cannot connect");
    assert!(finding["mend"].as_str().unwrap().contains("is Redis running"), "{finding}");
    // The mend is that of the cause: Redis is there, and nothing keeps this machine out.
    let password = Gateway::build(&redis).redis_url(&url.replace("hunter2", "hunter3"));
    let password = doctor(&password, &[]).await;
    let finding = password.says("error", "redis", "WRONGPASS");
    let mend = finding["mend"].as_str().unwrap();
    assert!(mend.contains("password") && !mend.contains("firewall"), "{finding}");
    let tls = redis.url().replace("redis://", "rediss://gate:hunter2@");
    let tls = doctor(&Gateway::build(&redis).redis_url(&tls), &[]).await;
    let finding = tls.says("error", "redis", "TLS");
    assert!(!finding["mend"].as_str().unwrap().contains("firewall"), "{finding}");
    redis.command::<String>(&["SET", "text", "no stream"]).await;
    let route = "- path: /log\n  events: { channels: [text], source: stream }\n";
    let text = doctor(&Gateway::build(&redis).route(route), &[]).await;
    let finding = text.says("error", "redis", "WRONGTYPE");
    let mend = finding["mend"].as_str().unwrap();
    assert!(mend.contains("no stream") && !mend.contains("redis-users.acl"), "{finding}");
    for report in [denied, away, password, tls] {
        assert!(!format!("{:?}{}", report.findings, report.stderr).contains("hunter2"));
    }
}

#[tokio::test]
#[ignore = "needs nginx: run by tests/run"]
async fn a_backend_is_tried_as_the_gateway_would_reach_it() {
    let redis = Redis::start().await;
    let dir = TempDir::new().unwrap();
    let pem = Pem::write(dir.path());
    let (certificate, key) = (pem.certificate.display(), pem.key.display());
    let tls = format!("ssl_certificate {certificate}; ssl_certificate_key {key};");
    let secure = Nginx::listening("ssl http2", &tls).await;
    let (plain, broken) =
        (Nginx::start("").await, Nginx::start("location / { return 503; }").await);
    let [secure, plain, broken] = [&secure, &plain, &broken].map(Nginx::address);
    let nowhere = free_port();
    let authority = pem.authority.display();
    for (proxy, level, words, mend) in [
        (format!("upstream: \"http://{plain}\""), "ok", "to HEAD / over HTTP/1.1", ""),
        (
            format!("upstream: \"http://127.0.0.1:{nowhere}\""),
            "error",
            "cannot connect: Connection refused",
            "start it, or correct routes[0].proxy",
        ),
        (
            format!("upstream: \"https://{secure}\""),
            "error",
            "TLS fails: invalid peer certificate: UnknownIssuer",
            "set routes[0].proxy.tls.ca",
        ),
        (
            format!("upstream: \"https://{secure}\", tls: {{ ca: \"{authority}\" }}, http2: true"),
            "ok",
            "over HTTP/2",
            "",
        ),
        (
            format!("upstream: \"https://{secure}\", tls: {{ insecure_skip_verify: true }}"),
            "warning",
            "its certificate is not verified",
            "tls.ca instead",
        ),
        (
            format!(
                "upstream: \"https://{secure}\", tls: {{ ca: \"{authority}\", server_name: app.example }}"
            ),
            "error",
            "TLS fails: invalid peer certificate",
            "tls.server_name",
        ),
        (format!("upstream: \"https://{plain}\""), "error", "TLS fails", "or use http://"),
        (
            format!("upstream: \"http://{plain}\", http2: true"),
            "error",
            "no HTTP response",
            "right about TLS and http2",
        ),
        (
            format!("upstream: \"http://{broken}\""),
            "warning",
            "responds 503 Service Unavailable",
            "see its log",
        ),
    ] {
        let route = format!("- {{ path: \"/{{*rest}}\", proxy: {{ {proxy} }} }}\n");
        let report = doctor(&Gateway::build(&redis).routes(&route), &[]).await;
        let finding = report.says(level, "upstream http", words);
        assert!(finding["mend"].as_str().unwrap().contains(mend), "{proxy}: {finding}");
        assert_eq!(report.code, i32::from(level == "error"), "{proxy}");
    }
}

const SCRIPT: &str = r#"<?php
header("Content-Type: text/event-stream");
$path = $_SERVER["REQUEST_URI"];
if ($path == "/held") ob_start();
$times = $path == "/short" ? 1 : 4;
for ($i = 0; $i < $times; $i++) {
    echo "data: $i\n\n";
    if ($path == "/live") { if (ob_get_level()) ob_flush(); flush(); }
    if ($path != "/short") usleep(400000);
}
"#;

/// PHP's own web server, with the script above.
async fn php(dir: &Path) -> (crate::support::Process, String) {
    const PROGRAM: &str = "/usr/bin/php";
    assert!(Path::new(PROGRAM).exists(), "missing: apt-get install php-cli");
    std::fs::write(dir.join("router.php"), SCRIPT).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let process = Program::new(PROGRAM).args(["-S", &address, "router.php"]).dir(dir).start();
    eventually(SOON, "PHP listens", async || {
        tokio::net::TcpStream::connect(&address).await.is_ok()
    })
    .await;
    (process, address)
}

#[tokio::test]
#[ignore = "needs php-cli: run by tests/run"]
async fn a_stream_of_a_backend_that_is_collected_is_told_from_one_that_is_not() {
    let redis = Redis::start().await;
    let dir = TempDir::new().unwrap();
    let (_php, address) = php(dir.path()).await;
    let route =
        format!("- {{ path: \"/{{*rest}}\", proxy: {{ upstream: \"http://{address}\" }} }}\n");
    let builder = Gateway::build(&redis).route(&route);
    for (path, level, words, mend) in [
        ("/live", "ok", "unbuffered", ""),
        ("/held", "error", "all of it came at once", "ob_flush(); flush();"),
        ("/short", "warning", "it ended after", "Publish instead"),
        ("/events/news", "error", "is no proxy route", "the path of a stream of a backend"),
    ] {
        let report = doctor(&builder, &["--stream", path]).await;
        let finding = report.says(level, &format!("stream {path}"), words);
        assert!(finding["mend"].as_str().unwrap().contains(mend), "{finding}");
        assert_eq!(report.code, i32::from(level == "error"), "{path}");
    }
    let output =
        builder.program(dir.path(), "doctor").args(["--stream", "live"]).output(SOON).await;
    assert_eq!(output.code(), 64, "{output:?}");
}

#[tokio::test]
#[ignore = "needs nginx: run by tests/run"]
async fn a_proxy_in_front_that_buffers_is_told_from_one_that_does_not() {
    let redis = Redis::start().await;
    let dir = TempDir::new().unwrap();
    let pem = Pem::write(dir.path());
    let port = free_port();
    let builder = || {
        let streams = Gateway::build(&redis).events("keep_alive: 1s").port(port);
        streams.settings("trusted_proxies: [127.0.0.1]")
    };
    let gateway = builder().start().await;
    let site = format!("proxy_pass http://{};", gateway.address("http"));
    let tls = format!(
        "ssl_certificate {}; ssl_certificate_key {};",
        pem.certificate.display(),
        pem.key.display()
    );
    // nginx asks over HTTP/1.0 unless told otherwise, and then collects what it may.
    let ignoring = "proxy_ignore_headers X-Accel-Buffering;";
    let gzip = "gzip on; gzip_types text/event-stream; gzip_min_length 1;";
    for (listen, server, level, words, mend) in [
        ("", format!("location / {{ {site} }}"), "ok", "unbuffered", ""),
        ("ssl http2", format!("{tls} location / {{ {site} }}"), "ok", "HTTP/2", ""),
        ("ssl", format!("{tls} location / {{ {site} }}"), "warning", "at most six", "HTTP/2"),
        (
            "",
            format!("location / {{ {site} proxy_buffering on; {ignoring} }}"),
            "error",
            "something in front buffers it",
            "proxy_buffering off",
        ),
        (
            "",
            format!("location / {{ {site} proxy_buffering off; {ignoring} }}"),
            "ok",
            "unbuffered",
            "",
        ),
        (
            "",
            format!("{gzip} location / {{ {site} }}"),
            "error",
            "Content-Encoding: gzip",
            "exclude text/event-stream",
        ),
        (
            "",
            "location / { return 200 ok; }".to_owned(),
            "error",
            "no stream: 200 OK",
            "the public address of a stream",
        ),
    ] {
        let nginx = Nginx::listening(listen, &server).await;
        let scheme = if listen.is_empty() { "http" } else { "https" };
        let url = format!("{scheme}://{}/events/news", nginx.address());
        let report = doctor(&builder(), &["--through", &url, "--insecure"]).await;
        let finding = report.says(level, &format!("through {url}"), words);
        assert!(finding["mend"].as_str().unwrap().contains(mend), "{finding}");
        assert_eq!(report.code, i32::from(level == "error"), "{server}: {:#?}", report.findings);
    }
    let nowhere = format!("http://127.0.0.1:{}/events/news", free_port());
    let report = doctor(&builder(), &["--through", &nowhere]).await;
    report.says("error", "through", "cannot connect");
}

#[tokio::test]
async fn certificates_are_judged_as_clients_would() {
    let redis = Redis::start().await;
    let judged = async |pem: &Pem, route: &str| {
        let (certificate, key) = (pem.certificate.display(), pem.key.display());
        let files = format!("{{ certificate: \"{certificate}\", key: \"{key}\" }}");
        doctor(&Gateway::build(&redis).tls(&files).route(route), &[]).await
    };
    let dir = TempDir::new().unwrap();
    for (from, to, level, words) in [
        (-1, 365, "warning", "the chain ends with an authority that is not in the file"),
        (-90, 5, "warning", "it expires on "),
        (-90, -1, "error", "it expired on "),
        (2, 90, "error", "it is not valid before "),
    ] {
        let pem = Pem::write_for(dir.path(), from, to);
        let report = judged(&pem, "").await;
        let finding = report.says(level, "listeners[0].tls ", words);
        assert_ne!(finding["mend"], "", "{finding}");
        assert_eq!(report.code, i32::from(level == "error"));
    }
    let pem = Pem::write(dir.path());
    let route = "- { path: /x, host: app.example, events: { channels: [x] } }\n";
    judged(&pem, route).await.says("warning", "listeners[0].tls", "no certificate for app.example");

    // With its authority trusted and in the file.
    let read = |path: &Path| std::fs::read(path).unwrap();
    let whole = [read(&pem.certificate), read(&pem.authority)].concat();
    std::fs::write(&pem.certificate, whole).unwrap();
    judged(&pem, "").await.says(
        "warning",
        "listeners[0].tls ",
        "is not one that this machine trusts",
    );
    let (certificate, key) = (pem.certificate.display(), pem.key.display());
    let files = format!("{{ certificate: \"{certificate}\", key: \"{key}\" }}");
    let state = TempDir::new().unwrap();
    let program = Gateway::build(&redis).tls(&files).program(state.path(), "doctor");
    let trusting = report(program.env("SSL_CERT_FILE", &pem.authority), &[]).await;
    trusting.says("ok", "listeners[0].tls ", "good for localhost, 127.0.0.1 for 36");

    let other = TempDir::new().unwrap();
    std::fs::copy(Pem::write(other.path()).key, &pem.key).unwrap();
    let report = judged(&pem, "").await;
    assert_eq!(report.code, 64, "as check says");
    assert!(report.stderr.contains("the key belongs to another certificate"), "{}", report.stderr);
}

#[tokio::test]
#[ignore = "needs nginx and faketime: run by tests/run"]
async fn limits_and_the_clock_are_compared() {
    let redis = Redis::start().await;
    let nginx = Nginx::start("").await;
    let few = Gateway::build(&redis).under(&["prlimit", "--nofile=1000"]);
    let report = doctor(&few, &[]).await;
    let finding = report.says("warning", "open files", "1000 are enough for 8");
    assert!(finding["mend"].as_str().unwrap().contains("LimitNOFILE="), "{finding}");
    let enough = Gateway::build(&redis).settings("limits: { connections: 500 }");
    let report = doctor(&enough.under(&["prlimit", "--nofile=1000"]), &[]).await;
    report.says("ok", "open files", "1000, enough for limits.connections (500)");

    let huge =
        "limits: { connections: 500, queue_memory: 100000GiB }\nsockets: { backlog: 65535 }\n";
    let many = "{ upstream: \"http://127.0.0.1:1\", max_connections: 1000000 }";
    let route = format!("- {{ path: \"/{{*rest}}\", proxy: {many} }}\n");
    let report = doctor(&Gateway::build(&redis).settings(huge).route(&route), &[]).await;
    report.says("warning", "memory", "histories, queues and uploads may take");
    report.says("warning", "net.core.somaxconn", "so sockets.backlog (65535) is cut to it");
    report.says("warning", "net.ipv4.ip_local_port_range", "fewer than the 1000000 connections");

    let ahead = Gateway::build(&redis).route(&nginx.route("/{*rest}")).with_clock_ahead(3600);
    let report = doctor(&ahead, &[]).await;
    let finding = report.says("warning", "clock", " s ahead of that of http://127.0.0.1");
    assert!(finding["mend"].as_str().unwrap().contains("NTP"), "{finding}");
}

#[tokio::test]
async fn what_may_make_redis_forget_is_told_where_something_is_kept_in_it() {
    let redis = Redis::start().await;
    let doctor = async |route: &str| doctor(&Gateway::build(&redis).route(route), &[]).await;
    let (about, pubsub) = ("what Redis keeps", "- path: /a\n  events: { channels: [news] }\n");
    let stream = "- path: /a\n  events: { channels: [log], source: stream }\n";
    let recorded = "- path: /a\n  events: { channels: [log], source: recorded }\n";
    let set = async |name: &str, value: &str| {
        redis.command::<String>(&["CONFIG", "SET", name, value]).await;
    };
    set("appendonly", "yes").await;
    set("maxmemory", "1gb").await;
    set("maxmemory-policy", "noeviction").await;
    for route in [pubsub, stream, recorded] {
        let well = doctor(route).await;
        assert!(well.findings.iter().all(|it| it["about"] != about), "{:#?}", well.findings);
    }
    set("appendonly", "no").await;
    set("maxmemory-policy", "allkeys-lru").await;
    for route in [stream, recorded] {
        let report = doctor(route).await;
        let evicts = report.says("warning", about, "maxmemory-policy is allkeys-lru");
        assert!(evicts["mend"].as_str().unwrap().contains("noeviction"), "{evicts}");
        report.says("warning", about, "appendonly is off");
    }
    assert!(doctor(pubsub).await.findings.iter().all(|it| it["about"] != about));
    // Kept streams live for minutes.
    let kept = "- path: /chat\n  proxy: { upstream: \"http://127.0.0.1:1\" }\n  keep: { owner: [authorization], \
                store: redis, secret: 0123456789abcdef0123456789abcdef }\n";
    let report = doctor(kept).await;
    report.says("warning", about, "maxmemory-policy is allkeys-lru");
    let is_append_only = |found: &Value| found.as_str().unwrap().contains("appendonly");
    assert!(!report.findings.iter().any(|it| is_append_only(&it["found"])), "{report:?}");
}

#[tokio::test]
async fn a_redis_that_is_full_and_a_node_of_a_cluster_are_called_what_they_are() {
    let redis = Redis::start().await;
    redis.command::<String>(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let kept = "- path: /chat\n  proxy: { upstream: \"http://127.0.0.1:1\" }\n  keep: { owner: [authorization], \
                store: redis, secret: 0123456789abcdef0123456789abcdef }\n";
    let full = doctor(&Gateway::build(&redis).route(kept), &[]).await;
    let finding = full.says("error", "redis", "OOM");
    assert!(finding["mend"].as_str().unwrap().contains("raise its maxmemory"), "{finding}");

    let node = Redis::cluster_node().await;
    let stream = "- path: /log\n  events: { channels: [log], source: stream }\n";
    let lone = doctor(&Gateway::build(&node).route(stream), &[]).await;
    let finding = lone.says("error", "redis", "XINFO");
    let mend = "write redis+cluster:// in redis.url";
    assert!(finding["mend"].as_str().unwrap().contains(mend), "{finding}");
    let url = node.url().replace("redis://", "redis+cluster://");
    let slotless = doctor(&Gateway::build(&node).redis_url(&url).route(stream), &[]).await;
    let finding = slotless.says("error", "redis", "no node of the Cluster owns a slot");
    assert!(finding["mend"].as_str().unwrap().contains("redis-cli --cluster"), "{finding}");
}

#[tokio::test]
async fn the_servers_that_take_webhooks_are_tried() {
    let redis = Redis::start().await;
    let away = format!("127.0.0.1:{}", free_port());
    let route = format!(
        "- path: /a\n  events: {{ channels: [news] }}\n  presence: {{ identify: \"{{auth.id}}\", key: {0}, \
         on_occupied: \"http://{away}/hooks?secret=x\" }}\n  auth: {{ jwt: {{ keys: {0}, algorithms: HS256 }} }}\n",
        "presence-presence-presence-presence"
    );
    let report = doctor(&Gateway::build(&redis).route(&route), &[]).await;
    let finding = report.says("error", &format!("upstream http://{away}"), "refused");
    assert!(finding["mend"].as_str().unwrap().contains("presence.on_occupied"), "{finding}");
    assert!(!format!("{:?}", report.findings).contains("secret"));
}
