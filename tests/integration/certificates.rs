//! Several certificates on one listener, as real clients see them, and their renewal under open streams.
//!
//! The certificates are made by openssl; the clients are openssl, curl and Node.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{
    Gateway, GatewayBuilder, Program, Redis, SOON, Via, eventually, shown_certificate,
};

/// An authority of openssl, and the certificates that it has signed.
struct Authority {
    dir: TempDir,
}

/// A certificate with its key, in files.
#[derive(Clone)]
struct SignedSite {
    certificate: PathBuf,
    key: PathBuf,
}

impl SignedSite {
    fn yaml(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("{{ certificate: \"{certificate}\", key: \"{key}\" }}")
    }
}

/// The time in so many days, as openssl reads it.
fn utc(days: i64) -> String {
    let at = time::OffsetDateTime::now_utc() + time::Duration::days(days);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!("{year:04}{:02}{day:02}{hour:02}{minute:02}{second:02}Z", u8::from(month))
}

async fn openssl(arguments: &str) -> String {
    let arguments = arguments.split_ascii_whitespace();
    Program::new("openssl").args(arguments).output(SOON).await.success()
}

impl Authority {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let at = dir.path().display();
        openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=authority \
             -keyout {at}/ca.key -out {at}/ca.pem"
        ))
        .await;
        let config = format!(
            "[ca]\ndefault_ca = one\n[one]\ndatabase = {at}/index.txt\nnew_certs_dir = {at}\nrand_serial = yes\n\
             default_md = sha256\nunique_subject = no\ncopy_extensions = copy\npolicy = any\n\
             [any]\ncommonName = supplied\n"
        );
        std::fs::write(dir.path().join("ca.cnf"), config).unwrap();
        std::fs::write(dir.path().join("index.txt"), "").unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Makes a certificate for these names (`DNS:a.example,DNS:*.b.example`), over the one in files of this name. It is
    /// good since 60 days, for so many more.
    async fn sign(&self, name: &str, key: &str, names: &str, days: i64) -> SignedSite {
        let at = self.dir.path().display();
        openssl(&format!(
            "req {key} -nodes -subj /CN={name} -addext subjectAltName={names} -keyout {at}/new.key -out {at}/new.csr"
        ))
        .await;
        let (start, end) = (utc(-60), utc(days));
        openssl(&format!(
            "ca -batch -notext -config {at}/ca.cnf -cert {at}/ca.pem -keyfile {at}/ca.key -startdate {start} \
             -enddate {end} -in {at}/new.csr -out {at}/new.pem"
        ))
        .await;
        let file = |extension: &str| self.dir.path().join(format!("{name}.{extension}"));
        let site = SignedSite { certificate: file("pem"), key: file("key") };
        for (from, to) in [("new.key", &site.key), ("new.pem", &site.certificate)] {
            std::fs::rename(self.dir.path().join(from), to).unwrap();
        }
        site
    }
}

const ECDSA: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1";
const RSA: &str = "-newkey rsa:2048";

/// A gateway with these certificates, in this order.
fn with(redis: &Redis, sites: &[&SignedSite]) -> GatewayBuilder {
    let sites: Vec<_> = sites.iter().map(|site| site.yaml()).collect();
    Gateway::build(redis).tls(&format!("{{ certificates: [{}] }}", sites.join(", ")))
}

/// The serial number of a certificate in a file.
async fn serial(certificate: &Path) -> String {
    openssl(&format!("x509 -noout -serial -in {}", certificate.display())).await
}

/// The serial number of what openssl is shown that asks for this host, or for none.
async fn shown_to_openssl(gateway: &Gateway, host: Option<&str>, dir: &Path) -> String {
    let name = match host {
        Some(host) => format!("-servername {host}"),
        None => "-noservername".to_owned(),
    };
    let to = gateway.address("https");
    let told = openssl(&format!("s_client -connect {to} {name} -showcerts")).await;
    let file = dir.join("shown.pem");
    std::fs::write(&file, told).unwrap();
    serial(&file).await
}

#[tokio::test]
#[ignore = "needs curl, Node and openssl: run by tests/run"]
async fn each_client_is_shown_the_certificate_for_its_name() {
    let redis = Redis::start().await;
    let authority = Authority::new().await;
    let first = authority.sign("first", ECDSA, "DNS:first.example,DNS:localhost", 30).await;
    let wild = authority.sign("wild", RSA, "DNS:second.example,DNS:*.second.example", 30).await;
    let api = authority.sign("api", ECDSA, "DNS:api.second.example", 30).await;
    let gateway = with(&redis, &[&first, &wild, &api]).start().await;
    let expected = [
        ("first.example", &first),
        ("second.example", &wild),
        ("www.second.example", &wild),
        ("api.second.example", &api),
    ];
    let dir = TempDir::new().unwrap();
    for (host, site) in expected.into_iter().chain([("unknown.example", &first)]) {
        let shown = shown_to_openssl(&gateway, Some(host), dir.path()).await;
        assert_eq!(shown, serial(&site.certificate).await, "{host}");
    }
    let shown = shown_to_openssl(&gateway, None, dir.path()).await;
    assert_eq!(shown, serial(&first.certificate).await, "without a name");

    // Clients that verify accept each name, over both protocols, and no other.
    let https = gateway.address("https");
    let (port, authority) = (https.port(), authority.path());
    let curl = async |host: &str, version: &str| {
        let curl = Program::new("curl").args(["-sS", version, "-o", "/dev/null", "--cacert"]);
        let curl = curl.arg(&authority).args(["-w", "%{http_version} %{http_code}"]);
        let resolve = format!("{host}:{port}:127.0.0.1");
        let curl = curl.args(["--resolve", &resolve, &format!("https://{host}:{port}/nothing")]);
        curl.output(SOON).await
    };
    for (host, _) in expected {
        assert_eq!(curl(host, "--http1.1").await.success(), "1.1 404", "{host}");
        assert_eq!(curl(host, "--http2").await.success(), "2 404", "{host}");
    }
    let refused = curl("unknown.example", "--http2").await;
    assert_eq!(refused.code(), 60, "{refused:?}");

    // One process of Node, with its sessions: what is resumed for one name is not shown for another.
    let hosts: Vec<_> = expected.iter().chain(&expected).map(|(host, _)| *host).collect();
    let script = format!(
        "const ca = require('fs').readFileSync({authority:?}); let session;
         const ask = (host) => new Promise((done, failed) => {{
           const socket = require('tls').connect(
             {{ host: '127.0.0.1', port: {port}, servername: host, ca, session, ALPNProtocols: ['http/1.1'] }},
             () => {{ console.log(host, socket.getPeerCertificate().subject?.CN ?? 'resumed'); socket.end(); done(); }});
           socket.on('session', (of) => {{ session = of; }}).on('error', failed);
         }});
         (async () => {{ for (const host of {hosts:?}) await ask(host); }})();"
    );
    let node = Program::new("node").args(["-e", &script]).output(SOON).await.success();
    let lines: Vec<_> = node.lines().collect();
    let certificate = |host: &str| match host {
        "first.example" => "first",
        "api.second.example" => "api",
        _ => "wild",
    };
    let wanted: Vec<_> = hosts.iter().map(|host| format!("{host} {}", certificate(host))).collect();
    assert_eq!(lines, wanted);
}

/// The certificate is replaced while streams are open over every protocol: once by its files alone, once with a reload.
#[tokio::test]
#[ignore = "needs curl and openssl: run by tests/run"]
async fn a_renewal_closes_no_stream_and_is_shown_to_new_clients() {
    let redis = Redis::start().await;
    let authority = Authority::new().await;
    let first = authority.sign("first", ECDSA, "DNS:localhost,DNS:first.example", 30).await;
    let second = authority.sign("second", ECDSA, "DNS:second.example", 30).await;
    let gateway = with(&redis, &[&first, &second]).start().await;
    let mut streams = Vec::new();
    for via in [Via::Http1Tls, Via::Http2, Via::Http1Tls, Via::Http2] {
        streams.push(gateway.subscribe_via(via, "/events/news").await);
    }
    let port = gateway.address("https").port();
    let curl = |version: &str| {
        let (resolve, ca) = (format!("second.example:{port}:127.0.0.1"), authority.path());
        let curl = Program::new("curl").args(["-sSN", version, "--resolve", &resolve, "--cacert"]);
        curl.arg(ca).arg(format!("https://second.example:{port}/events/news")).start()
    };
    let curls = ["--http1.1", "--http2"].map(curl);
    let said = |word: &str| {
        let has = |line: &String| line == word;
        curls.iter().all(|curl| curl.stdout().iter().any(has))
    };
    eventually(SOON, "curl is subscribed", async || said(": ready")).await;
    let dir = TempDir::new().unwrap();

    for (round, reloads) in [(1.0, false), (2.0, true)] {
        let before = serial(&second.certificate).await;
        let renewed = authority.sign("second", ECDSA, "DNS:second.example", 60).await;
        let after = serial(&renewed.certificate).await;
        assert_ne!(before, after);
        if reloads {
            assert!(gateway.reload().await);
        }
        let is_shown =
            async || shown_to_openssl(&gateway, Some("second.example"), dir.path()).await == after;
        eventually(SOON, "the new certificate is shown", is_shown).await;
        let other = shown_to_openssl(&gateway, Some("first.example"), dir.path()).await;
        assert_eq!(other, serial(&first.certificate).await);

        let word = format!("after {round}");
        redis.publish("news", &word).await;
        for stream in &mut streams {
            assert_eq!(stream.next_event().await.data, word);
            assert!(!stream.has_ended());
        }
        let line = format!("data: {word}");
        eventually(SOON, "curl has it", async || said(&line)).await;
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_streams_closed_total", &[]), 0.0);
    let reloads = |site: &SignedSite, result: &str| {
        let certificate = format!("certificate=\"{}\"", site.certificate.display());
        let result = format!("result=\"{result}\"");
        metrics.sum("ssegate_tls_certificate_reloads_total", &[&certificate, &result])
    };
    assert!((2.0..=3.0).contains(&reloads(&second, "success")), "{}", reloads(&second, "success"));
    assert_eq!(reloads(&first, "failure") + reloads(&second, "failure"), 0.0);
    let told: Vec<_> = gateway.said("certificate reloaded").collect();
    let file = second.certificate.to_str().unwrap();
    assert!(told.iter().any(|fields| fields["file"] == file), "{told:?}");
}

#[tokio::test]
#[ignore = "needs openssl: run by tests/run"]
async fn a_list_changes_with_a_reload_and_what_is_gone_is_forgotten() {
    let redis = Redis::start().await;
    let authority = Authority::new().await;
    let first = authority.sign("first", ECDSA, "DNS:localhost", 60).await;
    let ending = authority.sign("ending", ECDSA, "DNS:ending.example", 5).await;
    let added = authority.sign("added", ECDSA, "DNS:added.example", 60).await;
    let gateway = with(&redis, &[&first, &ending]).start().await;
    let mut stream = gateway.subscribe_via(Via::Http2, "/events/news").await;

    // The one that ends is told apart: in the log, the metrics, /readyz and on the status page.
    let file = |site: &SignedSite| site.certificate.to_str().unwrap().to_owned();
    gateway.logs("the certificate expires soon").await;
    let told: Vec<_> = gateway.said("the certificate expires soon").collect();
    assert_eq!((told.len(), told[0]["file"].as_str()), (1, Some(&*file(&ending))), "{told:?}");
    let problem = format!("certificate of {}, {}", gateway.address("https"), file(&ending));
    let ready = gateway.admin("/readyz?verbose").await.text().await;
    assert!(ready.contains(&problem) && !ready.contains(&file(&first)), "{ready}");
    let page = gateway.admin("/plain").await.text().await;
    assert!(page.contains(&file(&ending)), "{page}");
    const EXPIRY: &str = "ssegate_tls_certificate_expiry_timestamp_seconds";
    let label = |site: &SignedSite| format!("certificate=\"{}\"", file(site));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let metrics = gateway.metrics().await;
    let left = |site: &SignedSite| (metrics.sum(EXPIRY, &[&label(site)]) - now) / 86_400.0;
    assert!((4.9..=5.1).contains(&left(&ending)), "{}", left(&ending));
    assert!((59.9..=60.1).contains(&left(&first)), "{}", left(&first));

    gateway.rewrite(|text| text.replace(&ending.yaml(), &added.yaml()));
    assert!(gateway.reload().await);
    let dir = TempDir::new().unwrap();
    let shown = shown_to_openssl(&gateway, Some("added.example"), dir.path()).await;
    assert_eq!(shown, serial(&added.certificate).await);
    let shown = shown_to_openssl(&gateway, Some("ending.example"), dir.path()).await;
    assert_eq!(shown, serial(&first.certificate).await);
    let is_forgotten = async || {
        let metrics = gateway.metrics().await;
        metrics.has(EXPIRY, &[&label(&added)]) && !metrics.has(EXPIRY, &[&label(&ending)])
    };
    eventually(SOON, "the certificate that is gone has no metric", is_forgotten).await;
    let ready = gateway.admin("/readyz?verbose").await.text().await;
    assert!(!ready.contains(&file(&ending)), "{ready}");

    // With one that cannot be used nothing changes.
    std::fs::write(&added.key, "no key").unwrap();
    gateway.rewrite(|text| text.replace(&first.yaml(), &ending.yaml()));
    assert!(!gateway.reload().await);
    let shown = shown_to_openssl(&gateway, Some("added.example"), dir.path()).await;
    assert_eq!(shown, serial(&added.certificate).await);
    redis.publish("news", "the same stream").await;
    assert_eq!(stream.next_event().await.data, "the same stream");
    assert!(!shown_certificate(gateway.address("https")).await.is_empty());
}

#[tokio::test]
#[ignore = "needs openssl: run by tests/run"]
async fn check_and_doctor_open_each_and_name_the_one_that_is_wrong() {
    let redis = Redis::start().await;
    let authority = Authority::new().await;
    let first = authority.sign("first", ECDSA, "DNS:a.example,DNS:b.example", 60).await;
    let second = authority.sign("second", ECDSA, "DNS:b.example", 5).await;
    let dir = TempDir::new().unwrap();
    let run = async |sites: &[&SignedSite], command: &str| {
        with(&redis, sites).program(dir.path(), command).output(4 * SOON).await
    };
    let (one, two) = (first.certificate.display(), second.certificate.display());
    let twice = format!("{two}: b.example is also a name of {one}, which is shown in its place");
    let checked = run(&[&first, &second], "check").await;
    assert_eq!(checked.code(), 0, "{checked:?}");
    assert!(checked.stderr.contains(&format!("ssegate: warning: {twice}")), "{checked:?}");
    let ends = format!("ssegate: warning: {two}: it expires on ");
    assert!(checked.stderr.contains(&ends), "{checked:?}");
    let seen = run(&[&first, &second], "doctor").await;
    for words in [&twice, &format!("listeners[0].tls {one}"), &format!("listeners[0].tls {two}")] {
        assert!(seen.stdout.contains(words.as_str()), "{words}: {seen:?}");
    }

    let mixed = SignedSite { key: first.key.clone(), ..second };
    for command in ["check", "doctor"] {
        let refused = run(&[&first, &mixed], command).await;
        assert_eq!(refused.code(), 64, "{refused:?}");
        let place = "listeners[0].tls.certificates[1].key: ";
        let words = "do not match: the key belongs to another certificate";
        assert!(refused.stderr.contains(place) && refused.stderr.contains(words), "{refused:?}");
    }
}
