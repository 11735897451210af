//! No files import each other in a circle.
//!
//! A file may use what its own parent module declares, as a child of it: a parent that uses its child
//! makes no circle. Every other circle means that none of its files can be read, tested or moved
//! alone. A re-export is followed to the file that declares the item: importing it through a parent
//! hides no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::source;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut circles = Vec::new();
    let mut files = 0;
    for (name, src) in source::crates() {
        let modules = Modules::read(&src);
        files += modules.0.len();
        circles.extend(modules.circles().into_iter().map(|circle| format!("{name}: {circle:?}")));
    }
    println!("{files} files, {} circles: {circles:#?}", circles.len());
    assert!(files > 250, "found only {files} files");
    assert!(
        circles.is_empty(),
        "files that import each other in a circle:\n{}",
        circles.join("\n")
    );
}

/// The path of a module within its crate: `["server", "tls"]`, and empty for the root.
type ModulePath = Vec<String>;

/// The modules of one crate.
struct Modules(BTreeMap<ModulePath, Module>);

/// What one file declares and names.
#[derive(Default)]
struct Module {
    items: BTreeSet<String>,
    /// What each `use` brings into the file, by the name that it has there.
    imports: Vec<(String, Vec<String>)>,
    /// Paths in the code itself.
    paths: Vec<Vec<String>>,
}

impl Modules {
    fn read(src: &Path) -> Self {
        let mut modules = BTreeMap::new();
        for file in source::rust_files(src) {
            let inside = file.strip_prefix(src).expect("a file of src");
            if source::is_test(inside) || inside == Path::new("main.rs") {
                continue;
            }
            let text = fs::read_to_string(&file).expect("a readable file");
            modules.insert(module_path(inside), Module::parse(&source::code(&text)));
        }
        Self(modules)
    }

    /// The groups of files of which each can be reached from each.
    fn circles(&self) -> Vec<BTreeSet<String>> {
        let reached: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> =
            self.0.keys().map(|module| (module, self.reached_from(module))).collect();
        let mut circles = BTreeSet::new();
        for (module, reachable) in &reached {
            let circle: BTreeSet<String> = reachable
                .iter()
                .filter(|other| reached[*other].contains(module))
                .map(|path| path.join("/"))
                .collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    fn reached_from<'a>(&'a self, start: &'a ModulePath) -> BTreeSet<&'a ModulePath> {
        let mut reached = BTreeSet::new();
        let mut left = vec![start];
        while let Some(module) = left.pop() {
            for next in self.used_by(module) {
                if reached.insert(next) {
                    left.push(next);
                }
            }
        }
        reached
    }

    /// The files that a file uses, but for its own parent.
    fn used_by(&self, module: &ModulePath) -> BTreeSet<&ModulePath> {
        let Module { imports, paths, .. } = &self.0[module];
        let named = imports.iter().map(|(_, path)| path).chain(paths);
        let used = named.filter_map(|path| self.declaring(module, path, 0));
        used.filter(|used| *used != module && !is_parent(used, module)).collect()
    }

    /// The file that declares what `path` names in `module`, if it is one of this crate.
    fn declaring(&self, module: &ModulePath, path: &[String], depth: usize) -> Option<&ModulePath> {
        let (mut at, mut rest) = self.start(module, path)?;
        while let Some((next, after)) = rest.split_first() {
            let child = child(&at, next);
            if !self.0.contains_key(&child) {
                break;
            }
            (at, rest) = (child, after);
        }
        let (at, declared) = self.0.get_key_value(&at)?;
        let Some(item) = rest.first() else { return Some(at) };
        if declared.items.contains(item) || depth > 8 {
            return Some(at);
        }
        let by_name = declared.imports.iter().find(|(name, _)| name == item);
        if let Some((_, path)) = by_name {
            return self.declaring(at, path, depth + 1);
        }
        let globs = declared.imports.iter().filter(|(name, _)| name == "*");
        let mut globbed = globs.filter_map(|(_, path)| {
            let inside: Vec<String> = path.iter().cloned().chain([item.clone()]).collect();
            self.declaring(at, &inside, depth + 1)
        });
        globbed.next().or(Some(at))
    }

    /// The module at which a path begins, and the rest of the path.
    fn start<'a>(
        &self,
        module: &ModulePath,
        path: &'a [String],
    ) -> Option<(ModulePath, &'a [String])> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some((ModulePath::new(), rest)),
            "self" => Some((module.clone(), rest)),
            "super" => {
                let levels = path.iter().take_while(|part| *part == "super").count();
                let kept = module.len().checked_sub(levels)?;
                Some((module[..kept].to_vec(), &path[levels..]))
            }
            name if self.0.contains_key(&child(module, name)) => Some((module.clone(), path)),
            name => {
                let imports = &self.0[module].imports;
                let (_, import) = imports.iter().find(|(imported, path)| {
                    imported == name && ["crate", "self", "super"].contains(&path[0].as_str())
                })?;
                let (mut at, mut left) = self.start(module, import)?;
                while let Some((next, after)) = left.split_first() {
                    (at, left) = (child(&at, next), after);
                }
                self.0.contains_key(&at).then_some((at, rest))
            }
        }
    }
}

impl Module {
    fn parse(code: &str) -> Self {
        let words = source::words(code);
        let mut module = Self::default();
        let mut at = 0;
        while let Some(word) = words.get(at) {
            match *word {
                "struct" | "enum" | "trait" | "union" | "fn" | "const" | "static" | "type"
                    if words.get(at + 1).is_some_and(|name| is_name(name)) =>
                {
                    module.items.insert(words[at + 1].to_owned());
                    at += 2;
                }
                "use" if words.get(at + 1) != Some(&"<") => {
                    let end = words[at..].iter().position(|word| *word == ";").expect("a `;`");
                    module.import(&mut words[at + 1..at + end].iter().copied().peekable(), &[]);
                    at += end;
                }
                "pub" if words.get(at + 2) == Some(&"in") => {
                    at += words[at..].iter().position(|word| *word == ")").expect("a `)`");
                }
                name if is_name(name) && words.get(at + 1) == Some(&"::") => {
                    let mut path = vec![name.to_owned()];
                    while words.get(at + 1) == Some(&"::")
                        && words.get(at + 2).is_some_and(|part| is_name(part))
                    {
                        path.push(words[at + 2].to_owned());
                        at += 2;
                    }
                    module.paths.push(path);
                    at += 1;
                }
                _ => at += 1,
            }
        }
        module
    }

    /// Adds what a tree of `use` names below `prefix`.
    fn import<'a>(
        &mut self,
        words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
        prefix: &[String],
    ) {
        let mut path = prefix.to_vec();
        while let Some(word) = words.next() {
            match word {
                "::" => {}
                "{" => {
                    while words.peek().is_some_and(|next| *next != "}") {
                        self.import(words, &path);
                    }
                    words.next();
                    words.next_if(|next| *next == ",");
                    return;
                }
                "," => break,
                "*" => {
                    self.imports.push(("*".to_owned(), path));
                    words.next_if(|next| *next == ",");
                    return;
                }
                "as" => {
                    let name = words.next().expect("a name").to_owned();
                    self.imports.push((name, path));
                    words.next_if(|next| *next == ",");
                    return;
                }
                "self" if !path.is_empty() => {}
                name => path.push(name.to_owned()),
            }
            if words.peek() == Some(&"}") {
                break;
            }
        }
        if let Some(name) = path.last().cloned() {
            self.imports.push((name, path));
        }
    }
}

fn module_path(inside: &Path) -> ModulePath {
    let mut path: ModulePath = inside
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    path.pop_if(|last| last == "mod" || last == "lib");
    path
}

fn child(module: &[String], name: &str) -> ModulePath {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

fn is_parent(parent: &[String], of: &[String]) -> bool {
    parent.len() + 1 == of.len() && of.starts_with(parent)
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<BTreeSet<String>> {
        let parse = |(path, code): &(&str, &str)| {
            (module_path(Path::new(path)), Module::parse(&source::code(code)))
        };
        Modules(files.iter().map(parse).collect()).circles()
    }

    fn circle(files: &[&str]) -> Vec<BTreeSet<String>> {
        vec![files.iter().map(|file| (*file).to_owned()).collect()]
    }

    #[test]
    fn two_files_that_use_each_other_are_a_circle() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; struct A;"),
            ("b.rs", "struct B; fn f() { crate::a::A; }"),
        ];
        assert_eq!(circles(&files), circle(&["a", "b"]));
    }

    #[test]
    fn a_re_export_hides_no_circle() {
        let files = [
            ("lib.rs", "mod a; mod b; pub use self::{a::A, b::B as C};"),
            ("a.rs", "use super::C; struct A;"),
            ("b.rs", "use crate::*; struct B; fn f(_: super::A) {}"),
        ];
        assert_eq!(circles(&files), circle(&["a", "b"]));
    }

    #[test]
    fn a_parent_and_its_own_child_are_none() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod b; use self::b::B; struct A; fn f() { b::g(); }"),
            ("a/b.rs", "use super::A; struct B; fn g() {}"),
        ];
        assert_eq!(circles(&files), [].as_slice());
    }

    #[test]
    fn a_grandchild_that_uses_its_grandparent_is_one() {
        let files = [
            ("lib.rs", "mod a; use a::A;"),
            ("a/mod.rs", "mod b; use self::b::B; struct A;"),
            ("a/b.rs", "use crate::X; struct B;"),
        ];
        assert_eq!(circles(&files), circle(&["", "a", "a/b"]));
    }

    #[test]
    fn a_name_in_a_comment_a_string_a_test_or_a_visibility_is_no_use() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::{self, B}; struct A; fn f() { b::g(); }"),
            (
                "b.rs",
                "// crate::a::A\nstruct B; fn g() { \"crate::a::A\"; }\n#[cfg(test)]\nmod tests {\n use crate::a::A;\n}\n",
            ),
        ];
        assert_eq!(circles(&files), [].as_slice());
    }
}
