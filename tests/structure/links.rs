//! Links of the docs lead somewhere: to a file, and to a heading in it. `docs/SUMMARY.md` names every page.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::docs::documents;

/// The text without its code blocks and code spans, in which brackets are no links.
fn prose(text: &str) -> String {
    let blocks = text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n");
    blocks.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The targets of `[…](target)` that are not URLs.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let within = targets.map(|(target, _)| target).filter(|target| !target.contains("://"));
    within.map(str::to_owned).collect()
}

/// The anchors of its headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let outside = text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n");
    let headings = outside.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let heading = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        heading.chars().filter(|c| c.is_alphanumeric() || "_-".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}

/// `path` without `..`.
fn normal(path: &Path) -> PathBuf {
    path.iter().fold(PathBuf::new(), |mut normal, part| {
        if part == ".." {
            normal.pop();
        } else {
            normal.push(part);
        }
        normal
    })
}

#[test]
fn links_lead_to_files_and_headings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = BTreeSet::new();
    let mut followed = 0;
    for (doc, text) in documents().iter().filter(|(doc, _)| !doc.ends_with(".rs")) {
        for link in links(text) {
            followed += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let above = Path::new(doc).parent().expect("a file is in a directory");
            let to = if path.is_empty() { PathBuf::from(doc) } else { normal(&above.join(path)) };
            let at = root.join(&to);
            let has_anchor =
                || fs::read_to_string(&at).is_ok_and(|text| anchors(&text).contains(anchor));
            if !at.exists() || !(anchor.is_empty() || has_anchor()) {
                broken.insert(format!("{doc}: {link}"));
            }
        }
    }
    assert!(followed > 100, "found only {followed} links");
    assert!(broken.is_empty(), "these lead nowhere: {broken:#?}");
}

#[test]
fn the_summary_names_every_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let summary = fs::read_to_string(root.join("docs/SUMMARY.md")).expect("docs/SUMMARY.md");
    let named: BTreeSet<_> =
        links(&summary).iter().map(|to| normal(&Path::new("docs").join(to))).collect();
    let pages = documents().into_iter().map(|(doc, _)| PathBuf::from(doc));
    let is_page = |page: &PathBuf| {
        page.extension().is_some_and(|extension| extension == "md") && !page.ends_with("SUMMARY.md")
    };
    let missing: Vec<_> = pages.filter(is_page).filter(|page| !named.contains(page)).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md has no line for {missing:?}");
}
