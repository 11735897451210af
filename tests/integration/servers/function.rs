//! The function that chooses the server, as the guide has it for publishers, beside the program's own.

use std::fmt::Write as _;

use ssegate::route::ServerList;
use tempfile::TempDir;

use crate::support::{Program, SOON};

const GUIDE: &str = include_str!("../../../docs/SERVERS.md");
const COUNTS: std::ops::RangeInclusive<usize> = 1..=9;

/// The code block of the guide in this language.
fn code(language: &str) -> &'static str {
    let (_, rest) =
        GUIDE.split_once(&format!("```{language}\n")).expect("the guide has the function");
    rest.split_once("```").expect("the block ends").0
}

/// Names of every kind, each on a line.
fn names() -> Vec<String> {
    let mut names = vec![String::new(), "news".into(), "user:42".into(), "grüße-日本".into()];
    while names.len() < 1200 {
        let length = fastrand::usize(1..40);
        names.push((0..length).map(|_| fastrand::char('!'..'\u{2fff}')).collect());
    }
    names
}

#[tokio::test]
async fn publishers_in_other_languages_choose_the_same_server() {
    let names = names();
    let mut expected = String::new();
    for name in &names {
        for count in COUNTS {
            let server = ServerList::shards(count).server_of_unknown(name);
            writeln!(expected, "{server}").expect("a string");
        }
    }
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("names"), names.join("\n")).unwrap();
    let php = format!(
        "<?php\n{}\nforeach (explode(\"\\n\", file_get_contents('names')) as $name)\n  \
         for ($count = 1; $count <= 9; $count++) echo shard($name, $count), \"\\n\";\n",
        code("php")
    );
    let python = format!(
        "{}\nfor name in open('names', encoding='utf-8', newline='').read().split('\\n'):\n    \
         for count in range(1, 10):\n        print(shard(name, count))\n",
        code("python")
    );
    let javascript = format!(
        "{}\nfor (const name of require('node:fs').readFileSync('names', 'utf8').split('\\n'))\n  \
         for (let count = 1; count <= 9; count++) console.log(shard(name, count));\n",
        code("js")
    );
    for (program, file, text) in [
        ("php", "names.php", php),
        ("python3", "names.py", python),
        ("node", "names.cjs", javascript),
    ] {
        std::fs::write(dir.path().join(file), text).unwrap();
        let output = Program::new(program).arg(file).dir(dir.path()).output(4 * SOON).await;
        assert!(output.status.success(), "{program}: {output:?}");
        // Its last newline is not kept.
        assert!(output.stdout == expected.trim_end(), "{program} differs");
    }
}
