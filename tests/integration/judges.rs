//! Judges from outside, beside fifty good streams: sslyze and openssl on TLS, slowhttptest, and
//! scripted peers on python's h2. None of them shares code with the gateway or with the other tests.
//!
//! `tests/judges/install` puts them into `target/judges`; each is of the version that is named there or
//! below, for another one may judge otherwise.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::attacks::crowd::Crowd;
use crate::attacks::table::{judge, mib};
use crate::support::{Gateway, Program, Redis, Request, SOON, Site, Via, eventually, within};

const SLOWHTTPTEST: &str = "1.8.2";

fn installed(program: &str) -> PathBuf {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/judges/venv/bin").join(program);
    assert!(path.exists(), "{} is missing: tests/judges/install", path.display());
    path
}

struct Court {
    gateway: Arc<Gateway>,
    crowd: Crowd,
    _backends: [Site; 2],
}

impl Court {
    async fn sit(settings: &str, more_of_route: &str) -> Self {
        let redis = Arc::new(Redis::start().await);
        let large = Box::leak("x".repeat(4 << 20).into_boxed_str());
        let backends = [Site::start("hello").await, Site::start(large).await];
        let silent = Site::silent().await;
        let site = backends[0].route("/site").replace(" }", &format!("{more_of_route} }}"));
        let gateway = Gateway::build(&redis)
            .settings(settings)
            .route(&site)
            .route(&backends[1].route("/large"))
            .route(&silent.route("/silent"))
            .start()
            .await;
        let gateway = Arc::new(gateway);
        let crowd = Crowd::gather(&gateway, &redis).await;
        Self { gateway, crowd, _backends: backends }
    }

    async fn cut(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        self.gateway.metrics().await.sum("ssegate_connections_cut_total", &[&label])
    }
}

/// What sslyze says of something, which it must have found out.
fn finding<'a>(report: &'a Value, what: &str) -> &'a Value {
    let found = &report["server_scan_results"][0]["scan_result"][what];
    assert_eq!(found["status"], "COMPLETED", "{what}: {found}");
    &found["result"]
}

fn accepted(report: &Value, version: &str) -> Vec<String> {
    let found = finding(report, &format!("{version}_cipher_suites"));
    let suites = found["accepted_cipher_suites"].as_array().unwrap().iter();
    suites.map(|suite| suite["cipher_suite"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "judged from outside: run by tests/run --full"]
async fn long_sslyze_finds_nothing_weak() {
    let court = Court::sit("", "").await;
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("report.json");
    let port = court.gateway.address("https").port();
    let scans = "--resum --reneg --heartbleed --openssl_ccs --compression --fallback --early_data \
                 --robot --ems --sslv2 --sslv3 --tlsv1 --tlsv1_1 --tlsv1_2 --tlsv1_3";
    let sslyze = Program::new(installed("sslyze"))
        .args(["--quiet", "--mozilla_config=disable", "--json_out"])
        .arg(&file)
        .args(scans.split_whitespace())
        .arg(format!("localhost:{port}"));
    let complies = Program::new(installed("sslyze"))
        .args(["--quiet", "--mozilla_config=intermediate"])
        .arg(format!("localhost:{port}"));
    let ((report_of, compliance), toll) = court
        .crowd
        .under(async { (sslyze.output(4 * SOON).await, complies.output(4 * SOON).await) })
        .await;
    report_of.success();
    let report: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();

    for old in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
        assert_eq!(accepted(&report, old), [""; 0], "{old}");
    }
    let suites = accepted(&report, "tls_1_2");
    let is_sound = |suite: &String| {
        suite.starts_with("TLS_ECDHE_") && (suite.contains("_GCM_") || suite.contains("_CHACHA20_"))
    };
    assert!(suites.len() >= 2 && suites.iter().all(is_sound), "{suites:?}");
    assert!(accepted(&report, "tls_1_3").len() >= 2);
    for (what, key, expected) in [
        ("tls_compression", "supports_compression", false),
        ("tls_1_3_early_data", "supports_early_data", false),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", false),
        ("heartbleed", "is_vulnerable_to_heartbleed", false),
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", false),
        ("session_renegotiation", "supports_secure_renegotiation", true),
        ("tls_fallback_scsv", "supports_fallback_scsv", true),
        ("tls_extended_master_secret", "supports_ems_extension", true),
    ] {
        assert_eq!(finding(&report, what)[key], expected, "{what}.{key}");
    }
    let robot = finding(&report, "robot")["robot_result"].as_str().unwrap();
    assert!(robot.starts_with("NOT_VULNERABLE"), "{robot}");
    // Of tickets it takes for unsupported what comes back renewed, as rustls does it: see below.
    let resumption = &finding(&report, "session_resumption")["session_id_resumption_result"];
    assert_eq!(resumption, "FULLY_SUPPORTED");
    // The certificate is one that was made for the test: nobody knows who signed it.
    let compliance = compliance.stdout;
    assert!(compliance.contains("Mozilla's \"intermediate\" configuration"), "{compliance}");
    let complaints = compliance.lines().filter_map(|line| line.trim().strip_prefix("* "));
    let complaints: Vec<_> = complaints.filter(|line| !line.contains("certificate_")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    let bounds = [
        ("complaints", 0.0, complaints.len() as f64),
        ("weak suites", 0.0, suites.iter().filter(|suite| !is_sound(suite)).count() as f64),
        ("MiB", 16.0, mib(toll.resident)),
    ];
    judge("sslyze", &toll, &bounds);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "judged from outside: run by tests/run --full"]
async fn long_openssl_resumes_with_tickets() {
    let court = Court::sit("", "").await;
    let dir = TempDir::new().unwrap();
    let address = court.gateway.address("https").to_string();
    let ((), toll) = court
        .crowd
        .under(async {
            for version in ["-tls1_2", "-tls1_3"] {
                let session = dir.path().join(version);
                let session = session.to_str().unwrap();
                for (keep, expected) in [("-sess_out", "New, TLS"), ("-sess_in", "Reused, TLS")] {
                    // It has to read for a ticket of TLS 1.3, which comes behind the handshake.
                    let script = "(printf 'GET /site HTTP/1.1\\r\\nhost: localhost\\r\\n\
                                  connection: close\\r\\n\\r\\n'; sleep 1) | \
                                  openssl s_client -connect \"$1\" -servername localhost -alpn http/1.1 \
                                  -no_ign_eof \"$2\" \"$3\" \"$4\" 2>&1";
                    let openssl = Program::new("/bin/sh")
                        .args(["-c", script, "sh", &address, version, keep, session]);
                    let output = openssl.output(SOON).await.stdout;
                    assert!(output.contains(expected), "{version} {keep}: {output}");
                    assert!(output.contains("hello"), "{version} {keep}: {output}");
                    assert!(!output.contains("Max Early Data: 1"), "{output}");
                }
            }
        })
        .await;
    judge("openssl s_client with tickets", &toll, &[("MiB", 8.0, mib(toll.resident))]);
}

/// What slowhttptest has seen.
struct Verdict {
    /// Why it ended.
    status: String,
    /// At how many seconds.
    seconds: f64,
}

/// Runs it; the service must have been available all the time.
async fn slowhttptest(arguments: &str, url: &str, limit: Duration) -> Verdict {
    let program = "/usr/bin/slowhttptest";
    let version = Program::new(program).arg("-h").output(SOON).await;
    let version = format!("{}{}", version.stdout, version.stderr);
    let pinned = format!("version {SLOWHTTPTEST}");
    assert!(
        version.contains(&pinned),
        "not of the {pinned}, for which this was written: {version}"
    );

    let dir = TempDir::new().unwrap();
    let seconds = limit.as_secs().to_string();
    let output = Program::new(program)
        .dir(dir.path())
        .args(["-c", "200", "-r", "100", "-p", "3", "-g", "-o", "seen", "-l", &seconds])
        .args(arguments.split_whitespace())
        .args(["-u", url])
        .output(limit + SOON)
        .await;
    let mut said = output.stdout.lines().chain(output.stderr.lines());
    let status = said.rfind(|line| line.contains("Exit status")).unwrap_or_default();
    let csv = std::fs::read_to_string(dir.path().join("seen.csv")).unwrap();
    let rows: Vec<Vec<f64>> = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').map(|field| field.trim().parse().unwrap()).collect())
        .collect();
    // Seconds, closed, pending, connected, service available.
    assert!(csv.starts_with("Seconds,Closed,Pending,Connected,Service Available"), "{csv}");
    let unavailable: Vec<_> = rows.iter().filter(|row| row[4] == 0.0).collect();
    assert!(unavailable.is_empty() && !rows.is_empty(), "service available: NO at {unavailable:?}");
    Verdict { status: status.to_owned(), seconds: rows.last().unwrap()[0] }
}

/// Row 21 of the fault matrix.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "judged from outside: run by tests/run --full"]
async fn long_slowhttptest_closes_no_service() {
    // Nobody sends a body in less than so long between two pieces.
    let court = Court::sit("", ", idle_timeout: 5s").await;
    let files = court.gateway.open_files();
    let base = format!("http://{}", court.gateway.address("http"));
    // It opens a hundred a second: the last ones have their time later.
    for (what, arguments, target, deadline, reasons) in [
        // Both are of ten seconds: now one is sooner, now the other.
        (
            "headers",
            "-H -i 2 -x 24 -t GET",
            "/site",
            10,
            &["header_timeout", "first_request_timeout"][..],
        ),
        ("bodies", "-B -i 20 -s 8192 -x 10 -t POST", "/site", 5, &[]),
        ("reads", "-X -w 10 -y 20 -n 2 -z 8 -k 1 -t GET", "/large", 30, &["write_timeout"]),
    ] {
        let cut = async || {
            let mut sum = 0.0;
            for reason in reasons {
                sum += court.cut(reason).await;
            }
            sum
        };
        let before = cut().await;
        let limit = Duration::from_secs(deadline + 22);
        let url = format!("{base}{target}");
        let ((verdict, left), toll) = court
            .crowd
            .under(async {
                let mut left = 0.0;
                let looked = async {
                    // It begins over two seconds, and so much may be left over.
                    tokio::time::sleep(Duration::from_secs(2 + deadline + 2)).await;
                    if what == "reads" {
                        // The deadline begins with the last octet that went out, and some do.
                        tokio::time::sleep(Duration::from_secs(16)).await;
                    }
                    left = court.gateway.open_files().saturating_sub(files + 5) as f64;
                };
                let (verdict, ()) = tokio::join!(slowhttptest(arguments, &url, limit), looked);
                (verdict, left)
            })
            .await;
        let mut bounds = vec![
            ("left over", 0.0, left),
            ("MiB", 64.0, mib(toll.resident)),
            ("waiting MiB", 75.0, mib(toll.waiting as u64)),
        ];
        if what == "reads" {
            // It reads what its kernel has, a few octets at a time, long after the end of the
            // connection: only the gateway knows.
            assert!(verdict.status.contains("Hit test time limit"), "{}", verdict.status);
        } else {
            assert!(verdict.status.contains("No open connections left"), "{}", verdict.status);
            bounds.push(("ended after s", (deadline + 6) as f64, verdict.seconds));
        }
        if !reasons.is_empty() {
            assert_eq!(cut().await - before, 200.0, "{what}: each is counted");
        }
        judge(&format!("slowhttptest, 200 slow {what}"), &toll, &bounds);
        let gone = async || court.gateway.open_files() <= files + 5;
        eventually(SOON, "all are gone", gone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "judged from outside: run by tests/run --full"]
async fn long_peers_on_another_http2_are_served_or_cut_off() {
    let court = Court::sit("", "").await;
    let address = court.gateway.address("https");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/judges/h2_peer.py");
    for (scenario, reason) in [
        ("page", ""),
        ("stream", ""),
        ("oversized", ""),
        ("rapid_reset", "resets"),
        ("continuation", "headers"),
        ("ping_flood", "flood"),
    ] {
        let before = court.cut(reason).await;
        let peer = Program::new(installed("python")).arg(&script).args([
            address.ip().to_string().as_str(),
            address.port().to_string().as_str(),
            scenario,
        ]);
        let (output, toll) = court.crowd.under(peer.output(4 * SOON)).await;
        let measured = output.success();
        if !reason.is_empty() {
            assert_eq!(court.cut(reason).await - before, 1.0, "{scenario} is counted");
        }
        let attack = format!("python-h2: {}", measured.trim());
        judge(&attack, &toll, &[("MiB", 16.0, mib(toll.resident))]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "judged from outside: run by tests/run --full"]
async fn long_a_backend_on_another_http2_finds_no_fault_with_us() {
    let redis = Redis::start().await;
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/judges/h2_backend.py");
    let backend = Program::new(installed("python")).arg(&script).start();
    let listens = async || !backend.stdout().is_empty();
    eventually(SOON, "the backend listens", listens).await;
    let port = &backend.stdout()[0];
    let route = format!(
        "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://127.0.0.1:{port}\", http2: true }}\n"
    );
    let gateway = Gateway::build(&redis).routes(&route).start().await;
    let to = gateway.address("http");
    let mut asking = JoinSet::new();
    for number in 0..200 {
        asking.spawn(async move {
            let (request, expected) = match number % 4 {
                0 => (Request::get("/"), 2),
                1 => (Request::get("/large"), 300_000),
                2 => (Request::new("POST", "/upload").body(&vec![b'x'; 1000 * number]), 0),
                _ => (Request::new("HEAD", "/"), 0),
            };
            let upload = (number % 4 == 2).then(|| (1000 * number).to_string());
            let mut response = request.send(Via::Http1, to).await;
            assert_eq!(response.status, 200, "{number}");
            let body = response.body.rest().await.unwrap();
            match upload {
                Some(length) => assert_eq!(body, length.as_bytes()),
                None => assert_eq!(body.len(), expected),
            }
        });
    }
    within(4 * SOON, "all answers", asking.join_all()).await;
    assert_eq!(backend.stderr(), [""; 0], "what it calls a fault of its client");
    assert!(!gateway.metrics().await.has("ssegate_upstream_errors_total", &[]));
}
