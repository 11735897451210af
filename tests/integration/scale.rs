//! `benches/scale`: its model counts right, `docs/SCALE.md` says what it prints, and a deploy of all gateways behind
//! HAProxy loses nothing, in bad weather.

use std::path::Path;
use std::time::Duration;

use crate::support::{Output, Program, SOON, measured};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const SSEGATE: &str = env!("CARGO_BIN_EXE_ssegate");

async fn scale<'a>(arguments: impl IntoIterator<Item = &'a str>, limit: Duration) -> Output {
    let program = Path::new(ROOT).join("benches/scale");
    Program::new(program).args(arguments).dir(Path::new(ROOT)).output(limit).await
}

/// Replaces four gateways under so many clients, of which none may miss a message in silence, get one twice, or be
/// refused.
async fn deploy(arguments: &[&str], limit: Duration) {
    let words = ["fleet", "--binary", SSEGATE].into_iter().chain(arguments.iter().copied());
    let told = scale(words, limit).await.success();
    measured(&told);
    for line in
        ["| lost in silence | 0 |", "| received twice | 0 |", "| clients that were refused | 0 |"]
    {
        assert!(told.contains(line), "{line}\n{told}");
    }
}

#[tokio::test]
#[ignore = "needs python3: run by tests/run"]
async fn the_model_counts_as_one_counts_by_hand() {
    let program = Program::new("/usr/bin/env")
        .args(["python3", "-B", "-m", "unittest", "discover", "-s", "scaling/tests", "-t", "."])
        .dir(&Path::new(ROOT).join("benches"));
    let told = program.output(4 * SOON).await;
    assert_eq!(told.code(), 0, "{told:?}");
    let ran = told.stderr.lines().find_map(|line| line.strip_prefix("Ran ")).unwrap();
    assert!(ran.split(' ').next().unwrap().parse::<usize>().unwrap() >= 40, "{ran}");
}

#[tokio::test]
#[ignore = "needs python3: run by tests/run"]
async fn the_tables_of_the_guide_are_what_the_model_prints() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/SCALE.md")).unwrap();
    let mut commands = 0;
    for block in page.split("```sh\nbenches/scale ").skip(1) {
        let (command, rest) = block.split_once("\n```\n").unwrap();
        if !command.starts_with("predict ") && !command.starts_with("check --kept") {
            continue;
        }
        commands += 1;
        let arguments = command.replace("\\\n", "");
        let told = scale(arguments.split_whitespace(), SOON).await;
        assert_eq!(told.code(), 0, "benches/scale {arguments}: {told:?}");
        let is_printed = rest.trim_start().starts_with(&told.stdout);
        assert!(is_printed, "benches/scale {arguments}\nprints:\n{}", told.stdout);
    }
    assert!(commands == 5, "{commands} commands");
}

/// A prediction is of what can be configured.
#[tokio::test]
#[ignore = "needs python3: run by tests/run"]
async fn more_servers_than_a_gateway_takes_are_refused() {
    let load = "predict --streams 1M --channels 1M --rate 5k --redis-servers";
    for (servers, is_taken) in [("32", true), ("33", false), ("0", false)] {
        let told = scale(load.split(' ').chain([servers]), SOON).await;
        assert_eq!(told.code() == 0, is_taken, "{servers}: {told:?}");
        let bound = "1 to 32, since redis.shards allows no more";
        assert_eq!(told.stderr.contains(bound), !is_taken, "{servers}: {told:?}");
    }
}

/// What one Redis cannot do more gateways cannot either: the tool says how many servers can, and is right.
#[tokio::test]
#[ignore = "needs python3: run by tests/run"]
async fn it_says_how_many_redis_servers_are_enough() {
    let load = "predict --streams 10M --channels 10M --rate 167k --gateways 160 --retry 3s";
    let told = scale(load.split(' '), SOON).await.success();
    assert!(!told.contains("Enough: "), "{told}");
    let servers = told.split("(--redis-servers ").nth(1).and_then(|rest| rest.split(')').next());
    let servers: usize = servers.expect("a number of servers").parse().unwrap();
    for (servers, is_enough) in [(servers, true), (servers - 1, false)] {
        let (count, title) = (servers.to_string(), format!("| each of {servers} Redis servers |"));
        let words = load.split(' ').chain(["--redis-servers", &count]);
        let told = scale(words, SOON).await.success();
        assert!(told.contains(&title), "{told}");
        assert_eq!(told.contains("Enough: 144 gateways"), is_enough, "{told}");
        assert_eq!(told.contains("More gateways do not help"), !is_enough, "{told}");
    }
}

#[tokio::test]
#[ignore = "needs python3: run by tests/run"]
async fn a_mistake_on_the_command_line_is_told() {
    for (arguments, code, reason) in [
        (
            "predict --streams 1M --channels 2M --rate 1",
            1,
            "2,000,000 channels are more than 1,000,000 streams",
        ),
        ("predict --streams 0 --channels 1 --rate 1", 2, "'0' is not a number above 0"),
        (
            "predict --streams 1 --channels 1 --rate 1 --mode h3",
            1,
            "'h3' is not a mode: h1, h1+tls, h2+tls",
        ),
        (
            "predict --streams 1 --channels 1 --rate 1 --constants none.json",
            1,
            "none.json: No such file",
        ),
        (
            "predict --streams 1 --channels 1 --rate 1 --retry 3x",
            2,
            "--retry: '3x' is not a time above 0: write seconds, such as 3 or 3s, or 500ms, 5m, 1h",
        ),
        ("check --binary no/ssegate", 1, "no/ssegate: no such file"),
    ] {
        let told = scale(arguments.split(' '), SOON).await;
        assert_eq!(told.code(), code, "{arguments}: {told:?}");
        assert!(told.stderr.contains(reason), "{arguments}: {}", told.stderr);
        assert!(!told.stderr.contains("Traceback"), "{arguments}: {}", told.stderr);
    }
}

#[tokio::test]
#[ignore = "needs python3, haproxy and redis-server: run by tests/run"]
async fn a_deploy_of_all_gateways_loses_nothing_in_bad_weather() {
    let load = ["--quick", "--clients", "300", "--channels", "10", "--rate", "20"];
    deploy(&load, 8 * SOON).await;
}

#[tokio::test]
#[ignore = "long: run by tests/run --full"]
async fn long_deploy_of_all_gateways_under_8_000_clients() {
    deploy(&[], 60 * SOON).await;
}

#[tokio::test]
#[ignore = "long: run by tests/run --full"]
async fn long_restart_of_all_gateways_in_place_under_8_000_clients() {
    deploy(&["--in-place"], 60 * SOON).await;
}
